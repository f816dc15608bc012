package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// stretch is a part of one log, as lua/read.lua gives it.
type stretch struct {
	head, trimmed, next uint64
	first               uint64 // the user's first place among messages to all
	seen                bool   // and whether there is one
	more                bool
	places              []uint64
	messages            []*bridge.Message
	holes               [][2]uint64
}

func (e *Engine) readCall(b mailbox, after uint64, count, bytes int) call {
	return call{&e.scripts.read, []string{b.h, b.m, b.g}, []string{itoa(after), itoa(count), itoa(bytes), itoa(e.nowMs())}}
}

func readStretch(r rueidis.RedisMessage, user string) (s stretch, err error) {
	list, err := r.ToArray()
	if err != nil || len(list) != 7 {
		return s, fmt.Errorf("redis: a stretch that is none: %w", err)
	}
	for i, to := range []*uint64{&s.head, &s.trimmed, nil, &s.next} {
		if to == nil {
			continue
		}
		if *to, err = list[i].AsUint64(); err != nil {
			return s, err
		}
	}
	if text, err := list[2].ToString(); err == nil && text != "" {
		s.seen = true
		if s.first, err = list[2].AsUint64(); err != nil {
			return s, err
		}
	}
	more, err := list[4].AsInt64()
	if err != nil {
		return s, err
	}
	s.more = more == 1
	found, err := list[5].AsStrSlice()
	if err != nil {
		return s, err
	}
	for i := 0; i+1 < len(found); i += 2 {
		m, err := decodeMessage([]byte(found[i+1]), user)
		if err != nil {
			return s, err
		}
		var place uint64
		if _, err := fmt.Sscan(found[i], &place); err != nil {
			return s, err
		}
		s.places, s.messages = append(s.places, place), append(s.messages, m)
	}
	holes, err := list[6].AsStrSlice()
	if err != nil {
		return s, err
	}
	for i := 0; i+1 < len(holes); i += 2 {
		var h [2]uint64
		if _, err := fmt.Sscan(holes[i]+" "+holes[i+1], &h[0], &h[1]); err != nil {
			return s, err
		}
		s.holes = append(s.holes, h)
	}
	return s, nil
}

// cut leaves the first n messages.
func (s *stretch) cut(n int) {
	if len(s.places) <= n {
		return
	}
	s.places, s.messages, s.more = s.places[:n], s.messages[:n], true
	if n > 0 {
		s.next = s.places[n-1]
	}
}

// lost tells what is gone after a place within the stretch: up to where it was
// trimmed, and the last place that is neither there nor taken out on purpose,
// whose time has run out therefore.
func (s *stretch) lost(after uint64) (expired, trimmed uint64) {
	if s.trimmed > after {
		trimmed = s.trimmed
	}
	accounted := slices.Clone(s.holes)
	for _, p := range s.places {
		accounted = append(accounted, [2]uint64{p, p})
	}
	slices.SortFunc(accounted, func(a, b [2]uint64) int { return cmp.Compare(b[1], a[1]) })
	at := s.next
	for _, r := range accounted {
		if r[0] > at {
			continue // beyond the stretch
		}
		if r[1] < at {
			break
		}
		at = r[0] - 1
	}
	if at > max(after, s.trimmed) {
		expired = at
	}
	return expired, trimmed
}

// Read implements bridge.Engine.
func (e *Engine) Read(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (p bridge.Page, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return p, err
	}
	defer leave()
	return e.read(ctx, user, life, after, maxCount, maxBytes)
}

func (e *Engine) read(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (p bridge.Page, err error) {
	lf := e.lives.now.Load()
	if life != lf.name {
		return p, bridge.ErrOtherLife
	}
	replies := e.runManyOnce(ctx, lf, []call{
		e.readCall(e.mailboxOf(user), after.Mailbox, maxCount, maxBytes), e.readCall(e.all, after.Broadcast, maxCount, maxBytes)})
	var logs [2]stretch
	for i, r := range replies {
		if no, other := otherLife(r.err); other {
			if err := e.turn(ctx, lf, no); err != nil {
				return p, err
			}
			if e.Life() == life { // the server had only forgotten the scripts
				return e.read(ctx, user, life, after, maxCount, maxBytes)
			}
			return p, bridge.ErrOtherLife
		}
		if err := e.fault(ctx, r.err); err != nil {
			return p, err
		}
		m, of := r.message, user
		if i == 1 {
			of = ""
		}
		if logs[i], err = readStretch(m, of); err != nil {
			return p, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
	}
	mail, all := &logs[0], &logs[1]
	from := max(after.Broadcast, mail.first)
	if !mail.seen { // and owns no messages to all
		all.places, all.messages, all.more, all.next = nil, nil, false, all.head
		from = all.head
	}
	for len(all.places) > 0 && all.places[0] <= mail.first {
		all.places, all.messages = all.places[1:], all.messages[1:]
	}
	if mail.seen && len(all.places) == 0 { // nor is anything up to there, found or not
		all.next = max(all.next, min(mail.first, all.head))
		all.more = all.next < all.head
	}
	unread := len(all.places)
	all.cut(maxCount - len(mail.places))
	size := 0
	for _, m := range mail.messages {
		size += len(m.Event)
	}
	for i, m := range all.messages {
		if size += len(m.Event); size > maxBytes && len(mail.messages)+i > 0 {
			all.cut(i)
			break
		}
	}
	if unread > 0 && len(all.places) == 0 && all.more { // no room: none of it was looked at
		all.next, all.holes, all.trimmed = after.Broadcast, nil, 0
	}
	for i, m := range mail.messages {
		p.Deliveries = append(p.Deliveries, bridge.Delivery{Message: m, Mailbox: mail.places[i], Life: life})
	}
	for i, m := range all.messages {
		p.Deliveries = append(p.Deliveries, bridge.Delivery{Message: m, Broadcast: all.places[i], Life: life})
	}
	p.Next = bridge.Position{Mailbox: mail.next, Broadcast: all.next}
	p.More = mail.more || all.more
	p.Lost.Expired.Mailbox, p.Lost.Trimmed.Mailbox = mail.lost(after.Mailbox)
	p.Lost.Expired.Broadcast, p.Lost.Trimmed.Broadcast = all.lost(from)
	return p, nil
}

// Pending implements bridge.Engine.
func (e *Engine) Pending(ctx context.Context, user string, after bridge.Position) (int, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	b := e.mailboxOf(user)
	first, err := e.client.Do(ctx, e.client.B().Hget().Key(b.h).Field("f").Build()).AsUint64()
	seen := err == nil
	if err = e.fault(ctx, err); err != nil {
		return 0, err
	}
	calls := []call{{&e.scripts.pending, []string{b.m}, []string{itoa(after.Mailbox), itoa(e.nowMs())}}}
	if seen {
		calls = append(calls, call{&e.scripts.pending, []string{e.all.m}, []string{itoa(max(after.Broadcast, first)), itoa(e.nowMs())}})
	}
	n := 0
	for _, r := range e.runMany(ctx, calls) {
		if r.err != nil {
			return 0, r.err
		}
		some, err := r.message.AsInt64()
		if err != nil {
			return 0, e.fault(ctx, err)
		}
		n += int(some)
	}
	return n, nil
}
