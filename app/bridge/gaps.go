package bridge

import (
	"errors"
	"iter"
	"slices"
)

// This file decides what is gone between two places of a log, why it is gone, and
// whether a reader must be told. Stores only say what they hold (Page, Stretch).
//
// What is gone from one log:
//   - Places are given out one by one, so a place up to the newest one at which the
//     store holds no unexpired message is gone.
//   - Up to Stretch.Trimmed it went because the mailbox was full.
//   - A message that was replaced or recalled was removed on purpose. It is not lost,
//     and nobody is told.
//   - At any other place the message has expired.
//
// What a reader is told:
//   - With a cursor: of everything that is lost after it.
//   - A fresh device has no cursor and is owed every unexpired message that nobody of
//     its user has acked. So it is not told of what had expired before it came. It is
//     told of what was trimmed unread, and of a message that was there when it came
//     and expired before the replay got to it.
//   - A cursor that names no place of this log (foreign, malformed, ahead) is answered
//     by one gap and then by everything held: that gap covers all that is lost so far.
//   - A cursor of a life that the store has lost is answered in the same way, and what
//     is lost is told too: it may have been lost after the store went back in time.
//   - Nothing twice on one connection: reading goes on after what was told.
//
// A gap frame comes before the messages of the page that shows the loss, and its
// cursor stops short of the first of them.

// Reasons of a gap frame.
const (
	GapExpired   = "expired"   // time ran out on messages after the cursor
	GapTrimmed   = "trimmed"   // the mailbox was full; its oldest messages went
	GapForeign   = "foreign"   // the cursor is of another store or another user
	GapMalformed = "malformed" // the cursor is not one of ours
	GapAhead     = "ahead"     // the cursor is beyond what the store has
	GapRewound   = "rewound"   // the store went back in time; what came after the cursor's life began may be other messages now
)

// Range is a run of places in one log, both ends in it.
type Range struct{ First, Last uint64 }

// Gaps yields the runs of places after one place, up to another, that are not in held.
// held and Gaps give the furthest run first. Runs of held may overlap.
func Gaps(after, last uint64, held iter.Seq[Range]) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for r := range held {
			if last <= after {
				return
			}
			if r.Last < last && !yield(Range{max(r.Last, after) + 1, last}) {
				return
			}
			if r.First <= last {
				last = r.First - 1
			}
		}
		if last > after {
			yield(Range{after + 1, last})
		}
	}
}

// Stretch is what a store found in a part of one log: the places after After, up
// to Next. What it holds there and has not expired is in the page's Deliveries.
type Stretch struct {
	After, Next uint64
	// Trimmed is the furthest place that was pushed out of a full log.
	Trimmed uint64
	// Removed are places whose messages were replaced or recalled, lowest first. A
	// range may also cover places that are held, and places outside of the stretch. A
	// store that does not remember each removed place may forget those before the
	// furthest place that expired: a reader who has not passed them is told of that
	// one in any case.
	Removed []Range
}

// Lost says up to which places messages are gone in a way that their readers
// must be told about. A message that was replaced, recalled or never stored is
// not lost.
type Lost struct {
	Expired Position // the furthest message whose time ran out (removed or not)
	Trimmed Position // the furthest message pushed out of a full mailbox
}

// Next is the place to read on from: it has passed everything in this page and
// everything that is gone within it.
func (p Page) Next() Position {
	return Position{Mailbox: p.Mailbox.Next, Broadcast: p.Broadcast.Next}
}

// Lost says what is lost within the page's stretches, before the first delivery or
// between others. It is zero in each log where nothing is.
func (p Page) Lost() (l Lost) {
	l.Expired.Mailbox, l.Trimmed.Mailbox = p.Mailbox.lost(p.held(inMailbox))
	l.Expired.Broadcast, l.Trimmed.Broadcast = p.Broadcast.lost(p.held(inBroadcast))
	return l
}

func inMailbox(d *Delivery) uint64   { return d.Mailbox }
func inBroadcast(d *Delivery) uint64 { return d.Broadcast }

// held yields the places of the page's messages in one log, furthest first.
func (p *Page) held(place func(d *Delivery) uint64) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for i := len(p.Deliveries) - 1; i >= 0; i-- {
			if at := place(&p.Deliveries[i]); at != 0 && !yield(Range{at, at}) {
				return
			}
		}
	}
}

// lost is up to where messages of the stretch expired or were trimmed; held are the
// places of those that are there.
func (s *Stretch) lost(held iter.Seq[Range]) (expired, trimmed uint64) {
	for gap := range s.expired(held) {
		expired = gap.Last
		break
	}
	if up := min(s.Trimmed, s.Next); up > s.After {
		trimmed = up
	}
	return expired, trimmed
}

// expired yields the runs of places whose messages have expired, furthest first.
func (s *Stretch) expired(held iter.Seq[Range]) iter.Seq[Range] {
	return Gaps(max(s.After, s.Trimmed), s.Next, func(yield func(Range) bool) {
		n := len(s.Removed)
		for r := range held {
			for ; n > 0 && s.Removed[n-1].Last > r.Last; n-- {
				if !yield(s.Removed[n-1]) {
					return
				}
			}
			if !yield(r) {
				return
			}
		}
		for ; n > 0 && yield(s.Removed[n-1]); n-- {
		}
	})
}

// Gone fills in what an archive says of places at which the mailbox holds nothing: the
// furthest that expired, and after it those whose messages were removed on purpose.
// held are the places of unexpired messages, and removed is what a Stretch has, both
// lowest first. Head and Trimmed are set.
func (m *MailboxEntry) Gone(held, removed []Range) {
	there := func(yield func(Range) bool) {
		for _, r := range slices.Backward(held) {
			if !yield(r) {
				return
			}
		}
	}
	s := Stretch{Next: m.Head, Trimmed: m.Trimmed, Removed: removed}
	m.Expired, _ = s.lost(there)
	for gap := range Gaps(max(m.Trimmed, m.Expired), m.Head, there) {
		m.Removed = append(m.Removed, [2]uint64{gap.First, gap.Last})
	}
	slices.Reverse(m.Removed)
}

// Pending are the places of unexpired messages in a user's two logs, lowest first.
type Pending struct{ Mailbox, Broadcast []Range }

// Count is how many messages these are.
func (p *Pending) Count() (n int) {
	for _, list := range [][]Range{p.Mailbox, p.Broadcast} {
		for _, r := range list {
			n += int(r.Last - r.First + 1)
		}
	}
	return n
}

// toldGaps is what a session needs no gap frame for: gaps that its client was told of,
// and messages that were never owed to it.
type toldGaps struct {
	Lost
	// pending are the messages that waited for a fresh device when it came. It must
	// hear of those that expire before it gets them, although Lost.Expired has passed
	// them. It is nil for others.
	pending *Pending
}

// gap tells whether a gap frame is due before a page is handed over, for which
// reason, and the place that its cursor names.
func (t *toldGaps) gap(p *Page) (to Position, reason string, due bool) {
	l, pending := p.Lost(), t.pending
	if pending == nil {
		pending = &Pending{}
	}
	if l.Expired.Mailbox <= t.Expired.Mailbox {
		l.Expired.Mailbox = latest(p.Mailbox.expired(p.held(inMailbox)), pending.Mailbox)
	}
	if l.Expired.Broadcast <= t.Expired.Broadcast {
		l.Expired.Broadcast = latest(p.Broadcast.expired(p.held(inBroadcast)), pending.Broadcast)
	}
	if l.Trimmed.Mailbox <= t.Trimmed.Mailbox {
		l.Trimmed.Mailbox = 0
	}
	if l.Trimmed.Broadcast <= t.Trimmed.Broadcast {
		l.Trimmed.Broadcast = 0
	}
	switch {
	case l.Trimmed != Position{}:
		reason = GapTrimmed
	case l.Expired != Position{}:
		reason = GapExpired
	default:
		return to, "", false
	}
	to = l.Expired.Max(l.Trimmed)
	for i := range p.Deliveries { // a cursor behind them would leave them out
		if d := &p.Deliveries[i]; d.Mailbox != 0 {
			to.Mailbox = min(to.Mailbox, d.Mailbox-1)
		} else {
			to.Broadcast = min(to.Broadcast, d.Broadcast-1)
		}
	}
	return to, reason, true
}

// latest is the furthest place that lies in a gap and in one of the ranges too; 0
// where there is none.
func latest(gaps iter.Seq[Range], ranges []Range) uint64 {
	if len(ranges) == 0 {
		return 0
	}
	for gap := range gaps {
		for _, r := range slices.Backward(ranges) {
			if last := min(r.Last, gap.Last); last >= max(r.First, gap.First) {
				return last
			}
		}
	}
	return 0
}

// rewind forgets what was told of places beyond agreed: other messages have them now.
func (t *toldGaps) rewind(agreed Position) {
	t.Expired, t.Trimmed = t.Expired.Min(agreed), t.Trimmed.Min(agreed)
}

// start is where a session begins to read, and how it is told.
type start struct {
	from    Position
	resumed bool
	gap     string   // reason of a gap that the cursor itself causes; empty without one
	told    Lost     // needs no gap frame: told of, or never owed
	agreed  Position // how far the store agrees with what the cursor's life has given out
}

// startFrom judges the cursor a client came with against where its user stands.
// lifeEnd is Store.LifeEnd for the user; it is asked only for another life than
// the store's own, and only its failure fails.
func startFrom(after, tag string, st JoinState, lifeEnd func(life string) (Position, error)) (start, error) {
	if after == "" {
		// A fresh device asked for nothing, so nothing that expired before it
		// came is missing to it; what a full mailbox lost unread is.
		return start{from: st.Acked, told: Lost{Expired: st.Head}}, nil
	}
	whole := func(reason string) (start, error) {
		return start{from: st.First, told: Lost{Expired: st.Head, Trimmed: st.Head}, gap: reason}, nil
	}
	c, err := parseCursor(after)
	switch {
	case err != nil:
		return whole(GapMalformed)
	case c.tag != tag:
		return whole(GapForeign)
	case c.life == "" && !st.Head.Covers(c.at): // it may be of a lost life, or of none
		return whole(GapAhead)
	case c.life != st.Life:
		end, err := lifeEnd(c.life)
		if errors.Is(err, ErrRewound) {
			// Everything held, and a word on what has expired: it may have come after
			// the store went back.
			return start{from: st.First, gap: GapRewound}, nil
		}
		if err != nil {
			return start{}, err
		}
		if !end.Covers(c.at) {
			// Up to the life's end the store is the one that the client knew.
			return start{from: c.at.Min(end).Max(st.First), gap: GapRewound}, nil
		}
		return start{from: c.at.Max(st.First), resumed: true, agreed: end}, nil
	case !st.Head.Covers(c.at):
		return whole(GapAhead)
	}
	return start{from: c.at.Max(st.First), resumed: true, agreed: st.Head}, nil
}

// fromLostTime tells whether a cursor was given out in a time that the store, which
// lives life now, has lost.
func fromLostTime(after, tag, life string, lifeEnd func(life string) (Position, error)) (bool, error) {
	c, err := parseCursor(after)
	if err != nil || c.tag != tag || c.life == life || c.life == "" {
		return false, nil
	}
	end, err := lifeEnd(c.life)
	if errors.Is(err, ErrRewound) {
		return true, nil
	}
	return err == nil && !end.Covers(c.at), err
}
