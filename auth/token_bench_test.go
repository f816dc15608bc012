package auth

import (
	"strings"
	"testing"
	"time"
)

func BenchmarkVerifyToken(b *testing.B) {
	secret := strings.Repeat("s", MinSecretBytes)
	t, err := NewTokens(b.Context(), TokenConfig{Secrets: []string{secret}})
	if err != nil {
		b.Fatal(err)
	}
	token, err := SignToken(secret, Claims{User: "patient-42", ID: "token-1", IssuedAt: time.Now(), Expires: time.Now().Add(time.Hour),
		Rights: []byte(`{"send":["patient-*"],"groups":["ward-3"]}`)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
