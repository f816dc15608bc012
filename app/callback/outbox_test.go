package callback

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/guard"
	"hookbridge/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outbox is a bridge.Outbox in memory. Its methods can be made to fail.
type outbox struct {
	bridge.Outbox // the methods that a Sender does not call

	mu      sync.Mutex
	waiting []*entry // oldest first
	done    []string
	dead    map[string]bridge.Settlement
	posted  chan struct{}
	fail    error
	panics  int // calls of Lease that panic yet
	leases  int // calls of Lease
	hurries int // calls of Hurry
	unwell  int // calls of Hurry that fail yet
	asked   int // calls of Dead
	timers  []bridge.Timer
	behind  time.Duration // how far its clock is behind
}

type entry struct {
	bridge.Leased
	due    time.Time
	leased time.Time // until then
	hurry  bool      // Hurry brings due forward
}

func newOutbox() *outbox {
	return &outbox{dead: make(map[string]bridge.Settlement), posted: make(chan struct{}, 1)}
}

func (o *outbox) Posted() <-chan struct{} { return o.posted }

func (o *outbox) Post(_ context.Context, cs ...bridge.Callback) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range cs {
		o.add(c)
	}
	select {
	case o.posted <- struct{}{}:
	default:
	}
	return nil
}

// add has a callback wait of which this machine is not told.
func (o *outbox) add(c bridge.Callback) {
	o.waiting = append(o.waiting, &entry{Leased: bridge.Leased{Callback: c, Since: c.At, Key: c.Backend + c.ID}, due: c.At})
}

func (o *outbox) Lease(_ context.Context, backend string, n int) (due []bridge.Leased, next time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.panics > 0 {
		o.panics--
		panic("lease")
	}
	o.leases++
	if o.fail != nil {
		return nil, next, o.fail
	}
	now := time.Now().Add(-o.behind)
	blocked := make(map[string]bool)
	for _, e := range o.waiting {
		if e.Backend != backend {
			continue
		}
		if len(due) == n {
			break
		}
		at := e.due
		if e.leased.After(at) {
			at = e.leased
		}
		switch {
		case e.InOrder() && blocked[e.User]:
			continue
		case at.After(now):
			if next.IsZero() || at.Before(next) {
				next = at
			}
		default:
			e.leased = now.Add(bridge.LeaseFor)
			due = append(due, e.Leased)
		}
		blocked[e.User] = blocked[e.User] || e.InOrder()
	}
	return due, next, nil
}

func (o *outbox) Settle(_ context.Context, done ...bridge.Settlement) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	ended := make(map[string]bool)
	for _, s := range done {
		i := slices.IndexFunc(o.waiting, func(e *entry) bool { return e.Key == s.Key })
		switch {
		case s.Done:
			o.done = append(o.done, s.ID)
			ended[s.Key] = true
		case s.Again.IsZero():
			o.dead[s.ID] = s
			ended[s.Key] = true
		default:
			e := o.waiting[i]
			e.due, e.leased, e.Tries, e.hurry = s.Again, time.Time{}, s.Tries, s.Hurry
		}
	}
	if len(ended) > 0 {
		o.waiting = slices.DeleteFunc(o.waiting, func(e *entry) bool { return ended[e.Key] })
	}
	return nil
}

func (o *outbox) Names(context.Context) (names []string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.waiting {
		names = append(names, e.Backend)
	}
	slices.Sort(names)
	return slices.Compact(names), o.fail
}

func (o *outbox) Dead(context.Context, string, string, int) ([]bridge.DeadCallback, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	return nil, o.fail
}

func (o *outbox) LeaseTimers(_ context.Context, n int) ([]bridge.Timer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.timers[:min(n, len(o.timers))], o.fail
}

func (o *outbox) Fire(_ context.Context, t bridge.Timer, cs ...bridge.Callback) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := len(o.timers)
	o.timers = slices.DeleteFunc(slices.Clone(o.timers), func(had bridge.Timer) bool { return had == t })
	return len(o.timers) < before && len(cs) == 0, nil
}

func (o *outbox) Hurry(_ context.Context, backend string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hurries++
	if o.unwell > 0 {
		o.unwell--
		return bridge.ErrUnavailable
	}
	if o.fail != nil {
		return o.fail
	}
	for _, e := range o.waiting {
		if e.Backend == backend && e.hurry && e.due.After(time.Now()) {
			e.due, e.hurry = time.Now(), false
		}
	}
	select {
	case o.posted <- struct{}{}:
	default:
	}
	return nil
}

func (o *outbox) Backlog(_ context.Context, backend string) (b bridge.Backlog, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return b, o.fail
	}
	for _, e := range o.waiting {
		if e.Backend == backend {
			b.Waiting++
			b.Bytes += int64(len(e.Body))
			if b.Oldest.IsZero() || e.At.Before(b.Oldest) {
				b.Oldest = e.At
			}
		}
	}
	b.Dead = len(o.dead)
	return b, nil
}

// set changes the outbox.
func (o *outbox) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// counts are how many callbacks wait, are done and are dead.
func (o *outbox) counts() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("%d waiting, %d done, %d dead", len(o.waiting), len(o.done), len(o.dead))
}

// post puts a callback for a backend into the outbox.
func (o *outbox) post(backend, id string) {
	_ = o.Post(context.Background(), bridge.Callback{ID: id, Backend: backend, Type: bridge.CallbackAcked, User: "u-" + id, At: time.Now(), Body: []byte(`{"type":"event.acked"}`)})
}

// posts is how a test's backend answers; it stands in the place of the network.
type posts func(r *http.Request) (*http.Response, error)

func (p posts) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	return p(r)
}

func (p posts) CloseIdleConnections() {}

// answer is a reply of a status, with header lines of the form "Name: value".
func answer(status int, header ...string) *http.Response {
	h := make(http.Header)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(""))}
}

func secret(b byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(b)), 32)))
}

// backend is a backend of a name at a URL.
func backend(name, url string) auth.Backend {
	return auth.Backend{Name: name, URL: url, Secrets: []string{secret('a')}, Types: []string{"*"}}
}

// sender is a Sender to backends, and what it logs.
func sender(t testing.TB, backends ...auth.Backend) (*Sender, *logs) {
	t.Helper()
	l := new(logs)
	log := slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
	registry := prometheus.NewRegistry()
	s, err := New(Options{Backends: backends, MaxBytes: 1024, Logger: log, Registerer: registry, Guard: guard.New(log, registry)})
	if err != nil {
		t.Fatal(err)
	}
	l.registry = registry
	return s, l
}

// answered is a Sender to one backend, default, that answers by f.
func answered(t testing.TB, f posts) (*Sender, *logs) {
	s, l := sender(t, backend("default", "https://clinic.example/hook"))
	s.byName["default"].endpoint.http = f
	return s, l
}

// logs takes what a Sender logs, and tells its metrics.
type logs struct {
	expect.Output
	registry *prometheus.Registry
}

// metric is the value of a metric with the labels of these values, in the order of
// their names; -1 where there is none.
func (l *logs) metric(t testing.TB, name string, values ...string) float64 {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var got []string
			for _, label := range m.GetLabel() {
				got = append(got, label.GetValue())
			}
			if f.GetName() == name && slices.Equal(got, values) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return -1
}

// stop stops a Sender that may take its time.
func stop(s *Sender) { s.Stop(context.Background()) }
