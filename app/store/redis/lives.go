package redis

import (
	"cmp"
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

// A life (see bridge.Store.Life) has a random name and a number. The numbers grow with
// time: a new one is at least the milliseconds since 1970, so that no number is given
// twice, even if the list of lives itself went back in time.
//
// A life is bound to the primaries that it began on, by their replication ids
// (master_replid: a server gets a new one whenever it starts or is promoted). No key in
// Redis can tell whether the server that answers is still the same one, because the key
// would be restored or replicated with the rest. What is neither stored nor replicated is
// the cache of scripts. The text of each script therefore names the life: a server that
// has restarted or taken over does not have it (NOSCRIPT), whatever its data says. The
// Store then asks which servers are primaries (see adoptLife), and begins a new life
// unless the current one is bound to all of them. It never sends a script by its source.
//
// In addition each script on a single Redis compares the current life's name with its
// own, so that all machines go over to a new life at the same moment. A script on a Cluster
// cannot read another slot's key: there a mailbox refuses messages of a life that is older
// than the newest one noted in it.
const (
	lifeLength = 8
	// maxLives is how many lives a store remembers; a cursor of an older life gets a gap.
	// (A mailbox remembers where some of them began: see LIVES in lua/lib.lua.)
	maxLives = 10_000
	// maxLifeTries bounds how often one call is tried in another life: for some seconds,
	// while servers change their roles.
	maxLifeTries = 14
	// strayTries is after how many of them in the same life a connection is taken for one that
	// leads to a server of before a failover, which goes on as if nothing had happened. (Lives
	// that follow each other quickly are no such case, and other calls' connections stay.)
	strayTries = 3
	// maxPrimaryTries is how often findLife asks the primaries.
	maxPrimaryTries = 10
)

var (
	errUnsettled       = errors.New("the server changed its role meanwhile")
	errUnstable        = fmt.Errorf("%w: redis: the servers change too often", bridge.ErrUnavailable)
	errNoReplicationID = errors.New("redis: INFO replication does not tell master_replid, by which a restored or promoted server is recognised")
)

// storeLife is a life of the store with the scripts as they are sent in it. It does not
// change.
type storeLife struct {
	name           string // empty for an Archive, which has the store to itself
	no             int64
	header         string
	hashes         []string        // by script.n
	replicationIDs map[string]bool // of the primaries that were asked; nil: none was
}

// lives is what is known of the store's current life.
type lives struct {
	now     atomic.Pointer[storeLife] // the life that scripts run in
	finding chan struct{}             // held by findLife: a lock for which a context can stop waiting

	mu        sync.Mutex // held while the Hub is told of a new life
	announced atomic.Pointer[storeLife]
	checked   atomic.Int64 // conns.broken when the primaries were checked last
	later     atomic.Bool  // findLifeLater runs
}

func newLives() *lives { return &lives{finding: make(chan struct{}, 1)} }

// newLife makes the scripts of a life.
func (s *Store) newLife(name string, no int64) *storeLife {
	lf := &storeLife{name: name, no: no, hashes: make([]string, len(s.scripts.all)),
		header: scriptHeader(name, no, name != "" && !s.cluster)}
	for _, script := range s.scripts.all {
		lf.hashes[script.n] = hashOf(lf.source(script))
	}
	return lf
}

func (lf *storeLife) source(s *script) string {
	if s.whenFull {
		return "#!lua flags=allow-oom\n" + lf.header + s.body
	}
	return lf.header + s.body
}

// lifeKeys are the keys of the current life's name, of all lives by number, and of the
// primaries' replication ids that the current life is bound to ("reigns" is an older
// name).
func (s *Store) lifeKeys() (current, list, primaries string) {
	base := s.opts.Prefix + ":{machines}:"
	return base + "life", base + "lives", base + "reigns"
}

// otherLife reports whether the server did not run a script because the store may live
// another life. If the reason is that a mailbox has noted a newer life, no is that life's
// number.
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

// moving reports whether a server did not run a script because its slot is moving to another
// server of a Cluster, and keys of it are on both. That takes milliseconds for most slots.
func moving(err error) bool {
	r, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && r.IsTryAgain()
}

// inLife calls do with the life that the store lives. If that life turns out to be over,
// it calls do again with the next one. While the slot is moving, it calls do again, too.
func (s *Store) inLife(ctx context.Context, do func(lf *storeLife) error) error {
	var unmoved error          // the last answer was that a slot is moving
	var refused map[string]int // how often the server did not run it in each life
	for tries := range maxLifeTries {
		if err := backoff(ctx, tries); err != nil {
			return s.fault(ctx, err)
		}
		if err := s.ensurePrimaries(ctx); err != nil {
			return s.fault(ctx, err)
		}
		lf := s.lives.now.Load()
		err := do(lf)
		if unmoved = nil; moving(err) {
			unmoved = s.fault(ctx, err)
			continue
		}
		no, other := otherLife(err)
		if !other {
			return s.fault(ctx, err)
		}
		if err := s.findLife(ctx, lf, no); err != nil {
			return err
		}
		if refused == nil {
			refused = make(map[string]int)
		}
		if refused[lf.name]++; refused[lf.name]%strayTries == 0 && !s.cluster {
			s.opts.Logger.Warn("connections to Redis seem to lead to two servers, as after a failover: all are opened anew")
			s.conns.drop()
		}
	}
	return cmp.Or(unmoved, errUnstable)
}

// backoff waits before a call is tried again: not before the first two tries, and then
// longer each time.
func backoff(ctx context.Context, tries int) error {
	if tries < 2 {
		return nil
	}
	select {
	case <-time.After(min(10*time.Millisecond<<tries, 500*time.Millisecond)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ensurePrimaries checks the primaries if a connection has ended since they were checked
// last. A server that was demoted and has been promoted again still has the scripts in its
// cache, whatever data it has lost; but the connections to it have ended.
func (s *Store) ensurePrimaries(ctx context.Context) error {
	n := s.conns.broken.Load()
	if s.lives.now.Load().name == "" || n == s.lives.checked.Load() {
		return nil
	}
	if err := s.checkPrimaries(ctx); err != nil {
		return err
	}
	s.lives.checked.Store(n)
	return nil
}

// findLife finds out which life the store lives now: the life from is over, or a server
// has forgotten its scripts. least is the least number that the life may have. When
// findLife returns, the Hub has been told.
func (s *Store) findLife(ctx context.Context, from *storeLife, least int64) error {
	select {
	case s.lives.finding <- struct{}{}:
		defer func() { <-s.lives.finding }()
	case <-ctx.Done():
		return s.fault(ctx, ctx.Err())
	}
	if from != nil && s.lives.now.Load() != from {
		return nil // another call has found it
	}
	if from != nil && from.name == "" { // an Archive: see storeLife.name
		return fmt.Errorf("%w: redis: scripts are not kept", bridge.ErrUnavailable)
	}
	var lf *storeLife
	var epoch string
	var err error
	for tries := range maxPrimaryTries { // an idle connection may lead to a server that is gone
		if err = backoff(ctx, tries); err != nil {
			break
		}
		lf, epoch, err = s.adoptLife(ctx, from, least)
		if _, said := rueidis.IsRedisErr(err); err == nil || said || ctx.Err() != nil || errors.Is(err, errNoReplicationID) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, errNoReplicationID) {
			return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
		return s.fault(ctx, err)
	}
	s.enterLife(lf, epoch)
	return nil
}

// adoptLife asks every primary for its replication id. If the current life is bound to
// all of them it adopts that life, or else it begins a new one, and has the primaries
// cache the life's scripts. It uses one connection for each server, which must not change
// its role meanwhile.
func (s *Store) adoptLife(ctx context.Context, from *storeLife, least int64) (lf *storeLife, epoch string, err error) {
	servers, err := s.connectPrimaries(ctx)
	for _, server := range servers {
		defer server.release()
	}
	if err != nil {
		return nil, "", err
	}
	own := int64(0)
	if from != nil {
		own = from.no
	}
	current, list, primaries := s.lifeKeys()
	_, _, epochKey := s.machineKeys()
	args := []string{randomName(lifeLength), itoa(own), itoa(least), randomName(8), itoa(formatVersion), itoa(maxLives)}
	seen := make(map[string]bool)
	for _, server := range servers {
		args = append(args, server.replicationID)
		seen[server.replicationID] = true
	}
	ask := s.client.B().Eval().Script(s.scripts.life).Numkeys(5).Key(current, list, primaries, epochKey, s.formatKey()).Arg(args...).Build()
	var reply rueidis.RedisResult
	if s.cluster {
		reply = s.client.Do(ctx, ask)
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
	lf = s.newLife(words[0], no)
	lf.replicationIDs = seen
	for _, server := range servers {
		err := server.loadScripts(ctx, s, lf)
		if err != nil && !s.cluster {
			return nil, "", err
		}
		if err != nil { // whoever needs this server notices then
			delete(seen, server.replicationID)
		}
	}
	if words[3] == "1" && from != nil {
		s.opts.Logger.Warn("Redis has restarted, or another server has taken over: what it may have lost is found out and told", "life", lf.name)
	}
	return lf, words[2], nil
}

// enterLife makes a life the one in which scripts run, and tells the Hub if it is another
// one than before. It sets the epoch first: a session that compares what it has seen with
// the new life must find the epoch of the same store.
func (s *Store) enterLife(lf *storeLife, epoch string) {
	s.lives.mu.Lock()
	defer s.lives.mu.Unlock()
	if was := s.epoch.Swap(&epoch); was != nil && *was != epoch {
		s.opts.Logger.Error("the store was emptied: what was promised before is gone, and sessions are told")
	}
	was := s.lives.now.Swap(lf)
	if was.name != "" && was.name != lf.name {
		s.leases.forgetNewest()
		if l := s.hub.Load(); l != nil {
			(*l).NewLife(lf.name)
		}
		s.lost.Store(true)
		s.catchUp() // registers sessions again that a server has lost
		s.listDueLater()
	}
	s.lives.announced.Store(lf)
}

// findLifeLater looks for a life that another machine's message named, without keeping
// the caller waiting. If it fails, the next script or renewal finds the life.
func (s *Store) findLifeLater() {
	if s.lives.later.Swap(true) {
		return
	}
	s.loops.Go(func() {
		defer s.lives.later.Store(false)
		s.opts.Guard.Run("redis lives", func() {
			ctx, cancel := context.WithTimeout(s.ctx, s.opts.Patience)
			defer cancel()
			if err := s.findLife(ctx, s.lives.now.Load(), 0); err != nil && s.ctx.Err() == nil {
				s.opts.Logger.Warn("a new life of the store could not be entered", "error", err)
			}
		})
	})
}

// mayDeliver reports whether a message of a life may go to the Hub: the Hub must have been
// told of that life before.
func (s *Store) mayDeliver(name string, no int64) bool {
	if lf := s.lives.announced.Load(); lf.name == name || no <= lf.no {
		return true
	}
	s.lives.mu.Lock() // the Hub may be about to be told
	lf := s.lives.announced.Load()
	s.lives.mu.Unlock()
	if lf.name == name || no <= lf.no {
		return true
	}
	s.findLifeLater()
	return false
}

// Life implements bridge.Store.
func (s *Store) Life() string { return s.lives.now.Load().name }
