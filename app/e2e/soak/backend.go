package soak

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	eventType = "soak.event"  // of what webhooks send
	sentType  = "visit.noted" // of what users send to the backend
)

// Callback is one try of a callback, as the backend had it.
type Callback struct {
	ID    string // its webhook-id
	Type  string
	Event string // the id of the event or of the send; empty for user.*
	Of    string // the type of that
	User  string // whom it is about, or from whom it is
	Data  string // of message.sent: exactly as it came
	N     int    // of message.sent: the number of the send; -1 without one
	Body  string
	Taken bool // it was answered with 2xx

	At       Moment // when it came
	Ended    Moment // when it had been answered, or nobody waited for that any more
	Caused   Moment // as its timestamp has it
	LastSeen Moment // of user.offline: when the user was last there

	timestamp, lastSeen time.Time
}

// parseCallback reads a callback's body.
func parseCallback(id string, body []byte) (*Callback, error) {
	var b struct {
		Type      string
		Timestamp time.Time
		Data      struct {
			ID, Type, User, From string
			LastSeen             time.Time
			Event                struct {
				Type string
				Data json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, err
	}
	c := &Callback{ID: id, Type: b.Type, Event: b.Data.ID, Of: b.Data.Type, User: b.Data.User, N: -1, Body: string(body), timestamp: b.Timestamp, lastSeen: b.Data.LastSeen}
	if c.Type == "message.sent" {
		var sent frame
		sent.Event.Data = b.Data.Event.Data
		c.Of, c.User, c.Data, c.N = b.Data.Event.Type, b.Data.From, string(b.Data.Event.Data), sent.number()
	}
	return c, nil
}

// Backend takes the callbacks of all processes. Now and then it is ill for a while: then
// it answers with an error, hangs up, or is late.
type Backend struct {
	history *History
	signer  *standardwebhooks.Webhook
	server  *httptest.Server
	secret  string
	calm    atomic.Bool // it is well from now on

	mu      sync.Mutex // guards what follows
	rnd     *rand.Rand
	illness int             // one of those below
	until   Moment          // how long it is ill
	next    Moment          // when it is ill again
	refused map[string]bool // each webhook-id is refused once: the pause after a second time is a minute
}

// Ways of being ill.
const (
	broken = iota
	hangsUp
	late
	illnesses
)

func newBackend(h *History, seed uint64) (*Backend, error) {
	b := &Backend{history: h, secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte("soak-callback-secret-of-32-bytes")),
		rnd: rand.New(rand.NewPCG(seed, 2)), refused: map[string]bool{}}
	var err error
	if b.signer, err = standardwebhooks.NewWebhook(b.secret); err != nil {
		return nil, err
	}
	b.server, h.Told = httptest.NewServer(b), true
	return b, nil
}

// settings tell a process of the backend.
func (b *Backend) settings() []string {
	return []string{"BRIDGE_CALLBACK_URL=" + b.server.URL, "BRIDGE_CALLBACK_SECRET=" + b.secret}
}

// ServeHTTP implements http.Handler.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the bridge was killed, or hung up
	}
	if err := b.signer.Verify(body, r.Header); err != nil {
		b.history.Note("bad signature", "of %.300q: %v", body, err)
		http.Error(w, "signature", http.StatusUnauthorized)
		return
	}
	c, err := parseCallback(r.Header.Get("webhook-id"), body)
	if err != nil {
		b.history.Note("not JSON", "a callback: %.300q", body)
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	how, ill := b.refuses(c.ID)
	c.Taken = !ill
	defer b.history.called(c)()
	switch {
	case !ill:
		w.WriteHeader(http.StatusNoContent)
	case how == broken:
		http.Error(w, "ill", http.StatusServiceUnavailable)
	case how == hangsUp:
		panic(http.ErrAbortHandler)
	default:
		select { // the bridge has given up by then, unless it was stopped meanwhile
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
			http.Error(w, "late", http.StatusServiceUnavailable)
		}
	}
}

// refuses tells whether the backend is too ill for a callback, and how.
func (b *Backend) refuses(id string) (how int, ill bool) {
	now := b.history.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now >= b.next {
		b.illness = b.rnd.IntN(illnesses)
		b.until = now + time.Duration(b.rnd.Float64()*float64(2*time.Second))
		b.next = b.until + time.Second + time.Duration(b.rnd.ExpFloat64()*float64(8*time.Second))
	}
	if b.calm.Load() || now >= b.until || b.refused[id] {
		return 0, false
	}
	b.refused[id] = true
	return b.illness, true
}
