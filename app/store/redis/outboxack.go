package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

const (
	// ackedPage is how many messages one script acks that tells of each.
	ackedPage = 200
	// maxAckTries is how often an ack is tried that others overtake.
	maxAckTries = 1000
)

var errOvertaken = fmt.Errorf("%w: redis: others ack the same at the same time", bridge.ErrUnavailable)

// ackTold is an ack that backends are told of. What is told is read first; the script that
// acks then stores it, unless somebody else has acked meanwhile.
type ackTold struct {
	e             *Store
	user, session string
	life          string
	to            bridge.Position
	backends      []string
}

// tellsAcks reports whether an ack of a user concerns backends: they want to hear of acks, or
// of messages that expired before they were acked.
func (s *Store) tellsAcks(user string) (backends []string, concerned bool) {
	backends = s.opts.Backends.Want(bridge.CallbackAcked, user)
	return backends, len(backends) > 0 || len(s.opts.Backends.Want(bridge.CallbackExpired, user)) > 0
}

func (a *ackTold) run(ctx context.Context) error {
	for range maxAckTries {
		more := false
		err := a.e.inLife(ctx, func(lf *storeLife) (err error) {
			more, err = a.step(ctx, lf)
			return err
		})
		if err != nil || !more {
			return err
		}
	}
	return errOvertaken
}

// ackState is where a mailbox and its user stand.
type ackState struct {
	acked, acked2 uint64 // in the mailbox, and among messages to all
	first         uint64 // the user's first place among messages to all
	seen          bool   // and whether there is one
	head          bridge.Position
}

// step acks one page. The error may be the server's own.
func (a *ackTold) step(ctx context.Context, lf *storeLife) (more bool, err error) {
	e, b := a.e, a.e.mailboxOf(a.user)
	st, err := a.state(ctx, lf, b)
	if err != nil {
		return false, err
	}
	to := a.to.Min(st.head)
	if !st.seen {
		to.Broadcast = 0 // a user who was never seen owns no messages to all
	}
	to = to.Max(bridge.Position{Mailbox: st.acked, Broadcast: st.acked2})
	if to.Mailbox == st.acked && to.Broadcast == st.acked2 {
		return false, nil
	}
	now := e.nowMs()
	var calls []call
	var reached []*uint64
	read := func(log mailbox, after uint64, to *uint64) {
		if *to > after {
			calls = append(calls, call{&e.scripts.outbox.acked, []string{log.m}, []string{itoa(after), itoa(*to), itoa(ackedPage), itoa(now)}})
			reached = append(reached, to)
		}
	}
	if len(a.backends) > 0 {
		read(b, st.acked, &to.Mailbox)
		read(e.all, max(st.acked2, st.first), &to.Broadcast)
	}
	var list []ackedMessage
	for i, r := range e.runManyOnce(ctx, lf, calls) {
		if r.err != nil {
			return false, r.err
		}
		end, some, err := readAcked(r.message)
		if err != nil {
			return false, err
		}
		more = more || end < *reached[i]
		*reached[i] = end
		list = append(list, some...)
	}
	s, err := a.callbacks(ctx, list)
	if err != nil {
		return false, err
	}
	run := func(ctx context.Context, c call) (rueidis.RedisMessage, error) { return e.runOnceDurably(ctx, lf, c) }
	word, err := s.commit(ctx, run, call{&e.scripts.outbox.ack, append([]string{b.h}, append(b.timerKeys(), b.m)...), []string{
		itoa(st.acked), itoa(st.acked2), itoa(to.Mailbox), itoa(to.Broadcast), itoa(bridge.LeaseFor.Milliseconds()), itoa(e.redisAhead())}})
	return more || word == "moved", err
}

// state reads where the mailbox stands. ErrRewound if the store has not lived through the
// life of the ack.
func (a *ackTold) state(ctx context.Context, lf *storeLife, b mailbox) (st ackState, err error) {
	e := a.e
	_, lives, _ := e.lifeKeys()
	r := e.client.DoMulti(ctx, e.client.B().Hmget().Key(b.h).Field("s", "lv", "am", "ab", "f").Build(),
		e.client.B().Hmget().Key(e.all.h).Field("s", "lv").Build(), e.client.B().Zscore().Key(lives).Member(a.life).Build())
	mail, err := r[0].ToArray()
	if err != nil {
		return st, err
	}
	all, err := r[1].ToArray()
	if err != nil {
		return st, err
	}
	no := lf.no
	if a.life != lf.name {
		if no, err = lifeNumber(a.life, r[2]); err != nil {
			return st, err
		}
	}
	if st.head.Mailbox, err = lifeEnd(mail, no); err != nil {
		return st, err
	}
	if st.head.Broadcast, err = lifeEnd(all, no); err != nil {
		return st, err
	}
	st.seen = !mail[4].IsNil()
	for i, to := range []*uint64{&st.acked, &st.acked2, &st.first} {
		if mail[2+i].IsNil() {
			continue
		}
		if *to, err = mail[2+i].AsUint64(); err != nil {
			return st, err
		}
	}
	return st, nil
}

// ackedMessage is a message that an ack covers.
type ackedMessage struct {
	id, eventType string
	shared        string // the id by which it is shared, until it is read
	expires       int64
}

// readAcked reads the answer of lua/outbox_acked.lua.
func readAcked(m rueidis.RedisMessage) (end uint64, out []ackedMessage, err error) {
	list, err := m.AsStrSlice()
	if err != nil || len(list) == 0 {
		return 0, nil, fmt.Errorf("redis: an empty answer: %w", err)
	}
	if end, err = strconv.ParseUint(list[0], 10, 64); err != nil {
		return 0, nil, err
	}
	for i := 1; i+1 < len(list); i += 2 {
		var one ackedMessage
		if one.expires, err = strconv.ParseInt(list[i], 10, 64); err != nil {
			return 0, nil, err
		}
		if text := list[i+1]; text != "" && text[0] == sharedMark {
			one.shared = text[1:]
		} else {
			one.id, one.eventType = decodeHeader(text)
		}
		out = append(out, one)
	}
	return end, out, nil
}

// headerBytes are enough of a message for its id, its sender and its type.
const headerBytes = 2048

// callbacks tells each backend of each message. One that is gone is not told of.
func (a *ackTold) callbacks(ctx context.Context, list []ackedMessage) (*storing, error) {
	e := a.e
	var cmds rueidis.Commands
	var to []*ackedMessage
	for i := range list {
		if list[i].shared != "" {
			message, _ := e.sharedKeys(list[i].shared)
			cmds = append(cmds, e.client.B().Getrange().Key(message).Start(0).End(headerBytes).Build())
			to = append(to, &list[i])
		}
	}
	heads, err := replies(ctx, e, cmds, (*rueidis.RedisResult).ToString)
	if err != nil {
		return nil, err
	}
	for i, text := range heads {
		to[i].id, to[i].eventType = decodeHeader(text)
	}
	list = slices.DeleteFunc(list, func(m ackedMessage) bool { return m.id == "" })
	at := e.opts.Now().UTC()
	var cs []bridge.Callback
	var till []int64
	for _, m := range list {
		for _, backend := range a.backends {
			cs, till = append(cs, bridge.AckedCallback(backend, a.user, a.session, m.id, m.eventType, at)), append(till, m.expires+e.redisAhead())
		}
	}
	s := e.storing(cs)
	s.till = till
	return s, nil
}

// ackAndTell is Ack for a user whose acks concern backends.
func (s *Store) ackAndTell(ctx context.Context, user, session, life string, p bridge.Position, backends []string) error {
	a := ackTold{e: s, user: user, session: session, life: life, to: p, backends: backends}
	err := a.run(ctx)
	if errors.Is(err, bridge.ErrOutboxFull) { // only a message.sent gets this
		err = fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return s.fault(ctx, err)
}
