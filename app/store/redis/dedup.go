package redis

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// remembered returns what is known of an id. ErrUnknown.
func (s *Store) remembered(ctx context.Context, id string) (r dedupEntry, err error) {
	text, err := s.client.Do(ctx, s.client.B().Get().Key(s.record(id)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return r, bridge.ErrUnknown
	}
	if err = s.fault(ctx, err); err != nil {
		return r, err
	}
	if r, err = decodeDedupEntry(text); err != nil {
		return r, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	if r.until <= s.nowMs() {
		return r, bridge.ErrUnknown
	}
	return r, nil
}

// until is how long a message's id is remembered, as a time (Unix milliseconds) and as
// a duration (milliseconds): at least as long as the message itself is kept.
func (s *Store) until(m *bridge.Message) (till, ttl int64) {
	now := s.nowMs()
	till = max(now+s.opts.IDRetention.Milliseconds(), m.Expires.UnixMilli())
	return till, max(1, till-now)
}

// touch is set if callers wait for replicas; see remember in lua/lib.lua.
func (s *Store) touch() string { return flag(s.opts.WaitReplicas > 0) }

// claim is the call that claims an id, and keeps the message for mailboxes to share if
// blob, the encoded message, is given.
func (s *Store) claim(m *bridge.Message, users []string, blob string) call {
	till, ttl := s.until(m)
	c := call{&s.scripts.claim, []string{s.record(m.ID)}, []string{
		itoa(s.nowMs()), string(m.Digest[:]), recordOf(m, users).encode(), digits(till, untilDigits), itoa(ttl), s.touch()}}
	if blob != "" {
		message, who := s.sharedKeys(m.ID)
		c.keys = append(c.keys, message, who)
		c.args = append(c.args, blob, holders(len(users)), itoa(s.sharedTTL(m)))
	}
	return c
}

// Claim implements bridge.Store. The id is kept as that of a message that is not stored
// and has no recipients.
func (s *Store) Claim(ctx context.Context, id string, digest [sha256.Size]byte, at time.Time) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reply, err := s.runDurable(ctx, s.claim(&bridge.Message{ID: id, Digest: digest, Type: bridge.ClaimType, At: at}, nil, ""))
	if err != nil {
		return err
	}
	known, err := parseAnswer(reply)
	if err == nil && known.kind == 'c' {
		return bridge.ErrConflict
	}
	return err
}
