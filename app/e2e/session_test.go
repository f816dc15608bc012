package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/golang-jwt/jwt/v5"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func (w *world) ticket(token string) answerTicket {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodPost, w.base+"/v1/tickets", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header = bearer(token)
	a := w.do(req)
	var out answerTicket
	if a.HTTP != http.StatusCreated {
		w.t.Fatalf("ticket: %d %s", a.HTTP, a.Raw)
	}
	if err := json.Unmarshal([]byte(a.Raw), &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

type answerTicket struct {
	Ticket    string `json:"ticket"`
	ExpiresAt string `json:"expiresAt"`
}

func TestATokenComesInOneOfFourWays(t *testing.T) {
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
	if err != nil {
		t.Fatal(err)
	}
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

func TestAPageOfAnAllowedOriginMayFetchATicketAndNoOther(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for origin, want := range map[string]int{"https://app.example": 204, "https://evil.example": 403} {
		req, err := http.NewRequest(http.MethodOptions, w.base+"/v1/tickets", nil)
		expect.NoError(t, err)
		req.Header = http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"}}
		if a := w.do(req); a.HTTP != want || (want == 204) != (a.Header.Get("Access-Control-Allow-Origin") == origin) {
			t.Errorf("preflight from %s: %d %v", origin, a.HTTP, a.Header)
		}
		req, err = http.NewRequest(http.MethodPost, w.base+"/v1/tickets", nil)
		expect.NoError(t, err)
		req.Header = bearer(tok)
		req.Header.Set("Origin", origin)
		if a := w.do(req); (want == 204) != (a.HTTP == 201 && a.Header.Get("Access-Control-Allow-Origin") == origin) {
			t.Errorf("ticket for %s: %d %s", origin, a.HTTP, a.Raw)
		}
	}
}

func TestABadTokenIsToldInTheWayTheClientCanRead(t *testing.T) {
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
		if err != nil {
			t.Fatal(err)
		}
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

func TestWhatIsRefusedBeforeTheUpgrade(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for name, c := range map[string]struct {
		header    http.Header
		query     string
		protocols []string
		want      int
	}{
		"a token in the URL":           {nil, "?token=" + tok, []string{"bridge.v1.json"}, 400},
		"under another name":           {nil, "?access_token=x", []string{"bridge.v1.json"}, 400},
		"a JWT under any name":         {nil, "?q=" + tok, nil, 400},
		"two tokens":                   {bearer(tok), "", []string{"bridge.v1.json", "bearer." + tok}, 400},
		"a token and a ticket":         {bearer(tok), "?ticket=x", []string{"bridge.v1.json"}, 400},
		"only unknown subprotocols":    {nil, "", []string{"mqtt", "soap"}, 400},
		"a foreign origin":             {http.Header{"Origin": {"https://evil.example"}}, "", []string{"bridge.v1.json"}, 403},
		"an origin that looks alike":   {http.Header{"Origin": {"https://app.example.evil.example"}}, "", []string{"bridge.v1.json"}, 403},
		"a null origin":                {http.Header{"Origin": {"null"}}, "", []string{"bridge.v1.json"}, 403},
		"no Bearer, in plain mode":     {http.Header{"Authorization": {"Basic eDp5"}}, "", nil, 401},
		"another version of WebSocket": {nil, "", nil, 0},
	} {
		if c.want == 0 {
			continue
		}
		_, res, err := w.dial(c.header, c.query, c.protocols...)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if res == nil || res.StatusCode != c.want || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", name, res)
		}
	}
	s, _, err := w.dial(http.Header{"Authorization": {"Basic eDp5"}}, "", "bridge.v1.json")
	expect.NoError(t, err)
	if code := s.closed(); code != 4401 { // a browser could not read a 401
		t.Errorf("no Bearer: closed with %d", code)
	}
	if _, _, err := w.dial(http.Header{"Origin": {"HTTPS://App.Example"}}, "", "bridge.v1.json"); err != nil {
		t.Errorf("the allowed origin: %v", err)
	}
}

func TestTheFirstFrameMustBeConnectWithOneToken(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for first, want := range map[string]int{
		`{"type":"connect"}`:           4401,
		`{"type":"ping"}`:              4400,
		`hello`:                        4400,
		`{"type":"connect","after":7}`: 4400,
	} {
		s, _, err := w.dial(nil, "", "bridge.v1.json")
		if err != nil {
			t.Fatal(err)
		}
		s.sendRaw(first)
		if code := s.closed(); code != want {
			t.Errorf("%s: %d, want %d", first, code, want)
		}
	}
	s, _, err := w.dial(bearer(tok), "", "bridge.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	s.send(map[string]string{"type": "connect", "token": tok})
	if code := s.closed(); code != 4400 {
		t.Errorf("a second token: %d", code)
	}
}

func TestFramesThatAreWrongAreAnsweredAndTheSessionStays(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["patient-*"]}`), "")
	for in, want := range map[string]string{
		`{"type":"dance","ref":"r1"}`:        "unknown_type r1",
		`{"type":"ack","cursor":7}`:          "invalid_frame ",
		`{"type":"ack","cursor":"nonsense"}`: "invalid_frame ",
		`{"type":"seen","id":"a b"}`:         "invalid_frame ",
		`{"type":"connect"}`:                 "invalid_frame ",
		`{"type":"refresh"}`:                 "invalid_frame ",
		`{"type":"send","ref":"r2"}`:         "invalid_frame r2",
		`{"type":"send","ref":"r3","to":{"user":"patient-1"},"event":{"type":"a b"}}`:     "invalid_frame r3",
		`{"type":"send","ref":"r4","to":{"user":"doctor-8"},"event":{"type":"t"}}`:        "forbidden_target r4",
		`{"type":"send","ref":"r5","to":{"all":true},"event":{"type":"t"}}`:               "forbidden_target r5",
		`{"type":"send","ref":"r6","to":{"user":"patient-1"},"event":{"type":"t"},"x":1}`: " r6",
	} {
		s.sendRaw(in)
		f := s.next()
		if got := f.Problem.Code + " " + f.Ref; got != want {
			t.Errorf("%s: %s", in, f.Raw)
		}
	}
	s.sendRaw(`{"type":"seen","id":"msg_of_nobody"}`)
	if f := s.next(); f.Problem.Code != "not_found" {
		t.Errorf("seen of an event that is not there: %s", f.Raw)
	}
	s.settle()
}

func TestWhatEndsASessionSaysSoByItsCloseCode(t *testing.T) {
	w := start(t)
	for name, c := range map[string]struct {
		do   func(s *session)
		want int
	}{
		"no JSON":   {func(s *session) { s.sendRaw("hello") }, 4400},
		"no type":   {func(s *session) { s.sendRaw(`{"kind":"ping"}`) }, 4400},
		"binary":    {func(s *session) { expect.NoError(t, s.ws.WriteMessage(websocket.BinaryMessage, []byte{1})) }, 1003},
		"too large": {func(s *session) { s.sendRaw(`{"type":"ping","x":"` + strings.Repeat("a", 66000) + `"}`) }, 1009},
		"no UTF-8":  {func(s *session) { s.sendRaw("{\"type\":\"\xff\"}") }, 1007},
		"another user": {func(s *session) {
			s.send(map[string]string{"type": "refresh", "token": token(t, "patient-2", time.Hour, "")})
		}, 4403},
		"a bad refresh": {func(s *session) { s.send(map[string]string{"type": "refresh", "token": "x"}) }, 4401},
		"too many frames": {func(s *session) {
			for range 1200 {
				if s.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"seen","id":"m"}`)) != nil {
					return
				}
			}
		}, 4429},
		"the client leaves": {func(s *session) {
			expect.NoError(t, s.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "bye")))
		}, 1000},
	} {
		s := w.connect("patient-1", "")
		c.do(s)
		if code := s.closed(); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
	w.sessions(0)
}

func TestATokenIsRefreshedInBandOrTheSessionEnds(t *testing.T) {
	t.Parallel()
	w := start(t)
	// refreshed is told that its token expires, and gets one that lives so long.
	refreshed := func(t *testing.T, user string, life time.Duration) *session {
		s := w.connectAs(token(t, user, 3*time.Second, ""), "")
		if f := s.want("token_expiring"); f.InMs <= 0 || f.InMs > 3000 {
			t.Errorf("less than a minute is left: %s", f.Raw)
		}
		s.send(map[string]string{"type": "refresh", "token": token(t, user, life, "")})
		if f := s.want("refreshed"); f.ExpiresAt == "" {
			t.Errorf("%s", f.Raw)
		}
		return s
	}
	t.Run("ends", func(t *testing.T) {
		t.Parallel()
		// Of a token that lives so short nobody is told within five seconds of the last time.
		if code := refreshed(t, "patient-1", 3*time.Second).closed(); code != 4401 {
			t.Errorf("expired: %d", code)
		}
	})
	t.Run("goes on", func(t *testing.T) {
		t.Parallel()
		s := refreshed(t, "patient-2", time.Hour)
		w.fireTo("patient-2", 7)
		if f := s.want("event"); f.n() != 7 {
			t.Errorf("%s", f.Raw)
		}
	})
}

func TestASessionThatBeginsWithinTheLeewayEndsWithIt(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.JWTLeeway = 3 * time.Second })
	expired := time.Now().Add(-time.Second)
	s := w.connectAs(token(t, "patient-1", -time.Second, ""), "")
	w.fireTo("patient-1", 1)
	if f := s.want("event"); f.n() != 1 {
		t.Errorf("%s", f.Raw)
	}
	if code := s.closed(); code != 4401 {
		t.Errorf("at the end of the leeway: %d", code)
	}
	if held := time.Since(expired.Truncate(time.Second)); held < 3*time.Second {
		t.Errorf("ended %s after its exp", held)
	}
	a := w.callAs(token(t, "patient-1", -4*time.Second, ""), http.MethodGet, "/v1/poll", "")
	if a.HTTP != 401 {
		t.Errorf("beyond the leeway: %d %s", a.HTTP, a.Raw)
	}
}

func TestOneMoreSessionThanAllowedClosesTheOldest(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 2 })
	oldest, second := w.connect("patient-1", ""), w.connect("patient-1", "")
	third := w.connect("patient-1", "")
	if code := oldest.closed(); code != 4409 {
		t.Errorf("%d", code)
	}
	second.settle()
	third.settle()
	w.sessions(2)
}

func TestConnectionsAreLimitedInAllAndPerAddressBeforeTheyShowAToken(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MaxSessions, s.MaxUnauthenticatedPerAddress = 3, 2 })
	for i := range 3 {
		w.connect(fmt.Sprintf("patient-%d", i), "")
	}
	_, res, err := w.dial(nil, "", "bridge.v1.json")
	if err == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("a session too many: %v %v", err, res)
	}
	w = start(t, func(s *server.Settings) { s.MaxUnauthenticatedPerAddress = 2 })
	for range 2 {
		if _, _, err := w.dial(nil, "", "bridge.v1.json"); err != nil {
			t.Fatal(err)
		}
	}
	expect.Eventually(t, "both are counted", func() bool { return w.metric("hookbridge_pending_connections") == 2 })
	if _, res, err := w.dial(nil, "", "bridge.v1.json"); err == nil || res.StatusCode != 503 {
		t.Errorf("a third silent connection: %v %v", err, res)
	}
}

func TestADoctorsMessageGoesThroughTheSameDoor(t *testing.T) {
	t.Parallel()
	w := start(t)
	doctor := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["patient-*"]}`), "")
	send := `{"type":"send","ref":"c1","to":{"user":"patient-42"},"event":{"type":"chat.message","data":{"message":"hello"}}}`
	doctor.sendRaw(send)
	r := doctor.want("result")
	if r.Ref != "c1" || r.Status != "queued" || r.Sessions != 0 || r.ID == "" {
		t.Errorf("%s", r.Raw)
	}
	doctor.sendRaw(send)
	if again := doctor.want("result"); again.ID != r.ID || !again.Duplicate {
		t.Errorf("a retry with the same ref: %s", again.Raw)
	}
	doctor.sendRaw(strings.Replace(send, "hello", "goodbye", 1))
	if f := doctor.want("error"); f.Problem.Code != "id_conflict" || f.Problem.Status != 409 {
		t.Errorf("the same ref for another message: %s", f.Raw)
	}
	patient := w.connect("patient-42", "")
	f := patient.want("event")
	if f.From != "doctor-7" || f.Event.ID != r.ID || f.Event.Type != "chat.message" || !f.Replay || compact(t, f.Event.Data) != `{"message":"hello"}` {
		t.Errorf("%s", f.Raw)
	}
	patient.sendRaw(strings.Replace(send, "patient-42", "doctor-7", 1))
	if f := patient.want("error"); f.Problem.Code != "forbidden_target" {
		t.Errorf("a patient without rights: %s", f.Raw)
	}
	doctor.settle()
}

func TestPlainClientsWorkInBothDirections(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fire("msg_waited", `{"type":"patient.added","to":{"user":"patient-42"},"data":{"a":1}}`)
	patient := w.plain(token(t, "patient-42", time.Hour, ""))
	f := patient.next()
	if f.ID != "msg_waited" || !strings.HasPrefix(f.Raw, `{"id":"msg_waited","type":"patient.added","timestamp":"`) {
		t.Errorf("what waited, the event object alone: %s", f.Raw)
	}
	expect.Eventually(t, "the pong acks", func() bool {
		return w.fire("msg_waited", `{"type":"patient.added","to":{"user":"patient-42"},"data":{"a":1}}`).Status == "acked"
	})
	doctor, _, err := w.dial(bearer(token(t, "doctor-7", time.Hour, `{"send":["*"]}`)), "")
	if err != nil {
		t.Fatal(err)
	}
	framed := w.connectAs(token(t, "doctor-8", time.Hour, `{"send":["*"]}`), "")
	doctor.sendRaw(`{"toUserId":"patient-42","message":"hello"}`)
	if f = patient.next(); f.Raw != `{"fromUserId":"doctor-7","toUserId":"patient-42","message":"hello"}` {
		t.Errorf("plain to plain: %s", f.Raw)
	}
	doctor.sendRaw(`{"toUserId":"doctor-8","message":"hi"}`)
	if f = framed.want("event"); f.From != "doctor-7" || f.Event.Type != "message" || compact(t, f.Event.Data) != `{"message":"hi"}` {
		t.Errorf("plain to framed: %s", f.Raw)
	}
	framed.sendRaw(`{"type":"send","ref":"1","to":{"user":"patient-42"},"event":{"type":"chat","data":{"message":"from a page"}}}`)
	framed.want("result")
	if f = patient.next(); f.Raw != `{"fromUserId":"doctor-8","toUserId":"patient-42","message":"from a page"}` {
		t.Errorf("framed to plain: %s", f.Raw)
	}
	doctor.sendRaw(`{"toUserId":"*","message":"to all"}`)
	if f = patient.next(); f.Raw != `{"fromUserId":"doctor-7","toUserId":"patient-42","message":"to all"}` {
		t.Errorf("to all: %s", f.Raw)
	}
	patient.sendRaw(`{"toUserId":"doctor-7","message":"no right"}`)
	if f = patient.next(); f.Type != "error" || f.Problem.Code != "forbidden_target" {
		t.Errorf("a refusal: %s", f.Raw)
	}
	patient.sendRaw(`{"message":"nobody"}`)
	if f = patient.next(); f.Problem.Code != "forbidden_target" {
		t.Errorf("to a backend, of which there is none: %s", f.Raw)
	}
	patient.sendRaw(`not json`)
	if code := patient.closed(); code != 4400 {
		t.Errorf("no JSON: %d", code)
	}
	if s := w.plain("nonsense"); s.closed() != 4401 {
		t.Error("a bad token in the first frame")
	}
}

func TestWhatAPlainClientHasAnsweredForIsNotSentAgain(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.plain(token(t, "patient-1", time.Hour, ""))
	w.sessions(1)
	for i := range 20 {
		w.fireTo("patient-1", i)
	}
	for range 20 {
		s.next()
	}
	expect.Eventually(t, "the last one is acked", func() bool {
		return w.fire("msg_000020", `{"type":"test.event","to":{"user":"patient-1"},"data":{"n":19}}`).Status == "acked"
	})
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	w.fireTo("patient-1", 99)
	again := w.plain(token(t, "patient-1", time.Hour, ""))
	if f := again.next(); !strings.Contains(f.Raw, `"n":99`) {
		t.Errorf("%s", f.Raw)
	}
}

// A plain client answers a ping for nearly every message: those pongs are ours,
// and no flood.
func TestAPlainClientThatGetsManyMessagesIsNotTakenForAFlooder(t *testing.T) {
	heavy(t)
	w := start(t)
	s := w.plain(token(t, "patient-1", time.Hour, ""))
	w.sessions(1)
	for i := range 1500 {
		w.fireTo("patient-1", i)
		if f := s.next(); !strings.Contains(f.Raw, fmt.Sprintf(`{"n":%d}`, i)) {
			t.Fatalf("%d: %s", i, f.Raw)
		}
	}
}

func TestReceivedIsLearntFromThePongOfAHeartbeat(t *testing.T) {
	w := start(t)
	s := w.connectSlow("patient-1", "")
	pings := make(chan string, 8)
	s.ws.SetPingHandler(func(data string) error {
		pings <- data
		return s.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(expect.Patience))
	})
	a := w.fireTo("patient-1", 1)
	s.want("event")
	// A client may send a pong of its own at any time; one that names the
	// place counts as one that answers.
	expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte("1.0.1"), time.Now().Add(expect.Patience)))
	s.settle()
	if again := w.fire(a.ID, `{"type":"test.event","to":{"user":"patient-1"},"data":{"n":1}}`); again.Status != "received" {
		t.Errorf("%s", again.Raw)
	}
	expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte("999.999.999"), time.Now().Add(expect.Patience)))
	expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte("whatever"), time.Now().Add(expect.Patience)))
	s.settle()
}
