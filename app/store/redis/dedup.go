package redis

import (
	"context"
	"fmt"
	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// remembered returns what is known of an id. ErrUnknown.
func (e *Store) remembered(ctx context.Context, id string) (r dedupEntry, err error) {
	text, err := e.client.Do(ctx, e.client.B().Get().Key(e.record(id)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return r, bridge.ErrUnknown
	}
	if err = e.fault(ctx, err); err != nil {
		return r, err
	}
	if r, err = decodeDedupEntry(text); err != nil {
		return r, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	if r.until <= e.nowMs() {
		return r, bridge.ErrUnknown
	}
	return r, nil
}
