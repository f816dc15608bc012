package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestToken(t *testing.T) {
	t.Run("is taken or refused by its form", tokenForms)
	t.Run("is not verified with settings that cannot be right", tokenSettings)
	t.Run("is not signed where nobody could verify it", tokenSigning)
}

const testSecret = "0123456789abcdef0123456789abcdef"

var testNow = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// The keys of the tests are made once: RSA keys take their time.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, otherRSA, smallRSA *rsa.PrivateKey
	ec, ec384               *ecdsa.PrivateKey
	ed                      ed25519.PrivateKey
}) {
	var errs [6]error
	k.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.otherRSA, errs[1] = rsa.GenerateKey(rand.Reader, 2048)
	k.smallRSA, errs[2] = rsa.GenerateKey(rand.Reader, 1024)
	k.ec, errs[3] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.ec384, errs[4] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, k.ed, errs[5] = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(errs[:]...); err != nil {
		panic(err)
	}
	return k
})

func pemOf(t testing.TB, key any) string {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

// raw makes a token of the very header and claims, signed with key where it is
// one of method's.
func raw(t testing.TB, header, claims string, method jwt.SigningMethod, key any) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	sig, err := method.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func hs(t testing.TB, claims string) string {
	return raw(t, `{"alg":"HS256","typ":"JWT"}`, claims, jwt.SigningMethodHS256, []byte(testSecret))
}

func mustTokens(t testing.TB, c TokenConfig) *Tokens {
	t.Helper()
	if c.Now == nil {
		c.Now = func() time.Time { return testNow }
	}
	tokens, err := NewTokens(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func wantReason(t testing.TB, err error, reason string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var te *TokenError
	if !errors.As(err, &te) || te.Reason != reason || te.Detail == "" {
		t.Fatalf("got %#v, want reason %s", err, reason)
	}
}

func tokenForms(t *testing.T) {
	k := testKeys()
	const claims = `{"sub":"u","exp":1795381200}`
	good := hs(t, claims)
	parts := strings.Split(good, ".")
	secret := []byte(testSecret)
	with := func(header string) string { return raw(t, header, claims, jwt.SigningMethodHS256, secret) }
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, c := range map[string]struct{ token, want string }{
		"good":                   {good, ""},
		"empty":                  {"", TokenMalformed},
		"one part":               {"abc", TokenMalformed},
		"two parts":              {parts[0] + "." + parts[1], TokenMalformed},
		"four parts":             {good + ".x", TokenMalformed},
		"full stops":             {strings.Repeat(".", 5000), TokenMalformed},
		"too long":               {good + strings.Repeat("A", 8<<10), TokenMalformed},
		"no signature":           {parts[0] + "." + parts[1] + ".", TokenMalformed},
		"padded":                 {parts[0] + "=." + parts[1] + "." + parts[2], TokenMalformed},
		"a line break in it":     {parts[0] + "." + parts[1] + "." + parts[2][:9] + "\n" + parts[2][9:], TokenMalformed},
		"signature of another":   {raw(t, `{"alg":"HS256"}`, claims, jwt.SigningMethodHS256, []byte("another")), TokenBadSignature},
		"signature cut":          {good[:len(good)-3], TokenBadSignature},
		"claims changed":         {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"admin","exp":1795381200}`)) + "." + parts[2], TokenBadSignature},
		"alg none":               {none + "AA", TokenAlgorithm},
		"alg none, no signature": {none, TokenAlgorithm},
		"alg NONE":               {with(`{"alg":"NONE"}`), TokenAlgorithm},
		"alg hs256":              {with(`{"alg":"hs256"}`), TokenAlgorithm},
		"alg HS512":              {raw(t, `{"alg":"HS512"}`, claims, jwt.SigningMethodHS512, secret), ""},
		"alg RS256":              {raw(t, `{"alg":"RS256"}`, claims, jwt.SigningMethodRS256, k.rsa), TokenAlgorithm},
		"alg missing":            {with(`{}`), TokenAlgorithm},
		"alg a number":           {with(`{"alg":1}`), TokenMalformed},
		"alg twice":              {with(`{"alg":"none","alg":"HS256"}`), TokenMalformed},
		"alg in another case":    {with(`{"ALG":"HS256"}`), TokenAlgorithm},
		"kid a number":           {with(`{"alg":"HS256","kid":1}`), TokenMalformed},
		"crit":                   {with(`{"alg":"HS256","crit":["exp"]}`), TokenMalformed},
		"crit empty":             {with(`{"alg":"HS256","crit":[]}`), TokenMalformed},
		"crit null":              {with(`{"alg":"HS256","crit":null}`), TokenMalformed},
		"header a list":          {with(`["alg"]`), TokenMalformed},
		"header with more":       {with(`{"alg":"HS256","typ":"at+jwt","kid":"x","jku":"https://evil.example/","jwk":{}}`), ""},
		"header not JSON":        {with(`alg`), TokenMalformed},
		"header not base64":      {"!." + parts[1] + "." + parts[2], TokenMalformed},
		"claims not base64, signed": {func() string {
			text := parts[0] + ".!"
			sig, err := jwt.SigningMethodHS256.Sign(text, secret)
			if err != nil {
				t.Fatal(err)
			}
			return text + "." + base64.RawURLEncoding.EncodeToString(sig)
		}(), TokenMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mustTokens(t, TokenConfig{Secrets: []string{testSecret}}).Verify(t.Context(), c.token)
			wantReason(t, err, c.want)
			if err != nil && (strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), parts[1][:8])) {
				t.Errorf("the error repeats the token: %v", err)
			}
		})
	}
}

func tokenSettings(t *testing.T) {
	k := testKeys()
	private, err := x509.MarshalPKCS8PrivateKey(k.ec)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := pemOf(t, k.ec.Public())
	for name, c := range map[string]struct {
		config TokenConfig
		want   string
	}{
		"nothing":            {TokenConfig{}, "exactly one"},
		"two":                {TokenConfig{Secrets: []string{testSecret}, JWKSURL: "https://x.example"}, "exactly one"},
		"a short secret":     {TokenConfig{Secrets: []string{testSecret[1:]}}, "has 31 bytes; at least 32"},
		"a line break":       {TokenConfig{Secrets: []string{testSecret + "\n"}}, "white space"},
		"PEM as a secret":    {TokenConfig{Secrets: []string{public}}, "public key's setting"},
		"not PEM":            {TokenConfig{PublicKeyPEM: "hello"}, "not PEM"},
		"two PEMs":           {TokenConfig{PublicKeyPEM: public + public}, "one key"},
		"a private key":      {TokenConfig{PublicKeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))}, "private key"},
		"a certificate":      {TokenConfig{PublicKeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}))}, "openssl x509"},
		"garbage in PEM":     {TokenConfig{PublicKeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}))}, "cannot be read"},
		"another PEM":        {TokenConfig{PublicKeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PARAMETERS", Bytes: []byte{1}}))}, "PUBLIC KEY block"},
		"RSA of 1024 bits":   {TokenConfig{PublicKeyPEM: pemOf(t, k.smallRSA.Public())}, "1024 bits"},
		"P-224":              {TokenConfig{PublicKeyPEM: pemOf(t, p224.Public())}, "P-256"},
		"two lines short":    {TokenConfig{Secrets: []string{testSecret, "short"}}, "token secret 2 of 2 has 5 bytes"},
		"an empty secret":    {TokenConfig{Secrets: []string{testSecret, ""}}, "token secret 2 of 2 is empty"},
		"too many secrets":   {TokenConfig{Secrets: slices.Repeat([]string{testSecret}, 17)}, "at most 16"},
		"a relative URL":     {TokenConfig{JWKSURL: "/jwks"}, "absolute"},
		"another scheme":     {TokenConfig{JWKSURL: "file:///etc/passwd"}, "absolute"},
		"a blank behind":     {TokenConfig{JWKSURL: "https://keys.example/jwks "}, "has a blank"},
		"a port beyond all":  {TokenConfig{JWKSURL: "https://keys.example:65536/jwks"}, "1 to 65535"},
		"a long leeway":      {TokenConfig{Secrets: []string{testSecret}, Leeway: time.Hour}, "leeway"},
		"a negative leeway":  {TokenConfig{Secrets: []string{testSecret}, Leeway: -1}, "leeway"},
		"exp as the user":    {TokenConfig{Secrets: []string{testSecret}, UserClaim: "exp"}, "user claim"},
		"one claim for both": {TokenConfig{Secrets: []string{testSecret}, UserClaim: "x", RightsClaim: "x"}, "user claim"},
		"aud as the rights":  {TokenConfig{Secrets: []string{testSecret}, RightsClaim: "aud"}, "rights claim"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewTokens(t.Context(), c.config)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), testSecret[:10]) {
				t.Errorf("the error gives the secret away: %v", err)
			}
		})
	}
}

func tokenSigning(t *testing.T) {
	for name, c := range map[string]struct {
		secret string
		claims Claims
	}{
		"a short secret": {"x", Claims{User: "u", Expires: testNow}},
		"no user":        {testSecret, Claims{Expires: testNow}},
		"no expiry":      {testSecret, Claims{User: "u"}},
		"rights no JSON": {testSecret, Claims{User: "u", Expires: testNow, Rights: []byte("{")}},
		"a long id":      {testSecret, Claims{User: "u", Expires: testNow, ID: strings.Repeat("a", 129)}},
		"a long token":   {testSecret, Claims{User: "u", Expires: testNow, Rights: []byte(`"` + strings.Repeat("a", 9000) + `"`)}},
	} {
		if _, err := SignToken(c.secret, c.claims); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// FuzzToken holds Verify to the JWT library: what ours takes, a strict parser of
// the library's takes for the same user.
func FuzzToken(f *testing.F) {
	f.Add(`{"alg":"HS256"}`, `{"sub":"u","exp":1795381200}`, "")
	f.Add(`{"alg":"none"}`, `{"sub":"u","exp":1e400,"SUB":"v"}`, "a.b.c")
	f.Add(`{"alg":"HS256","crit":[]}`, `{"sub":"u","sub":"v","exp":"1"}`, "..")
	tokens := mustTokens(f, TokenConfig{Secrets: []string{testSecret}, Leeway: DefaultLeeway})
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(),
		jwt.WithLeeway(DefaultLeeway), jwt.WithTimeFunc(func() time.Time { return testNow }), jwt.WithJSONNumber())
	f.Fuzz(func(t *testing.T, header, claims, other string) {
		for _, token := range []string{raw(t, header, claims, jwt.SigningMethodHS256, []byte(testSecret)), other} {
			c, err := tokens.Verify(t.Context(), token)
			if err != nil {
				var te *TokenError
				if !errors.As(err, &te) {
					t.Fatalf("%T is not a *TokenError", err)
				}
				continue
			}
			if c.Expires.Year() > 9999 || !c.Expires.After(testNow) {
				t.Fatalf("expires %v", c.Expires)
			}
			m := jwt.MapClaims{}
			_, err = parser.ParseWithClaims(token, m, func(*jwt.Token) (any, error) { return []byte(testSecret), nil })
			// The library overflows on an expiry past what an int64 holds.
			if err != nil && c.Expires.Unix() < LastSecond {
				t.Fatalf("ours takes it, the library does not: %v", err)
			}
			if err == nil && m["sub"] != c.User {
				t.Fatalf("users are %q and %q", c.User, m["sub"])
			}
		}
	})
}

func BenchmarkToken(b *testing.B) {
	tokens := mustTokens(b, TokenConfig{Secrets: []string{testSecret}})
	token := hs(b, `{"sub":"doctor-7","exp":1795381200,"bridge":{"send":["patient-*"],"groups":["ward-3"]}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokens.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
