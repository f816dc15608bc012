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

// until is how long a message's id is remembered, as a time (Unix milliseconds) and as
// a duration (milliseconds): at least as long as the message itself is kept.
func (e *Store) until(m *bridge.Message) (till, ttl int64) {
	now := e.nowMs()
	till = max(now+e.opts.IDRetention.Milliseconds(), m.Expires.UnixMilli())
	return till, max(1, till-now)
}

// touch is set if callers wait for replicas; see remember in lua/lib.lua.
func (e *Store) touch() string { return flag(e.opts.WaitReplicas > 0) }

// claim is the call that claims an id, and keeps the message for mailboxes to share if
// blob, the encoded message, is given.
func (e *Store) claim(m *bridge.Message, users []string, blob string) call {
	till, ttl := e.until(m)
	c := call{&e.scripts.claim, []string{e.record(m.ID)}, []string{
		itoa(e.nowMs()), string(m.Digest[:]), recordOf(m, users).encode(), digits(till, untilDigits), itoa(ttl), e.touch()}}
	if blob != "" {
		message, who := e.sharedKeys(m.ID)
		c.keys = append(c.keys, message, who)
		c.args = append(c.args, blob, holders(len(users)), itoa(e.sharedTTL(m)))
	}
	return c
}

// Claim implements bridge.Store. The id is kept as that of a message that is not stored
// and has no recipients.
func (e *Store) Claim(ctx context.Context, id string, digest [sha256.Size]byte, at time.Time) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reply, err := e.runDurable(ctx, e.claim(&bridge.Message{ID: id, Digest: digest, Type: bridge.ClaimType, At: at}, nil, ""))
	if err != nil {
		return err
	}
	known, err := parseAnswer(reply)
	if err == nil && known.kind == 'c' {
		return bridge.ErrConflict
	}
	return err
}
