package redis

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// A callback is kept in the slot of its user, so that one script stores it with what
// causes it. The slot of all callbacks has indexes of them: which users have something
// that is due, and what waits for each backend. lua/outbox_lib.lua tells what is where.
//
// On one Redis a script writes to both. On a Cluster the indexes are written first, so that
// a machine that dies between leaves an entry with nothing behind it, which whoever comes by
// takes out, and never a callback that nobody finds. What is counted is therefore nearly
// what there is; after a death it is too much for a while.
//
// A lease on a callback is a time in the user's slot at which it is due again. The same
// script reads and sets it, by the clock of Redis, so that one machine has it, and loses
// it by dying.

// outbox is what a Store has for callbacks.
type outbox struct {
	posted chan struct{} // gets a value when something became due

	listings sync.Mutex // held by listDue
}

var _ bridge.Outbox = (*Store)(nil)

// duePoll is how often a machine looks for callbacks that other machines have stored.
const duePoll = time.Second

// callbackKeys are the keys of a user's callbacks for one backend.
func (b mailbox) callbackKeys(backend string) []string {
	return []string{b.base + "o:" + backend, b.base + "q:" + backend, b.base + "b:" + backend, b.base + "d:" + backend}
}

// timerKeys are the keys of a user's timers.
func (b mailbox) timerKeys() []string { return []string{b.base + "w", b.base + "W"} }

// callbackIndex are the keys of the indexes of a backend's callbacks.
type callbackIndex struct {
	due     string
	waiting [3]string // user.*, event.* and message.sent
	bytes   string
	dead    [2]string // by id, and by when they were given up
}

func (e *Store) callbackIndex(backend string) callbackIndex {
	base := e.opts.Prefix + ":{callbacks}:"
	return callbackIndex{due: base + "z:" + backend, bytes: base + "y:" + backend,
		waiting: [3]string{base + "au:" + backend, base + "ae:" + backend, base + "am:" + backend},
		dead:    [2]string{base + "D:" + backend, base + "x:" + backend}}
}

// counted are the keys that admit and unlist in lua/outbox_lib.lua need.
func (x *callbackIndex) counted() []string { return append(x.waiting[:], x.bytes) }

// timerIndex is the key of the index of timers.
func (e *Store) timerIndex() string { return e.opts.Prefix + ":{callbacks}:t" }

// backendsKey is the key of the names of all backends that there have ever been.
func (e *Store) backendsKey() string { return e.opts.Prefix + ":{machines}:backends" }

// clockArg is the time for scripts that ask for it: empty, as Redis has its own, but in
// tests.
func (e *Store) clockArg() string {
	if e.opts.redisClock {
		return ""
	}
	return itoa(e.nowMs())
}

// classes are the letters of lua/outbox_lib.lua, in the order of callbackIndex.waiting.
var classes = [3]string{"u", "e", "m"}

func classOf(kind string) string {
	switch {
	case strings.HasPrefix(kind, "user."):
		return "u"
	case strings.HasPrefix(kind, "event."):
		return "e"
	}
	return "m"
}

// callbackMember is a callback in the indexes.
func callbackMember(id, tag string, size int) string { return id + " " + tag + " " + itoa(size) }

// beginOutbox makes the outbox ready, and looks for callbacks of other machines until
// Close, if there are backends.
func (e *Store) beginOutbox(ctx context.Context) error {
	if len(e.opts.Backends) == 0 {
		return nil
	}
	due := make([]string, len(e.opts.Backends))
	names := make([]string, len(e.opts.Backends))
	for i, b := range e.opts.Backends {
		names[i], due[i] = b.Name, e.callbackIndex(b.Name).due
	}
	if err := e.do(ctx, e.client.B().Sadd().Key(e.backendsKey()).Member(names...).Build()); err != nil {
		return err
	}
	e.loops.Go(func() { e.opts.Guard.Loop("redis callbacks", e.ctx.Done(), func() { e.pollDue(due) }) })
	return nil
}

func (e *Store) pollDue(due []string) {
	tick := time.NewTicker(duePoll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return
		}
		err := e.whileOpen(func(ctx context.Context) error {
			reply, err := e.run(ctx, call{&e.scripts.outbox.due, due, []string{e.clockArg()}})
			if err != nil {
				return err
			}
			list, err := reply.ToArray()
			if len(list) > 0 {
				e.signalPosted()
			}
			return e.fault(ctx, err)
		})
		if err != nil && !e.closed.Load() {
			e.health.note(err)
		}
	}
}

func (e *Store) signalPosted() {
	select {
	case e.outbox.posted <- struct{}{}:
	default:
	}
}

// Posted implements bridge.Outbox.
func (e *Store) Posted() <-chan struct{} { return e.outbox.posted }

// storing is some callbacks on their way into the store.
type storing struct {
	e        *Store
	cs       []bridge.Callback
	values   []string
	till     []int64 // until when each may be stored, milliseconds; 0: always
	backends []string

	unbounded bool // they are stored whatever waits
}

func (e *Store) storing(cs []bridge.Callback) *storing {
	s := &storing{e: e, cs: cs, values: make([]string, len(cs)), till: make([]int64, len(cs))}
	for i, c := range cs {
		s.values[i] = encodeCallback(c, 0, c.At, 0)
		if !slices.Contains(s.backends, c.Backend) {
			s.backends = append(s.backends, c.Backend)
		}
	}
	return s
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
	c.args = append(c.args, e.clockArg(), itoa(most), itoa(room), flag(slot), flag(index),
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
		if n == callbackNoRoom {
			s.e.metrics.dropped(s.cs[i].Backend, classOf(s.cs[i].Type))
		}
	}
	return r, nil
}

// admit puts callbacks into the indexes, before they are in their users' slots. It returns
// those that there is room for, and the numbers of those that were not in the indexes.
func (s *storing) admit(ctx context.Context, run runner) (admitted *storing, isNew []bool, err error) {
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
	var over = make(map[string][]string)
	var due []string
	for i, one := range s.cs {
		tag = s.tag(i)
		if r.word == "ok" && r.states[i] == callbackStored {
			if x := e.callbackIndex(one.Backend); !slices.Contains(due, x.due) {
				due = append(due, x.due)
			}
		} else if isNew[i] {
			over[one.Backend] = append(over[one.Backend], classOf(one.Type), callbackMember(one.ID, tag, len(one.Body)))
		}
	}
	// Neither is needed: whoever comes by does the same, later.
	e.forgetCallbacks(ctx, over)
	if len(due) > 0 {
		e.tryRun(ctx, call{&e.scripts.outbox.arm, due, []string{tag, "", e.clockArg()}})
		e.signalPosted()
	}
	return r.word, nil
}

// tryRun runs a script whose caller does not depend on it.
func (e *Store) tryRun(ctx context.Context, c call) {
	if _, err := e.run(ctx, c); err != nil {
		e.opts.Logger.Warn("the index of callbacks is behind, and will be made good", "error", err)
	}
}

// forgetCallbacks takes callbacks out of the indexes of what waits: of each backend
// classes and members.
func (e *Store) forgetCallbacks(ctx context.Context, members map[string][]string) {
	for backend, list := range members {
		x := e.callbackIndex(backend)
		e.tryRun(ctx, call{&e.scripts.outbox.forget, x.counted(), list})
	}
}

// drop takes callbacks that made room for others out of their users' slots.
func (e *Store) drop(ctx context.Context, backends, evicted []string) {
	var calls []call
	for _, one := range evicted { // backend's number, class's number, id, tag, size
		var j, class int
		var id, tag string
		if n, err := fmt.Sscan(one, &j, &class, &id, &tag); n != 4 || err != nil || j < 1 || j > len(backends) || class < 1 || class > 3 {
			continue // only scripts of ours write these
		}
		e.metrics.dropped(backends[j-1], classes[class-1])
		calls = append(calls, call{&e.scripts.outbox.drop, e.mailboxAt(tag).callbackKeys(backends[j-1])[:3], []string{id}})
	}
	for _, r := range e.runMany(ctx, calls) {
		if r.err != nil {
			e.opts.Logger.Warn("callbacks that made room for others may be sent all the same", "error", r.err)
			return
		}
	}
}

// Post implements bridge.Outbox. Callbacks of several users are admitted together, and
// stored one user after the other: where that fails half way, those that are stored are
// known when the caller posts all of them again.
func (e *Store) Post(ctx context.Context, cs ...bridge.Callback) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if len(cs) == 0 {
		return nil
	}
	s := e.storing(cs)
	if _, one := s.user(); one {
		_, err := s.commit(ctx, e.runDurable, call{script: &e.scripts.outbox.post})
		return e.fault(ctx, err)
	}
	admitted, isNew, err := s.admit(ctx, e.run)
	if err != nil {
		return e.fault(ctx, err)
	}
	done := make(map[string]bool)
	for _, c := range admitted.cs {
		if done[c.User] {
			continue
		}
		done[c.User] = true
		var ofUser []bool
		some := admitted.only(func(i int) bool {
			if admitted.cs[i].User != c.User {
				return false
			}
			ofUser = append(ofUser, isNew[i])
			return true
		})
		if _, err := some.finish(ctx, e.runDurable, call{script: &e.scripts.outbox.post}, ofUser); err != nil {
			return e.fault(ctx, err)
		}
	}
	return nil
}

// Backlog implements bridge.Outbox.
func (e *Store) Backlog(ctx context.Context, backend string) (b bridge.Backlog, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return b, err
	}
	defer leave()
	x := e.callbackIndex(backend)
	oldest, err := e.oldestWaiting(ctx, backend)
	if err != nil {
		return b, err
	}
	since := itoa(e.nowMs() - bridge.DeadCallbacksFor.Milliseconds())
	r := e.client.DoMulti(ctx, e.zcount(x.waiting[0], "-inf"), e.zcount(x.waiting[1], "-inf"), e.zcount(x.waiting[2], "-inf"),
		e.zcount(x.dead[1], "("+since), e.get(x.bytes))
	var n [5]int64
	for i := range n {
		n[i], err = r[i].AsInt64()
		if err = e.fault(ctx, err); err != nil {
			return b, err
		}
	}
	return bridge.Backlog{Waiting: int(n[0] + n[1] + n[2]), Bytes: n[4], Oldest: oldest, Dead: int(n[3])}, nil
}

func (e *Store) zcount(key, from string) rueidis.Completed {
	return e.client.B().Zcount().Key(key).Min(from).Max("+inf").Build()
}

// staleAfter is how old an entry of an index with nothing behind it must be to be taken
// out: until then somebody may be about to write what it is for. It is GRACE of
// lua/outbox_lib.lua.
const staleAfter = time.Minute

// oldestWaiting is when the oldest callback that waits was caused. Entries of the index
// with nothing behind them are taken out on the way.
func (e *Store) oldestWaiting(ctx context.Context, backend string) (oldest time.Time, err error) {
	x := e.callbackIndex(backend)
	for range 100 {
		cmds := make(rueidis.Commands, len(classes))
		for i := range classes {
			cmds[i] = e.client.B().Zrange().Key(x.waiting[i]).Min("0").Max("0").Withscores().Build()
		}
		firsts, err := replies(ctx, e, cmds, (*rueidis.RedisResult).AsZScores)
		if err != nil {
			return oldest, err
		}
		stale := make([]string, 0, 2*len(classes))
		oldest = time.Time{}
		for i, list := range firsts {
			if len(list) == 0 {
				continue
			}
			words := strings.Fields(list[0].Member)
			if len(words) != 3 {
				continue // only scripts of ours write these
			}
			at := time.UnixMilli(int64(list[0].Score))
			text, err := e.client.Do(ctx, e.client.B().Hget().Key(e.mailboxAt(words[1]).callbackKeys(backend)[2]).Field(words[0]).Build()).ToString()
			if err = e.fault(ctx, err); err != nil {
				return oldest, err
			}
			if text == "" {
				if at.Before(e.opts.Now().Add(-staleAfter)) {
					stale = append(stale, classes[i], list[0].Member)
				}
				continue
			}
			k, err := decodeCallback(backend, words[0], text)
			if err != nil {
				return oldest, e.fault(ctx, err)
			}
			if oldest.IsZero() || k.At.Before(oldest) {
				oldest = k.At
			}
		}
		if len(stale) == 0 {
			return oldest, nil
		}
		e.forgetCallbacks(ctx, map[string][]string{backend: stale})
	}
	return oldest, nil
}

// byDue orders leased callbacks, those first that have been due longest.
func byDue(a, b dueCallback) int { return cmp.Compare(a.due, b.due) }

type dueCallback struct {
	bridge.Leased
	due float64
}
