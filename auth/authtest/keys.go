// Package authtest makes webhook keys for tests.
package authtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
)

// NewWebhookSecret makes a symmetric secret of 32 random bytes, "whsec_…".
func NewWebhookSecret() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails: the runtime ends the program when there is no randomness
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

// NewWebhookKeyPair makes an ed25519 key pair: the sender keeps "whsk_…", the 32-byte
// seed, and receivers get "whpk_…".
func NewWebhookKeyPair() (whsk, whpk string) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // does not happen with the system's randomness
	}
	return "whsk_" + base64.StdEncoding.EncodeToString(private.Seed()), "whpk_" + base64.StdEncoding.EncodeToString(public)
}
