package redis

import (
	"context"

	"hookbridge/app/bridge"
)

// Recall implements bridge.Store.
func (s *Store) Recall(ctx context.Context, id string) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	r, err := s.remembered(ctx, id)
	if err != nil {
		return err
	}
	// The mark comes first, so that nobody who completes a broken append stores the message
	// again.
	if _, err := s.run(ctx, call{&s.scripts.markRecalled, []string{s.record(id)}, []string{digits(s.opts.Now().UnixNano(), recalledDigits)}}); err != nil {
		return err
	}
	places, err := s.places(ctx, id, &r)
	if err != nil {
		return err
	}
	var calls []call
	recall := func(b mailbox, seq uint64, n bridge.Notice, all bool) {
		calls = append(calls, call{&s.scripts.recall, []string{b.h, b.m, b.g, b.l}, []string{
			itoa(s.nowMs()), itoa(seq), s.channel(), s.self, s.notice(n), flag(all)}})
	}
	if r.all {
		recall(s.all, places[0], bridge.Notice{Kind: bridge.NoticeRecalled, ID: id, Broadcast: places[0]}, true)
	} else {
		for i, u := range r.users {
			recall(s.mailboxOf(u), places[i], bridge.Notice{Kind: bridge.NoticeRecalled, User: u, ID: id, Mailbox: places[i]}, false)
			calls = append(calls, s.recalledTimers(u, places[i])...)
		}
	}
	for _, one := range s.runManyDurably(ctx, calls) {
		if one.err != nil {
			return one.err
		}
	}
	if len(r.users) < 2 {
		return nil
	}
	// The shared message goes last, when no mailbox refers to it any more.
	message, who := s.sharedKeys(id)
	return s.do(ctx, s.client.B().Del().Key(message, who).Build())
}
