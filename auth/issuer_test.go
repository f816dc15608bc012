package auth

import (
	"fmt"
	"strings"
	"testing"
)

func TestIssuer(t *testing.T) {
	t.Run("is the one that the token names", issuerOfToken)
	t.Run("takes the old and the new secret while they rotate", issuerSecretsRotate)
	t.Run("is read strictly from its file", issuersAreReadStrictly)
	t.Run("is read from a file as editors write it", issuersOfEditors)
}

func issuerSecretsRotate(t *testing.T) {
	const next = "another-secret-of-more-than-32-bytes"
	tokens := mustTokens(t, TokenConfig{Secrets: []string{next, testSecret}})
	for _, secret := range []string{next, testSecret} {
		if _, err := tokens.Verify(t.Context(), signedBy(t, algHS512, "", goodClaims, []byte(secret))); err != nil {
			t.Error(err)
		}
	}
	_, err := tokens.Verify(t.Context(), signedBy(t, algHS256, "", goodClaims, []byte("a-third-secret-of-more-than-32-bytes")))
	wantReason(t, err, TokenBadSignature)
	_, err = tokens.Verify(t.Context(), signedBy(t, algHS256, "", goodClaims, []byte(next+","+testSecret)))
	wantReason(t, err, TokenBadSignature)
}

func issuerOfToken(t *testing.T) {
	k := testKeys()
	const other = "the-secret-of-the-other-issuer-000"
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}, Audience: "plain", Issuers: []Issuer{
		{Issuer: "https://a.example", Audience: "app", PublicKeyPEM: pemOf(t, k.ec.Public()), UserClaim: "uid", RightsClaim: "roles"},
		{Issuer: "b", Secrets: []string{other}},
	}})
	for name, c := range map[string]struct {
		alg, claims string
		key         any
		want        string
	}{
		"a's":                       {algES256, `{"iss":"https://a.example","aud":"app","uid":"u","exp":1795381200,"roles":{"send":["*"]}}`, k.ec, ""},
		"a's for another audience":  {algES256, `{"iss":"https://a.example","aud":"plain","uid":"u","exp":1795381200}`, k.ec, TokenWrongAudience},
		"a's with b's secret":       {algHS256, `{"iss":"https://a.example","aud":"app","uid":"u","exp":1795381200}`, []byte(other), TokenAlgorithm},
		"a's with the plain secret": {algHS256, `{"iss":"https://a.example","aud":"app","uid":"u","exp":1795381200}`, []byte(testSecret), TokenAlgorithm},
		"b's":                       {algHS384, `{"iss":"b","sub":"u","exp":1795381200}`, []byte(other), ""},
		"b's with the plain secret": {algHS256, `{"iss":"b","sub":"u","aud":"plain","exp":1795381200}`, []byte(testSecret), TokenBadSignature},
		"the plain":                 {algHS256, `{"iss":"c","sub":"u","aud":"plain","exp":1795381200}`, []byte(testSecret), ""},
		"the plain without iss":     {algHS256, `{"sub":"u","aud":"plain","exp":1795381200}`, []byte(testSecret), ""},
		"the plain by b's secret":   {algHS256, `{"sub":"u","aud":"plain","exp":1795381200}`, []byte(other), TokenBadSignature},
		"iss twice":                 {algHS256, `{"iss":"b","iss":"c","sub":"u","exp":1795381200}`, []byte(other), TokenMalformed},
		"iss as a list":             {algHS256, `{"iss":["b"],"sub":"u","exp":1795381200}`, []byte(other), TokenBadClaims},
		"a slash more":              {algES256, `{"iss":"https://a.example/","aud":"app","uid":"u","exp":1795381200}`, k.ec, TokenAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tokens.Verify(t.Context(), signedBy(t, c.alg, "", c.claims, c.key))
			wantReason(t, err, c.want)
			if name == "a's" && string(got.Rights) != `{"send":["*"]}` {
				t.Errorf("rights %s", got.Rights)
			}
		})
	}
	only := mustTokens(t, TokenConfig{Issuers: []Issuer{{Issuer: "b", Secrets: []string{other}}}})
	for _, claims := range []string{`{"iss":"c","sub":"u","exp":1795381200}`, `{"sub":"u","exp":1795381200}`} {
		_, err := only.Verify(t.Context(), signedBy(t, algHS256, "", claims, []byte(other)))
		wantReason(t, err, TokenWrongIssuer)
	}
}

func issuersAreReadStrictly(t *testing.T) {
	const secret = "canary-secret-of-more-than-32-bytes"
	good := `{"issuers":[{"issuer":"https://login.example","audience":"app","jwksUrl":null,"discover":true,"userClaim":"uid"},
		{"issuer":"b","secrets":["` + secret + `"]}]}`
	list, err := ParseIssuers([]byte(good))
	if err != nil || len(list) != 2 || !list[0].Discover || list[0].UserClaim != "uid" || list[1].Secrets[0] != secret {
		t.Fatalf("%v, %v", list, err)
	}
	if s := fmt.Sprintf("%v %+v", list[1], list); strings.Contains(s, secret) {
		t.Error("it prints its secret")
	}
	for name, c := range map[string]struct{ file, want string }{
		"no JSON":         {`{"issuers":`, "not JSON"},
		"no issuers":      {`{"issuers":[]}`, "no issuers"},
		"null":            {`null`, "no issuers"},
		"a slip":          {`{"issuers":[{"issuer":"b","secrets":["` + secret + `"],"audiance":"app"}]}`, "audiance"},
		"twice":           {`{"issuers":[{"issuer":"b","issuer":"c"}]}`, "given twice"},
		"a wrong type":    {`{"issuers":[{"issuer":"b","secrets":"` + secret + `"}]}`, "/issuers/0/secrets"},
		"no issuer":       {`{"issuers":[{"secrets":["` + secret + `"]}]}`, "issuer 1: issuer is missing"},
		"no keys":         {`{"issuers":[{"issuer":"b"}]}`, "exactly one"},
		"two ways":        {`{"issuers":[{"issuer":"b","discover":true,"secrets":["` + secret + `"]}]}`, "exactly one"},
		"discover: false": {`{"issuers":[{"issuer":"b","discover":false}]}`, "exactly one"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseIssuers([]byte(c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v", err)
			}
		})
	}
	for name, c := range map[string]struct {
		config TokenConfig
		want   string
	}{
		"one issuer twice":      {TokenConfig{Issuers: []Issuer{{Issuer: "b", Secrets: []string{secret}}, {Issuer: "b", Secrets: []string{secret}}}}, "issuer 2"},
		"the plain one's":       {TokenConfig{Secrets: []string{secret}, Issuer: "b", Issuers: []Issuer{{Issuer: "b", Secrets: []string{secret}}}}, "another entry already"},
		"a short secret":        {TokenConfig{Issuers: []Issuer{{Issuer: "b", Secrets: []string{"canary-short"}}}}, "issuer 1: the token secret has 12 bytes"},
		"discover without TLS":  {TokenConfig{Issuers: []Issuer{{Issuer: "http://login.example", Discover: true}}}, "https"},
		"discover with a query": {TokenConfig{Issuers: []Issuer{{Issuer: "https://login.example?x", Discover: true}}}, "query"},
		"discover of no URL":    {TokenConfig{Issuers: []Issuer{{Issuer: "login.example", Discover: true}}}, "https URL"},
		"a claim for both":      {TokenConfig{Issuers: []Issuer{{Issuer: "b", Secrets: []string{secret}, UserClaim: "bridge"}}}, "user claim"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.config.Check()
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v", err)
			}
		})
	}
}

func issuersOfEditors(t *testing.T) {
	const good = `{"issuers":[{"issuer":"a","secrets":["` + testSecret + `"]}]}`
	if list, err := ParseIssuers([]byte("\ufeff" + good + "\r\n")); err != nil || len(list) != 1 {
		t.Errorf("with a byte order mark: %v", err)
	}
	for text, want := range map[string]string{
		"": "the file is empty", "\ufeff": "the file is empty", "{": "not JSON: syntax error at byte 1", "[]": "the whole has the wrong type: it must be an object, in { }",
		`{"issuers":[{"issuer":"a","secrets":"canary"}]}`: "/issuers/0/secrets has the wrong type: it must be a list, in [ ]",
		`{"issuers":[{"issuer":"a","discover":"yes"}]}`:   "/issuers/0/discover has the wrong type: it must be true or false",
		`{"issuers":[{"issuer":["a"]}]}`:                  "/issuers/0/issuer has the wrong type: it must be a string",
		// All of them at once.
		`{"issuers":[{"issuer":"a"},{"secrets":["canary"]}]}`: "issuer 1: exactly one of jwksUrl, discover, publicKey and secrets must be set; 0 are\n" +
			"issuer 2: issuer is missing: it is the iss of the tokens, to the letter",
	} {
		if _, err := ParseIssuers([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
