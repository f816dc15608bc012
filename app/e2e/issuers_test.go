package e2e

import (
	"testing"

	"hookbridge/app/server"
)

func TestTokensOfSeveralSecretsAreTakenByTheWholeProgram(t *testing.T) {
	w := start(t, func(s *server.Settings) {
		s.JWTSecret = server.Secret("another-secret-of-more-than-32-bytes, " + testJWTSecret)
	})
	w.connect("patient-1", "")
}
