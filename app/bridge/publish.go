package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"hookbridge/app/wire"
)

// PublishRequest is an event of a backend, on its way to Publish.
type PublishRequest struct {
	ID        string            // the webhook's id, or the event's own in a batch; see Sender.EventID
	Timestamp time.Time         // the webhook's own time
	Digest    [sha256.Size]byte // of the signed bytes
	Event     wire.Event
	Sender    Sender // whose key signed it
}

// Published is one answer of PublishMany.
type Published struct {
	Outcome Outcome
	Err     error
}

// Publish takes an event of a backend. When it returns without error the event
// is stored (unless its ttl is 0), and the outcome says whom it reached. The
// context is for the storing; the wait has its own time, and ends when the
// bridge drains.
// Errors: ErrDraining, ErrForbiddenTarget, *InvalidError, and Store.Append's.
func (b *Bridge) Publish(ctx context.Context, r PublishRequest, w Wait) (Outcome, error) {
	p := b.PublishMany(ctx, []PublishRequest{r}, w)[0]
	return p.Outcome, p.Err
}

// PublishMany takes several events, each with an answer of its own, in their
// order. They share one wait.
func (b *Bridge) PublishMany(ctx context.Context, rs []PublishRequest, w Wait) []Published {
	out := make([]Published, len(rs))
	var ms []*Message
	var of []int // the index in rs of each message
	for i := range rs {
		r := &rs[i]
		at := r.Event.Timestamp
		if at.IsZero() {
			at = r.Timestamp
		}
		id := r.Sender.EventID(r.ID)
		m, err := b.message(id, "", at, r.Digest, &r.Event)
		if err == nil && !r.Sender.MaySend(m.Type, m.To) {
			err = ErrForbiddenTarget
		}
		if err == nil && r.Event.Past != "" { // a late retry is answered; a new event is not taken
			if _, err = b.store.Lookup(ctx, id); errors.Is(err, ErrUnknown) {
				err = invalid("%s is past", r.Event.Past)
			}
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		ms, of = append(ms, m), append(of, i)
	}
	for i, p := range b.append(ctx, ms, w) {
		out[of[i]] = p
		if p.Err == nil {
			b.audit.accepted(rs[of[i]].Sender.Name, Identity{}, ms[i], p.Outcome)
		}
	}
	return out
}

// message checks an event against the domain's rules and makes the Message.
func (b *Bridge) message(id, from string, at time.Time, digest [sha256.Size]byte, e *wire.Event) (*Message, error) {
	to, err := checkTarget(e.To)
	if err != nil {
		return nil, err
	}
	ttl := e.TTL
	if ttl < 0 {
		ttl = b.cfg.DefaultTTL
	}
	if e.Escalate > 0 && e.Past == "" { // one that is past is only good as a repeat
		place := "/escalate"
		if from != "" { // what a user sends has the event in a member
			place = "/event/escalate"
		}
		switch {
		case to.All:
			return nil, invalid("%s is not for a message to all: it tells of each recipient who has not acked", place)
		case ttl == 0:
			return nil, invalid("%s needs a ttl: what is never stored is never acked", place)
		case e.Escalate > ttl:
			return nil, invalid("%s must be at most the ttl, which is %d seconds", place, int64(ttl/time.Second))
		}
	}
	m := &Message{ID: id, From: from, To: to, Digest: digest, Type: e.Type, At: at, Except: e.Except, Topic: e.Topic, Escalate: e.Escalate}
	if ttl > 0 {
		m.Expires = b.cfg.Now().Add(ttl).UTC().Truncate(time.Millisecond)
	}
	m.Tail, m.Event = wire.NewEventTail(from, id, e.Type, at, e.Data)
	return m, nil
}

func checkTarget(t wire.Target) (Target, error) {
	switch {
	case t.All:
		return Target{All: true}, nil
	case t.Group != "":
		if err := CheckUserID(t.Group); err != nil {
			return Target{}, invalid("/to/group: %v", err)
		}
		return Target{Group: t.Group}, nil
	case t.User != "":
		if err := CheckUserID(t.User); err != nil {
			return Target{}, invalid("/to/user: %v", err)
		}
		return Target{User: t.User}, nil
	case t.Users == nil:
		return Target{}, invalid("/to must name somebody")
	case len(t.Users) == 0 || len(t.Users) > MaxRecipients:
		return Target{}, invalid("/to/users must name 1 to %d users; it names %d", MaxRecipients, len(t.Users))
	}
	seen := make(map[string]struct{}, len(t.Users))
	users := make([]string, 0, len(t.Users))
	for i, u := range t.Users {
		if err := CheckUserID(u); err != nil {
			return Target{}, invalid("/to/users/%d: %v", i, err)
		}
		if _, twice := seen[u]; !twice {
			seen[u] = struct{}{}
			users = append(users, u)
		}
	}
	return Target{Users: users}, nil
}

// append is the one door in.
func (b *Bridge) append(ctx context.Context, ms []*Message, w Wait) []Published {
	out := make([]Published, len(ms))
	if b.draining.Load() {
		for i := range out {
			out[i].Err = ErrDraining
		}
		return out
	}
	var waits []*wait // nil where nobody waits
	if w.For != "" {
		waits = make([]*wait, len(ms))
		for i, m := range ms {
			m.Wanted = w.For
			if !m.Stored() {
				m.Wanted = StatusReceived // there is no place that an ack could cover
			}
			waits[i] = b.waits.add(m.ID, m.Wanted)
		}
	}
	defer func() { // only what a panic has left
		for _, left := range waits {
			if left != nil {
				b.waits.remove(left)
			}
		}
	}()
	started := time.Now()
	var single [1]Appended
	receipts := single[:]
	if len(ms) == 1 {
		single[0].Receipt, single[0].Err = b.store.Append(ctx, ms[0])
	} else {
		receipts = b.store.AppendMany(ctx, ms)
	}
	if w.Stored != nil {
		w.Stored()
	}
	b.metrics.appendSeconds.Observe(time.Since(started).Seconds())
	patience := context.Background()
	if w.For != "" {
		if w.Caller != nil {
			patience = w.Caller
		}
		limited, cancel := context.WithTimeout(patience, w.Timeout)
		defer cancel()
		patience = limited
	}
	for i, m := range ms {
		r, err := receipts[i].Receipt, receipts[i].Err
		if err == nil {
			out[i].Outcome = b.outcome(ctx, m, r)
		}
		if waits != nil {
			if err == nil {
				b.await(patience, waits[i], m, &r)
			}
			out[i].Outcome.reached(b.waits.remove(waits[i]))
			waits[i] = nil
		}
		if err != nil {
			b.metrics.refused(err)
			out[i] = Published{Err: err}
			continue
		}
		b.metrics.published(out[i].Outcome)
	}
	return out
}
