package redis

import (
	"context"
	"encoding/json"
	"fmt"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// DeliveryLogs implements bridge.Store.
func (s *Store) DeliveryLogs(ctx context.Context, users []string) ([][]bridge.DeliveryLog, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	kept, err := repliesOf(ctx, s, users, func(user string) rueidis.Completed {
		return s.client.B().Lrange().Key(s.mailboxOf(user).logs()).Start(0).Stop(-1).Build()
	}, (*rueidis.RedisResult).AsStrSlice)
	if err != nil {
		return nil, err
	}
	out := make([][]bridge.DeliveryLog, len(users))
	oldest := s.opts.Now().Add(-s.opts.IDRetention)
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
