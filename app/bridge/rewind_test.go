package bridge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestRewind(t *testing.T) {
	t.Run("is followed by every session, however often the store goes back", rewindIsFollowed)
	t.Run("makes a fresh device hear of what expires in the new life", rewindThenExpiry)
	t.Run("leaves a plain client to ack what comes after it", rewindPlainAcks)
}

// reader is a client that keeps what it was shown, and knows what follows from its
// cursor.
type reader struct {
	cursor string
	at     bridge.Position
	shown  [2]map[uint64]string // by place
}

func newReader() *reader {
	return &reader{shown: [2]map[uint64]string{{}, {}}}
}

func placeOf(cursor string) (p bridge.Position, err error) {
	parts := strings.Split(cursor, ".")
	if len(parts) != 4 {
		return p, fmt.Errorf("the cursor %q", cursor)
	}
	if p.Mailbox, err = strconv.ParseUint(parts[1], 10, 64); err == nil {
		p.Broadcast, err = strconv.ParseUint(parts[2], 10, 64)
	}
	return p, err
}

// take takes a frame; its error says what the session has no right to.
func (r *reader) take(f map[string]any) error {
	cursor, _ := f["cursor"].(string)
	p, err := placeOf(cursor)
	if err != nil {
		return fmt.Errorf("%w in %v", err, f)
	}
	switch f["type"] {
	case "connected":
		if f["resumed"] == true && p != r.at {
			return fmt.Errorf("resumed at %s instead of %s", cursor, r.cursor)
		}
		if f["resumed"] == false && r.cursor != "" && !r.at.Covers(p) {
			return fmt.Errorf("goes on at %s, ahead of %s", cursor, r.cursor)
		}
		r.back(p)
	case "gap":
		if f["reason"] != "rewound" && f["reason"] != "ahead" || !r.at.Covers(p) {
			return fmt.Errorf("at %s: %v", r.cursor, f)
		}
		r.back(p)
	case "event":
		id := eventID(f)
		switch {
		case p == bridge.Position{Mailbox: r.at.Mailbox + 1, Broadcast: r.at.Broadcast}:
			r.shown[0][p.Mailbox] = id
		case p == bridge.Position{Mailbox: r.at.Mailbox, Broadcast: r.at.Broadcast + 1}:
			r.shown[1][p.Broadcast] = id
		default:
			return fmt.Errorf("after %s: %v", r.cursor, f)
		}
		r.at = p
	default:
		return fmt.Errorf("%v", f)
	}
	r.cursor = cursor
	return nil
}

// back goes to an earlier place.
func (r *reader) back(p bridge.Position) {
	r.at = p
	for i, last := range []uint64{p.Mailbox, p.Broadcast} {
		maps.DeleteFunc(r.shown[i], func(place uint64, _ string) bool { return place > last })
	}
}

// agrees finds what the reader was shown to be what the store has.
func (r *reader) agrees(w *wanderer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.at != w.head() {
		return fmt.Errorf("it is at %v instead of %v", r.at, w.head())
	}
	for i := range w.logs {
		for n, k := range w.logs[i] {
			if got := r.shown[i][uint64(n+1)]; got != k.id {
				return fmt.Errorf("log %d: at %d it was shown %q instead of %q", i, n+1, got, k.id)
			}
		}
	}
	return nil
}

func rewindIsFollowed(t *testing.T) {
	for seed := range 40 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { wanderOnce(t, uint64(seed)) })
	}
}

func wanderOnce(t *testing.T, seed uint64) {
	w := newWanderer(seed)
	log := &warnings{}
	b := bridge.New(bridge.QuietConfig(func(c *bridge.Config) { c.Logger = slog.New(log) }), w, w, noTokens{})
	var work sync.WaitGroup
	quiet := make(chan struct{})
	for c := range 4 {
		work.Go(func() { follow(t, b, w, quiet, seed*10+uint64(c)) })
	}
	choose := rand.New(rand.NewPCG(seed, 1))
	for n := range 300 {
		switch choose.IntN(10) {
		case 0:
			w.wander()
		case 1:
			w.save()
		default:
			w.put(fmt.Sprintf("m%d", n), choose.IntN(3) == 0, false)
		}
	}
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.wander()
	w.put("last", false, true)
	w.put("last-to-all", true, true)
	close(quiet)
	work.Wait()
	if err := b.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.present) > 0 {
		t.Errorf("still present: %v", w.present)
	}
	if said := log.all(); len(said) > 0 {
		t.Errorf("warned of %v", said)
	}
}

// A fresh device is not told of messages that expired before it connected. Messages that
// came and expired at the same positions in a later life of the store are others, and it
// is told of them.
func rewindThenExpiry(t *testing.T) {
	w := newWanderer(1)
	w.calm = true
	b := bridge.New(bridge.QuietConfig(), w, w, noTokens{})
	for n := range 10 {
		w.put(fmt.Sprint("kept", n), false, true)
	}
	w.save()
	for n := range 10 {
		w.put(fmt.Sprint("lost", n), false, true)
	}
	w.read = func() { // of a first page with five
		w.mu.Lock()
		w.lineage, w.logs = w.saved[0].lineage, w.saved[0].logs
		w.begin()
		for n := range 5 {
			w.logs[0] = append(w.logs[0], kept{id: fmt.Sprint("short", n), life: w.lineage[len(w.lineage)-1], expired: true})
		}
		w.mu.Unlock()
	}
	l, _ := connect(t, b, "ada")
	for n := range 10 {
		if f := l.next(t); f["type"] != "event" || eventID(f) != fmt.Sprint("kept", n) {
			t.Fatalf("instead of message %d: %v", n, f)
		}
	}
	w.put("new", false, true)
	if f := l.next(t); f["type"] != "gap" || f["reason"] != "expired" {
		t.Fatalf("no gap before %v", f)
	}
	f := l.next(t)
	if f["type"] != "event" || eventID(f) != "new" || f["replay"] == true {
		t.Fatalf("%v", f)
	}
	if err := b.Drain(context.Background()); err != nil {
		t.Error(err)
	}
}

// answering is a plain client's socket that shows pings, and answers when told to.
type answering struct {
	*line
	pongs chan string
}

func (a *answering) AppendPing(b, payload []byte) []byte {
	return append(b, fmt.Sprintf("{\"ping\":%q}\n", payload)...)
}

func (a *answering) Read() (bridge.Kind, []byte, error) {
	select {
	case s := <-a.pongs:
		return bridge.KindPong, []byte(s), nil
	case <-a.gone:
		return 0, nil, io.EOF
	}
}

func (a *answering) want(t *testing.T, member string) string {
	t.Helper()
	f := a.next(t)
	s, ok := f[member].(string)
	if !ok {
		t.Fatalf("no %s: %v", member, f)
	}
	return s
}

// A client may owe a pong when the store goes back in time. That pong must not count for
// what is sent afterwards, and nothing waits for it.
func rewindPlainAcks(t *testing.T) {
	w := newWanderer(1)
	b := bridge.New(bridge.QuietConfig(), w, w, noTokens{})
	a := &answering{newLine(), make(chan string, 8)}
	b.Accept(a, bridge.Handshake{Plain: true, Identity: &bridge.Identity{User: "ada", Expires: time.Now().Add(time.Hour)}})
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.save()
	w.put("lost", false, true)
	a.want(t, "id")
	late := a.want(t, "ping")

	w.mu.Lock()
	w.lineage, w.logs = w.saved[0].lineage, w.saved[0].logs
	w.begin()
	life := w.lineage[len(w.lineage)-1]
	w.mu.Unlock()
	w.listener.NewLife(life)
	w.put("new", false, true)
	if id := a.want(t, "id"); id != "new" {
		t.Fatal(id)
	}
	next := a.want(t, "ping")
	a.pongs <- late
	a.pongs <- next
	expect.Eventually(t, "the client has acked the new message", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.acked.Mailbox == 1
	})
	if err := b.Drain(context.Background()); err != nil {
		t.Error(err)
	}
}

// follow is a client that comes and goes until all is quiet, and then has to be
// shown the rest.
func follow(t *testing.T, b *bridge.Bridge, w *wanderer, quiet chan struct{}, seed uint64) {
	choose := rand.New(rand.NewPCG(seed, 2))
	r := newReader()
	for {
		l := newLine()
		l.in <- `{"type":"connect","after":"` + r.cursor + `"}`
		b.Accept(l, bridge.Handshake{Identity: &bridge.Identity{User: "ada", Expires: time.Now().Add(time.Hour)}})
		stay, over := choose.IntN(40), quiet
		for n := 0; n < stay || over == nil; n++ {
			if over == nil && r.agrees(w) == nil {
				l.Abort()
				return
			}
			var err error
			select {
			case <-over:
				over = nil // it stays until it has all
			case f := <-l.out:
				err = r.take(f)
			case <-l.gone:
				err = fmt.Errorf("the session ended at %s", r.cursor)
			case <-time.After(expect.Patience):
				err = fmt.Errorf("nothing came after %s: %w", r.cursor, r.agrees(w))
			}
			if err != nil {
				t.Error(err)
				l.Abort()
				return
			}
		}
		l.Abort()
	}
}

// warnings is a log handler that keeps warnings and worse.
type warnings struct {
	mu   sync.Mutex // guards said
	said []string
}

func (h *warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (h *warnings) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	h.said = append(h.said, text)
	return nil
}
func (h *warnings) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *warnings) WithGroup(string) slog.Handler      { return h }
func (h *warnings) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.said)
}
