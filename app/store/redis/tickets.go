package redis

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

func (e *Store) ticketKey(key string) string { return e.opts.Prefix + ":{k" + key + "}" }

// Put keeps a value for one taker, on whichever machine, for a time. It is of
// use beside the port, for what must be shared and is no message.
func (e *Store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	cmd := e.client.B().Set().Key(e.ticketKey(key)).Value(rueidis.BinaryString(value)).PxMilliseconds(max(1, ttl.Milliseconds())).Build()
	return e.do(ctx, cmd)
}

// Take gives a value back and forgets it; ok is false where there is none.
func (e *Store) Take(ctx context.Context, key string) (value []byte, ok bool, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	value, err = e.client.Do(ctx, e.client.B().Getdel().Key(e.ticketKey(key)).Build()).AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, false, nil
	}
	return value, err == nil, e.fault(ctx, err)
}
