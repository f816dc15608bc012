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

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/expect"
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
	logs     *expect.Output
	sent     *atomic.Int64
	signer   *standardwebhooks.Webhook
	client   *http.Client
	stopped  bool
}

// testSettings are the defaults, but for what tests of one machine would run into:
// limits of rate, and of connections.
func testSettings(dir string) server.Settings {
	s := server.Defaults()
	s.Listen, s.DataDir, s.LogLevel = "127.0.0.1:0", dir, "debug"
	s.WebhookSecrets = []server.Secret{server.Secret(testWebhookSecret)}
	s.JWTSecret = testJWTSecret
	s.AllowedOrigins = []string{"https://app.example"}
	s.ConnectRate, s.UserRate, s.UserBytes = 0, 0, 0
	s.MaxSessions, s.MaxUnauthenticatedPerAddress, s.DrainTimeout = 1000, 64, 10*time.Second
	return s
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
	w := &world{t: t, settings: s, sent: new(atomic.Int64), logs: &expect.Output{}, client: &http.Client{Transport: &contractual{t, &http.Transport{MaxIdleConnsPerHost: 100}}, Timeout: expect.Patience}}
	log := slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := server.NewProgram(context.Background(), s, nil, log)
	expect.NoError(t, err)
	expect.NoError(t, p.Start())
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
	expect.NoError(w.t, err)
	req, err := http.NewRequest(http.MethodPost, w.base+path, strings.NewReader(body))
	expect.NoError(w.t, err)
	req.Header.Set("Content-Type", media)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
	req.Header.Set("webhook-signature", signature)
	return req
}

func (w *world) do(req *http.Request) answer {
	w.t.Helper()
	res, err := w.client.Do(req)
	expect.NoError(w.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	expect.NoError(w.t, err)
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
	expect.NoError(t, err)
	return s
}

// scrape reads /metrics.
func (w *world) scrape() string {
	w.t.Helper()
	res, err := w.client.Get(w.base + "/metrics")
	expect.NoError(w.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	expect.NoError(w.t, err)
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
	expect.Eventually(w.t, fmt.Sprintf("%d sessions", n), func() bool { return w.metric("hookbridge_sessions") == float64(n) })
}

func compact(t testing.TB, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	expect.NoError(t, json.Compact(&out, b))
	return out.String()
}
