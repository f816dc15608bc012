package auth

import (
	"bytes"
	"strings"
	"testing"
)

func TestTokenDiagnosis(t *testing.T) {
	t.Run("tells step by step what is wrong", tokenSteps)
}

func tokenSteps(t *testing.T) {
	k := testKeys()
	const based = "c2VjcmV0LW9mLW1vcmUtdGhhbi0zMi1ieXRlcy1zby10aGVyZQ=="
	secret := TokenConfig{Secrets: []string{based}, Audience: "app"}
	der := func() string {
		p := signedBy(t, algES256, "", goodClaims, k.ec)
		head := p[:strings.LastIndex(p, ".")+1]
		return head + "MEUCIQDk0YBb2n4Yd8x8f2S3Q1mA8u1n3n1m1l1k1j1h1g1f1QIgQ2Z3"
	}
	for name, c := range map[string]struct {
		config TokenConfig
		token  string
		fails  string // the first step that does; empty: none
		says   string // somewhere
	}{
		"nothing":           {secret, "", StepForm, "empty"},
		"no token":          {secret, "hello", StepForm, "three parts"},
		"alg none":          {secret, "eyJhbGciOiJub25lIn0.e30.", StepForm, "alg is none of"},
		"good":              {secret, signedBy(t, algHS256, "", `{"sub":"u","exp":1795381200,"aud":"app"}`, []byte(based)), "", `is "u", by the claim sub`},
		"a decoded secret":  {secret, signedBy(t, algHS256, "", `{"sub":"u","exp":1795381200,"aud":"app"}`, []byte("secret-of-more-than-32-bytes-so-there")), StepSigned, "decoded from base64"},
		"a decoded hex":     {TokenConfig{Secrets: []string{strings.Repeat("0f", 32)}}, signedBy(t, algHS256, "", goodClaims, bytes.Repeat([]byte{15}, 32)), StepSigned, "decoded from hex"},
		"a line break":      {secret, signedBy(t, algHS256, "", `{"sub":"u","exp":1795381200,"aud":"app"}`, []byte(based+"\n")), StepSigned, "white space at its end"},
		"another secret":    {secret, signedBy(t, algHS256, "", `{"sub":"u","exp":1795381200,"aud":"app"}`, []byte(testSecret)), StepSigned, "does not match"},
		"all of it":         {secret, signedBy(t, algHS256, "", `{"exp":1795381200000,"aud":"other"}`, []byte(based)), "exp", "the audience that is set here"},
		"another algorithm": {secret, signedBy(t, algRS256, "", goodClaims, k.rsa), StepKey, "which is for HS256, HS384 or HS512"},
		"DER":               {TokenConfig{PublicKeyPEM: pemOf(t, k.ec.Public())}, der(), StepSigned, "DER"},
		"another issuer":    {TokenConfig{Issuers: []Issuer{{Issuer: "b", Secrets: []string{based}}}}, hs(t, `{"iss":"c"}`), StepIssuer, "none of the issuers"},
	} {
		t.Run(name, func(t *testing.T) {
			steps, _ := mustTokens(t, c.config).Diagnose(t.Context(), c.token)
			fails, all := "", ""
			for _, s := range steps {
				if !s.OK && fails == "" {
					fails = s.Name
				}
				all += s.Name + ": " + s.Detail + "\n"
			}
			if fails != c.fails || !strings.Contains(all, c.says) {
				t.Errorf("fails at %q, want %q:\n%s", fails, c.fails, all)
			}
			if strings.Contains(all, based) || c.token != "" && strings.Contains(all, c.token) {
				t.Error("it repeats the token or the secret")
			}
			_, err := mustTokens(t, c.config).Verify(t.Context(), c.token)
			if (err == nil) != (fails == "") {
				t.Errorf("Verify says %v", err)
			}
		})
	}
}
