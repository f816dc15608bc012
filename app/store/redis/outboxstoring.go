package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// storing is some callbacks on their way into the store.
type storing struct {
	e        *Store
	cs       []bridge.Callback
	values   []string
	till     []int64 // until when each may be stored, milliseconds; 0: always
	backends []string

	unbounded bool // they are stored whatever waits
	modest    bool // no others make room for them
}

func (s *Store) storing(cs []bridge.Callback) *storing {
	st := &storing{e: s, cs: cs, values: make([]string, len(cs)), till: make([]int64, len(cs))}
	for i, c := range cs {
		st.values[i] = encodeCallback(c, 0, c.At, 0)
		if !slices.Contains(st.backends, c.Backend) {
			st.backends = append(st.backends, c.Backend)
		}
	}
	return st
}

// user is whose callbacks these are, if they are one user's.
func (s *storing) user() (user string, one bool) {
	for i, c := range s.cs {
		if i > 0 && c.User != user {
			return "", false
		}
		user = c.User
	}
	return user, true
}

func (s *storing) tag(i int) string { return "u" + short(s.cs[i].User) }

// only are those of the callbacks that keep says.
func (s *storing) only(keep func(i int) bool) *storing {
	out := &storing{e: s.e}
	for i, c := range s.cs {
		if keep(i) {
			out.cs, out.values, out.till = append(out.cs, c), append(out.values, s.values[i]), append(out.till, s.till[i])
			if !slices.Contains(out.backends, c.Backend) {
				out.backends = append(out.backends, c.Backend)
			}
		}
	}
	return out
}

// add adds the callbacks to a call, as lua/outbox_lib.lua wants them: with the keys of
// their user's slot, and with those of the indexes.
func (s *storing) add(c call, slot, index bool) call {
	e := s.e
	if slot {
		var b mailbox
		if user, _ := s.user(); user != "" {
			b = e.mailboxOf(user)
		}
		for _, name := range s.backends {
			c.keys = append(c.keys, b.callbackKeys(name)...)
		}
	}
	if index {
		for _, name := range s.backends {
			x := e.callbackIndex(name)
			c.keys = append(append(c.keys, x.due), x.counted()...)
		}
	}
	for i, one := range s.cs {
		till := ""
		if s.till[i] != 0 {
			till = itoa(s.till[i])
		}
		c.args = append(c.args, itoa(slices.Index(s.backends, one.Backend)+1), s.tag(i), one.ID, classOf(one.Type), s.values[i],
			itoa(one.At.UnixMilli()), itoa(len(one.Body)), till)
	}
	most, room := e.opts.MaxCallbacks, e.opts.MaxCallbackBytes
	if s.unbounded {
		most, room = math.MaxInt32, math.MaxInt64>>12
	}
	c.args = append(c.args, flag(s.modest), e.clockArg(), itoa(most), itoa(room), flag(slot), flag(index),
		itoa(len(s.backends)), itoa(len(s.cs)))
	return c
}

// What became of a callback; see storeAll in lua/outbox_lib.lua.
const (
	callbackThere  = 0
	callbackStored = 1
	callbackNoRoom = -1
)

// storedReply is the answer of a script that stores callbacks.
type storedReply struct {
	word    string // ok, full, or why nothing was to be stored
	states  []int64
	evicted []string // of each: its backend's number, its class's, and its member
}

func parseStored(m rueidis.RedisMessage) (r storedReply, err error) {
	list, err := m.ToArray()
	if err != nil || len(list) == 0 {
		return r, fmt.Errorf("redis: an empty answer: %w", err)
	}
	if r.word, err = list[0].ToString(); err != nil || len(list) < 3 {
		return r, err
	}
	if r.states, err = list[1].AsIntSlice(); err == nil {
		r.evicted, err = list[2].AsStrSlice()
	}
	return r, err
}

// run is how a script is run: in one life, or in the current one.
type runner func(ctx context.Context, c call) (rueidis.RedisMessage, error)

func (s *storing) call(ctx context.Context, run runner, c call, slot, index bool) (r storedReply, err error) {
	m, err := run(ctx, s.add(c, slot, index))
	if err != nil {
		return r, err
	}
	if r, err = parseStored(m); err != nil {
		return r, err
	}
	if len(r.evicted) > 0 {
		s.e.drop(ctx, s.backends, r.evicted)
	}
	if r.word == "full" {
		return r, bridge.ErrOutboxFull
	}
	if r.word == "ok" && len(r.states) != len(s.cs) {
		return r, fmt.Errorf("redis: %d answers to %d callbacks", len(r.states), len(s.cs))
	}
	for i, n := range r.states {
		if n == callbackNoRoom && !s.modest {
			s.e.metrics.dropped(s.cs[i].Backend, classOf(s.cs[i].Type))
		}
	}
	return r, nil
}

// admit puts callbacks into the indexes, before they are in their users' slots. It returns
// those that there is room for, and the numbers of those that were not in the indexes. What
// is known already needs no room: where others would have to make some, that is looked at
// first, and those that are known are left out.
func (s *storing) admit(ctx context.Context, run runner) (admitted *storing, isNew []bool, err error) {
	if s.modest || s.unbounded {
		return s.admitAny(ctx, run)
	}
	modest := *s
	modest.modest = true
	admitted, isNew, err = modest.admitAny(ctx, run)
	switch {
	case err != nil && !errors.Is(err, bridge.ErrOutboxFull):
		return nil, nil, err
	case err == nil && len(admitted.cs) == len(s.cs):
		return admitted, isNew, nil
	case err == nil:
		s.e.forgetCallbacks(ctx, admitted.members(isNew))
	}
	known, err := s.known(ctx)
	if err != nil {
		return nil, nil, err
	}
	unknown := s.only(func(i int) bool { return !known[i] })
	if len(unknown.cs) == 0 {
		return unknown, nil, nil
	}
	return unknown.admitAny(ctx, run)
}

func (s *storing) admitAny(ctx context.Context, run runner) (admitted *storing, isNew []bool, err error) {
	r, err := s.call(ctx, run, call{script: &s.e.scripts.outbox.admit}, false, true)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range r.states {
		if n != callbackNoRoom {
			isNew = append(isNew, n == callbackStored)
		}
	}
	return s.only(func(i int) bool { return r.states[i] != callbackNoRoom }), isNew, nil
}

// known tells which callbacks are in their users' slots, or were taken by their backends.
func (s *storing) known(ctx context.Context) (known []bool, err error) {
	calls := make([]call, len(s.cs))
	for i, c := range s.cs {
		calls[i] = call{&s.e.scripts.outbox.known, s.e.mailboxOf(c.User).callbackKeys(c.Backend), []string{c.ID, classOf(c.Type)}}
	}
	known = make([]bool, len(s.cs))
	for i, r := range s.e.runMany(ctx, calls) {
		if r.err != nil {
			return nil, r.err
		}
		n, err := r.message.AsInt64()
		if err = s.e.fault(ctx, err); err != nil {
			return nil, err
		}
		known[i] = n == 1
	}
	return known, nil
}

// members are those of some of the callbacks in the indexes, as forgetCallbacks wants them.
func (s *storing) members(some []bool) map[string][]string {
	of := make(map[string][]string)
	for i, c := range s.cs {
		if some[i] {
			of[c.Backend] = append(of[c.Backend], classOf(c.Type), callbackMember(c.ID, s.tag(i), len(c.Body)))
		}
	}
	return of
}

// commit runs a script that stores the callbacks of one user together with their cause.
// It returns the script's word.
func (s *storing) commit(ctx context.Context, run runner, c call) (word string, err error) {
	if !s.e.cluster {
		r, err := s.call(ctx, run, c, true, true)
		if err == nil && slices.Contains(r.states, callbackStored) {
			s.e.signalPosted()
		}
		return r.word, err
	}
	if len(s.cs) == 0 {
		r, err := s.call(ctx, run, c, true, false)
		return r.word, err
	}
	admitted, isNew, err := s.admit(ctx, run)
	if err != nil {
		return "", err
	}
	if len(admitted.cs) == 0 && len(c.keys) == 0 {
		return "ok", nil // nothing is left to store, and there is no cause
	}
	return admitted.finish(ctx, run, c, isNew)
}

// finish is commit for callbacks that have been admitted.
func (s *storing) finish(ctx context.Context, run runner, c call, isNew []bool) (word string, err error) {
	r, err := s.call(ctx, run, c, true, false)
	if err != nil {
		return "", err
	}
	e, tag := s.e, ""
	over := make([]bool, len(s.cs))
	var due []string
	for i, one := range s.cs {
		tag = s.tag(i)
		if r.word != "ok" || r.states[i] != callbackStored {
			over[i] = isNew[i]
		} else if x := e.callbackIndex(one.Backend); !slices.Contains(due, x.due) {
			due = append(due, x.due)
		}
	}
	// Neither is needed: whoever comes by does the same, later.
	e.forgetCallbacks(ctx, s.members(over))
	if len(due) > 0 {
		e.tryRun(ctx, call{&e.scripts.outbox.arm, due, []string{tag, "", e.clockArg()}})
		e.signalPosted()
	}
	return r.word, nil
}

// tryRun runs a script whose caller does not depend on it.
func (s *Store) tryRun(ctx context.Context, c call) {
	if _, err := s.run(ctx, c); err != nil {
		s.opts.Logger.Warn("the index of callbacks is behind, and will be made good", "error", err)
	}
}

// forgetCallbacks takes callbacks out of the indexes of what waits: of each backend
// classes and members.
func (s *Store) forgetCallbacks(ctx context.Context, members map[string][]string) {
	for backend, list := range members {
		x := s.callbackIndex(backend)
		s.tryRun(ctx, call{&s.scripts.outbox.forget, x.counted(), list})
	}
}

// drop takes callbacks that made room for others out of their users' slots.
func (s *Store) drop(ctx context.Context, backends, evicted []string) {
	var calls []call
	for _, one := range evicted { // backend's number, class's number, id, tag, size
		var j, class int
		var id, tag string
		if n, err := fmt.Sscan(one, &j, &class, &id, &tag); n != 4 || err != nil || j < 1 || j > len(backends) || class < 1 || class > 3 {
			continue // only scripts of ours write these
		}
		s.metrics.dropped(backends[j-1], classes[class-1])
		calls = append(calls, call{&s.scripts.outbox.drop, s.mailboxAt(tag).callbackKeys(backends[j-1])[:3], []string{id}})
	}
	for _, r := range s.runMany(ctx, calls) {
		if r.err != nil {
			s.opts.Logger.Warn("callbacks that made room for others may be sent all the same", "error", r.err)
			return
		}
	}
}
