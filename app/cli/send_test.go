package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/wire"
	"hookbridge/auth"
)

// receiver checks signatures as the bridge does, and answers by script; the last
// answer stays.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	script  []http.HandlerFunc
	ids     []string
	bodies  []string
	refused error
}

func newReceiver(t *testing.T, secret string, script ...http.HandlerFunc) *receiver {
	t.Helper()
	webhooks, err := auth.NewWebhooks([]string{secret})
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{script: script}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			_, err = webhooks.Verify(auth.Header{ID: req.Header.Get("webhook-id"), Timestamp: req.Header.Get("webhook-timestamp"),
				Signature: req.Header.Get("webhook-signature")}, body, time.Now())
		}
		r.mu.Lock()
		if err != nil {
			r.refused = err
		}
		r.ids = append(r.ids, req.Header.Get("webhook-id"))
		r.bodies = append(r.bodies, string(body))
		answer := r.script[0]
		if len(r.script) > 1 {
			r.script = r.script[1:]
		}
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func problem(code string) string { return string(wire.NewProblem(code, "mend this").JSON()) }

// testSender does not wait, and notes how long it would have.
func testSender(t *testing.T, say io.Writer) (*sender, *[]time.Duration) {
	var waits []time.Duration
	return &sender{
		client: &http.Client{Timeout: 10 * time.Second},
		say:    say,
		sleep: func(ctx context.Context, d time.Duration) error {
			waits = append(waits, d)
			return ctx.Err()
		},
		jitter: func(most time.Duration) time.Duration { return most / 2 },
	}, &waits
}

func TestSendTriesAgainWithTheSameIDWhereTheBridgeIsBusyOrGone(t *testing.T) {
	secret := auth.NewWebhookSecret()
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}
	r := newReceiver(t, secret,
		answers(503, problem(wire.CodeDraining), "Retry-After", "3"), answers(429, "", "Retry-After", "7"), hangUp,
		answers(500, "<html>"), answers(202, `{"status":"sent"}`))
	var say bytes.Buffer
	s, waits := testSender(t, &say)
	reply, err := s.send(t.Context(), r.URL+"/webhooks/events", secret, "msg_1", []byte(`{"a":1}`))
	if err != nil || string(reply) != `{"status":"sent"}` {
		t.Fatalf("%s, %v", reply, err)
	}
	want := []time.Duration{3 * time.Second, 7 * time.Second, time.Second/2 + 2*time.Second, time.Second/2 + 4*time.Second}
	if fmt.Sprint(*waits) != fmt.Sprint(want) {
		t.Errorf("waited %v, want %v", *waits, want)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused != nil || strings.Join(r.ids, " ") != "msg_1 msg_1 msg_1 msg_1 msg_1" || strings.Join(r.bodies, "") != strings.Repeat(`{"a":1}`, 5) {
		t.Errorf("refused %v; %v; %v", r.refused, r.ids, r.bodies)
	}
	for _, want := range []string{"503 draining", "mend this", "cannot be reached", "not the bridge's", "again in 3s"} {
		if !strings.Contains(say.String(), want) {
			t.Errorf("%q is not said in:\n%s", want, say.String())
		}
	}
}

func TestSendGivesUp(t *testing.T) {
	secret := auth.NewWebhookSecret()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		tries  int
		want   string
	}{
		"after six tries":              {answers(503, problem(wire.CodeUnavailable)), 6, "given up after 6 tries"},
		"at once where told to wait":   {answers(503, problem(wire.CodeUnavailable), "Retry-After", "3600"), 1, "given up after 1 tries"},
		"when the waits add up":        {answers(429, problem(wire.CodeRateLimited), "Retry-After", "50"), 3, "given up after 3 tries"},
		"at once where it is refused":  {answers(422, problem(wire.CodeInvalidEvent)), 1, "422 invalid_event: The event is not valid: mend this"},
		"at once where it is another":  {answers(409, problem(wire.CodeIDConflict)), 1, "409 id_conflict"},
		"at once where nothing speaks": {answers(404, "not here"), 1, "not the bridge's"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, secret, c.answer)
			s, _ := testSender(t, io.Discard)
			_, err := s.send(t.Context(), r.URL, secret, "msg_1", nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.ids) != c.tries {
				t.Errorf("%d tries, want %d", len(r.ids), c.tries)
			}
		})
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	secret := auth.NewWebhookSecret()
	r := newReceiver(t, secret, answers(503, ""))
	ctx, cancel := context.WithCancel(t.Context())
	s, _ := testSender(t, io.Discard)
	s.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, err := s.send(ctx, r.URL, secret, "msg_1", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "soon": 0, "Sun, 22 Nov 2026 20:01:00 GMT": time.Minute,
		"Sun, 22 Nov 2026 19:00:00 GMT": 0, "99999999999999999999": 0, "2000000000": (1 << 20) * time.Second,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestTheSendCommandFiresWhatItIsTold(t *testing.T) {
	private, public := auth.NewWebhookKeyPair()
	secret := auth.NewWebhookSecret()
	file := filepath.Join(t.TempDir(), "data.json")
	if err := os.WriteFile(file, []byte(` {"b": "<1>"} `), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		receiver, secrets string
		args              []string
		in, body, id      string
	}{
		"to one":       {secret, secret, []string{"--to", "a,b", "--id", "msg_9"}, "", `{"type":"patient.added","to":{"user":"a,b"}}`, "msg_9"},
		"to some":      {secret, secret, []string{"--to", "a", "--to", "b", "--ttl", "24h"}, "", `{"type":"patient.added","to":{"users":["a","b"]},"ttl":86400}`, ""},
		"to a group":   {secret, secret, []string{"--group", "g", "--ttl", "0s"}, "", `{"type":"patient.added","to":{"group":"g"},"ttl":0}`, ""},
		"to all":       {secret, secret, []string{"--all", "--type", "x"}, "", `{"type":"x","to":{"all":true}}`, ""},
		"data":         {secret, secret, []string{"--to", "a", "--data", `{"a": 1.0}`}, "", `{"type":"patient.added","to":{"user":"a"},"data":{"a": 1.0}}`, ""},
		"from a file":  {secret, secret, []string{"--to", "a", "--data", "@" + file}, "", `{"type":"patient.added","to":{"user":"a"},"data":{"b": "<1>"}}`, ""},
		"from input":   {secret, secret, []string{"--to", "a", "--data", "-"}, "[1]\n", `{"type":"patient.added","to":{"user":"a"},"data":[1]}`, ""},
		"with ed25519": {public, public + "," + private, []string{"--to", "a"}, "", `{"type":"patient.added","to":{"user":"a"}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, c.receiver, answers(202, "{\"status\":\"queued\"}\n"))
			code, out, stderr := command(t, strings.NewReader(c.in), append(append([]string{"send"}, c.args...), "--url", r.URL+"/", "--secret", c.secrets)...)
			if code != 0 || out != "{\"status\":\"queued\"}\n" || stderr != "" {
				t.Fatalf("exit %d: %q %q", code, out, stderr)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.refused != nil || r.bodies[0] != c.body || c.id != "" && r.ids[0] != c.id || !strings.HasPrefix(r.ids[0], "msg_") {
				t.Errorf("refused %v, id %v, body %s", r.refused, r.ids, r.bodies)
			}
		})
	}
}

func TestTheSendCommandSaysWhatIsWrong(t *testing.T) {
	_, public := auth.NewWebhookKeyPair()
	secret := auth.NewWebhookSecret()
	moved := newReceiver(t, secret, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nobody":        {[]string{"--secret", secret}, "say who gets it"},
		"two kinds":     {[]string{"--secret", secret, "--all", "--to", "a"}, "one of them"},
		"data no JSON":  {[]string{"--secret", secret, "--all", "--data", "{message:x}"}, "--data is not JSON"},
		"data nowhere":  {[]string{"--secret", secret, "--all", "--data", "@nowhere"}, "nowhere"},
		"half a second": {[]string{"--secret", secret, "--all", "--ttl", "500ms"}, "whole seconds"},
		"a bad URL":     {[]string{"--secret", secret, "--all", "--url", "bridge:8080"}, "--url"},
		"a bad id":      {[]string{"--secret", secret, "--all", "--id", "a b"}, "webhook-id"},
		"no secret":     {[]string{"--data-dir", t.TempDir(), "--all"}, "set BRIDGE_WEBHOOK_SECRETS, or start dev first"},
		"a public key":  {[]string{"--secret", public, "--all"}, "cannot sign"},
		"redirected":    {[]string{"--secret", secret, "--all", "--url", moved.URL}, "307"},
	} {
		code, out, stderr := command(t, strings.NewReader(""), append([]string{"send"}, c.args...)...)
		if code != 1 || out != "" || !strings.Contains(stderr, c.want) || strings.Contains(stderr, secret[6:]) {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, stderr)
		}
	}
	moved.mu.Lock()
	defer moved.mu.Unlock()
	if len(moved.ids) != 1 {
		t.Errorf("the redirect was followed: %d requests", len(moved.ids))
	}
}

func TestSendAsksToWaitAsItIsTold(t *testing.T) {
	long, short := 31*time.Second, 10*time.Second
	for _, c := range []struct {
		cmd  SendCmd
		want string
	}{
		{SendCmd{}, "http://b/e"},
		{SendCmd{Wait: "acked"}, "http://b/e?wait=acked"},
		{SendCmd{Wait: "received", Limit: &short}, "http://b/e?timeout=10s&wait=received"},
		{SendCmd{Limit: &short}, "error: --timeout needs --wait"},
		{SendCmd{Wait: "acked", Limit: &long}, "error: --timeout must be at most 30s"},
	} {
		got, err := c.cmd.waiting("http://b/e")
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want && !(err != nil && strings.HasPrefix(got, c.want)) {
			t.Errorf("%+v: %s", c.cmd, got)
		}
	}
}
