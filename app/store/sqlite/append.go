package sqlite

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// appending is an Append on its way through the writer. A pool keeps them, because
// there are so many.
type appending struct {
	request
	msg     *bridge.Message
	fresh   bool // the id was not known: the Hub is to hear of the message
	receipt bridge.Receipt
}

var appendings = sync.Pool{New: func() any {
	a := new(appending)
	a.request = request{
		write:     func(w *writer) error { return w.append(a) },
		tell:      a.deliver,
		size:      a.measure,
		needsRoom: true,
		done:      make(chan struct{}, 1),
	}
	return a
}}

// newAppending refuses a message that can never be written: it would make its whole
// group fail.
func newAppending(m *bridge.Message) (*appending, error) {
	if to := m.To.Recipients(); !m.To.All && m.To.Group == "" && (len(to) == 0 || slices.Contains(to, "")) {
		return nil, errNoUser
	}
	a := appendings.Get().(*appending)
	a.msg, a.plain = m, plain(m)
	return a, nil
}

// result waits for the receipt. The acks that a duplicate's tells of are durable. After an
// error the writer may still have a.
func (a *appending) result(ctx context.Context, s *Store) (bridge.Receipt, error) {
	if err := a.answer(ctx); err != nil {
		return bridge.Receipt{}, err
	}
	receipt := a.receipt
	a.msg, a.fresh, a.receipt, a.bulk = nil, false, bridge.Receipt{}, false
	appendings.Put(a)
	if receipt.Duplicate {
		if err := s.keepAcksTold(ctx, receipt.Acked()); err != nil {
			return bridge.Receipt{}, err
		}
	}
	return receipt, nil
}

// Append implements bridge.Store. When the context ends first, the message may
// or may not be stored; the same id asks again.
func (s *Store) Append(ctx context.Context, m *bridge.Message) (bridge.Receipt, error) {
	a, err := newAppending(m)
	if err != nil {
		return bridge.Receipt{}, err
	}
	a.bulk = places(m) >= bulkFrom
	if err := s.enqueue(ctx, &a.request); err != nil {
		return bridge.Receipt{}, err
	}
	return a.result(ctx, s)
}

// AppendMany implements bridge.Store.
func (s *Store) AppendMany(ctx context.Context, ms []*bridge.Message) []bridge.Appended {
	out := make([]bridge.Appended, len(ms))
	asked := make([]*appending, len(ms)) // nil where the message was refused
	var rs []*request
	size := 0
	for i, m := range ms {
		if asked[i], out[i].Err = newAppending(m); out[i].Err == nil {
			rs = append(rs, &asked[i].request)
			size += places(m)
		}
	}
	taken, err := s.enqueueAll(ctx, rs, size)
	for i, a := range asked {
		switch {
		case a == nil:
		case taken == 0:
			out[i].Err = err
		default:
			taken--
			out[i].Receipt, out[i].Err = a.result(ctx, s)
		}
	}
	return out
}

// append writes one message into the running transaction. Where its id is known, it
// answers as duplicate does.
func (w *writer) append(a *appending) error {
	m := a.msg
	if err := w.begin(); err != nil {
		return err
	}
	recipients := m.To.Recipients()
	switch {
	case m.To.All:
		recipients = broadcastOnly
	case m.To.Group != "":
		var err error
		if recipients, err = w.members(m.To.Group); err != nil {
			return err
		}
		w.reached(m.To.Group, len(recipients))
	}
	recs := make([]*record, 0, 1)
	w.buf = w.buf[:0]
	for _, user := range recipients {
		p := place{user: user}
		if m.Stored() {
			rec, err := w.record(user)
			if err != nil {
				return err
			}
			recs = append(recs, rec)
			p.seq = rec.head + 1
		}
		w.buf = appendPlace(w.buf, p)
	}
	no := w.nextNo
	added, err := w.sql.addMessage(no, m, w.now, w.buf)
	if err != nil {
		return err
	}
	if !added {
		return w.duplicate(a)
	}
	w.nextNo++
	if w.tail.writing {
		w.tail.add(no, w.now, m, recs, w.buf)
	}
	w.loose = w.loose[:0]
	for _, rec := range recs {
		w.touch(rec)
		if m.Topic != "" {
			if err := w.replace(rec, m.Topic); err != nil {
				return err
			}
		}
		if err := w.deposit(rec, no, nanos(m.Expires), len(m.Event)); err != nil {
			return err
		}
		if w.outbox.on && !m.To.All {
			if err := w.setTimers(rec, m); err != nil {
				return err
			}
		}
		if m.Topic != "" {
			if err := with(w.sql.setTopic).text(rec.user).text(m.Topic).seq(rec.head).exec(); err != nil {
				return err
			}
		}
	}
	if err := w.freeLoose(len(recs)); err != nil {
		return err
	}
	a.fresh = true
	a.receipt.Expires = m.Expires
	if m.To.All {
		if len(recs) > 0 {
			a.receipt.Broadcast = recs[0].head
		}
		return nil
	}
	a.receipt.Recipients = make([]bridge.Recipient, len(recipients))
	for i, user := range recipients {
		a.receipt.Recipients[i].User = user
		if len(recs) > 0 {
			a.receipt.Recipients[i].Seq = recs[i].head
		}
	}
	return nil
}

// broadcastOnly has the one mailbox that a message to all goes into.
var broadcastOnly = []string{""}

// duplicate fills in the receipt of an id that is known, as things are now.
func (w *writer) duplicate(a *appending) error {
	k, err := w.sql.find(a.msg.ID)
	if err != nil {
		return err
	}
	if !bytes.Equal(k.digest, a.msg.Digest[:]) {
		return refuse(bridge.ErrConflict)
	}
	a.receipt.Duplicate = true
	if k.expires != 0 {
		a.receipt.Expires = time.Unix(0, k.expires).UTC()
	}
	for _, p := range k.places {
		rec, err := w.record(p.user)
		if err != nil {
			return err
		}
		seq := p.seq
		if k.expires <= w.now || seq <= rec.trimmed {
			seq = 0 // gone
		}
		if p.user == "" {
			a.receipt.Broadcast = seq
			continue
		}
		a.receipt.Recipients = append(a.receipt.Recipients, bridge.Recipient{
			User: p.user, Seq: seq, Acked: p.seq > 0 && rec.acked.Mailbox >= p.seq,
		})
	}
	return nil
}

// deliver hands the message to the Hub. Where that panics, the sessions that
// were to be told of the message read it from the store.
func (a *appending) deliver(s *Store, h bridge.Hub) {
	if !a.fresh {
		return
	}
	if s.opts.Guard.Run(whereFanOut, func() { a.handOver(s, h) }) {
		s.opts.Guard.Run(whereFanOut, func() { a.behind(h) })
	}
}

func (a *appending) handOver(s *Store, h bridge.Hub) {
	d := bridge.Delivery{Message: a.msg}
	if a.msg.Stored() {
		d.Life = s.lives.name
	}
	if a.msg.To.All {
		d.Broadcast = a.receipt.Broadcast
		a.receipt.Sessions = h.DeliverAll(d)
		return
	}
	for i := range a.receipt.Recipients {
		to := &a.receipt.Recipients[i]
		d.Mailbox = to.Seq
		to.Sessions = h.Deliver(to.User, d)
		a.receipt.Sessions += to.Sessions
	}
}

// behind makes sessions read up to the message, which they may not have been given.
func (a *appending) behind(h bridge.Hub) {
	if a.receipt.Broadcast != 0 {
		h.Behind("", bridge.Position{Broadcast: a.receipt.Broadcast})
	}
	for i := range a.receipt.Recipients {
		if to := &a.receipt.Recipients[i]; to.Seq != 0 {
			h.Behind(to.User, bridge.Position{Mailbox: to.Seq})
		}
	}
}
