package e2e

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/fasthttp/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/golang-jwt/jwt/v5"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

// Numbers and corners that the protocol names exactly.

func TestTheSettingsDefaultToWhatTheProtocolSays(t *testing.T) {
	var s server.Settings
	parser, err := kong.New(&s)
	expect.NoError(t, err)
	_, err = parser.Parse(nil)
	expect.NoError(t, err)
	for name, is := range map[string]bool{
		"BRIDGE_LISTEN is :8080":                 s.Listen == ":8080",
		"BRIDGE_DATA_DIR is data":                s.DataDir == "data",
		"BRIDGE_DEFAULT_TTL is 72 h":             s.DefaultTTL == 72*time.Hour,
		"an id is remembered for 7 days":         s.IDRetention == 7*24*time.Hour,
		"a mailbox holds 10,000":                 s.MailboxLimit == 10_000,
		"BRIDGE_MAX_BYTES is 64 KiB":             s.MaxBytes == 64<<10,
		"BRIDGE_JWT_LEEWAY is 60 s":              s.JWTLeeway == time.Minute,
		"BRIDGE_MAX_BATCH_BYTES is 8 MiB":        s.MaxBatchBytes == 8<<20,
		"BRIDGE_MAX_SESSIONS_PER_USER is 16":     s.SessionsByUser == 16,
		"BRIDGE_DRAIN_TIMEOUT is 15 s":           s.DrainTimeout == 15*time.Second,
		"a session is pinged every 25 s":         s.PingInterval == 25*time.Second,
		"the user is sub, the rights are bridge": s.JWTUserClaim == "sub" && s.JWTRightsClaim == "bridge",
		"tokens of any issuer and audience":      s.JWTIssuer == "" && s.JWTAudience == "",
		"no browser's page may connect":          len(s.AllowedOrigins) == 0,
	} {
		if !is {
			t.Errorf("not so: %s", name)
		}
	}
}

func TestAnEventWithoutTtlIsKeptForTheDefault(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.DefaultTTL = 5 * time.Hour })
	a := w.fireTo("patient-1", 1)
	if at, err := time.Parse(time.RFC3339, a.Expires); err != nil || time.Until(at) > 5*time.Hour || time.Until(at) < 4*time.Hour+59*time.Minute {
		t.Errorf("%s", a.Raw)
	}
}

func TestAnEventWithoutATimestampHasTheWebhooksOwn(t *testing.T) {
	w := start(t)
	s := w.connect("patient-1", "")
	at := time.Now().Add(-2 * time.Minute)
	for media, body := range map[string]string{
		"application/json":             `{"type":"t","to":{"user":"patient-1"}}`,
		"application/cloudevents+json": `{"specversion":"1.0","id":"1","source":"/s","type":"t","touser":"patient-1"}`,
	} {
		if a := w.do(w.signFor("/webhooks/events", media, w.nextID(), body, at)); a.HTTP != 202 {
			t.Fatalf("%s: %d %s", media, a.HTTP, a.Raw)
		}
		if f := s.want("event"); f.Event.Timestamp != at.UTC().Format("2006-01-02T15:04:05Z") {
			t.Errorf("%s: %s", media, f.Raw)
		}
	}
}

func TestTimesOnTheWireAreRFC3339WhateverTheSenderMeant(t *testing.T) {
	w := start(t)
	for _, at := range []string{"9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "2026-11-22T2:36:00Z", "2026-11-22T20:36:00,5Z"} {
		for media, body := range map[string]string{
			"application/json":             `{"type":"t","to":{"user":"patient-1"},"timestamp":"` + at + `"}`,
			"application/cloudevents+json": `{"specversion":"1.0","id":"1","source":"/s","type":"t","touser":"patient-1","time":"` + at + `"}`,
		} {
			a := w.do(w.signFor("/webhooks/events", media, w.nextID(), body, time.Now()))
			if a.HTTP != 422 || a.Code != "invalid_event" || !strings.Contains(a.Detail, "RFC 3339") {
				t.Errorf("%s as %s: %d %s", at, media, a.HTTP, a.Raw)
			}
		}
	}
	s := w.connect("patient-1", "")
	for at, want := range map[string]string{"9999-12-31T23:59:59Z": "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z": "0000-01-01T00:00:00Z", "2026-11-22T21:36:00.5+01:00": "2026-11-22T20:36:00.5Z"} {
		w.fire(w.nextID(), `{"type":"t","to":{"user":"patient-1"},"timestamp":"`+at+`"}`)
		if f := s.want("event"); f.Event.Timestamp != want {
			t.Errorf("%s: %s", at, f.Raw)
		}
	}
}

func TestWhatIsExactlyAsLargeAsAllowedIsTaken(t *testing.T) {
	w := start(t)
	pad := func(head, tail string, n int) string { return head + strings.Repeat("a", n-len(head)-len(tail)) + tail }
	const event, tail = `{"type":"t","to":{"user":"patient-1"},"data":"`, `"}`
	w.fire(w.nextID(), pad(event, tail, 65536))
	if a := w.do(w.sign(w.nextID(), pad(event, tail, 65537), time.Now())); a.HTTP != 413 {
		t.Errorf("one byte more: %d %s", a.HTTP, a.Raw)
	}
	var users []string
	for i := range 1000 {
		users = append(users, fmt.Sprintf(`"u%d"`, i))
	}
	if a := w.fire(w.nextID(), `{"type":"t","to":{"users":[`+strings.Join(users, ",")+`]}}`); *a.Recipients != 1000 {
		t.Errorf("%s", a.Raw)
	}
	w.fire(strings.Repeat("i", 64), `{"type":"`+strings.Repeat("t", 128)+`","to":{"user":"`+strings.Repeat("ü", 128)+`"}}`)
	w.fire(w.nextID(), `{"type":"t","to":{"group":"`+strings.Repeat("ü", 128)+`"}}`)
	for name, body := range map[string]string{
		"/type":     `{"type":"` + strings.Repeat("t", 129) + `","to":{"user":"u"}}`,
		"/to/group": `{"type":"t","to":{"group":"` + strings.Repeat("g", 129) + `"}}`,
		"/to/users": `{"type":"t","to":{"users":["u","` + strings.Repeat("u", 129) + `"]}}`,
	} {
		if a := w.do(w.sign(w.nextID(), body, time.Now())); a.HTTP != 422 || !strings.Contains(a.Detail, name) {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
	s := w.connect("patient-2", "")
	s.sendRaw(pad(`{"type":"ping","x":"`, `"}`, 65536))
	s.want("pong")
	s.sendRaw(pad(`{"type":"ping","x":"`, `"}`, 65537))
	if code := s.closed(); code != 1009 {
		t.Errorf("one byte more: %d", code)
	}
}

func TestAConnectionWithoutAFirstFrameIsClosedWith4408(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.Times.FirstFrame = 300 * time.Millisecond })
	for name, protocols := range map[string][]string{"framed": {"bridge.v1.json"}, "plain": nil} {
		s, _, err := w.dial(nil, "", protocols...)
		expect.NoError(t, err)
		if code := s.closed(); code != 4408 {
			t.Errorf("%s: %d", name, code)
		}
	}
}

func TestATokensEndIsAnnouncedAMinuteBefore(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connectAs(token(t, "patient-1", 63*time.Second, ""), "")
	s.settle() // not at once: more than a minute is left
	if f := s.want("token_expiring"); f.InMs > 60_000 || f.InMs < 55_000 {
		t.Errorf("%s", f.Raw)
	}
}

func TestATicketIsGoodForThirtySeconds(t *testing.T) {
	w := start(t)
	ticket := w.ticket(token(t, "patient-1", time.Hour, ""))
	at, err := time.Parse(time.RFC3339, ticket.ExpiresAt)
	if left := time.Until(at); err != nil || left > 30*time.Second || left < 25*time.Second {
		t.Errorf("%v %v", left, err)
	}
}

func TestABurstOfAThousandFramesIsNoFlood(t *testing.T) {
	w := start(t)
	s := w.connect("patient-1", "")
	for range 1000 {
		s.send(map[string]string{"type": "ping"})
	}
	for range 1000 {
		s.want("pong")
	}
}

func TestAPongOfTheNextHeartbeatSaysReceived(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.PingInterval = 200 * time.Millisecond })
	s := w.connect("patient-1", "")
	const body = `{"type":"t","to":{"user":"patient-1"},"data":{"n":1}}`
	w.fire("msg_h", body)
	s.want("event")
	expect.Eventually(t, "received", func() bool { return w.fire("msg_h", body).Status == "received" })
}

func TestAPlainClientHasOnePingToAnswerAtATime(t *testing.T) {
	w := start(t)
	s, _, err := w.dial(bearer(token(t, "patient-1", time.Hour, "")), "")
	expect.NoError(t, err)
	pings := make(chan string, 16)
	s.ws.SetPingHandler(func(data string) error { pings <- data; return nil })
	s.pump()
	w.sessions(1)
	var ids []string
	for i := range 4 {
		ids = append(ids, w.fireTo("patient-1", i).ID)
		s.next()
	}
	if len(pings) != 1 {
		t.Fatalf("%d pings before the first is answered", len(pings))
	}
	answer := func(data string) {
		expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(expect.Patience)))
	}
	status := func(i int) any {
		return w.fire(ids[i], fmt.Sprintf(`{"type":"test.event","to":{"user":"patient-1"},"data":{"n":%d}}`, i)).Status
	}
	answer(<-pings)
	second := <-pings // asks for all that came meanwhile
	expect.Eventually(t, "the first is acked", func() bool { return status(0) == "acked" })
	if got := status(3); got != "sent" {
		t.Errorf("the last, whose ping is not answered: %s", got)
	}
	answer(second)
	expect.Eventually(t, "the last is acked", func() bool { return status(3) == "acked" })
}

func TestASilentConnectionIsClosedWith1011(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.PingInterval = 100 * time.Millisecond })
	conn, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer conn.Close()
	expect.NoError(t, conn.SetReadDeadline(time.Now().Add(expect.Patience)))
	expect.NoError(t, wsutil.WriteClientText(conn, []byte(`{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`)))
	for {
		f, err := readServerFrame(conn)
		expect.NoError(t, err)
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		if code, _ := ws.ParseCloseFrameData(f.Payload); code != 1011 {
			t.Errorf("closed with %d", code)
		}
		return
	}
}

func TestASecondTokenOfAPlainClientIsRefusedWith4400(t *testing.T) {
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	inFrame := w.plain(tok)
	inHeader, _, err := w.dial(bearer(tok), "")
	expect.NoError(t, err)
	for name, s := range map[string]*session{"after a frame": inFrame, "after the handshake": inHeader} {
		s.send(map[string]string{"token": tok})
		if code := s.closed(); code != 4400 {
			t.Errorf("%s: %d", name, code)
		}
	}
}

func TestASessionTooManyThatShowsOnlyAfterTheUpgradeIsClosedWith1013(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.MaxSessions = 1 })
	first, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	second, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	first.send(map[string]string{"type": "connect", "token": token(t, "patient-1", time.Hour, "")})
	first.want("connected")
	second.send(map[string]string{"type": "connect", "token": token(t, "patient-2", time.Hour, "")})
	if code := second.closed(); code != 1013 {
		t.Errorf("%d", code)
	}
	first.settle()
}

func TestARefIsItsUsersOwn(t *testing.T) {
	w := start(t)
	patient := w.connect("patient-1", "")
	seen := make(map[string]bool)
	for _, user := range []string{"doctor-7", "doctor-8"} {
		s := w.connectAs(token(t, user, time.Hour, `{"send":["patient-*"]}`), "")
		s.sendRaw(`{"type":"send","ref":"c1","to":{"user":"patient-1"},"event":{"type":"t","data":1}}`)
		if r := s.want("result"); r.Duplicate || r.Sessions != 1 || seen[r.ID] {
			t.Errorf("%s: %s", user, r.Raw)
		} else {
			seen[r.ID] = true
		}
		if f := patient.want("event"); f.From != user {
			t.Errorf("%s: %s", user, f.Raw)
		}
	}
}

func TestABinaryCloudEventIsKnownByItsAttributesOnBothPaths(t *testing.T) {
	w := start(t)
	send := func(path, id, user, body string) answer {
		req := w.signFor(path, "application/json", w.nextID(), body, time.Now())
		for k, v := range map[string]string{"specversion": "1.0", "id": id, "source": "/clinic", "type": "t", "touser": user} {
			req.Header.Set("ce-"+k, v)
		}
		return w.do(req)
	}
	for i, path := range []string{"/webhooks/events", "/webhooks/events/batch"} {
		id := fmt.Sprint("binary ", i)
		first := send(path, id, "patient-1", `{"n":1}`)
		if first.HTTP != 202 || first.Status != "queued" || first.Duplicate {
			t.Fatalf("%s: %d %s", path, first.HTTP, first.Raw)
		}
		if a := send(path, id, "patient-1", `{"n":1}`); a.HTTP != 202 || !a.Duplicate || a.ID != first.ID {
			t.Errorf("%s, once more: %d %s", path, a.HTTP, a.Raw)
		}
		for name, a := range map[string]answer{"another target": send(path, id, "patient-2", `{"n":1}`), "another body": send(path, id, "patient-1", `{"n":2}`)} {
			if a.HTTP != 409 || a.Code != "id_conflict" {
				t.Errorf("%s, %s: %d %s", path, name, a.HTTP, a.Raw)
			}
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

func TestTokensNeedTheIssuerAndAudienceThatAreSet(t *testing.T) {
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

func TestUserAndRightsStandInTheClaimsThatAreSet(t *testing.T) {
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

func TestTokensAreCheckedByAPublicKeyOrByAKeySet(t *testing.T) {
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

func TestEveryCallOfAnOperatorIsAudited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := start(t, func(s *server.Settings) { s.Audit = path })
	s := w.connect("patient-1", "")
	w.fire("msg_1", `{"type":"t","to":{"user":"patient-1"}}`)
	calls := []struct{ method, path, body string }{
		{"GET", "/v1/events/msg_1", ""},
		{"GET", "/v1/events/msg_never", ""},
		{"DELETE", "/v1/events/msg_1", ""},
		{"GET", "/v1/users/patient-1/presence", ""},
		{"HEAD", "/v1/users/patient-1/presence", ""},
		{"POST", "/v1/presence", `{"users":["patient-1"]}`},
		{"POST", "/v1/presence", `{"users":[]}`},
		{"POST", "/v1/presence", `nonsense`},
		{"POST", "/v1/presence", ``},
		{"GET", "/v1/users/patient-1/sessions", ""},
		{"DELETE", "/v1/users/patient-1/sessions/" + s.id, ""},
		{"DELETE", "/v1/users/patient-1/sessions", ""},
		{"POST", "/v1/users/patient-1/revocations", `{"jti":"x"}`},
		{"POST", "/v1/users/patient-1/revocations", `{"issuedBefore":1}`},
		{"POST", "/v1/users/patient-1/revocations", `{}`},
		{"POST", "/v1/users/patient-1/revocations", `{"jti":""}`},
		{"POST", "/v1/users/patient-1/revocations", `{"issuedBefore":0}`},
		{"GET", "/v1/users/patient-1/export", ""},
		{"PUT", "/v1/groups/ward-3/members/patient-1", ""},
		{"GET", "/v1/groups/ward-3/members", ""},
		{"DELETE", "/v1/groups/ward-3/members/patient-1", ""},
		{"DELETE", "/v1/users/patient-1", ""},
	}
	told := 0
	for _, c := range calls {
		a := w.call(c.method, c.path, c.body)
		var last auditLine
		expect.Eventually(t, fmt.Sprintf("the line of %s %s %s", c.method, c.path, c.body), func() bool {
			n := 0
			for _, l := range auditLines(t, path) {
				if l.User == "operator" && l.TokenID == "jti-operator" {
					n, last = n+1, l
				}
			}
			return n > told
		})
		told++
		if good := a.HTTP < 300; good != (last.Msg == "operated" && last.Outcome == "done") {
			t.Errorf("%s %s %s: %d, audited as %s", c.method, c.path, c.body, a.HTTP, last.raw)
		}
	}
}

func TestAMethodThatIsNoneIsAProblemToo(t *testing.T) {
	w := start(t)
	req, err := http.NewRequest("BREW", w.base+"/webhooks/events", nil)
	expect.NoError(t, err)
	res, err := http.DefaultTransport.RoundTrip(req) // the contract knows no such method
	expect.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	expect.NoError(t, err)
	if res.StatusCode != 400 || res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(b), `"code":"malformed"`) {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, b)
	}
}

func TestAStreamOverHTTP10IsNotChunkedAndDoesNotSaySo(t *testing.T) {
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	conn, err := net.Dial("tcp", w.p.Addr())
	expect.NoError(t, err)
	defer conn.Close()
	expect.NoError(t, conn.SetReadDeadline(time.Now().Add(expect.Patience)))
	_, err = io.WriteString(conn, "GET /v1/stream HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer "+tok+"\r\n\r\n")
	expect.NoError(t, err)
	w.sessions(1)
	w.done("DELETE", "/v1/users/patient-1/sessions", "")
	all, err := io.ReadAll(conn)
	expect.NoError(t, err)
	head, body, _ := strings.Cut(string(all), "\r\n\r\n")
	if strings.Contains(head, "Transfer-Encoding") || strings.Contains(head, "Content-Length") || !strings.Contains(head, "Connection: close") {
		t.Errorf("%s", head)
	}
	if !strings.HasPrefix(body, "id: ") && !strings.HasPrefix(body, "event: ") {
		t.Errorf("%s", body)
	}
}

func TestAskingForTheHeadOfAStreamOpensNone(t *testing.T) {
	w := start(t)
	for range 2 { // the connection is good for another request
		req, err := http.NewRequest(http.MethodHead, w.base+"/v1/stream", nil)
		expect.NoError(t, err)
		req.Header = bearer(token(t, "patient-1", time.Hour, ""))
		res, err := http.DefaultTransport.RoundTrip(req)
		expect.NoError(t, err)
		expect.NoError(t, res.Body.Close())
		if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		var list struct{ Sessions []struct{ Session string } }
		if w.get("/v1/users/patient-1/sessions", &list); len(list.Sessions) != 0 {
			t.Errorf("%+v", list)
		}
	}
}

func TestASlowSessionThatReadsAgainIsToldSoWith4498(t *testing.T) {
	w := start(t)
	s := w.connectSlow("patient-1", "")
	pad := strings.Repeat("x", 60_000)
	for i := 0; w.metric("hookbridge_queue_overflows_total") == 0; i++ {
		if i == 2000 {
			t.Fatal("the slow session is never closed")
		}
		w.fire(w.nextID(), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d,"pad":%q}}`, i, pad))
	}
	if code := s.closed(); code != 4498 {
		t.Errorf("%d", code)
	}
}

func TestAWaitIsForAllOfABatch(t *testing.T) {
	w := start(t)
	w.connect("patient-1", "")
	const batch = `{"events":[{"id":"w_1","type":"t","to":{"user":"patient-1"}},{"id":"w_2","type":"t","to":{"user":"patient-1"}},{"id":"w_3","type":"t","to":{"user":"away"}}]}`
	req := waiting(w.signFor("/webhooks/events/batch", "application/json", "w", batch, time.Now()), "received", "20s")
	if a := w.do(req); a.HTTP != 202 || strings.Count(a.Raw, `"status":"received"`) != 2 || strings.Count(a.Raw, `"status":"queued"`) != 1 {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

func TestASessionThatIsEndingTakesNobodysPlace(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 2 })
	oldest := w.connect("patient-1", "")
	mute, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer mute.Close() // it never answers a close frame, and so takes its time to go
	expect.NoError(t, wsutil.WriteClientText(mute, []byte(`{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`)))
	var list struct{ Sessions []struct{ Session string } }
	expect.Eventually(t, "both", func() bool { w.get("/v1/users/patient-1/sessions", &list); return len(list.Sessions) == 2 })
	w.done("DELETE", "/v1/users/patient-1/sessions/"+list.Sessions[1].Session, "")
	w.connect("patient-1", "").settle()
	oldest.settle()
	w.connect("patient-1", "").settle()
	if code := oldest.closed(); code != 4409 {
		t.Errorf("one more closes the oldest: %d", code)
	}
}

func TestAFirstFrameThatCannotBeReadIsAnsweredLikeAnyOther(t *testing.T) {
	w := start(t)
	for name, c := range map[string]struct {
		kind int
		text string
		want int
	}{
		"binary":    {websocket.BinaryMessage, `{"type":"connect"}`, 1003},
		"too large": {websocket.TextMessage, `{"type":"connect","x":"` + strings.Repeat("a", 65536) + `"}`, 1009},
		"no UTF-8":  {websocket.TextMessage, "{\"type\":\"\xff\"}", 1007},
		"no type":   {websocket.TextMessage, `{"token":"x"}`, 4400},
	} {
		s, _, err := w.dial(nil, "", "bridge.v1.json")
		expect.NoError(t, err)
		expect.NoError(t, s.ws.WriteMessage(c.kind, []byte(c.text)))
		if code := s.closed(); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
}

func TestTheRightsOfARefreshedTokenHoldFromThenOn(t *testing.T) {
	w := start(t)
	s := w.connect("doctor-7", "")
	const send = `{"type":"send","ref":"1","to":{"user":"patient-1"},"event":{"type":"t"}}`
	for _, c := range []struct{ rights, want string }{{`{"send":["patient-*"]}`, "result"}, {`{"send":["doctor-*"]}`, "error"}} {
		s.send(map[string]string{"type": "refresh", "token": token(t, "doctor-7", time.Hour, c.rights)})
		s.want("refreshed")
		s.sendRaw(send)
		s.want(c.want)
	}
}

func TestABadTokenIsClosedWith4401InWhicheverWayItComes(t *testing.T) {
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

func TestATokenThatCannotBeCheckedJustNowIsNoBadToken(t *testing.T) {
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

func TestAPollIsToldOfARecall(t *testing.T) {
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	a := w.fireTo("patient-1", 1)
	had := w.poll(tok, "?waitMs=20000")
	answers := make(chan pollReply)
	go func() { answers <- w.poll(tok, "?waitMs=20000&after="+had.Cursor) }()
	w.sessions(1)
	w.done("DELETE", "/v1/events/"+a.ID, "")
	if p := <-answers; len(p.Frames) != 1 || p.Frames[0].Type != "recalled" || p.Frames[0].ID != a.ID {
		t.Errorf("%+v", p)
	}
}

func TestAPlainClientIsToldOfNoRecall(t *testing.T) {
	w := start(t)
	s := w.plain(token(t, "patient-1", time.Hour, ""))
	w.sessions(1)
	w.fire("x", `{"type":"t","to":{"user":"patient-1"},"data":1}`)
	if f := s.next(); f.ID != "x" {
		t.Fatalf("%s", f.Raw)
	}
	w.done(http.MethodDelete, "/v1/events/x", "")
	w.fire("y", `{"type":"t","to":{"user":"patient-1"},"data":2}`)
	if f := s.next(); f.ID != "y" {
		t.Errorf("instead of the next event: %s", f.Raw)
	}
}

func TestAnIdIsRememberedForTheTimeThatIsSet(t *testing.T) {
	r := redistest.Start(t)
	for retention, again := range map[time.Duration]bool{time.Millisecond: true, time.Hour: false} {
		w := start(t, func(s *server.Settings) {
			s.RedisURL, s.RedisPrefix, s.IDRetention = server.Secret(r.URL()), "kept-"+retention.String(), retention
		})
		const body = `{"type":"t","to":{"user":"patient-1"},"ttl":0,"data":%d}`
		w.fire("x", fmt.Sprintf(body, 1))
		if again {
			expect.Eventually(t, "the id to be forgotten", func() bool { return w.do(w.sign("x", fmt.Sprintf(body, 2), time.Now())).HTTP == 202 })
		} else if a := w.do(w.sign("x", fmt.Sprintf(body, 2), time.Now())); a.HTTP != 409 {
			t.Errorf("%s", a.Raw)
		}
		w.stop()
	}
}

func TestAPollOfAnErasedUserIsRefused(t *testing.T) {
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	had := w.poll(tok, "?waitMs=0")
	answers := make(chan answer)
	go func() { answers <- w.callAs(tok, "GET", "/v1/poll?waitMs=20000&after="+had.Cursor, "") }()
	w.sessions(1)
	w.done("DELETE", "/v1/users/patient-1", "")
	if a := <-answers; a.HTTP != 403 || a.Code != "forbidden" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

func TestASessionThatCannotBeginForTheStoreIsClosedWith1011(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	w := onRedis(t, r.URL())[0]
	s, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	r.Kill()
	s.send(map[string]string{"type": "connect", "token": token(t, "patient-1", time.Hour, "")})
	if code := s.closed(); code != 1011 {
		t.Errorf("closed with %d", code)
	}
	r.Restart()
	expect.Eventually(t, "the machine to be well", func() bool { return w.ready() == 200 })
}
