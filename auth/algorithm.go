package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithms of tokens (RFC 7518 §3, RFC 8037).
const (
	algHS256 = "HS256"
	algHS384 = "HS384"
	algHS512 = "HS512"
	algRS256 = "RS256"
	algRS384 = "RS384"
	algRS512 = "RS512"
	algPS256 = "PS256"
	algPS384 = "PS384"
	algPS512 = "PS512"
	algES256 = "ES256"
	algES384 = "ES384"
	algES512 = "ES512"
	algEdDSA = "EdDSA"
	// algEd25519 is the name that RFC 9864 gives to EdDSA over Ed25519.
	algEd25519 = "Ed25519"
)

const (
	minRSABits = 2048
	// maxRSABits bounds what checking one forged token costs.
	maxRSABits = 8192
)

// keyKind is the kind of a key, which decides the algorithms that it may verify. The
// algorithm is named by the token itself: without this a public key could be taken for
// an HMAC secret, or a key of one curve for another's.
type keyKind int

const (
	kindSecret keyKind = iota + 1
	kindRSA
	kindP256
	kindP384
	kindP521
	kindEd25519
)

// algorithms has every algorithm that a token may be signed with; not "none".
var algorithms = map[string]struct {
	kind   keyKind
	method jwt.SigningMethod
}{
	algHS256:   {kindSecret, jwt.SigningMethodHS256},
	algHS384:   {kindSecret, jwt.SigningMethodHS384},
	algHS512:   {kindSecret, jwt.SigningMethodHS512},
	algRS256:   {kindRSA, jwt.SigningMethodRS256},
	algRS384:   {kindRSA, jwt.SigningMethodRS384},
	algRS512:   {kindRSA, jwt.SigningMethodRS512},
	algPS256:   {kindRSA, jwt.SigningMethodPS256},
	algPS384:   {kindRSA, jwt.SigningMethodPS384},
	algPS512:   {kindRSA, jwt.SigningMethodPS512},
	algES256:   {kindP256, jwt.SigningMethodES256},
	algES384:   {kindP384, jwt.SigningMethodES384},
	algES512:   {kindP521, jwt.SigningMethodES512},
	algEdDSA:   {kindEd25519, jwt.SigningMethodEdDSA},
	algEd25519: {kindEd25519, jwt.SigningMethodEdDSA},
}

// String names the algorithms of a kind of key, for errors about settings.
func (k keyKind) String() string {
	switch k {
	case kindSecret:
		return "HS256, HS384 or HS512"
	case kindRSA:
		return "RS256, RS384, RS512, PS256, PS384 or PS512"
	case kindP256:
		return algES256
	case kindP384:
		return algES384
	case kindP521:
		return algES512
	case kindEd25519:
		return "EdDSA, or Ed25519 by its newer name"
	}
	return "no algorithm"
}

// kindOf is the kind of a public key; the error says why the key cannot be used.
func kindOf(key any) (keyKind, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return 0, fmt.Errorf("is an RSA key of %d bits; %d to %d are allowed", bits, minRSABits, maxRSABits)
		}
		if key.E < 3 || key.E%2 == 0 {
			return 0, errors.New("is an RSA key with an unusable exponent")
		}
		return kindRSA, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return kindP256, nil
		case elliptic.P384():
			return kindP384, nil
		case elliptic.P521():
			return kindP521, nil
		}
		return 0, errors.New("is an EC key on another curve than P-256, P-384 and P-521")
	case ed25519.PublicKey:
		return kindEd25519, nil
	}
	return 0, errors.New("is neither RSA, nor EC on P-256, P-384 or P-521, nor Ed25519")
}
