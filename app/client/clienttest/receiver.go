package clienttest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"hookbridge/app/wire"
	"hookbridge/auth"
)

// Receiver takes webhooks as a bridge does: it checks their signatures, and answers
// by script, whose last answer stays.
type Receiver struct {
	*httptest.Server
	mu     sync.Mutex
	script []http.HandlerFunc
	taken  []Webhook
}

// Webhook is one request that a Receiver has got.
type Webhook struct {
	ID, Body, URI string
	Refused       error // what is wrong with its signature
}

// NewReceiver starts a receiver that lives as long as the test. The secret
// is the sender's whsec_…, or the whpk_… of the sender's key.
func NewReceiver(t *testing.T, secret string, script ...http.HandlerFunc) *Receiver {
	t.Helper()
	webhooks, err := auth.NewWebhooks([]string{secret})
	if err != nil {
		t.Fatal(err)
	}
	r := &Receiver{script: script}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			_, err = webhooks.Verify(auth.Header{ID: req.Header.Get("webhook-id"), Timestamp: req.Header.Get("webhook-timestamp"),
				Signature: req.Header.Get("webhook-signature")}, body, time.Now())
		}
		r.mu.Lock()
		r.taken = append(r.taken, Webhook{ID: req.Header.Get("webhook-id"), Body: string(body), URI: req.RequestURI, Refused: err})
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

// Taken are the requests so far.
func (r *Receiver) Taken() []Webhook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Webhook(nil), r.taken...)
}

// Answers is a reply; header holds names and values in turn.
func Answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		// A client that hangs up is seen by the test at its own end.
		_, _ = fmt.Fprint(w, body)
	}
}

// Problem is the body of a refusal.
func Problem(code string) string { return string(wire.NewProblem(code, "mend this").JSON()) }
