package auth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestDiscovery(t *testing.T) {
	t.Run("finds the keys by the issuer's URL", discoveryByURL)
	t.Run("finds keys that the issuer has moved", discoveryAgain)
	t.Run("follows no redirect away from TLS", discoveryStaysOnTLS)
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

func discoveryByURL(t *testing.T) {
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

func discoveryAgain(t *testing.T) {
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

func discoveryStaysOnTLS(t *testing.T) {
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
