package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// A life (see bridge.Store.Life) is a random name and a number. The numbers grow
// with time: a new one is at least the milliseconds since 1970, so that none is
// given twice even where the list of lives itself went back in time.
//
// A life is bound to the servers that it began on, by the id that each server has
// for its reign as a primary (master_replid: Redis makes a new one with each start
// and each promotion). Nothing that Redis keeps can say whether the server that
// answers is still the same one, because it would be restored or replicated with
// the rest. What is neither kept nor replicated is the cache of scripts: the text
// of each script names the life, so that a server which has restarted or taken
// over does not know it (NOSCRIPT), whatever its data says. The engine then looks
// which servers reign (see settle), and begins a new life unless all of them are
// those of the current one. It never sends a script by its source.
//
// Beside that, each script on a single Redis compares the current life's name with
// its own, so that all machines go over to a new life in the same moment. A Cluster
// cannot look at another slot's key: there a mailbox refuses messages of a life
// older than the last one noted in it.
const (
	lifeLength = 8
	// maxLives is how many lives a store remembers; a cursor of an older one gets
	// a gap. How many beginnings a mailbox remembers, lua/lib.lua says.
	maxLives = 10_000
	// maxTurns bounds how often one call follows the store from life to life: while
	// servers change their roles, for some seconds.
	maxTurns = 14
	// maxTries is how often the servers are asked in one turn.
	maxTries = 10
)

var (
	errUnsettled       = errors.New("the server changed its role meanwhile")
	errRestless        = fmt.Errorf("%w: redis: the servers change too often", bridge.ErrUnavailable)
	errNoReplicationID = errors.New("redis: INFO replication does not tell master_replid, by which a restored or promoted server is recognised")
)

// lifetime is a life, and the scripts as they are sent in it. It does not change.
type lifetime struct {
	name           string // empty: none, for who has the store alone; see Archive
	no             int64
	header         string
	hashes         []string        // by script.n
	replicationIDs map[string]bool // of the primaries that were asked; nil: none was
}

// lives is how the engine follows the store from life to life.
type lives struct {
	now     atomic.Pointer[lifetime] // that scripts run in
	turning chan struct{}            // held by whoever looks for the current one

	mu        sync.Mutex // held while the Hub is told of a new life
	announced atomic.Pointer[lifetime]
	looked    atomic.Int64 // conns.broken when the servers were looked at last
	following atomic.Bool  // see follow
}

func newLives() *lives { return &lives{turning: make(chan struct{}, 1)} }

// lifetime makes the scripts of a life.
func (e *Store) lifetime(name string, no int64) *lifetime {
	lf := &lifetime{name: name, no: no, hashes: make([]string, len(e.scripts.all)),
		header: scriptHeader(name, no, name != "" && !e.cluster)}
	for _, s := range e.scripts.all {
		lf.hashes[s.n] = hashOf(lf.source(s))
	}
	return lf
}

func (lf *lifetime) source(s *script) string { return lf.header + s.body }

// lifeKeys are the current life's name; all lives by number; and the reigns that
// the current one is bound to.
func (e *Store) lifeKeys() (current, list, reigns string) {
	base := e.opts.Prefix + ":{machines}:"
	return base + "life", base + "lives", base + "reigns"
}

// otherLife tells whether a script was not run because the store lives another
// life, as far as the server can tell. no is a life that a mailbox has seen already,
// where that is the reason.
func otherLife(err error) (no int64, other bool) {
	if err == nil {
		return 0, false
	}
	r, ok := rueidis.IsRedisErr(err)
	if !ok {
		return 0, false
	}
	if r.IsNoScript() {
		return 0, true
	}
	words := strings.Fields(r.Error())
	if len(words) < 2 || words[0] != "OTHERLIFE" {
		return 0, false
	}
	no, err = strconv.ParseInt(words[1], 10, 64)
	return no, err == nil
}

// inLife calls do with the life that the store lives; again with the next one where
// it turns out to be over.
func (e *Store) inLife(ctx context.Context, do func(lf *lifetime) error) error {
	for turns := range maxTurns {
		if err := pause(ctx, turns); err != nil {
			return e.fault(ctx, err)
		}
		if err := e.sure(ctx); err != nil {
			return e.fault(ctx, err)
		}
		lf := e.lives.now.Load()
		err := do(lf)
		no, other := otherLife(err)
		if !other {
			return e.fault(ctx, err)
		}
		if err := e.turn(ctx, lf, no); err != nil {
			return err
		}
	}
	return errRestless
}

// pause waits before a call follows the store again, the longer the more often.
func pause(ctx context.Context, turns int) error {
	if turns < 2 {
		return nil
	}
	timer := time.NewTimer(min(10*time.Millisecond<<turns, 500*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sure looks at the servers where a connection has ended since that was done last. One
// that was demoted and has come back to power knows the scripts from before, whatever
// it has lost; who was connected to it then is connected anew.
func (e *Store) sure(ctx context.Context) error {
	n := e.conns.broken.Load()
	if e.lives.now.Load().name == "" || n == e.lives.looked.Load() {
		return nil
	}
	if err := e.checkPrimaries(ctx); err != nil {
		return err
	}
	e.lives.looked.Store(n)
	return nil
}

// turn finds out what life the store lives after from, which is over or whose
// scripts are not known any more. least is the least number that it may have.
// When it returns, the Hub has been told.
func (e *Store) turn(ctx context.Context, from *lifetime, least int64) error {
	select {
	case e.lives.turning <- struct{}{}:
		defer func() { <-e.lives.turning }()
	case <-ctx.Done():
		return e.fault(ctx, ctx.Err())
	}
	if from != nil && e.lives.now.Load() != from {
		return nil // another call has found it
	}
	if from != nil && from.name == "" {
		return fmt.Errorf("%w: redis: scripts are not kept", bridge.ErrUnavailable)
	}
	var lf *lifetime
	var epoch string
	var err error
	for tries := range maxTries { // a connection that has lain idle may be one to a server that is gone
		if err = pause(ctx, tries); err != nil {
			break
		}
		lf, epoch, err = e.settle(ctx, from, least)
		if _, said := rueidis.IsRedisErr(err); err == nil || said || ctx.Err() != nil || errors.Is(err, errNoReplicationID) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, errNoReplicationID) {
			return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
		return e.fault(ctx, err)
	}
	e.enterLife(lf, epoch)
	return nil
}

// settle asks every primary for its reign, adopts the current life where it is
// bound to all of these or begins a new one, and sees that they know its scripts.
// All that is said to one server goes over one connection, and it must not have
// changed its role meanwhile.
func (e *Store) settle(ctx context.Context, from *lifetime, least int64) (lf *lifetime, epoch string, err error) {
	servers, err := e.connectPrimaries(ctx)
	for _, s := range servers {
		defer s.release()
	}
	if err != nil {
		return nil, "", err
	}
	own := int64(0)
	if from != nil {
		own = from.no
	}
	current, list, reigns := e.lifeKeys()
	_, _, epochKey := e.machineKeys()
	args := []string{randomName(lifeLength), itoa(own), itoa(least), randomName(8), itoa(formatVersion), itoa(maxLives)}
	seen := make(map[string]bool)
	for _, s := range servers {
		args = append(args, s.replicationID)
		seen[s.replicationID] = true
	}
	ask := e.client.B().Eval().Script(e.scripts.life).Numkeys(5).Key(current, list, reigns, epochKey, e.formatKey()).Arg(args...).Build()
	var reply rueidis.RedisResult
	if e.cluster {
		reply = e.client.Do(ctx, ask)
	} else {
		reply = servers[0].conn.Do(ctx, ask)
	}
	words, err := reply.AsStrSlice()
	if err != nil {
		return nil, "", err
	}
	if len(words) != 4 {
		return nil, "", fmt.Errorf("redis: an answer of %d parts", len(words))
	}
	no, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return nil, "", err
	}
	lf = e.lifetime(words[0], no)
	lf.replicationIDs = seen
	for _, s := range servers {
		err := s.loadScripts(ctx, e, lf)
		if err != nil && !e.cluster {
			return nil, "", err
		}
		if err != nil { // whoever needs it finds out
			delete(seen, s.replicationID)
		}
	}
	if words[3] == "1" && from != nil {
		e.opts.Logger.Warn("Redis has restarted, or another server has taken over: what it may have lost is found out and told", "life", lf.name)
	}
	return lf, words[2], nil
}

// enterLife runs all scripts in a life from now on, and tells the Hub where
// it is another one than before. The epoch comes first: whoever compares what they
// have seen with the new life must find the store that it is of.
func (e *Store) enterLife(lf *lifetime, epoch string) {
	e.lives.mu.Lock()
	defer e.lives.mu.Unlock()
	if was := e.epoch.Swap(&epoch); was != nil && *was != epoch {
		e.opts.Logger.Error("the store was emptied: what was promised before is gone, and sessions are told")
	}
	was := e.lives.now.Swap(lf)
	if was.name != "" && was.name != lf.name {
		e.leases.forgetNewest()
		if l := e.hub.Load(); l != nil {
			(*l).NewLife(lf.name)
		}
		e.catchUp() // sessions that a server has lost are present again
	}
	e.lives.announced.Store(lf)
}

// follow looks for a life that another machine told of, without keeping the caller.
// Where that fails, the next script or the next renewal finds it.
func (e *Store) follow() {
	if e.lives.following.Swap(true) {
		return
	}
	e.loops.Go(func() {
		defer e.lives.following.Store(false)
		e.opts.Guard.Run("redis lives", func() {
			ctx, cancel := context.WithTimeout(e.life, e.opts.Patience)
			defer cancel()
			if err := e.turn(ctx, e.lives.now.Load(), 0); err != nil && e.life.Err() == nil {
				e.opts.Logger.Warn("a new life of the store could not be entered", "error", err)
			}
		})
	})
}

// heardIn tells whether a message of a life may go to the Hub: not one of a
// life that it has not been told of.
func (e *Store) heardIn(name string, no int64) bool {
	if lf := e.lives.announced.Load(); lf.name == name || no <= lf.no {
		return true
	}
	e.lives.mu.Lock() // it may be about to be told
	lf := e.lives.announced.Load()
	e.lives.mu.Unlock()
	if lf.name == name || no <= lf.no {
		return true
	}
	e.follow()
	return false
}

// Life implements bridge.Store.
func (e *Store) Life() string { return e.lives.now.Load().name }
