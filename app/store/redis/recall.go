package redis

import (
	"context"

	"hookbridge/app/bridge"
)

// Recall implements bridge.Store.
func (e *Store) Recall(ctx context.Context, id string) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	r, err := e.remembered(ctx, id)
	if err != nil {
		return err
	}
	// The mark comes first, so that nobody who completes a broken append stores the message
	// again.
	if _, err := e.run(ctx, call{&e.scripts.markRecalled, []string{e.record(id)}, []string{digits(e.opts.Now().UnixNano(), recalledDigits)}}); err != nil {
		return err
	}
	places, err := e.places(ctx, id, &r)
	if err != nil {
		return err
	}
	var calls []call
	recall := func(b mailbox, seq uint64, n bridge.Notice, all bool) {
		calls = append(calls, call{&e.scripts.recall, []string{b.h, b.m, b.g, b.l}, []string{
			itoa(e.nowMs()), itoa(seq), e.channel(), e.self, e.notice(n), flag(all)}})
	}
	if r.all {
		recall(e.all, places[0], bridge.Notice{Kind: bridge.NoticeRecalled, ID: id, Broadcast: places[0]}, true)
	} else {
		for i, u := range r.users {
			recall(e.mailboxOf(u), places[i], bridge.Notice{Kind: bridge.NoticeRecalled, User: u, ID: id, Mailbox: places[i]}, false)
			calls = append(calls, e.recalledTimers(u, places[i])...)
		}
	}
	for _, one := range e.runManyDurably(ctx, calls) {
		if one.err != nil {
			return one.err
		}
	}
	if len(r.users) < 2 {
		return nil
	}
	// The shared message goes last, when no mailbox refers to it any more.
	message, who := e.sharedKeys(id)
	return e.do(ctx, e.client.B().Del().Key(message, who).Build())
}
