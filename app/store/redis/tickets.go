package redis

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

func (s *Store) ticketKey(key string) string { return s.opts.Prefix + ":{k" + key + "}" }

// Put keeps a value for one taker, on whichever machine, for a time. It is of
// use beside the port, for what must be shared and is no message.
func (s *Store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	cmd := s.client.B().Set().Key(s.ticketKey(key)).Value(rueidis.BinaryString(value)).PxMilliseconds(max(1, ttl.Milliseconds())).Build()
	return s.do(ctx, cmd)
}

// Take gives a value back and forgets it; ok is false where there is none.
func (s *Store) Take(ctx context.Context, key string) (value []byte, ok bool, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	value, err = s.client.Do(ctx, s.client.B().Getdel().Key(s.ticketKey(key)).Build()).AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, false, nil
	}
	return value, err == nil, s.fault(ctx, err)
}
