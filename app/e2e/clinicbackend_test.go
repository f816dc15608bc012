package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

const callbackCanary = "canary-of-a-callback"

var callbackSecret = secretOf("callback-secret-of-more-than-24-bytes")

// clinicBackend is a backend in the test's own program, which checks signatures with the
// official library and every body against the contract.
type clinicBackend struct {
	t      *testing.T
	server *httptest.Server
	signer *standardwebhooks.Webhook

	mu     sync.Mutex // guards what follows
	heard  []heardCallback
	answer func(http.ResponseWriter, *http.Request, heardCallback) // nil: 204
}

type heardCallback struct {
	webhookID string
	raw       string
	Type      string
	Timestamp time.Time
	Data      struct {
		ID           string
		Type         string
		User         string
		From         string
		Session      string
		AckedAt      time.Time
		AfterSeconds int
		State        string
		Sessions     int
		LastSeen     time.Time
		Event        struct {
			Type string
			Data json.RawMessage
		}
	}
}

func newClinicBackend(t *testing.T) *clinicBackend {
	signer, err := standardwebhooks.NewWebhook(callbackSecret)
	expect.NoError(t, err)
	b := &clinicBackend{t: t, signer: signer}
	b.server = httptest.NewServer(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *clinicBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the bridge hung up
	}
	if err := b.signer.Verify(body, r.Header); err != nil {
		b.t.Errorf("a signature: %v", err)
	}
	if err := webhookContract(body); err != nil {
		b.t.Errorf("%s: %v", body, err)
	}
	c := heardCallback{webhookID: r.Header.Get("webhook-id"), raw: string(body)}
	if err := json.Unmarshal(body, &c); err != nil {
		b.t.Errorf("%s: %v", body, err)
	}
	b.mu.Lock()
	b.heard = append(b.heard, c)
	answer := b.answer
	b.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, r, c)
}

func (b *clinicBackend) answers(f func(http.ResponseWriter, *http.Request, heardCallback)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

// of lists what the backend heard of a user.
func (b *clinicBackend) of(user string) (out []heardCallback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.heard {
		if c.Data.User == user || c.Data.From == user {
			out = append(out, c)
		}
	}
	return out
}

// hears waits for the first callback of a type about a user.
func (b *clinicBackend) hears(user, typ string) (found heardCallback) {
	b.t.Helper()
	expect.Eventually(b.t, typ+" about "+user, func() bool {
		i := slices.IndexFunc(b.of(user), func(c heardCallback) bool { return c.Type == typ })
		if i >= 0 {
			found = b.of(user)[i]
		}
		return i >= 0
	})
	return found
}

func (b *clinicBackend) settings(s *server.Settings) {
	s.CallbackURL, s.CallbackSecret = server.Secret(b.server.URL), server.Secret(callbackSecret)
}

// patientRights are those of backendUser.
const patientRights = `{"send":["*"],"backend":["visit.*","slots.*","message"]}`

// backendUser is the token of a user who may send to the backend and ask it.
func backendUser(t *testing.T, user string) string {
	t.Helper()
	return token(t, user, time.Hour, patientRights)
}

// backendPromise is what a bridge with a backend promises.
type backendPromise struct {
	says  string
	holds func(t *testing.T, w *world, b *clinicBackend)
}

// withBackend holds a bridge on each store to its promises, one after the other, and
// then looks whether a payload was logged.
func withBackend(t *testing.T, promises []backendPromise) {
	t.Helper()
	onBoth(t, func(t *testing.T, change ...func(*server.Settings)) {
		t.Parallel()
		b := newClinicBackend(t)
		w := start(t, append(change, b.settings)...)
		for _, p := range promises {
			t.Run(p.says, func(t *testing.T) { p.holds(t, w, b) })
		}
		if strings.Contains(w.logs.String(), callbackCanary) || strings.Contains(w.scrape(), callbackCanary) {
			t.Error("a payload is in the log or in the metrics")
		}
	})
}
