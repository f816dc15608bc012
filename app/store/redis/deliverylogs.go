package redis

import (
	"context"
	"encoding/json"
	"fmt"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// DeliveryLogs implements bridge.Store.
func (e *Store) DeliveryLogs(ctx context.Context, users []string) ([][]bridge.DeliveryLog, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	kept, err := repliesOf(ctx, e, users, func(user string) rueidis.Completed {
		return e.client.B().Lrange().Key(e.mailboxOf(user).logs()).Start(0).Stop(-1).Build()
	}, (*rueidis.RedisResult).AsStrSlice)
	if err != nil {
		return nil, err
	}
	out := make([][]bridge.DeliveryLog, len(users))
	oldest := e.opts.Now().Add(-e.opts.IDRetention)
	for i := range users {
		for _, text := range kept[i] {
			var log bridge.DeliveryLog
			if err := json.Unmarshal([]byte(text), &log); err != nil {
				return nil, fmt.Errorf("%w: a delivery log cannot be read: %w", bridge.ErrUnavailable, err)
			}
			if log.Ended.After(oldest) {
				out[i] = append(out[i], log)
			}
		}
	}
	return out, nil
}
