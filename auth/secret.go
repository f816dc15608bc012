package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// MinWebhookSecretBytes is the least a webhook secret holds once decoded; the
// standard asks for 24 to 64 random bytes.
const MinWebhookSecretBytes = 24

const (
	prefixSecret  = "whsec_" // symmetric secret
	prefixPrivate = "whsk_"  // ed25519 private key
	prefixPublic  = "whpk_"  // ed25519 public key

	// maxSecretText bounds what is decoded as one secret, characters.
	maxSecretText = 1024
)

// parseSecret reads "whsec_…" or "whpk_…". Exactly one result is set.
func parseSecret(s string) (mac []byte, public ed25519.PublicKey, err error) {
	switch {
	case strings.TrimSpace(s) == "":
		return nil, nil, errors.New("is empty")
	case strings.HasPrefix(s, prefixSecret):
		mac, err = parseMACKey(s)
		return mac, nil, err
	case strings.HasPrefix(s, prefixPublic):
		key, err := decodeKey(s[len(prefixPublic):])
		if err != nil {
			return nil, nil, err
		}
		if len(key) != ed25519.PublicKeySize {
			return nil, nil, fmt.Errorf("holds %d bytes; an ed25519 public key has %d", len(key), ed25519.PublicKeySize)
		}
		return nil, ed25519.PublicKey(key), nil
	case strings.HasPrefix(s, prefixPrivate):
		return nil, nil, errors.New("is a private key; a receiver needs its public key, whpk_…")
	default:
		return nil, nil, errors.New("must begin with whsec_ or whpk_")
	}
}

func parseMACKey(s string) ([]byte, error) {
	key, err := decodeKey(strings.TrimPrefix(s, prefixSecret))
	if err != nil {
		return nil, err
	}
	if len(key) < MinWebhookSecretBytes {
		return nil, fmt.Errorf("holds %d bytes; at least %d are needed", len(key), MinWebhookSecretBytes)
	}
	return key, nil
}

// parsePrivate reads "whsk_…": the 32-byte seed, or the 64-byte form that has
// the public key behind it. Both are in use among the official libraries.
func parsePrivate(s string) (ed25519.PrivateKey, error) {
	key, err := decodeKey(strings.TrimPrefix(s, prefixPrivate))
	if err != nil {
		return nil, err
	}
	if len(key) != ed25519.SeedSize && len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("holds %d bytes; an ed25519 private key has %d or %d",
			len(key), ed25519.SeedSize, ed25519.PrivateKeySize)
	}
	private := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])
	if len(key) == ed25519.PrivateKeySize && string(private) != string(key) {
		return nil, errors.New("holds a private and a public key that do not belong together")
	}
	return private, nil
}

// VerifyingKey is what a receiver needs of a secret that somebody signs with: of an ed25519
// key "whsk_…" its public key "whpk_…", and any other secret itself. Its error repeats nothing
// of the key.
func VerifyingKey(secret string) (string, error) {
	if !strings.HasPrefix(secret, prefixPrivate) {
		return secret, nil
	}
	private, err := parsePrivate(secret)
	if err != nil {
		return "", fmt.Errorf("the ed25519 key %w", err)
	}
	return prefixPublic + base64.StdEncoding.EncodeToString(private[ed25519.SeedSize:]), nil
}

// decodeKey decodes standard base64, padded as the official libraries want it or
// with the padding left out, which cannot change the bytes. The URL alphabet is
// refused: some senders' libraries drop its characters silently and would sign
// with another key than ours.
func decodeKey(s string) ([]byte, error) {
	if s == "" {
		return nil, errors.New("has nothing after its prefix")
	}
	if len(s) > maxSecretText {
		return nil, fmt.Errorf("is longer than %d characters", maxSecretText)
	}
	if strings.ContainsAny(s, " \t\r\n") { // the decoder would skip line breaks
		return nil, errors.New("has white space in it")
	}
	if strings.ContainsAny(s, "-_") {
		return nil, errors.New("is in the URL alphabet of base64; write - as + and _ as /")
	}
	encoding := base64.StdEncoding
	if !strings.HasSuffix(s, "=") {
		encoding = base64.RawStdEncoding
	}
	key, err := encoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("is not base64 after its prefix") // the decoder's error would name a character
	}
	return key, nil
}
