package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/server"
	"hookbridge/auth"
)

// The promises, against the real program on a free port, with a WebSocket
// client and a signature library that are not ours.

const (
	testWebhookKey = "e2e-webhook-secret-of-32-bytes!!"
	testJWTSecret  = "e2e-jwt-secret-that-is-long-enough-for-hs256"
)

var testWebhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(testWebhookKey))

// world is one running program and its callers.
type world struct {
	t        testing.TB
	p        *server.Program
	settings server.Settings
	base     string
	logs     *syncBuffer
	sent     *atomic.Int64
	signer   *standardwebhooks.Webhook
	client   *http.Client
	stopped  bool
}

func testSettings(dir string) server.Settings {
	return server.Settings{
		Listen: "127.0.0.1:0", LogLevel: "debug",
		Store:          server.Store{DataDir: dir, IDRetention: 7 * 24 * time.Hour, MailboxLimit: 10_000, MailboxBytes: 16 << 20},
		WebhookSecrets: []server.Secret{server.Secret(testWebhookSecret)},
		TokenSettings:  server.TokenSettings{JWTSecret: testJWTSecret, JWTLeeway: auth.DefaultLeeway, JWTUserClaim: "sub", JWTRightsClaim: "bridge"},
		AllowedOrigins: []string{"https://app.example"},
		DefaultTTL:     72 * time.Hour, MaxBytes: 64 << 10, MaxBatchBytes: 8 << 20,
		MaxSessions: 1000, SessionsByUser: 16, MaxPending: 64, DrainTimeout: 10 * time.Second, PingInterval: 25 * time.Second,
	}
}

func start(t testing.TB, change ...func(*server.Settings)) *world {
	t.Helper()
	s := testSettings(t.TempDir())
	for _, f := range change {
		f(&s)
	}
	return startWith(t, s)
}

func startWith(t testing.TB, s server.Settings) *world {
	t.Helper()
	w := &world{t: t, settings: s, sent: new(atomic.Int64), logs: &syncBuffer{}, client: &http.Client{Transport: &contractual{t, &http.Transport{MaxIdleConnsPerHost: 100}}, Timeout: 30 * time.Second}}
	log := slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := server.NewProgram(context.Background(), s, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.p, w.base = p, "http://"+p.Addr()
	if w.signer, err = standardwebhooks.NewWebhook(testWebhookSecret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

func (w *world) stop() {
	if w.stopped {
		return
	}
	w.stopped = true
	w.client.CloseIdleConnections()
	if err := w.p.Stop(); err != nil {
		w.t.Errorf("stop: %v", err)
	}
}

// answer is a reply of the webhook door: 202's members and a problem's.
type answer struct {
	HTTP       int `json:"-"`
	Header     http.Header
	ID         string `json:"id"`
	Status     any    `json:"status"` // a word in a 202, a number in a problem
	Sessions   int    `json:"sessions"`
	Duplicate  bool   `json:"duplicate"`
	Expires    string `json:"expires"`
	Recipients *int   `json:"recipients"`
	Online     *int   `json:"online"`
	Code       string `json:"code"`
	Detail     string `json:"detail"`
	Raw        string `json:"-"`
}

// sign makes a signed request with the official library.
func (w *world) sign(id, body string, at time.Time) *http.Request {
	w.t.Helper()
	return w.signFor("/webhooks/events", "application/json", id, body, at)
}

func (w *world) signFor(path, media, id, body string, at time.Time) *http.Request {
	w.t.Helper()
	signature, err := w.signer.Sign(id, at, []byte(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
	req.Header.Set("webhook-signature", signature)
	return req
}

func (w *world) do(req *http.Request) answer {
	w.t.Helper()
	res, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{HTTP: res.StatusCode, Header: res.Header, Raw: string(b)}
	if len(b) > 0 && (res.StatusCode == http.StatusAccepted || res.Header.Get("Content-Type") == "application/problem+json") {
		if err := json.Unmarshal(b, &a); err != nil {
			w.t.Fatalf("%s: %v", b, err)
		}
	}
	return a
}

// fire sends an event and wants a 202.
func (w *world) fire(id, body string) answer {
	w.t.Helper()
	a := w.do(w.sign(id, body, time.Now()))
	if a.HTTP != http.StatusAccepted {
		w.t.Fatalf("%s: %d %s", id, a.HTTP, a.Raw)
	}
	return a
}

func (w *world) nextID() string { return fmt.Sprintf("msg_%06d", w.sent.Add(1)) }

// fireTo sends {"n":n} to one user.
func (w *world) fireTo(user string, n int) answer {
	w.t.Helper()
	return w.fire(w.nextID(), fmt.Sprintf(`{"type":"test.event","to":{"user":%q},"data":{"n":%d}}`, user, n))
}

func token(t testing.TB, user string, life time.Duration, rights string) string {
	t.Helper()
	c := auth.Claims{User: user, ID: "jti-" + user, IssuedAt: time.Now(), Expires: time.Now().Add(life)}
	if rights != "" {
		c.Rights = json.RawMessage(rights)
	}
	s, err := auth.SignToken(testJWTSecret, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// session is a WebSocket client that is not ours.
type session struct {
	t      testing.TB
	ws     *websocket.Conn
	id     string
	hello  frame
	pumped chan pumped
}

type pumped struct {
	f   frame
	err error
}

// pump reads all the time from now on, as a browser does: pings are answered
// also while the test looks elsewhere.
func (s *session) pump() *session {
	s.pumped = make(chan pumped, 10_000)
	go func() {
		defer close(s.pumped)
		for {
			f, err := s.readSocket()
			s.pumped <- pumped{f, err}
			if err != nil {
				return
			}
		}
	}()
	return s
}

// frame is any frame of the server, in either mode.
type frame struct {
	Type      string          `json:"type"`
	Session   string          `json:"session"`
	User      string          `json:"user"`
	Cursor    string          `json:"cursor"`
	After     string          `json:"after"`
	Resumed   bool            `json:"resumed"`
	Pending   int             `json:"pending"`
	PingMs    int             `json:"pingMs"`
	MaxBytes  int             `json:"maxBytes"`
	ExpiresAt string          `json:"expiresAt"`
	Replay    bool            `json:"replay"`
	From      string          `json:"from"`
	Reason    string          `json:"reason"`
	AfterMs   *int            `json:"afterMs"`
	InMs      int             `json:"inMs"`
	Ref       string          `json:"ref"`
	ID        string          `json:"id"`
	Status    string          `json:"status"`
	Sessions  int             `json:"sessions"`
	Duplicate bool            `json:"duplicate"`
	Data      json.RawMessage `json:"data"`
	Event     struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	} `json:"event"`
	Problem struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"problem"`
	FromUserID string          `json:"fromUserId"`
	ToUserID   string          `json:"toUserId"`
	Message    json.RawMessage `json:"message"`
	Raw        string          `json:"-"`
}

func (f frame) n() int {
	var d struct{ N int }
	if json.Unmarshal(f.Event.Data, &d) != nil {
		return -1
	}
	return d.N
}

const patience = 20 * time.Second

// dial opens a socket; protocols and headers as given.
func (w *world) dial(header http.Header, query string, protocols ...string) (*session, *http.Response, error) {
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	ws, res, err := d.Dial("ws"+strings.TrimPrefix(w.base, "http")+"/ws"+query, header)
	if err != nil {
		return nil, res, err
	}
	w.t.Cleanup(func() { ws.Close() })
	return &session{t: w.t, ws: ws}, res, nil
}

// connect opens a session of user, resuming after a cursor.
func (w *world) connect(user, after string) *session {
	w.t.Helper()
	return w.connectAs(token(w.t, user, time.Hour, ""), after)
}

func (w *world) connectAs(token, after string) *session {
	w.t.Helper()
	s, _, err := w.dial(nil, "", "bridge.v1.json")
	if err != nil {
		w.t.Fatal(err)
	}
	s.send(map[string]string{"type": "connect", "token": token, "after": after})
	s.hello = s.next()
	if s.hello.Type != "connected" {
		w.t.Fatalf("instead of connected: %s", s.hello.Raw)
	}
	s.id = s.hello.Session
	return s
}

// plain opens a plain session with the token in the first frame.
func (w *world) plain(token string) *session {
	w.t.Helper()
	s, _, err := w.dial(nil, "")
	if err != nil {
		w.t.Fatal(err)
	}
	s.send(map[string]string{"token": token})
	return s.pump()
}

func (s *session) send(v any) {
	s.t.Helper()
	if err := s.ws.WriteJSON(v); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) sendRaw(text string) {
	s.t.Helper()
	if err := s.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) read() (frame, error) {
	if s.pumped != nil {
		p, ok := <-s.pumped
		if !ok {
			return frame{}, io.EOF
		}
		return p.f, p.err
	}
	return s.readSocket()
}

func (s *session) readSocket() (frame, error) {
	if err := s.ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return frame{}, err
	}
	kind, b, err := s.ws.ReadMessage()
	if err != nil {
		return frame{}, err
	}
	f := frame{Raw: string(b)}
	if kind != websocket.TextMessage {
		return f, fmt.Errorf("frame of kind %d", kind)
	}
	s.checkFrame(b)
	return f, json.Unmarshal(b, &f)
}

// next is the next frame of any type.
func (s *session) next() frame {
	s.t.Helper()
	f, err := s.read()
	if err != nil {
		s.t.Fatalf("reading a frame: %v", err)
	}
	return f
}

// want is the next frame, which must be of a type.
func (s *session) want(typ string) frame {
	s.t.Helper()
	f := s.next()
	if f.Type != typ {
		s.t.Fatalf("instead of %s: %s", typ, f.Raw)
	}
	return f
}

// closed reads until the close frame and returns its code.
func (s *session) closed() int {
	s.t.Helper()
	for {
		_, err := s.read()
		if c, ok := err.(*websocket.CloseError); ok {
			return c.Code
		}
		if err != nil {
			s.t.Fatalf("instead of a close frame: %v", err)
		}
	}
}

func (s *session) ack(cursor string) { s.send(map[string]string{"type": "ack", "cursor": cursor}) }

// settle waits until everything sent before has been handled by the server.
func (s *session) settle() {
	s.t.Helper()
	s.send(map[string]string{"type": "ping"})
	s.want("pong")
}

// eventually polls a condition until it holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		<-tick.C
	}
}

// scrape reads /metrics.
func (w *world) scrape() string {
	w.t.Helper()
	res, err := w.client.Get(w.base + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// metric reads one line of /metrics; 0 where it is not there yet.
func (w *world) metric(line string) float64 {
	w.t.Helper()
	for l := range strings.SplitSeq(w.scrape(), "\n") {
		if v, ok := strings.CutPrefix(l, line+" "); ok {
			var f float64
			if _, err := fmt.Sscan(v, &f); err != nil {
				w.t.Fatal(err)
			}
			return f
		}
	}
	return 0
}

func (w *world) sessions(n int) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%d sessions", n), func() bool { return w.metric("hookbridge_sessions") == float64(n) })
}

func compact(t testing.TB, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
