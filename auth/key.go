package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	minRSABits = 2048
	// maxRSABits keeps one forged token from costing much more than another.
	maxRSABits = 8192
)

// fixedKey is a key that goes with one algorithm. It heeds no kid: there is
// nothing to choose from.
type fixedKey struct {
	alg string
	is  any
}

func (k fixedKey) key(_ context.Context, alg, _ string) (any, error) {
	if alg != k.alg {
		return nil, errAlgorithm
	}
	return k.is, nil
}

func newSecretKey(secret string) (fixedKey, error) {
	if err := checkTokenSecret(secret); err != nil {
		return fixedKey{}, err
	}
	return fixedKey{algHS256, []byte(secret)}, nil
}

func checkTokenSecret(secret string) error {
	switch {
	case secret == "":
		return errors.New("the token secret is empty")
	case strings.Contains(secret, "-----BEGIN"):
		return errors.New("the token secret is a PEM block; a public key belongs in the public key's setting")
	case strings.TrimSpace(secret) != secret:
		return errors.New("the token secret begins or ends with white space; take it away, or sign with a secret that has none")
	case len(secret) < MinSecretBytes:
		return fmt.Errorf("the token secret has %d bytes; at least %d are needed", len(secret), MinSecretBytes)
	}
	return nil
}

// newPublicKey reads one PEM block. Its line breaks may be written \n, as they
// are where an environment variable holds one line.
func newPublicKey(text string) (fixedKey, error) {
	if !strings.Contains(text, "\n") {
		text = strings.ReplaceAll(text, `\n`, "\n")
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return fixedKey{}, errors.New("the token public key is not PEM")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return fixedKey{}, errors.New("the token public key has something behind its first PEM block; one key is expected")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		return fixedKey{}, errors.New("the token public key is a certificate; take the key out of it with: openssl x509 -pubkey -noout")
	default:
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return fixedKey{}, errors.New("the token public key is a private key; it must not be on this machine")
		}
		return fixedKey{}, errors.New("the token public key must be a PUBLIC KEY block")
	}
	if err != nil {
		return fixedKey{}, fmt.Errorf("the token public key cannot be read: %w", err)
	}
	alg, err := algorithmOf(key)
	if err != nil {
		return fixedKey{}, fmt.Errorf("the token public key %w", err)
	}
	return fixedKey{alg, key}, nil
}

// algorithmOf gives the one algorithm that goes with a public key.
func algorithmOf(key any) (string, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return "", fmt.Errorf("is an RSA key of %d bits; %d to %d are allowed", bits, minRSABits, maxRSABits)
		}
		if key.E < 3 || key.E%2 == 0 {
			return "", errors.New("is an RSA key with an unusable exponent")
		}
		return algRS256, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() { // ES256 would verify on any curve
			return "", errors.New("is an EC key on another curve than P-256")
		}
		return algES256, nil
	case ed25519.PublicKey:
		return algEdDSA, nil
	default:
		return "", errors.New("is neither RSA, nor EC on P-256, nor Ed25519")
	}
}
