package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// keyID is how a token names its key. It includes the algorithm, so that a key never
// verifies with another algorithm than its own.
type keyID struct{ kid, alg string }

// parseKeySet reads a JWKS. A key that cannot be used is logged and left out. A set
// without keys is valid: its owner has withdrawn them.
func parseKeySet(b []byte, log *slog.Logger) (map[keyID]any, error) {
	var set struct {
		Keys *[]jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the reply is not a JSON object with a list of keys")
	}
	keys := make(map[keyID]any, len(*set.Keys))
	for i, raw := range *set.Keys {
		ids, key, err := parseKey(raw)
		if err == nil && slices.ContainsFunc(ids, func(id keyID) bool { return keys[id] != nil }) {
			err = errors.New("an earlier key has the same kid and algorithm")
		}
		if err != nil {
			log.Warn("a key of the JWKS is left out", "entry", i+1, "why", err.Error())
			continue
		}
		for _, id := range ids {
			keys[id] = key
		}
	}
	return keys, nil
}

// parseKey reads a key and the algorithms that it may verify: all of its kind, or the one
// that its alg names.
func parseKey(raw jsontext.Value) (ids []keyID, key any, err error) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil {
		return nil, nil, errors.New("its members cannot be read")
	}
	switch {
	case m.KID == "" || len(m.KID) > maxKIDBytes:
		return nil, nil, fmt.Errorf("its kid is missing or longer than %d bytes", maxKIDBytes)
	case m.USE != "" && m.USE != jwkset.UseSig:
		return nil, nil, errors.New("its use is not sig")
	case m.KEYOPS != nil && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return nil, nil, errors.New("its key_ops do not have verify")
	case m.KTY == jwkset.KtyOct:
		return nil, nil, errors.New("it is a symmetric key, which must not be published")
	}
	// Certificates prove nothing here, and some publishers write thumbprints of
	// their own kind, for which the key would be refused.
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", ""
	k, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil { // the error may quote the set, at any length
		return nil, nil, fmt.Errorf("%.200s", err.Error())
	}
	kind, err := kindOf(k.Key())
	if err != nil {
		return nil, nil, fmt.Errorf("it %w", err)
	}
	only := m.ALG.String()
	if kind == kindEd25519 && (only == algEdDSA || only == algEd25519) { // two names of one
		only = ""
	}
	for alg, a := range algorithms {
		if a.kind == kind && (only == "" || only == alg) {
			ids = append(ids, keyID{m.KID, alg})
		}
	}
	if len(ids) == 0 {
		return nil, nil, fmt.Errorf("its alg is not %s", kind)
	}
	return ids, k.Key(), nil
}
