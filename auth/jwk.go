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

// keyID is what a token names its key by. The algorithm is part of it, so that
// a key never verifies under another one than its own.
type keyID struct{ kid, alg string }

// parseKeySet reads a JWKS. A key that is of no use here is left out and said
// so to log; the rest of the set stands. A set without any key is a set: its
// owner has withdrawn them.
func parseKeySet(b []byte, log *slog.Logger) (map[keyID]any, error) {
	var set struct {
		Keys *[]jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the reply is not a JSON object with a list of keys")
	}
	keys := make(map[keyID]any, len(*set.Keys))
	for i, raw := range *set.Keys {
		id, key, err := parseKey(raw)
		if err == nil && keys[id] != nil {
			err = errors.New("an earlier key has the same kid and algorithm")
		}
		if err != nil {
			log.Warn("a key of the JWKS is left out", "entry", i+1, "why", err.Error())
			continue
		}
		keys[id] = key
	}
	return keys, nil
}

// parseKey reads a key and the one algorithm that it may verify.
func parseKey(raw jsontext.Value) (id keyID, key any, err error) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil {
		return id, nil, errors.New("its members cannot be read")
	}
	switch {
	case m.KID == "" || len(m.KID) > maxKIDBytes:
		return id, nil, fmt.Errorf("its kid is missing or longer than %d bytes", maxKIDBytes)
	case m.USE != "" && m.USE != jwkset.UseSig:
		return id, nil, errors.New("its use is not sig")
	case m.KEYOPS != nil && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return id, nil, errors.New("its key_ops do not have verify")
	case m.KTY == jwkset.KtyOct:
		return id, nil, errors.New("it is a symmetric key, which must not be published")
	}
	// Certificates prove nothing here, and some publishers write thumbprints of
	// their own kind, for which the key would be refused.
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", ""
	k, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil { // the error may quote the set, at any length
		return id, nil, fmt.Errorf("%.200s", err.Error())
	}
	alg, err := algorithmOf(k.Key())
	if err != nil {
		return id, nil, fmt.Errorf("it %w", err)
	}
	// RFC 9864 spells EdDSA over this curve Ed25519 in newer key sets.
	if m.ALG != "" && m.ALG.String() != alg && !(alg == algEdDSA && m.ALG == "Ed25519") {
		return id, nil, fmt.Errorf("its alg is not %s", alg)
	}
	return keyID{m.KID, alg}, k.Key(), nil
}
