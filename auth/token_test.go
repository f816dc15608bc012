package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

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

func TestATokenSaysWhoAndWhat(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}})
	c := Claims{User: "doctor-7 Ω", ID: "j1", IssuedAt: testNow.Add(-time.Minute), Expires: testNow.Add(time.Hour),
		Rights: []byte(`{"send":["patient-*"]}`), Issuer: "us", Audiences: []string{"a", "b"}}
	token, err := SignToken(testSecret, c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tokens.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if got.User != c.User || got.ID != c.ID || !got.IssuedAt.Equal(c.IssuedAt) || !got.Expires.Equal(c.Expires) ||
		string(got.Rights) != string(c.Rights) || got.Issuer != "us" || strings.Join(got.Audiences, " ") != "a b" {
		t.Errorf("got %+v", got)
	}
}

func TestClaimsByTable(t *testing.T) {
	strict := TokenConfig{Secrets: []string{testSecret}, Issuer: "https://id.example", Audience: "bridge"}
	lenient := TokenConfig{Secrets: []string{testSecret}, Leeway: time.Minute}
	named := TokenConfig{Secrets: []string{testSecret}, UserClaim: "uid", RightsClaim: "https://example.org/rights"}
	for name, c := range map[string]struct {
		config TokenConfig // zero: only the secret
		claims string      // EXP stands for a good exp
		want   string      // a reason; empty: good
	}{
		"the least":                    {claims: `{"sub":"u","exp":EXP}`},
		"exp with a fraction":          {claims: `{"sub":"u","exp":1795377601.75}`},
		"exp with an exponent":         {claims: `{"sub":"u","exp":1.8e9}`},
		"exp missing":                  {claims: `{"sub":"u"}`, want: TokenBadClaims},
		"exp null":                     {claims: `{"sub":"u","exp":null}`, want: TokenBadClaims},
		"exp a string":                 {claims: `{"sub":"u","exp":"1795377601"}`, want: TokenBadClaims},
		"exp zero":                     {claims: `{"sub":"u","exp":0}`, want: TokenExpired},
		"exp negative":                 {claims: `{"sub":"u","exp":-1e300}`, want: TokenExpired},
		"exp now":                      {claims: `{"sub":"u","exp":1795377600}`, want: TokenExpired},
		"exp a second ago":             {claims: `{"sub":"u","exp":1795377599}`, want: TokenExpired},
		"exp in the leeway":            {config: lenient, claims: `{"sub":"u","exp":1795377541}`},
		"exp at the leeway's end":      {config: lenient, claims: `{"sub":"u","exp":1795377540}`, want: TokenExpired},
		"exp in upper case":            {claims: `{"sub":"u","EXP":1795378600}`, want: TokenBadClaims},
		"nbf past":                     {claims: `{"sub":"u","exp":EXP,"nbf":1795377600}`},
		"nbf a second ahead":           {claims: `{"sub":"u","exp":EXP,"nbf":1795377601}`, want: TokenNotYetValid},
		"nbf in the leeway":            {config: lenient, claims: `{"sub":"u","exp":EXP,"nbf":1795377660}`},
		"nbf beyond the leeway":        {config: lenient, claims: `{"sub":"u","exp":EXP,"nbf":1795377661}`, want: TokenNotYetValid},
		"nbf absurd":                   {claims: `{"sub":"u","exp":EXP,"nbf":1e400}`, want: TokenNotYetValid},
		"nbf a string":                 {claims: `{"sub":"u","exp":EXP,"nbf":"0"}`, want: TokenBadClaims},
		"iat five minutes ahead":       {claims: `{"sub":"u","exp":EXP,"iat":1795377900}`},
		"iat further ahead":            {claims: `{"sub":"u","exp":EXP,"iat":1795377901}`, want: TokenNotYetValid},
		"iat ahead, no more leeway":    {config: lenient, claims: `{"sub":"u","exp":EXP,"iat":1795377901}`, want: TokenNotYetValid},
		"iat a list":                   {claims: `{"sub":"u","exp":EXP,"iat":[1]}`, want: TokenBadClaims},
		"user missing":                 {claims: `{"exp":EXP}`, want: TokenBadClaims},
		"user null":                    {claims: `{"exp":EXP,"sub":null}`, want: TokenBadClaims},
		"user empty":                   {claims: `{"exp":EXP,"sub":""}`, want: TokenBadClaims},
		"user a number":                {claims: `{"exp":EXP,"sub":42}`, want: TokenBadClaims},
		"user in upper case only":      {claims: `{"exp":EXP,"SUB":"u"}`, want: TokenBadClaims},
		"user of 128":                  {claims: `{"exp":EXP,"sub":"` + strings.Repeat("ł", 128) + `"}`},
		"user of 129":                  {claims: `{"exp":EXP,"sub":"` + strings.Repeat("a", 129) + `"}`, want: TokenBadClaims},
		"user with NUL":                {claims: `{"exp":EXP,"sub":"a\u0000b"}`, want: TokenBadClaims},
		"user with a line break":       {claims: `{"exp":EXP,"sub":"a\nb"}`, want: TokenBadClaims},
		"user with DEL":                {claims: `{"exp":EXP,"sub":"a` + "\x7f" + `"}`, want: TokenBadClaims},
		"user with a C1 control":       {claims: `{"exp":EXP,"sub":"a\u0085"}`, want: TokenBadClaims},
		"user not UTF-8":               {claims: `{"exp":EXP,"sub":"a` + "\xff" + `"}`, want: TokenMalformed},
		"user with half a surrogate":   {claims: `{"exp":EXP,"sub":"\ud800"}`, want: TokenMalformed},
		"user twice":                   {claims: `{"exp":EXP,"sub":"u","sub":"admin"}`, want: TokenMalformed},
		"user twice by escape":         {claims: `{"exp":EXP,"sub":"u","\u0073ub":"admin"}`, want: TokenMalformed},
		"user in two cases":            {claims: `{"exp":EXP,"sub":"u","SUB":"admin"}`},
		"rights with a name twice":     {claims: `{"exp":EXP,"sub":"u","bridge":{"a":1,"a":2}}`, want: TokenMalformed},
		"rights null":                  {claims: `{"exp":EXP,"sub":"u","bridge":null}`},
		"jti of 128":                   {claims: `{"exp":EXP,"sub":"u","jti":"` + strings.Repeat("a", 128) + `"}`},
		"jti of 129":                   {claims: `{"exp":EXP,"sub":"u","jti":"` + strings.Repeat("a", 129) + `"}`, want: TokenBadClaims},
		"jti a number":                 {claims: `{"exp":EXP,"sub":"u","jti":7}`, want: TokenBadClaims},
		"jti with a control character": {claims: `{"exp":EXP,"sub":"u","jti":"\t"}`, want: TokenBadClaims},
		"aud a number":                 {claims: `{"exp":EXP,"sub":"u","aud":7}`, want: TokenBadClaims},
		"aud a mixed list":             {claims: `{"exp":EXP,"sub":"u","aud":["a",7]}`, want: TokenBadClaims},
		"iss a list":                   {claims: `{"exp":EXP,"sub":"u","iss":["a"]}`, want: TokenBadClaims},
		"a list":                       {claims: `[]`, want: TokenMalformed},
		"null":                         {claims: `null`, want: TokenMalformed},
		"empty":                        {claims: ``, want: TokenMalformed},
		"something behind":             {claims: `{"exp":EXP,"sub":"u"}{}`, want: TokenMalformed},
		"issuer and audience":          {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":"bridge"}`},
		"audience in a list":           {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":["x","bridge"]}`},
		"another issuer":               {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example/","aud":"bridge"}`, want: TokenWrongIssuer},
		"no issuer":                    {config: strict, claims: `{"exp":EXP,"sub":"u","aud":"bridge"}`, want: TokenWrongIssuer},
		"another audience":             {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":"Bridge"}`, want: TokenWrongAudience},
		"an empty audience list":       {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":[]}`, want: TokenWrongAudience},
		"no audience":                  {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example"}`, want: TokenWrongAudience},
		"another user claim":           {config: named, claims: `{"exp":EXP,"uid":"u","https://example.org/rights":[1]}`},
		"only sub":                     {config: named, claims: `{"exp":EXP,"sub":"u"}`, want: TokenBadClaims},
	} {
		t.Run(name, func(t *testing.T) {
			if c.config.Secrets == nil {
				c.config.Secrets = []string{testSecret}
			}
			claims := strings.ReplaceAll(c.claims, "EXP", "1795381200")
			got, err := mustTokens(t, c.config).Verify(t.Context(), hs(t, claims))
			wantReason(t, err, c.want)
			if c.want == "" && got.User == "" {
				t.Error("no user")
			}
		})
	}
}

func TestWhatATokenAllowsEndsAtItsExpOrWithTheLeewayAfterIt(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}, Leeway: time.Minute})
	for ago, want := range map[time.Duration]time.Duration{-time.Hour: 0, -time.Second: 0, 0: time.Minute, 59 * time.Second: time.Minute} {
		exp := testNow.Add(-ago)
		got, err := tokens.Verify(t.Context(), hs(t, fmt.Sprintf(`{"sub":"u","exp":%d}`, exp.Unix())))
		if err != nil {
			t.Fatal(err)
		}
		if !got.Expires.Equal(exp.Add(want)) {
			t.Errorf("exp %s ago: it ends %s after its exp", ago, got.Expires.Sub(exp))
		}
	}
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

func TestFormsOfTokensByTable(t *testing.T) {
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

func TestAnAbsurdExpiryIsHeldToTheYear9999(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}})
	for _, exp := range []string{"1e17", "1e308", "1e400", "9223372036854775807", "99999999999999999999999999"} {
		c, err := tokens.Verify(t.Context(), hs(t, `{"sub":"u","exp":`+exp+`}`))
		if err != nil || c.Expires.Format(time.RFC3339) != "9999-12-31T23:59:59Z" || c.Expires.Sub(testNow) <= 0 {
			t.Errorf("exp %s: %v, %v", exp, c.Expires, err)
		}
	}
}

func TestAPublicKeyVerifiesTheAlgorithmsOfItsKindOnly(t *testing.T) {
	k := testKeys()
	const claims = `{"sub":"u","exp":1795381200}`
	tokens := map[string]string{
		algHS256: hs(t, claims),
		algRS256: raw(t, `{"alg":"RS256"}`, claims, jwt.SigningMethodRS256, k.rsa),
		algES256: raw(t, `{"alg":"ES256"}`, claims, jwt.SigningMethodES256, k.ec),
		algEdDSA: raw(t, `{"alg":"EdDSA"}`, claims, jwt.SigningMethodEdDSA, k.ed),
		algPS256: raw(t, `{"alg":"PS256"}`, claims, jwt.SigningMethodPS256, k.rsa),
	}
	for alg, key := range map[string]crypto.PublicKey{algRS256: k.rsa.Public(), algES256: k.ec.Public(), algEdDSA: k.ed.Public()} {
		text := pemOf(t, key)
		// The key as an HMAC secret, in each form that a confused verifier might use.
		for _, secret := range []string{text, strings.TrimSpace(text)} {
			tokens["forged with "+alg+secret[len(secret)-1:]] = raw(t, `{"alg":"HS256"}`, claims, jwt.SigningMethodHS256, []byte(secret))
		}
		for _, text := range []string{text, strings.ReplaceAll(text, "\n", `\n`)} {
			v := mustTokens(t, TokenConfig{PublicKeyPEM: text})
			for name, token := range tokens {
				want := TokenAlgorithm
				if name == alg || name == algPS256 && alg == algRS256 {
					want = ""
				}
				_, err := v.Verify(t.Context(), token)
				wantReason(t, err, want)
			}
		}
	}
	other := mustTokens(t, TokenConfig{PublicKeyPEM: pemOf(t, k.otherRSA.Public())})
	_, err := other.Verify(t.Context(), tokens[algRS256])
	wantReason(t, err, TokenBadSignature)

	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)}))
	_, err = mustTokens(t, TokenConfig{PublicKeyPEM: pkcs1}).Verify(t.Context(), tokens[algRS256])
	wantReason(t, err, "")
}

func TestSettingsThatAreRefused(t *testing.T) {
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

func TestWhatSignTokenRefuses(t *testing.T) {
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
