package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

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
	shared              []string // the id of each message that is shared, and so not here yet
	holes               [][2]uint64
}

func (e *Store) readCall(b mailbox, after uint64, count, bytes int) call {
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
		var m *bridge.Message
		shared := ""
		if text := found[i+1]; text != "" && text[0] == sharedMark {
			shared = text[1:]
		} else if m, err = decodeMessage([]byte(text), user); err != nil {
			return s, err
		}
		place, err := strconv.ParseUint(found[i], 10, 64)
		if err != nil {
			return s, err
		}
		s.places, s.messages, s.shared = append(s.places, place), append(s.messages, m), append(s.shared, shared)
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

// stretches reads a part of the user's mailbox and one of the log of messages to
// all, with the messages that are shared. ErrOtherLife where the store does not live
// the life that the places are of.
func (e *Store) stretches(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (logs [2]stretch, err error) {
	calls := []call{e.readCall(e.mailboxOf(user), after.Mailbox, maxCount, maxBytes), e.readCall(e.all, after.Broadcast, maxCount, maxBytes)}
	for again := 0; ; again++ {
		replies, err := e.runManyIn(ctx, life, calls)
		if err != nil {
			return logs, err
		}
		for i, r := range replies {
			of := user
			if i == 1 {
				of = ""
			}
			if logs[i], err = readStretch(r.message, of); err != nil {
				return logs, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
			}
		}
		ids := slices.DeleteFunc(slices.Clone(logs[0].shared), func(id string) bool { return id == "" })
		if len(ids) == 0 {
			return logs, nil
		}
		found, err := e.shared(ctx, ids)
		if err != nil {
			return logs, err
		}
		whole, err := logs[0].fill(found, user, again == readAgain)
		if err != nil {
			return logs, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
		if whole {
			return logs, nil
		}
	}
}

// Read implements bridge.Store.
func (e *Store) Read(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (p bridge.Page, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return p, err
	}
	defer leave()
	logs, err := e.stretches(ctx, user, life, after, maxCount, maxBytes)
	if err != nil {
		return p, err
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

// Pending implements bridge.Store.
func (e *Store) Pending(ctx context.Context, user string, after bridge.Position) (int, error) {
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
