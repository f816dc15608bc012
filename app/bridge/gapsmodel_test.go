package bridge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// letter is a message in the naive model of a log, which keeps all there ever were.
type letter struct {
	expires          int
	trimmed, removed bool
}

// history is a log of which every message is known: its place is its index, and one.
type history struct {
	letters []letter
	// A store that does not list what was removed knows, from the first such message
	// on, the furthest place that has expired.
	explicit bool
	expired  uint64
}

func (h *history) head() uint64 { return uint64(len(h.letters)) }

// held tells whether a message is there to be read at a time.
func (h *history) held(place uint64, now int) bool {
	l := h.letters[place-1]
	return !l.trimmed && !l.removed && l.expires > now
}

// ranOut tells whether the message was there until its time was up.
func (h *history) ranOut(place uint64, now int) bool {
	l := h.letters[place-1]
	return !l.trimmed && !l.removed && l.expires <= now
}

// furthest is the furthest place after a place and up to another for which is holds.
func furthest(after, last uint64, is func(place uint64) bool) uint64 {
	for place := last; place > after; place-- {
		if is(place) {
			return place
		}
	}
	return 0
}

// found is what a store says that has looked from after to next.
func (h *history) found(after, next uint64, now int, lists bool) Stretch {
	s := Stretch{After: after, Next: next}
	s.Trimmed = furthest(0, h.head(), func(p uint64) bool { return h.letters[p-1].trimmed })
	switch {
	case lists:
		for i, l := range h.letters {
			place, n := uint64(i+1), len(s.Removed)
			switch {
			case !l.removed || place <= after || place > next:
			case n > 0 && s.Removed[n-1].Last == place-1:
				s.Removed[n-1].Last = place
			default:
				s.Removed = append(s.Removed, Range{place, place})
			}
		}
	case h.explicit:
		seen := furthest(after, next, func(p uint64) bool { return h.ranOut(p, now) })
		s.Removed = []Range{{max(h.expired, seen) + 1, h.head()}}
	}
	return s
}

// pending lists the places after a place that are held.
func (h *history) pending(after uint64, now int) (runs []Range) {
	for place := after + 1; place <= h.head(); place++ {
		n := len(runs)
		switch {
		case !h.held(place, now):
		case n > 0 && runs[n-1].Last == place-1:
			runs[n-1].Last = place
		default:
			runs = append(runs, Range{place, place})
		}
	}
	return runs
}

// model is a store with two logs, and one reader.
type model struct {
	t     *testing.T
	logs  [2]history
	now   int
	lists bool // the store lists what was removed

	reads bool // the reader has come
	began int
	kind  int // 0: with a cursor, 1: fresh, 2: with a cursor that names nothing here
	head  Position
	at    Position
	told  toldGaps
}

func in(p Position, log int) uint64 { return [2]uint64{p.Mailbox, p.Broadcast}[log] }

// owed tells whether the reader must be told of a message that is lost.
func (m *model) owed(log int, place uint64) bool {
	l := m.logs[log].letters[place-1]
	switch {
	case l.removed || m.logs[log].held(place, m.now):
		return false
	case m.kind == 0 || place > in(m.head, log):
		return true
	case m.kind == 1:
		return l.trimmed || l.expires > m.began
	}
	return false
}

// page is what the store gives: of each log up to so many messages in all.
func (m *model) page(count int, eager bool) *Page {
	p := &Page{}
	for log := range m.logs {
		h, after := &m.logs[log], in(m.at, log)
		next := after
		for next < h.head() {
			if h.held(next+1, m.now) {
				if len(p.Deliveries) == count {
					p.More = true
					break
				}
				d := Delivery{Mailbox: next + 1}
				if log == 1 {
					d = Delivery{Broadcast: next + 1}
				}
				p.Deliveries = append(p.Deliveries, d)
			} else if !eager && len(p.Deliveries) == count {
				p.More = true // what is gone next is left to the next page
				break
			}
			next++
		}
		s := h.found(after, next, m.now, m.lists)
		if log == 0 {
			p.Mailbox = s
		} else {
			p.Broadcast = s
		}
	}
	return p
}

// begin has the reader come.
func (m *model) begin(kind int, at Position, first *Page) {
	m.reads, m.began, m.kind, m.at = true, m.now, kind, at
	switch kind {
	case 1:
		m.told = toldGaps{Lost: Lost{Expired: m.head}}
		if first.More {
			m.told.pending = &Pending{m.logs[0].pending(at.Mailbox, m.now), m.logs[1].pending(at.Broadcast, m.now)}
		}
	case 2:
		m.told = toldGaps{Lost: Lost{Expired: m.head, Trimmed: m.head}}
	}
}

// read hands the reader a page and holds what it is told to the model.
func (m *model) read(p *Page) {
	to, reason, due := m.told.gap(p)
	var want, trimmed bool
	var lost Lost
	for log := range m.logs {
		h, s := &m.logs[log], p.Mailbox
		if log == 1 {
			s = p.Broadcast
		}
		owed := furthest(s.After, s.Next, func(at uint64) bool { return m.owed(log, at) })
		pushed := furthest(s.After, s.Next, func(at uint64) bool { return h.letters[at-1].trimmed })
		expired := furthest(max(s.After, s.Trimmed), s.Next, func(at uint64) bool { return h.ranOut(at, m.now) })
		want = want || owed != 0
		trimmed = trimmed || pushed != 0 && (m.kind != 2 || pushed > in(m.head, log))
		if log == 0 {
			lost.Expired.Mailbox, lost.Trimmed.Mailbox = expired, pushed
		} else {
			lost.Expired.Broadcast, lost.Trimmed.Broadcast = expired, pushed
		}
	}
	said := fmt.Sprintf("the reader (%d) at %+v is told %v, %q up to %+v of %+v", m.kind, m.at, due, reason, to, p)
	if want && !due {
		m.t.Fatalf("a loss is not told: %s", said)
	}
	if got := p.Lost(); m.lists && (due && !want || got != lost) {
		m.t.Fatalf("lost is %+v and not %+v: %s", lost, got, said)
	}
	if due && (reason == GapTrimmed) != trimmed || !due && reason != "" {
		m.t.Fatalf("a wrong reason: %s", said)
	}
	if !p.Next().Covers(to) || !p.Next().Covers(m.at) {
		m.t.Fatalf("a gap beyond its page: %s", said)
	}
	for _, d := range p.Deliveries {
		if d.Mailbox != 0 && d.Mailbox <= to.Mailbox || d.Broadcast != 0 && d.Broadcast <= to.Broadcast {
			m.t.Fatalf("a gap that hides a message: %s", said)
		}
	}
	m.at = p.Next()
}

// step does one thing in the model, as two bytes say.
func (m *model) step(what, with byte) {
	log := int(with) % 2
	h := &m.logs[log]
	alive := func(place uint64) bool { return h.held(place, m.now) }
	switch what % 8 {
	case 0, 1:
		h.letters = append(h.letters, letter{expires: m.now + 1_000_000})
	case 2, 3:
		h.letters = append(h.letters, letter{expires: m.now + 1 + int(with)/2%8})
	case 4:
		m.now += 1 + int(with)%4
	case 5: // a message is replaced or recalled
		if place := furthest(0, min(h.head(), uint64(with)/2), alive); place != 0 {
			if !h.explicit {
				h.explicit, h.expired = true, furthest(0, h.head(), func(p uint64) bool { return h.ranOut(p, m.now) })
			}
			h.letters[place-1].removed = true
		}
	case 6: // the log is full
		for place := uint64(1); place <= h.head(); place++ {
			if alive(place) {
				h.letters[place-1].trimmed = true
				break
			}
		}
		h.expired = max(h.expired, furthest(0, h.head(), func(p uint64) bool { return h.ranOut(p, m.now) })) // and is tidied up
	case 7:
		count, eager := 1+int(with)/4%3, with&2 != 0
		if m.reads {
			m.read(m.page(count, eager))
			return
		}
		m.head = Position{m.logs[0].head(), m.logs[1].head()}
		kind := int(with) / 16 % 3
		m.at = Position{min(uint64(with)/64, m.head.Mailbox), min(uint64(with)/128, m.head.Broadcast)}
		first := m.page(count, eager)
		m.begin(kind, m.at, first)
		m.read(first)
	}
}

// archived holds what an archive says of each log to the model.
func (m *model) archived() {
	for i := range m.logs {
		h := &m.logs[i]
		s := h.found(0, h.head(), m.now, m.lists)
		e := MailboxEntry{Head: h.head(), Trimmed: s.Trimmed}
		e.Gone(h.pending(0, m.now), s.Removed)
		expired := furthest(s.Trimmed, h.head(), func(at uint64) bool { return h.ranOut(at, m.now) })
		var removed [][2]uint64
		for at := max(s.Trimmed, e.Expired) + 1; at <= h.head(); at++ {
			n := len(removed)
			switch {
			case !h.letters[at-1].removed:
			case n > 0 && removed[n-1][1] == at-1:
				removed[n-1][1] = at
			default:
				removed = append(removed, [2]uint64{at, at})
			}
		}
		if e.Expired != expired || !slices.Equal(e.Removed, removed) {
			m.t.Fatalf("archived as %+v and not up to %d and %v", e, expired, removed)
		}
	}
}

// FuzzGaps holds what a reader is told to a model that keeps every message ever
// written.
func FuzzGaps(f *testing.F) {
	f.Add(true, []byte{0, 0, 2, 2, 0, 0, 4, 3, 7, 0, 7, 0})
	f.Add(false, []byte{2, 0, 0, 0, 2, 1, 5, 9, 4, 3, 6, 0, 7, 16, 2, 4, 4, 3, 7, 0})
	f.Add(true, []byte{2, 8, 2, 8, 2, 8, 7, 16, 4, 3, 4, 3, 7, 8}) // expires during a fresh device's replay
	f.Add(false, []byte{0, 1, 0, 1, 6, 1, 7, 32, 6, 1, 0, 1, 6, 1, 7, 1})
	for seed := range uint64(1000) {
		random, steps := rand.New(rand.NewPCG(seed, 0)), make([]byte, 120)
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		f.Add(seed%2 == 0, steps)
	}
	f.Fuzz(func(t *testing.T, lists bool, steps []byte) {
		m := &model{t: t, lists: lists}
		for i := 0; i+1 < min(len(steps), 200); i += 2 {
			m.step(steps[i], steps[i+1])
		}
		m.archived()
	})
}

func FuzzGapsBetweenRuns(f *testing.F) {
	f.Add(uint64(1), uint64(9), []byte{3, 2, 7, 0})
	f.Fuzz(func(t *testing.T, after, last uint64, runs []byte) {
		after, last = after%256, last%256
		var there [600]bool
		var held []Range
		for i := 0; i+1 < len(runs); i += 2 {
			r := Range{uint64(runs[i]) + 1, uint64(runs[i]) + 1 + uint64(runs[i+1])}
			held = append(held, r)
			for at := r.First; at <= r.Last; at++ {
				there[at] = true
			}
		}
		slices.SortFunc(held, func(a, b Range) int { return int(b.Last) - int(a.Last) })
		next := last
		for gap := range Gaps(after, last, slices.Values(held)) {
			if gap.First > gap.Last || gap.Last > next || gap.First <= after {
				t.Fatalf("the gap %+v", gap)
			}
			for at := gap.Last + 1; at <= next; at++ {
				if !there[at] {
					t.Fatalf("%d is left out", at)
				}
			}
			for at := gap.First; at <= gap.Last; at++ {
				if there[at] {
					t.Fatalf("%d is held", at)
				}
			}
			next = gap.First - 1
		}
		for at := next; at > after; at-- {
			if !there[at] {
				t.Fatalf("%d is left out", at)
			}
		}
	})
}
