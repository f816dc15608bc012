package sqlite

import (
	"bytes"
	"fmt"
	"time"

	"hookbridge/app/bridge"
)

// append writes one message into the running transaction, or finds out what
// became of it if its id is known.
func (w *writer) append(r *request) error {
	m := r.msg
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
	added, err := w.store.addMessage(no, m, w.now, w.buf)
	if err != nil {
		return err
	}
	if !added {
		return w.duplicate(r)
	}
	w.nextNo++
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
		if m.Topic != "" {
			if err := with(w.store.setTopic).text(rec.user).text(m.Topic).seq(rec.head).exec(); err != nil {
				return err
			}
		}
	}
	if err := w.freeLoose(len(recs)); err != nil {
		return err
	}
	r.fresh = true
	r.receipt.Expires = m.Expires
	if m.To.All {
		if len(recs) > 0 {
			r.receipt.Broadcast = recs[0].head
		}
		return nil
	}
	r.receipt.Recipients = make([]bridge.Recipient, len(recipients))
	for i, user := range recipients {
		r.receipt.Recipients[i].User = user
		if len(recs) > 0 {
			r.receipt.Recipients[i].Seq = recs[i].head
		}
	}
	return nil
}

// broadcastOnly is the one mailbox that a message to all is put in.
var broadcastOnly = []string{""}

// duplicate answers for an id that is known: as of now, nothing written.
func (w *writer) duplicate(r *request) error {
	k, err := w.store.find(r.msg.ID)
	if err != nil {
		return err
	}
	if !bytes.Equal(k.digest, r.msg.Digest[:]) {
		r.err = bridge.ErrConflict
		return nil
	}
	r.receipt.Duplicate = true
	if k.expires != 0 {
		r.receipt.Expires = time.Unix(0, k.expires).UTC()
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
			r.receipt.Broadcast = seq
			continue
		}
		r.receipt.Recipients = append(r.receipt.Recipients, bridge.Recipient{
			User: p.user, Seq: seq, Acked: p.seq > 0 && rec.acked.Mailbox >= p.seq,
		})
	}
	return nil
}

// join finds where a user stands, and notes one that is seen for the first time.
func (w *writer) join(r *request) error {
	if w.scarce {
		r.err = w.joinReading(r, errDiskFull)
		return nil
	}
	if r.err = w.admits(r.member); r.err != nil {
		return nil
	}
	rec, err := w.record(r.user)
	if err != nil {
		return err
	}
	if !rec.seen {
		all, err := w.record("")
		if err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
		w.touch(rec)
		rec.seen = true
		rec.lastSeen = w.now
		if !r.member.Returns {
			rec.first = all.head
			rec.acked.Broadcast = max(rec.acked.Broadcast, all.head)
		}
		if err := w.store.save(rec); err != nil {
			return err
		}
	}
	if err := w.belong(r.member); err != nil {
		return err
	}
	w.arrived = append(w.arrived, r.member)
	return w.standing(r, nil)
}

// standing fills in a join's answer from what is known. A user never seen, which
// can only be after the attempt to write that down has failed, gets unseen.
func (w *writer) standing(r *request, unseen error) error {
	rec, err := w.record(r.user)
	if err != nil {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	all, err := w.record("")
	if err != nil {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	if !rec.seen {
		return unseen
	}
	r.standing = bridge.JoinState{
		Head:  bridge.Position{Mailbox: rec.head, Broadcast: all.head},
		Acked: rec.acked,
		First: bridge.Position{Broadcast: rec.first},
		Life:  w.engine.lives.name,
	}
	return nil
}
