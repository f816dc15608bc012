package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/wire"
)

func TestCaller(t *testing.T) {
	t.Run("sends", callerSends)
	t.Run("asks once", callerAsks)
	t.Run("says what is wrong before it sends", callerChecks)
}

// calls is a bridge that answers a Caller with one reply after the other, and keeps what
// it was asked.
type calls struct {
	*httptest.Server
	got []string // path, token and body
}

func newCalls(t *testing.T, replies ...http.HandlerFunc) *calls {
	c := &calls{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(replies) == 0 {
			t.Error("one too many, or broken off", err)
			return
		}
		c.got = append(c.got, r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		replies[0](w, r)
		replies = replies[1:]
	}))
	t.Cleanup(c.Close)
	return c
}

func testCaller(t *testing.T, url string) *Caller {
	t.Helper()
	n := 0
	c, err := NewCaller(CallerOptions{URL: url, TokenSource: func(context.Context) (string, error) { n++; return fmt.Sprint("token-", n), nil }})
	expect.NoError(t, err)
	c.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return c
}

func callerSends(t *testing.T) {
	t.Run("until it is taken, with the same ref and a token for each try", func(t *testing.T) {
		b := newCalls(t, answers(503, problem(wire.CodeDraining)), answers(500, "<html>"), answers(202, `{"ref":"r1","id":"msg_9","status":"queued"}`))
		id, err := testCaller(t, b.URL+"/").SendToBackend(t.Context(), "r1", BackendEvent{Type: "visit.confirmed", Data: []byte(" {\"a\": 1.0}\n")})
		if err != nil || id != "msg_9" {
			t.Error(id, err)
		}
		for i, got := range b.got {
			if want := fmt.Sprintf(`/v1/sends Bearer token-%d {"ref":"r1","to":{"backend":true},"event":{"type":"visit.confirmed","data":{"a": 1.0}}}`, i+1); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
	t.Run("no longer once it is refused", func(t *testing.T) {
		b := newCalls(t, answers(403, problem(wire.CodeForbiddenTarget)))
		_, err := testCaller(t, b.URL).SendToBackend(t.Context(), "", BackendEvent{Type: "visit.confirmed", Backend: "clinic"})
		var p *ProblemError
		if !errors.As(err, &p) || p.Problem.Code != wire.CodeForbiddenTarget || !strings.Contains(b.got[0], `"to":{"backend":"clinic"}`) {
			t.Error(err, b.got)
		}
	})
	t.Run("and believes only the bridge that it was taken", func(t *testing.T) {
		b := newCalls(t, answers(200, "<html>"), answers(200, "{}"))
		for range 2 {
			if id, err := testCaller(t, b.URL).SendToBackend(t.Context(), "r1", BackendEvent{Type: "visit.confirmed"}); err == nil || !strings.Contains(err.Error(), "r1") {
				t.Error(id, err)
			}
		}
	})
	t.Run("and gives up after six tries, and says with which ref to go on", func(t *testing.T) {
		busy := answers(503, problem(wire.CodeUnavailable))
		b := newCalls(t, busy, busy, busy, busy, busy, busy)
		if _, err := testCaller(t, b.URL).SendToBackend(t.Context(), "r1", BackendEvent{Type: "visit.confirmed"}); err == nil || !strings.Contains(err.Error(), "after 6 tries") || !strings.Contains(err.Error(), "r1") {
			t.Error(err)
		}
	})
}

func callerAsks(t *testing.T) {
	b := newCalls(t, answers(200, `{"slots": [1.0]}`), answers(504, problem(wire.CodeBackendTimeout)), answers(200, "<html>"))
	c := testCaller(t, b.URL)
	reply, err := c.Request(t.Context(), BackendEvent{Type: "slots.list"}, 1500*time.Millisecond)
	if err != nil || string(reply) != `{"slots": [1.0]}` {
		t.Errorf("%s %v", reply, err)
	}
	_, err = c.Request(t.Context(), BackendEvent{Type: "slots.list"}, 0)
	var p *ProblemError
	if !errors.As(err, &p) || p.Status != 504 {
		t.Error(err)
	}
	if reply, err := c.Request(t.Context(), BackendEvent{Type: "slots.list"}, time.Microsecond); !errors.As(err, &p) || p.Status != 200 {
		t.Errorf("a proxy's page: %s %v", reply, err)
	}
	want := `/v1/requests Bearer token-1 {"timeoutMs":1500,"to":{"backend":true},"event":{"type":"slots.list"}}`
	if b.got[0] != want || strings.Contains(b.got[1], "timeoutMs") || !strings.Contains(b.got[2], `"timeoutMs":1,`) {
		t.Error(b.got)
	}
}

func callerChecks(t *testing.T) {
	for _, o := range []CallerOptions{{URL: "https://bridge.example"}, {URL: "bridge", Token: "t"}, {URL: "https://b.example", Token: "t", TokenSource: func(context.Context) (string, error) { return "", nil }}} {
		if _, err := NewCaller(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	b := newCalls(t)
	c := testCaller(t, b.URL)
	if _, err := c.SendToBackend(t.Context(), "", BackendEvent{Type: "t", Data: []byte("{")}); err == nil {
		t.Error("what is no JSON is sent")
	}
	broken := errors.New("no token")
	c.o.TokenSource = func(context.Context) (string, error) { return "", broken }
	if _, err := c.SendToBackend(t.Context(), "", BackendEvent{Type: "t"}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := c.Request(t.Context(), BackendEvent{Type: "t"}, 0); !errors.Is(err, broken) {
		t.Error(err)
	}
}
