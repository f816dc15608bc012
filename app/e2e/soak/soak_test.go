package soak

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hookbridge/app/cli"
)

// TestMain makes the binary be the program where a process of the soak runs it: the
// same build, with the race detector where the tests have it.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		signal.Ignore(syscall.SIGXFSZ) // as main does
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// world is a store with its processes, and what can happen to them.
type world interface {
	lanes() []Lane
	mend()
}

// setting reads one from the environment.
func setting(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// TestSoak runs the whole program under a random load and random faults, on both
// stores, and judges what everybody was told.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the program under load")
	}
	length, err := time.ParseDuration(setting("SOAK_DUR", "20s"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(setting("SOAK_SEED", fmt.Sprint(rand.Uint32())), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{"sqlite", "redis"} {
		if only := os.Getenv("SOAK_ENGINE"); only != "" && only != store {
			continue
		}
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			soak(t, store, seed, length)
		})
	}
}

func soak(t *testing.T, store string, seed uint64, length time.Duration) {
	h := NewHistory()
	rnd := newRand(seed)
	var more []string
	if rnd.IntN(3) == 0 { // small mailboxes overflow
		more, h.Small = append(more, "BRIDGE_MAILBOX_LIMIT=300"), true
	}
	backend, err := newBackend(h, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.server.Close() // after the processes have stopped
	more = append(more, backend.settings()...)
	var w world
	var all []*Process
	if store == "sqlite" {
		e := newEmbedded(t, h, more...)
		w, all, h.Exact = e, []*Process{e.p}, true
	} else {
		s := newShared(t, h, more...)
		w, all = s, s.processes
	}
	defer func() {
		for _, p := range all {
			p.Stop()
		}
	}()
	b, err := NewBridges(h, all)
	if err != nil {
		t.Fatal(err)
	}
	if !b.becomes(b.Ready, time.Minute) {
		t.Fatalf("the program does not come up: %s", all[0].Tail())
	}
	lanes := w.lanes()
	plans := make([][]Step, len(lanes))
	for i := range lanes {
		lanes[i] = lanes[i].Choose(setting("SOAK_FAULTS", defaultFaults))
		plans[i] = lanes[i].Plan(rnd, length)
	}
	t.Logf("repeat with: make soak ENGINE=%s SEED=%d DUR=%s FAULTS=%s", store, seed, length, setting("SOAK_FAULTS", defaultFaults))

	perSecond, err := strconv.ParseFloat(setting("SOAK_RATE", "50"), 64)
	if err != nil {
		t.Fatal(err)
	}
	cast := NewCast(b, seed)
	load := NewLoad(b, cast, perSecond)
	began := h.Now()
	for i := range plans {
		for k := range plans[i] {
			plans[i][k].At += began
		}
	}
	cast.Run()
	load.Run(8, seed)
	faults := newTally()
	stopTelling := tell(t, h, load, faults)
	var running sync.WaitGroup
	for i, l := range lanes {
		running.Go(func() { l.Run(h, plans[i], func(s Step) { faults.add(s.Fault) }) })
	}
	time.Sleep(began + length - h.Now()) // the length of the run is what was asked for
	running.Wait()
	w.mend()
	load.End()
	cast.calm.Store(true)
	backend.calm.Store(true)
	if !b.becomes(b.Ready, 2*time.Minute) {
		for _, p := range all {
			h.Note("not ready", "process %d, though all faults are mended:\n%s", p.n, p.Tail())
		}
	}
	late := time.AfterFunc(time.Minute, func() { close(load.Late) })
	load.Wait()
	late.Stop()
	cast.Return()
	if !b.becomes(h.allThere, time.Minute) {
		h.Note("not there", "some readers never got in")
	}
	if drain(h) {
		load.LookBack(seed, 300)
		drain(h)
	}
	leave(t, h, cast, length)
	stopTelling()
	found := Check(h)
	report(t, h, load, faults, found, plans)
}

// leave has all clients leave, and waits until the backend was told so.
func leave(t *testing.T, h *History, cast *Cast, length time.Duration) {
	h.mu.Lock()
	var trouble Moment
	for _, w := range h.Troubles {
		trouble = max(trouble, w.End)
	}
	h.mu.Unlock()
	if length >= time.Minute {
		// A machine that died is forgotten by then, and all that follows is certain.
		time.Sleep(trouble + settling + comingBound - h.Now())
	}
	h.rests()
	cast.Stop()
	for last := h.Now() + goingBound + comingBound; len(h.ThoughtThere()) > 0 && h.Now() < last; {
		time.Sleep(100 * time.Millisecond) // a poll of the backend
	}
	t.Logf("all left at %s, and the backend knew at %s; it believes that these are there: %v", short(h.Rest), short(h.Now()), h.ThoughtThere())
}

// drain waits until every reader, and the backend, has what it is owed, or none gets any
// further. It reports whether nothing is owed any more.
func drain(h *History) bool {
	const stuck = 45 * time.Second
	// A callback that failed twice is tried again after a minute or so, and the lease of a
	// process that was killed has to end before.
	const stuckCallbacks = 2 * time.Minute
	h.mu.Lock()
	readers := h.Readers
	h.mu.Unlock()
	missing := make([][]*Event, len(readers))
	for i, r := range readers {
		missing[i] = h.Missing(r, nil)
	}
	last, least := h.Now(), []int{math.MaxInt}
	for {
		unheard := h.Unheard()
		left := unheard
		for i, r := range readers {
			if len(missing[i]) > 0 {
				missing[i] = h.Missing(r, missing[i])
			}
			left += len(missing[i])
		}
		patience, pause := stuck, 100*time.Millisecond
		if left == unheard {
			patience = stuckCallbacks
		}
		unpaid := 0
		if left == 0 { // it takes a while to find this out
			unpaid, pause = h.Unpaid(), time.Second
		}
		now := []int{left, unpaid}
		if slices.Compare(now, least) < 0 {
			last, least = h.Now(), now
		}
		if done := left+unpaid == 0; done || h.Now()-last > patience {
			return done
		}
		time.Sleep(pause) // a poll of the readers and the backend
	}
}

// becomes polls a condition for as long as a slow machine may need.
func (b *Bridges) becomes(ok func() bool, patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// tally counts by kind.
type tally struct {
	mu sync.Mutex // guards what follows
	n  map[string]int
}

func newTally() *tally { return &tally{n: map[string]int{}} }

func (c *tally) add(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[kind]++
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.TrimPrefix(fmt.Sprint(c.n), "map")
}

// tell prints how the run goes, every ten seconds.
func tell(t *testing.T, h *History, load *Load, faults *tally) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(10 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
			}
			h.mu.Lock()
			events, notes := len(h.Events), len(h.Notes)
			h.mu.Unlock()
			t.Logf("%s: %d operations, %d events, faults %s, %d findings so far", h.Now().Round(time.Second), load.ops.Load(), events, faults, notes)
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// most is how many findings of a kind are shown.
const most = 5

func report(t *testing.T, h *History, load *Load, faults *tally, found []Finding, plans [][]Step) {
	h.mu.Lock()
	defer h.mu.Unlock()
	events, seen, conns := newTally(), 0, newTally()
	for _, e := range h.Events {
		seen += e.Seen
		if e.Taken() {
			events.add("taken")
		} else {
			events.add("not known")
		}
	}
	items := newTally()
	for _, r := range h.Readers {
		for _, c := range r.Conns {
			conns.add(r.Transport)
			for i := range c.Items {
				switch it := &c.Items[i]; it.Kind {
				case Gapped:
					items.add("gap " + it.Reason)
				case Recalled:
					items.add("recalled")
				}
			}
		}
	}
	calls := newTally()
	for _, c := range h.Callbacks {
		calls.add(c.Type)
		if !c.Taken {
			calls.add("not taken")
		}
	}
	t.Logf("sends to the backend %d, callbacks %s", len(h.Sends), calls)
	t.Logf("%d operations; events %s, seen %d times; connections %s; %s; erasures %d, revocations %d, rewinds %d; faults %s",
		load.ops.Load(), events, seen, conns, items, len(h.Erasures), len(h.Revocations), len(h.Rewinds), faults)
	kinds := newTally()
	for _, f := range found {
		kinds.add(f.Kind)
		if kinds.n[f.Kind] <= most {
			t.Error(f)
		}
	}
	if len(found) > 0 {
		t.Errorf("%d findings: %s", len(found), kinds)
		for _, plan := range plans {
			t.Logf("schedule: %v", plan)
		}
		for _, w := range h.Rewinds {
			t.Logf("rewind: %+v", w)
		}
	}
}
