package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// signedBy makes a token that a user has got from an issuer.
func signedBy(t *testing.T, alg, kid, claims string, key any) string {
	t.Helper()
	return raw(t, fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid), claims, algorithms[alg].method, key)
}

func TestEveryAlgorithmGoesWithTheKindsOfKeysThatItIsMadeFor(t *testing.T) {
	k := testKeys()
	ec521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signers := map[keyKind]any{kindSecret: []byte(testSecret), kindRSA: k.rsa, kindP256: k.ec, kindP384: k.ec384, kindP521: ec521, kindEd25519: k.ed}
	configs := map[keyKind]TokenConfig{kindSecret: {Secrets: []string{testSecret}}}
	for kind, signer := range signers {
		if s, ok := signer.(crypto.Signer); ok {
			configs[kind] = TokenConfig{PublicKeyPEM: pemOf(t, s.Public())}
		}
	}
	for alg, a := range algorithms {
		token := signedBy(t, alg, "", goodClaims, signers[a.kind])
		for kind, config := range configs {
			want := TokenAlgorithm
			if kind == a.kind {
				want = ""
			}
			_, err := mustTokens(t, config).Verify(t.Context(), token)
			t.Run(fmt.Sprint(alg, " with a key for ", kind), func(t *testing.T) { wantReason(t, err, want) })
		}
	}
	if len(algorithms) != 13 {
		t.Errorf("%d algorithms", len(algorithms))
	}
}

func TestAPublicKeyNeverServesAsASecret(t *testing.T) {
	k := testKeys()
	public := pemOf(t, k.rsa.Public())
	set := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"r": &k.rsa.PublicKey})))
	for alg, a := range algorithms {
		if a.kind != kindSecret {
			continue
		}
		for _, secret := range []string{public, strings.TrimSpace(public)} {
			token := signedBy(t, alg, "r", goodClaims, []byte(secret))
			for _, c := range []TokenConfig{{PublicKeyPEM: public}, {JWKSURL: set.URL},
				{Issuers: []Issuer{{Issuer: "i", PublicKeyPEM: public}}, Secrets: []string{testSecret}}} {
				if _, err := mustTokens(t, c).Verify(t.Context(), token); err == nil {
					t.Errorf("%s: a token that is signed with the public key was taken", alg)
				}
			}
		}
	}
}

func TestSecretsRotateWithoutAGap(t *testing.T) {
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

func TestATokenIsJudgedByTheIssuerThatItNames(t *testing.T) {
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

func TestAFileOfIssuersIsReadStrictly(t *testing.T) {
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

// provider is a login provider, as OpenID Connect Discovery describes it.
type provider struct {
	*httptest.Server
	config atomic.Pointer[string] // what the configuration says; {} stands for the server's own address
	keys   string
	asked  atomic.Int64
}

func newProvider(t *testing.T, config string) *provider {
	t.Helper()
	p := &provider{keys: keySetJSON(t, map[string]any{"e": &testKeys().ec.PublicKey})}
	p.config.Store(&config)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tenant/.well-known/openid-configuration":
			p.asked.Add(1)
			fmt.Fprint(w, strings.ReplaceAll(*p.config.Load(), "{}", p.URL))
		case "/keys":
			fmt.Fprint(w, p.keys)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func TestKeysAreFoundByAnIssuersURL(t *testing.T) {
	for name, c := range map[string]struct {
		suffix, config, want string
	}{
		"as it should be":      {"/tenant", `{"issuer":"{}/tenant","jwks_uri":"{}/keys"}`, ""},
		"with a slash":         {"/tenant/", `{"issuer":"{}/tenant/","jwks_uri":"{}/keys"}`, ""},
		"another issuer":       {"/tenant", `{"issuer":"{}/other","jwks_uri":"{}/keys"}`, TokenKeysUnavailable},
		"a slash more":         {"/tenant", `{"issuer":"{}/tenant/","jwks_uri":"{}/keys"}`, TokenKeysUnavailable},
		"no issuer":            {"/tenant", `{"jwks_uri":"{}/keys"}`, TokenKeysUnavailable},
		"no keys":              {"/tenant", `{"issuer":"{}/tenant"}`, TokenKeysUnavailable},
		"keys without TLS":     {"/tenant", `{"issuer":"{}/tenant","jwks_uri":"http://192.0.2.1/keys"}`, TokenKeysUnavailable},
		"keys in a file":       {"/tenant", `{"issuer":"{}/tenant","jwks_uri":"file:///etc/passwd"}`, TokenKeysUnavailable},
		"no JSON":              {"/tenant", `<html>`, TokenKeysUnavailable},
		"an endless reply":     {"/tenant", `{"issuer":"{}/tenant","jwks_uri":"{}/keys","x":"` + strings.Repeat("a", maxKeySetBytes) + `"}`, TokenKeysUnavailable},
		"nothing at that path": {"/nobody", ``, TokenKeysUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, c.config)
			issuer := p.URL + c.suffix
			tokens := mustTokens(t, TokenConfig{Issuers: []Issuer{{Issuer: issuer, Audience: "app", Discover: true}}})
			claims := fmt.Sprintf(`{"iss":%q,"aud":"app","sub":"u","exp":1795381200}`, issuer)
			_, err := tokens.Verify(t.Context(), signedBy(t, algES256, "e", claims, testKeys().ec))
			wantReason(t, err, c.want)
		})
	}
}

func TestAnIssuerMayMoveItsKeys(t *testing.T) {
	p := newProvider(t, `{"issuer":"{}/tenant","jwks_uri":"{}/nothing-yet"}`)
	issuer := p.URL + "/tenant"
	tokens := mustTokens(t, TokenConfig{Issuers: []Issuer{{Issuer: issuer, Discover: true}}, UnknownKIDInterval: 10 * time.Millisecond})
	token := signedBy(t, algES256, "e", fmt.Sprintf(`{"iss":%q,"sub":"u","exp":1795381200}`, issuer), testKeys().ec)
	_, err := tokens.Verify(t.Context(), token)
	wantReason(t, err, TokenKeysUnavailable)
	moved := `{"issuer":"{}/tenant","jwks_uri":"{}/keys"}`
	p.config.Store(&moved)
	if _, err := tokens.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestKeysAreNotFetchedAwayFromTLS(t *testing.T) {
	plain := newKeyServer(t, replies(200, `{"keys":[]}`))
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	t.Cleanup(secure.Close)
	client := secure.Client()
	client.CheckRedirect = stayOnTLS
	s, err := newKeySet(t.Context(), TokenConfig{HTTPClient: client}, Issuer{JWKSURL: secure.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "away from https") {
		t.Errorf("%v", err)
	}
}

func TestTimesInOtherUnitsAreRefusedWithAWordOnWhy(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}})
	for claims, want := range map[string]string{
		`{"sub":"u","exp":1795381200000}`:                      "exp is in milliseconds",
		`{"sub":"u","exp":1795381200000.5}`:                    "exp is in milliseconds",
		`{"sub":"u","exp":1.7953812e12}`:                       "exp is in milliseconds",
		`{"sub":"u","exp":1795381200000000}`:                   "exp is in microseconds",
		`{"sub":"u","exp":1795381200000000000}`:                "exp is in nanoseconds",
		`{"sub":"u","exp":1795381200,"nbf":1795370000000}`:     "nbf is in milliseconds",
		`{"sub":"u","exp":1795381200,"iat":1795370000000}`:     "iat is in milliseconds",
		`{"sub":"u","exp":1000000000000,"iat":1795370000}`:     "exp is in milliseconds", // past, in any unit
		`{"sub":"u","exp":253402300799}`:                       "",
		`{"sub":"u","exp":4102444800,"iat":0,"nbf":946684800}`: "",
	} {
		_, err := tokens.Verify(t.Context(), hs(t, claims))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", claims, err, want)
		}
	}
}

func TestAKeyInAnyOfTheShapesThatPEMComesIn(t *testing.T) {
	k := testKeys()
	block := pemOf(t, k.rsa.Public())
	lines := strings.Split(strings.TrimSpace(block), "\n")
	for name, text := range map[string]string{
		"as it is":                 block,
		"with a BOM":               "\ufeff" + block,
		"in double quotes":         `"` + block + `"`,
		"in single quotes":         "'" + strings.TrimSpace(block) + "'\n",
		"indented":                 "    " + strings.Join(lines, "\n    ") + "\n",
		"indented by tabs":         "\t" + strings.Join(lines, "\n\t"),
		"with CRLF":                strings.Join(lines, "\r\n") + "\r\n",
		"with CR":                  strings.Join(lines, "\r"),
		`with \n`:                  strings.Join(lines, `\n`),
		`with \r\n, in quotes`:     `"` + strings.Join(lines, `\r\n`) + `\n"`,
		"on one line":              strings.Join(lines, " "),
		"with blank lines":         "\n\n" + strings.Join(lines, "\n\n") + "\n\n",
		"a BOM, quotes and indent": "\ufeff\"  " + strings.Join(lines, "\n  ") + "\"",
	} {
		t.Run(name, func(t *testing.T) {
			tokens, err := NewTokens(t.Context(), TokenConfig{PublicKeyPEM: text, Now: func() time.Time { return testNow }})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tokens.Verify(t.Context(), signedBy(t, algPS384, "", goodClaims, k.rsa)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAPublishedKeyServesItsKindsAlgorithmsUnlessItNamesOne(t *testing.T) {
	k := testKeys()
	var set map[string][]map[string]any
	if err := json.Unmarshal([]byte(keySetJSON(t, map[string]any{"open": &k.rsa.PublicKey, "bound": &k.otherRSA.PublicKey, "ec": &k.ec384.PublicKey})), &set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set["keys"] {
		delete(key, "alg")
		if key["kid"] == "bound" {
			key["alg"] = algPS512
		}
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	tokens := mustTokens(t, TokenConfig{JWKSURL: newKeyServer(t, replies(200, string(b))).URL, UnknownKIDInterval: time.Hour})
	for _, c := range []struct {
		alg, kid string
		key      any
		want     string
	}{
		{algRS256, "open", k.rsa, ""}, {algRS512, "open", k.rsa, ""}, {algPS256, "open", k.rsa, ""},
		{algPS512, "bound", k.otherRSA, ""}, {algRS256, "bound", k.otherRSA, TokenUnknownKey},
		{algES384, "ec", k.ec384, ""}, {algES256, "ec", k.ec, TokenUnknownKey},
	} {
		_, err := tokens.Verify(t.Context(), signedBy(t, c.alg, c.kid, goodClaims, c.key))
		t.Run(c.alg+" "+c.kid, func(t *testing.T) { wantReason(t, err, c.want) })
	}
}

func TestTokensHaveFingerprintsOfTheirOwn(t *testing.T) {
	k := testKeys()
	tokens := mustTokens(t, TokenConfig{PublicKeyPEM: pemOf(t, k.ec.Public())})
	of := func(token string) string {
		c, err := tokens.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return c.Token
	}
	token := signedBy(t, algES256, "", goodClaims, k.ec)
	again := signedBy(t, algES256, "", goodClaims, k.ec) // another signature of the same
	other := signedBy(t, algES256, "", `{"sub":"u","exp":1795381201}`, k.ec)
	if len(of(token)) != 2*fingerprintBytes || of(token) != of(again) || of(token) == of(other) {
		t.Errorf("%s, %s, %s", of(token), of(again), of(other))
	}
	if strings.Contains(token, of(token)) {
		t.Error("the fingerprint is a part of the token")
	}
}

func TestADiagnosisSaysStepByStepWhatIsWrongWithAToken(t *testing.T) {
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
