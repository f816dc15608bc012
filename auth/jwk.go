package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// keyID is what a token names its key by. The algorithm is part of it, so that
// a key never verifies under another one than its own.
type keyID struct{ kid, alg string }

// jwk is one JSON Web Key as far as it is heeded (RFC 7517, 7518, 8037).
// Certificates, URLs and private parts are not.
type jwk struct {
	Kty    string   `json:"kty"`
	KID    string   `json:"kid"`
	Use    string   `json:"use"`
	Alg    string   `json:"alg"`
	KeyOps []string `json:"key_ops"`
	Crv    string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	N      string   `json:"n"`
	E      string   `json:"e"`
}

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
		var k jwk
		if err := json.Unmarshal(raw, &k); err != nil {
			log.Warn("a key of the JWKS is left out", "entry", i+1, "why", "its members cannot be read")
			continue
		}
		key, alg, err := k.publicKey()
		id := keyID{k.KID, alg}
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

// publicKey reads the key and the one algorithm that it may verify.
func (k *jwk) publicKey() (key any, alg string, err error) {
	switch {
	case k.KID == "" || len(k.KID) > maxKIDBytes:
		return nil, "", fmt.Errorf("its kid is missing or longer than %d bytes", maxKIDBytes)
	case k.Use != "" && k.Use != "sig":
		return nil, "", errors.New("its use is not sig")
	case k.KeyOps != nil && !slices.Contains(k.KeyOps, "verify"):
		return nil, "", errors.New("its key_ops do not have verify")
	}
	switch k.Kty {
	case "RSA":
		key, err = k.rsaKey()
	case "EC":
		key, err = k.ecKey()
	case "OKP":
		key, err = k.okpKey()
	case "oct":
		return nil, "", errors.New("it is a symmetric key, which must not be published")
	default:
		return nil, "", errors.New("its kty is not RSA, EC or OKP")
	}
	if err != nil {
		return nil, "", err
	}
	if alg, err = algorithmOf(key); err != nil {
		return nil, "", fmt.Errorf("it %w", err)
	}
	// RFC 9864 spells EdDSA over this curve Ed25519 in newer key sets.
	if k.Alg != "" && k.Alg != alg && !(alg == algEdDSA && k.Alg == "Ed25519") {
		return nil, "", fmt.Errorf("its alg is not %s", alg)
	}
	return key, alg, nil
}

func (k *jwk) rsaKey() (*rsa.PublicKey, error) {
	n, err1 := decodeMember(k.N)
	e, err2 := decodeMember(k.E)
	if err1 != nil || err2 != nil || len(n) == 0 || len(e) == 0 || len(e) > 4 {
		return nil, errors.New("its n or e cannot be read")
	}
	exponent := new(big.Int).SetBytes(e).Uint64()
	if exponent > 1<<31-1 {
		return nil, errors.New("its e is too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, nil
}

func (k *jwk) ecKey() (*ecdsa.PublicKey, error) {
	if k.Crv != "P-256" {
		return nil, errors.New("its crv is not P-256")
	}
	x, err1 := decodeMember(k.X)
	y, err2 := decodeMember(k.Y)
	if err1 != nil || err2 != nil || len(x) != 32 || len(y) != 32 {
		return nil, errors.New("its x or y is not 32 bytes of base64url")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errors.New("its point is not on the curve")
	}
	return key, nil
}

// decodeMember is lenient about padding, which some publishers add: who writes
// the key set decides which keys it holds anyway.
func decodeMember(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

func (k *jwk) okpKey() (ed25519.PublicKey, error) {
	if k.Crv != "Ed25519" {
		return nil, errors.New("its crv is not Ed25519")
	}
	x, err := decodeMember(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, errors.New("its x is not 32 bytes of base64url")
	}
	return ed25519.PublicKey(x), nil
}
