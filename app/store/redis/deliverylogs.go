package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"hookbridge/app/bridge"
	"slices"

	"github.com/redis/rueidis"
)

// DeliveryLogs implements bridge.Store.
func (e *Store) DeliveryLogs(ctx context.Context, users []string) ([][]bridge.DeliveryLog, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	out := make([][]bridge.DeliveryLog, len(users))
	cmds := make(rueidis.Commands, len(users))
	for i, user := range users {
		cmds[i] = e.client.B().Lrange().Key(e.mailboxOf(user).logs()).Start(0).Stop(-1).Build()
	}
	oldest := e.opts.Now().Add(-e.opts.IDRetention)
	for i, r := range e.doMany(ctx, cmds) {
		kept, err := r.AsStrSlice()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		for _, text := range kept {
			var log bridge.DeliveryLog
			if err := json.Unmarshal([]byte(text), &log); err != nil {
				return nil, fmt.Errorf("%w: a delivery log cannot be read: %w", bridge.ErrUnavailable, err)
			}
			if log.Ended.After(oldest) {
				out[i] = append(out[i], log)
			}
		}
		slices.SortStableFunc(out[i], func(a, b bridge.DeliveryLog) int { return a.Member.Since.Compare(b.Member.Since) })
	}
	return out, nil
}
