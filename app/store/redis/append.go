package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

var errNobody = errors.New("redis: a message must be for somebody")

// appending is the append of one message to one mailbox.
type appending struct {
	e            *Store
	m            *bridge.Message
	user         string // empty: to all
	box          mailbox
	selfDelivery *selfDelivery // set if this machine will hear the message
	token        uint64

	done   chan struct{} // closed when it is answered, if it had to wait
	answer answer
	err    error
}

// answer is a script's answer for one message.
type answer struct {
	kind            byte // 'n' new, 'd' a duplicate, 'c' a conflict
	seq             uint64
	record          string
	recalled        bool
	elsewhere, here int
	held, acked     bool
	released        []string // see share.go
}

func (s *Store) appending(m *bridge.Message, user string) *appending {
	a := &appending{e: s, m: m, user: user, box: s.all}
	if user != "" {
		a.box = s.mailboxOf(user)
	}
	if (user == "" || s.sessionsHere(user, nil) > 0) && s.listening.Load() {
		a.selfDelivery = s.selfDeliveries.expect(m)
		a.token = a.selfDelivery.token
	}
	return a
}

func (a *appending) limit() string {
	if a.user == "" {
		return itoa(a.e.opts.BroadcastLimit)
	}
	return itoa(a.e.opts.MailboxLimit)
}

// room is how many bytes of payload the mailbox holds.
func (a *appending) room() string {
	if a.user == "" {
		return itoa(a.e.opts.BroadcastBytes)
	}
	return itoa(a.e.opts.MailboxBytes)
}

func (a *appending) expires() string {
	if !a.m.Stored() {
		return ""
	}
	return itoa(a.m.Expires.UnixMilli())
}

// except is the list of excepted sessions for spread in lua/lib.lua.
func (a *appending) except() string {
	if len(a.m.Except) == 0 {
		return ""
	}
	return " " + strings.Join(a.m.Except, " ") + " "
}

// head is the envelope of the message on a channel.
func (a *appending) head() string {
	v := envelope{user: a.user, machine: a.e.self, token: a.token, wanted: a.m.Wanted}
	return rueidis.BinaryString(v.encode())
}

// publishArgs adds the keys and arguments of lua/publish.lua for the message.
func (a *appending) publishArgs(keys, args []string) ([]string, []string) {
	e, b, m := a.e, a.box, a.m
	var users []string
	if a.user != "" {
		users = []string{a.user}
	}
	till, ttl := e.until(m)
	return append(keys, e.record(m.ID), b.h, b.m, b.g, b.t, b.l, e.index(b, till)),
		append(args, string(m.Digest[:]), digits(till, untilDigits), itoa(ttl), recordOf(m, users).encode(), a.expires(), m.Topic,
			a.except(), a.head(), flag(a.selfDelivery != nil && m.Stored()), rueidis.BinaryString(encodeMessage(m)),
			itoa(len(m.Event)), flag(a.user == ""))
}

// deliver is the call that puts a message whose id is claimed into the mailbox. number is
// the mailbox's number among those that share the message; if it is below 0, the mailbox
// gets a copy of its own. With only nothing new is stored.
func (a *appending) deliver(blob string, number int, only bool) call {
	e, b := a.e, a.box
	till, ttl := e.until(a.m)
	keys := []string{b.delivered(a.m.ID), b.h, b.m, b.g, b.t, b.l, e.index(b, till)}
	share := ""
	if number >= 0 {
		share = itoa(number)
		if !e.cluster { // the script reads the message from there
			message, _ := e.sharedKeys(a.m.ID)
			keys, blob = append(keys, message), ""
		}
	}
	return call{&e.scripts.deliver, keys, []string{
		itoa(e.nowMs()), itoa(ttl), e.touch(), a.expires(), a.limit(), a.m.Topic, blob,
		e.channel(), e.self, a.except(), a.head(), e.leases.dead(), flag(a.user == ""), flag(e.cluster), flag(only),
		a.room(), itoa(len(a.m.Event)), share, a.m.ID, e.record(a.m.ID), itoa(e.indexStretch())}}
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// parseAnswer reads a script's answer.
func parseAnswer(r rueidis.RedisMessage) (a answer, err error) {
	list, err := r.ToArray()
	if err != nil || len(list) == 0 {
		return a, fmt.Errorf("%w: redis: an empty answer: %w", bridge.ErrUnavailable, err)
	}
	text := func(i int) string {
		if i >= len(list) {
			return ""
		}
		s, _ := list[i].ToString() // numbers are read below
		return s
	}
	num := func(i int) int {
		if i >= len(list) {
			return 0
		}
		n, _ := list[i].AsInt64()
		return int(n)
	}
	a.kind, a.seq = text(0)[0], uint64(num(1))
	switch {
	case a.kind == 'n':
		a.elsewhere, a.here = num(2), num(3)
		for i := 4; i < len(list); i++ {
			a.released = append(a.released, text(i))
		}
	case len(list) == 4 && list[2].IsInt64(): // of deliver
		a.held, a.acked = num(2) == 1, num(3) == 1
	default:
		a.record, a.recalled = text(2), text(3) != ""
		a.held, a.acked = num(4) == 1, num(5) == 1
	}
	return a, nil
}

// Append implements bridge.Store.
func (s *Store) Append(ctx context.Context, m *bridge.Message) (bridge.Receipt, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return bridge.Receipt{}, err
	}
	defer leave()
	return s.appendCounted(ctx, m)
}

// appendCounted appends a message, and has a duplicate's receipt count the acks of here.
func (s *Store) appendCounted(ctx context.Context, m *bridge.Message) (r bridge.Receipt, err error) {
	for again := true; again && err == nil; {
		written := s.acks.writtenSoFar()
		if r, err = s.append(ctx, m); err == nil {
			again, err = s.countAcks(ctx, &r, written)
		}
	}
	return r, err
}

func (s *Store) append(ctx context.Context, m *bridge.Message) (bridge.Receipt, error) {
	if !m.To.All && m.To.Group == "" && len(m.To.Recipients()) == 0 {
		return bridge.Receipt{}, errNobody
	}
	if err := s.ensureRenewed(ctx); err != nil {
		return bridge.Receipt{}, err
	}
	if !s.simple(m) {
		return s.fanOut(ctx, m)
	}
	a := s.appending(m, m.To.User)
	ans, err := s.publish(ctx, a)
	if err != nil {
		s.selfDeliveries.forget(a.selfDelivery)
		return bridge.Receipt{}, err
	}
	return a.receipt(ctx, ans)
}

// simple reports whether lua/publish.lua can take a message.
func (s *Store) simple(m *bridge.Message) bool {
	return !s.cluster && (m.To.All || m.To.User != "")
}

// receipt is what Append returns for an answer.
func (a *appending) receipt(ctx context.Context, ans answer) (r bridge.Receipt, err error) {
	r.Expires = a.m.Expires
	if ans.kind == 'c' {
		a.e.selfDeliveries.forget(a.selfDelivery)
		return bridge.Receipt{}, bridge.ErrConflict
	}
	if ans.kind == 'd' {
		a.e.selfDeliveries.forget(a.selfDelivery)
		rec, err := decodeRecord(ans.record)
		if err != nil {
			return bridge.Receipt{}, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
		r.Duplicate, r.Expires = true, rec.expires
	} else {
		r.Sessions = a.sessions(ctx, &ans)
	}
	if a.user == "" {
		r.Broadcast = a.place(&ans, &r)
		return r, nil
	}
	r.Recipients = []bridge.Recipient{{User: a.user, Seq: a.place(&ans, &r), Sessions: r.Sessions, Acked: ans.acked}}
	return r, nil
}

// place is the message's place; 0 if the mailbox has lost it, or it has expired. For a
// duplicate r says when that was.
func (a *appending) place(ans *answer, r *bridge.Receipt) uint64 {
	if ans.kind == 'd' && (!ans.held || !r.Expires.After(a.e.opts.Now())) {
		return 0
	}
	return ans.seq
}

// sessions counts the sessions that a message went to: on this machine as the Hub
// says, on others as they have registered them.
func (a *appending) sessions(ctx context.Context, ans *answer) int {
	n := ans.elsewhere
	if a.user == "" {
		n = a.e.sessionsElsewhere(ctx)
	}
	if ans.here == 0 {
		a.e.selfDeliveries.forget(a.selfDelivery)
		return n
	}
	if a.selfDelivery != nil {
		if here, ok := a.e.selfDeliveries.wait(ctx, a.selfDelivery); ok {
			return n + here
		}
	}
	// What is not heard now, sessions read from the store later.
	return n + a.e.sessionsHere(a.user, a.m.Except)
}

// AppendMany implements bridge.Store. Consecutive messages that lua/publish.lua can take go
// in one script.
func (s *Store) AppendMany(ctx context.Context, ms []*bridge.Message) []bridge.Appended {
	out := make([]bridge.Appended, len(ms))
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		for i := range out {
			out[i].Err = err
		}
		return out
	}
	defer leave()
	written := s.acks.writtenSoFar()
	for i := 0; i < len(ms); {
		j := i
		for j < len(ms) && j-i < maxBatch && s.simple(ms[j]) {
			j++
		}
		if j == i {
			out[i].Receipt, out[i].Err = s.append(ctx, ms[i])
			i++
			continue
		}
		s.appendRun(ctx, ms[i:j], out[i:j])
		i = j
	}
	for i := range out {
		if out[i].Err != nil {
			continue
		}
		again, err := s.countAcks(ctx, &out[i].Receipt, written)
		if out[i].Err = err; again {
			out[i].Receipt, out[i].Err = s.appendCounted(ctx, ms[i])
		}
	}
	return out
}

// appendRun appends messages in one script.
func (s *Store) appendRun(ctx context.Context, ms []*bridge.Message, out []bridge.Appended) {
	as := make([]*appending, len(ms))
	for i, m := range ms {
		as[i] = s.appending(m, m.To.User)
	}
	s.publishBatch(ctx, as)
	for i, a := range as {
		if a.err != nil {
			s.selfDeliveries.forget(a.selfDelivery)
			out[i].Err = a.err
			continue
		}
		out[i].Receipt, out[i].Err = a.receipt(ctx, a.answer)
	}
}
