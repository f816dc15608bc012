package e2e

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/golang-jwt/jwt/v5"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestToken(t *testing.T) {
	t.Parallel()
	t.Run("comes in one of four ways", tokenWays)
	t.Run("that is bad is told in a way the client can read", tokenBad)
	t.Run("that is bad is closed with 4401 in whichever way it comes", tokenBadEachWay)
	t.Run("that cannot be checked now is no bad token", tokenUncheckable)
	t.Run("in a URL is refused and told how else", tokenInURL)
	t.Run("needs the issuer and audience that are set", tokenIssuer)
	t.Run("has user and rights in the claims that are set", tokenClaims)
	t.Run("is checked by a public key or a key set", tokenKeys)
	t.Run("of any of several secrets is taken", tokenSecrets)
	t.Run("is announced to expire a minute before", tokenExpiring)
	t.Run("taken within the leeway ends with it", tokenLeeway)
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func tokenWays(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	ticket := w.ticket(tok)
	if at, err := time.Parse(time.RFC3339, ticket.ExpiresAt); err != nil || time.Until(at) > 30*time.Second {
		t.Errorf("ticket: %+v", ticket)
	}
	for name, open := range map[string]func() (*session, *http.Response, error){
		"Authorization": func() (*session, *http.Response, error) { return w.dial(bearer(tok), "", "bridge.v1.json") },
		"subprotocol":   func() (*session, *http.Response, error) { return w.dial(nil, "", "bridge.v1.json", "bearer."+tok) },
		"ticket": func() (*session, *http.Response, error) {
			return w.dial(nil, "?ticket="+ticket.Ticket, "bridge.v1.json")
		},
	} {
		s, res, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := res.Header.Get("Sec-WebSocket-Protocol"); got != "bridge.v1.json" {
			t.Errorf("%s: selected %q", name, got)
		}
		s.send(map[string]string{"type": "connect"})
		if f := s.want("connected"); f.User != "patient-1" || !strings.HasPrefix(f.Session, "ses_") || f.PingMs != 25000 || f.MaxBytes != 65536 || f.Resumed || f.ExpiresAt == "" {
			t.Errorf("%s: %s", name, f.Raw)
		}
	}
	if f := w.connectAs(tok, "").hello; f.User != "patient-1" {
		t.Errorf("connect frame: %s", f.Raw)
	}
	s, _, err := w.dial(nil, "?ticket="+ticket.Ticket, "bridge.v1.json")
	expect.NoError(t, err)
	if code := s.closed(); code != 4401 {
		t.Errorf("a ticket used twice: %d", code)
	}
}

func signed(t *testing.T, c jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(testJWTSecret))
	expect.NoError(t, err)
	return s
}

func tokenBad(t *testing.T) {
	t.Parallel()
	w := start(t)
	bad := map[string]string{
		"expired":        token(t, "patient-1", -time.Hour, ""),
		"just expired":   token(t, "patient-1", -61*time.Second, ""), // beyond the leeway for clocks
		"garbage":        "eyJhbGciOiJub25lIn0.e30.",
		"no such rights": token(t, "patient-1", time.Hour, `{"send":"*"}`),
		"no user":        signed(t, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()}),
		"no exp":         signed(t, jwt.MapClaims{"sub": "patient-1"}),
	}
	for name, tok := range bad {
		s, _, err := w.dial(nil, "", "bridge.v1.json")
		expect.NoError(t, err)
		s.send(map[string]string{"type": "connect", "token": tok})
		if code := s.closed(); code != 4401 {
			t.Errorf("%s in the connect frame: %d", name, code)
		}
		s, _, err = w.dial(bearer(tok), "", "bridge.v1.json")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if code := s.closed(); code != 4401 {
			t.Errorf("%s in the header: %d", name, code)
		}
		_, res, err := w.dial(bearer(tok), "")
		if err == nil || res.StatusCode != 401 || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s from a plain client: %v %v", name, err, res)
		}
	}
}

// opens tells whether a token opens a session, and holds that to what a request
// with it is answered.
func (w *world) opens(tok string) bool {
	w.t.Helper()
	s, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(w.t, err)
	s.send(map[string]string{"type": "connect", "token": tok})
	poll := w.callAs(tok, "GET", "/v1/poll?waitMs=0", "")
	f, err := s.read()
	if err == nil && f.Type == "connected" && poll.HTTP == 200 {
		return true
	}
	if !websocket.IsCloseError(err, 4401) || poll.HTTP != 401 {
		w.t.Errorf("%v %s / %d %s", err, f.Raw, poll.HTTP, poll.Raw)
	}
	return false
}

func tokenBadEachWay(t *testing.T) {
	t.Parallel()
	w := start(t)
	for name, open := range map[string]func() (*session, *http.Response, error){
		"subprotocol": func() (*session, *http.Response, error) {
			return w.dial(nil, "", "bridge.v1.json", "bearer."+token(t, "patient-1", -time.Hour, ""))
		},
		"ticket": func() (*session, *http.Response, error) { return w.dial(nil, "?ticket=none", "bridge.v1.json") },
	} {
		s, _, err := open()
		expect.NoError(t, err)
		if code := s.closed(); code != 4401 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if _, res, err := w.dial(nil, "?ticket=none"); err == nil || res.StatusCode != 401 {
		t.Errorf("ticket of a plain client: %v %v", res, err)
	}
}

func tokenUncheckable(t *testing.T) {
	t.Parallel()
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(keys.Close)
	w := start(t, func(s *server.Settings) { s.JWTSecret, s.JWKSURL = "", keys.URL })
	_, private, err := ed25519.GenerateKey(nil)
	expect.NoError(t, err)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "patient-1", "exp": time.Now().Add(time.Hour).Unix()})
	token.Header["kid"] = "k1"
	tok, err := token.SignedString(private)
	expect.NoError(t, err)
	s, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	s.send(map[string]string{"type": "connect", "token": tok})
	if code := s.closed(); code != 1013 {
		t.Errorf("in the connect frame: %d", code)
	}
	if _, res, err := w.dial(bearer(tok), "", "bridge.v1.json"); err == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("in the header: %v %v", res, err)
	}
	if a := w.callAs(tok, "GET", "/v1/poll", ""); a.HTTP != 503 || a.Code != "unavailable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("poll: %d %s", a.HTTP, a.Raw)
	}
}

func tokenInURL(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for path, how := range map[string]string{"/ws": "POST /v1/tickets", "/v1/stream": "?ticket=", "/v1/poll": "Authorization header", "/v1/acks": "Authorization header"} {
		for _, name := range []string{"token", "access_token", "Authorization", "jwt", "x"} {
			method := http.MethodGet
			if path == "/v1/acks" {
				method = http.MethodPost
			}
			a := w.callAs(tok, method, path+"?"+name+"="+tok, "")
			if a.HTTP != http.StatusBadRequest || a.Code != "token_in_url" || !strings.Contains(a.Detail, how) || !strings.Contains(a.Detail, "URLs end up in logs") {
				t.Errorf("%s?%s=: %d %s", path, name, a.HTTP, a.Raw)
			}
		}
	}
	if strings.Contains(w.logs.String(), tok) {
		t.Error("the log repeats the token")
	}
}

func tokenIssuer(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.JWTIssuer, s.JWTAudience = "https://clinic.example", "bridge" })
	for name, c := range map[string]struct {
		issuer, audience any
		good             bool
	}{
		"both":             {"https://clinic.example", "bridge", true},
		"one of several":   {"https://clinic.example", []string{"app", "bridge"}, true},
		"another issuer":   {"https://evil.example", "bridge", false},
		"no issuer":        {nil, "bridge", false},
		"another audience": {"https://clinic.example", "app", false},
		"no audience":      {"https://clinic.example", nil, false},
	} {
		tok := signed(t, jwt.MapClaims{"sub": "patient-1", "exp": time.Now().Add(time.Hour).Unix(), "iss": c.issuer, "aud": c.audience})
		if w.opens(tok) != c.good {
			t.Errorf("%s: good is %t", name, !c.good)
		}
	}
}

func tokenClaims(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.JWTUserClaim, s.JWTRightsClaim = "uid", "https://clinic.example/rights" })
	s := w.connectAs(signed(t, jwt.MapClaims{"sub": "somebody", "uid": "doctor-7", "exp": time.Now().Add(time.Hour).Unix(),
		"bridge": map[string]any{"send": []string{}}, "https://clinic.example/rights": map[string]any{"send": []string{"patient-*"}}}), "")
	if s.hello.User != "doctor-7" {
		t.Errorf("%s", s.hello.Raw)
	}
	s.sendRaw(`{"type":"send","ref":"1","to":{"user":"patient-1"},"event":{"type":"t"}}`)
	s.want("result")
	if w.opens(signed(t, jwt.MapClaims{"sub": "doctor-7", "exp": time.Now().Add(time.Hour).Unix()})) {
		t.Error("a token without the claim of the user is good")
	}
}

func tokenKeys(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	expect.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	expect.NoError(t, err)
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"k1","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	t.Cleanup(keys.Close)
	claims := jwt.MapClaims{"sub": "patient-1", "exp": time.Now().Add(time.Hour).Unix()}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = "k1"
	good, err := token.SignedString(private)
	expect.NoError(t, err)
	for name, set := range map[string]func(*server.Settings){
		"a public key": func(s *server.Settings) {
			s.JWTPublicKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		},
		"a key set": func(s *server.Settings) { s.JWKSURL = keys.URL },
	} {
		w := start(t, func(s *server.Settings) { s.JWTSecret = "" }, set)
		if !w.opens(good) {
			t.Errorf("%s: its own token is bad", name)
		}
		if w.opens(signed(t, claims)) {
			t.Errorf("%s: a token of HS256 is good", name)
		}
	}
}

func tokenSecrets(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) {
		s.JWTSecret = server.Secret("another-secret-of-more-than-32-bytes, " + testJWTSecret)
	})
	w.connect("patient-1", "")
}

func tokenExpiring(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connectAs(token(t, "patient-1", 68*time.Second, ""), "")
	s.settle() // not at once: more than a minute is left
	if f := s.want("token_expiring"); f.InMs > 60_000 || f.InMs < 55_000 {
		t.Errorf("%s", f.Raw)
	}
}

func tokenLeeway(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.JWTLeeway = 8 * time.Second })
	w.fireTo("patient-1", 1) // first, so that a slow machine has little to do within the leeway
	expired := time.Now().Add(-time.Second)
	s := w.connectAs(token(t, "patient-1", -time.Second, ""), "")
	if f := s.want("event"); f.n() != 1 {
		t.Errorf("%s", f.Raw)
	}
	if code := s.closed(); code != 4401 {
		t.Errorf("at the end of the leeway: %d", code)
	}
	if held := time.Since(expired.Truncate(time.Second)); held < 8*time.Second {
		t.Errorf("ended %s after its exp", held)
	}
	a := w.callAs(token(t, "patient-1", -9*time.Second, ""), http.MethodGet, "/v1/poll", "")
	if a.HTTP != 401 {
		t.Errorf("beyond the leeway: %d %s", a.HTTP, a.Raw)
	}
}
