package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// stretch is a part of one log, as lua/stretch.lua gives it.
type stretch struct {
	bridge.Stretch
	head     uint64
	first    uint64 // the user's first place among messages to all
	seen     bool   // and whether there is one
	more     bool
	places   []uint64
	messages []*bridge.Message
	shared   []string // the id of each message that is shared, and so not here yet
}

func (s *Store) readCall(b mailbox, after uint64, count, bytes int) call {
	return call{&s.scripts.read, []string{b.h, b.m, b.g}, []string{itoa(after), itoa(count), itoa(bytes), itoa(s.nowMs())}}
}

func readStretch(r rueidis.RedisMessage, user string) (s stretch, err error) {
	list, err := r.ToArray()
	if err != nil || len(list) != 7 {
		return s, fmt.Errorf("redis: a stretch that is none: %w", err)
	}
	for i, to := range []*uint64{&s.head, &s.Trimmed, nil, &s.Next} {
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
	s.Removed, err = ranges(list[6])
	return s, err
}

// ranges reads runs of places: first, last, ….
func ranges(r rueidis.RedisMessage) ([]bridge.Range, error) {
	list, err := r.ToArray()
	if err != nil {
		return nil, err
	}
	n, err := numbers(list)
	if err != nil {
		return nil, err
	}
	out := make([]bridge.Range, len(n)/2)
	for i := range out {
		out[i] = bridge.Range{First: n[2*i], Last: n[2*i+1]}
	}
	return out, nil
}

// cut leaves the first n messages.
func (s *stretch) cut(n int) {
	switch {
	case len(s.places) <= n:
		return
	case n > 0:
		s.Next = s.places[n-1]
	default:
		s.Next = s.After // it looks as if nothing had been read
	}
	s.places, s.messages, s.more = s.places[:n], s.messages[:n], true
}

// from leaves out messages to all of before the user's first place.
func (s *stretch) from(first uint64) {
	for len(s.places) > 0 && s.places[0] <= first {
		s.places, s.messages = s.places[1:], s.messages[1:]
	}
	s.After = max(s.After, first)
	if len(s.places) == 0 {
		s.Next = max(s.Next, min(first, s.head))
		s.more = s.Next < s.head
	}
}

// stretches reads a part of the user's mailbox and one of the log of messages to
// all, with the messages that are shared. ErrOtherLife where the store does not live
// the life that the places are of.
func (s *Store) stretches(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (logs [2]stretch, err error) {
	calls := []call{s.readCall(s.mailboxOf(user), after.Mailbox, maxCount, maxBytes), s.readCall(s.all, after.Broadcast, maxCount, maxBytes)}
	for again := 0; ; again++ {
		replies, err := s.runManyIn(ctx, life, calls)
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
		logs[0].After, logs[1].After = after.Mailbox, after.Broadcast
		if whole, err := s.fillShared(ctx, &logs[0], user, again == readAgain); whole || err != nil {
			return logs, err
		}
	}
}

// fillShared reads the shared messages of a stretch, and reports whether all are there.
// With last, those that are not count as expired.
func (s *Store) fillShared(ctx context.Context, part *stretch, user string, last bool) (whole bool, err error) {
	ids := slices.DeleteFunc(slices.Clone(part.shared), func(id string) bool { return id == "" })
	if len(ids) == 0 {
		return true, nil
	}
	found, err := s.shared(ctx, ids)
	if err != nil {
		return false, err
	}
	if whole, err = part.fill(found, user, last); err != nil {
		return false, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return whole, nil
}

// Read implements bridge.Store.
func (s *Store) Read(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (p bridge.Page, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return p, err
	}
	defer leave()
	logs, err := s.stretches(ctx, user, life, after, maxCount, maxBytes)
	if err != nil {
		return p, err
	}
	return pageOf(&logs, life, maxCount, maxBytes), nil
}

// pageOf makes a page of a part of a mailbox and one of the log of messages to all.
func pageOf(logs *[2]stretch, life string, maxCount, maxBytes int) (p bridge.Page) {
	mail, all := &logs[0], &logs[1]
	if !mail.seen { // and owns no messages to all
		mail.first = all.head
	}
	all.from(mail.first)
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
	p.Deliveries = make([]bridge.Delivery, 0, len(mail.messages)+len(all.messages))
	for i, m := range mail.messages {
		p.Deliveries = append(p.Deliveries, bridge.Delivery{Message: m, Mailbox: mail.places[i], Life: life})
	}
	for i, m := range all.messages {
		p.Deliveries = append(p.Deliveries, bridge.Delivery{Message: m, Broadcast: all.places[i], Life: life})
	}
	p.Mailbox, p.Broadcast, p.More = mail.Stretch, all.Stretch, mail.more || all.more
	return p
}

// Pending implements bridge.Store.
func (s *Store) Pending(ctx context.Context, user string, after bridge.Position) (p bridge.Pending, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return p, err
	}
	defer leave()
	b := s.mailboxOf(user)
	first, err := s.client.Do(ctx, s.client.B().Hget().Key(b.h).Field("f").Build()).AsUint64()
	seen := err == nil
	if err = s.fault(ctx, err); err != nil {
		return p, err
	}
	calls := []call{{&s.scripts.pending, []string{b.m}, []string{itoa(after.Mailbox), itoa(s.nowMs())}}}
	if seen {
		calls = append(calls, call{&s.scripts.pending, []string{s.all.m}, []string{itoa(max(after.Broadcast, first)), itoa(s.nowMs())}})
	}
	for i, r := range s.runMany(ctx, calls) {
		if r.err != nil {
			return p, r.err
		}
		runs, err := ranges(r.message)
		if err != nil {
			return p, s.fault(ctx, err)
		}
		if i == 0 {
			p.Mailbox = runs
		} else {
			p.Broadcast = runs
		}
	}
	return p, nil
}
