package redis

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// fanOut appends a message that goes to several mailboxes, or on a Cluster any message:
// it claims the id, then each mailbox takes the message once. A caller who sends it again
// after a failure completes what was begun. fanOut itself does so if another life of the
// store began meanwhile, because the store may have lost a part of it.
func (s *Store) fanOut(ctx context.Context, m *bridge.Message) (r bridge.Receipt, err error) {
	for turns := range maxLifeTries {
		if err := backoff(ctx, turns); err != nil {
			return r, s.fault(ctx, err)
		}
		life := s.Life()
		now, err := s.claimAndDeliver(ctx, m)
		if err != nil {
			return r, err
		}
		if turns > 0 {
			now.Duplicate, now.Sessions = r.Duplicate, max(now.Sessions, r.Sessions)
			for i := range min(len(now.Recipients), len(r.Recipients)) {
				now.Recipients[i].Sessions = max(now.Recipients[i].Sessions, r.Recipients[i].Sessions)
			}
		}
		if r = now; s.Life() == life {
			return r, nil
		}
	}
	return r, errUnstable
}

func (s *Store) claimAndDeliver(ctx context.Context, m *bridge.Message) (r bridge.Receipt, err error) {
	users := m.To.Recipients()
	if m.To.Group != "" {
		if users, err = s.members(ctx, m.To.Group); err != nil {
			return r, err
		}
	}
	blob, shared := rueidis.BinaryString(encodeMessage(m)), ""
	if shares(m, len(users)) {
		shared = blob
	}
	reply, err := s.runDurable(ctx, s.claim(m, users, shared))
	if err != nil {
		return r, err
	}
	claimed, err := parseAnswer(reply)
	if err != nil {
		return r, err
	}
	r.Expires = m.Expires
	switch claimed.kind {
	case 'c':
		return bridge.Receipt{}, bridge.ErrConflict
	case 'd':
		rec, err := decodeRecord(claimed.record)
		if err != nil {
			return r, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
		r.Duplicate, r.Expires = true, rec.expires
		if m.To.Group != "" {
			users = rec.users // those who were members then
		}
		// Mailboxes that have not got it yet share it, if it is there to be shared and
		// no mailbox's number has changed.
		there := shared != "" && claimed.held && len(rec.users) == len(users)
		known := make(map[string]struct{}, len(rec.users))
		for _, u := range rec.users {
			known[u] = struct{}{}
		}
		// A recalled message is not stored any more, nor is one to a user who was
		// erased since: the name is gone from the record.
		err = s.deliverAll(ctx, m, users, &r, blob, there, func(user string) bool {
			_, named := known[user]
			return claimed.recalled || user != "" && !named
		})
		return r, err
	}
	err = s.deliverAll(ctx, m, users, &r, blob, shared != "", func(string) bool { return false })
	return r, err
}

// deliverAll puts a message whose id is claimed into each user's mailbox, or into the log
// of messages to all, and fills in the receipt. With share the mailboxes share the message.
// only reports for whom nothing new is stored.
func (s *Store) deliverAll(ctx context.Context, m *bridge.Message, users []string, r *bridge.Receipt, blob string, share bool, only func(user string) bool) error {
	if m.To.All {
		users = []string{""}
	} else {
		r.Recipients = make([]bridge.Recipient, len(users))
	}
	calls, as := make([]call, len(users)), make([]*appending, len(users))
	for i, u := range users {
		as[i] = s.appending(m, u)
		number := -1
		if share {
			number = i
		}
		calls[i] = as[i].deliver(blob, number, only(u))
	}
	if err := s.timedDeliver(ctx, calls, as); err != nil {
		for _, a := range as {
			s.selfDeliveries.forget(a.selfDelivery)
		}
		return err
	}
	var failed error
	var released []string
	for i, res := range s.runManyDurably(ctx, calls) {
		a := as[i]
		ans, err := answer{}, res.err
		if err == nil {
			ans, err = parseAnswer(res.message)
		}
		if err != nil {
			failed = err
			s.selfDeliveries.forget(a.selfDelivery)
			continue
		}
		released = append(released, ans.released...)
		n := 0
		if ans.kind == 'n' {
			n = a.sessions(ctx, &ans)
		} else {
			s.selfDeliveries.forget(a.selfDelivery)
		}
		r.Sessions += n
		if m.To.All {
			r.Broadcast = a.place(&ans, r)
		} else {
			r.Recipients[i] = bridge.Recipient{User: a.user, Seq: a.place(&ans, r), Sessions: n, Acked: ans.acked}
		}
	}
	s.tryRelease(ctx, released)
	return failed
}
