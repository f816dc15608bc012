package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// machineNameLen is MACHINE of lua/lib.lua.
const machineNameLen = 12

// Store keeps mailboxes in Redis and shares them with other machines.
type Store struct {
	opts    Options
	client  rueidis.Client
	conns   *conns
	cluster bool
	scripts *scripts
	self    string  // this machine's name, new with each start
	all     mailbox // of messages to all

	hub            atomic.Pointer[bridge.Hub]
	epoch          atomic.Pointer[string]
	leases         *leases
	selfDeliveries *selfDeliveries
	batcher        batcher
	acks           *ackBook
	peerRequests   *peerRequests
	lives          *lives
	metrics        *metrics
	outbox         outbox
	health         health

	gate   sync.RWMutex // held for reading by each call, for writing by Close
	closed atomic.Bool
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	loops  sync.WaitGroup

	listening  atomic.Bool   // the channels are heard
	heardOnce  chan struct{} // closed when the channels are heard for the first time
	deaf       chan struct{} // has listen give up its connection
	closeHeard sync.Once     // closes heardOnce
	catching   atomic.Bool   // catchUp runs
	lost       atomic.Bool   // sessions here may not be present until reconcile has succeeded
	reaping    atomic.Bool   // reapDead runs
	lateLeaves lateLeaves    // sessions that have ended and are still present
	reconciled atomic.Uint64 // how often reconcile has registered sessions again
	renewals   sync.Mutex    // guards the two that follow
	revived    bool          // the lease had lapsed at the last renewal
	renewed    time.Time     // when that was
}

var (
	_ bridge.Store = (*Store)(nil)
	_ bridge.Live  = (*Store)(nil)
)

// startTimeout is how long Open tries to reach Redis: machines and Redis are
// often started together.
const startTimeout = 20 * time.Second

// connBuffer is how many bytes of replies, and of commands, a connection has room for.
// rueidis would take 512 KiB of each, and there are several connections to each server of a
// Cluster.
const connBuffer = 64 << 10

// Open connects to Redis and begins to listen. Errors: a setting that is wrong,
// a server that is too old or holds what a newer version wrote, ErrUnfinished,
// ErrUnavailable.
func Open(ctx context.Context, o Options) (*Store, error) {
	e, err := dial(ctx, o)
	if err != nil {
		return nil, err
	}
	if err = e.open(ctx); err != nil {
		e.disconnect()
		return nil, err
	}
	return e, nil
}

// dial returns a Store that is connected, to a store of a known format, and does nothing
// yet.
func dial(ctx context.Context, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := CheckURL(o.URL); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	co, err := rueidis.ParseURL(o.URL)
	if err != nil { // its text may repeat the URL with its password
		return nil, fmt.Errorf("redis: %w", errURL)
	}
	co.DisableCache = true
	co.ConnWriteTimeout = o.Patience
	co.Dialer.Timeout = o.Patience
	co.PipelineMultiplex = -1 // one connection, so that the commands of many callers go out in one write
	co.ReadBufferEachConn, co.WriteBufferEachConn = connBuffer, connBuffer
	co.ClientName = "hookbridge"
	co.ClientSetInfo = rueidis.DisableClientSetInfo // Redis 7.0 does not know CLIENT SETINFO, nor rights that name it
	// With retries it would repeat a read until the caller's context ends.
	co.DisableRetry = true
	conns := newConns()
	if co.DialCtxFn == nil { // the URL does not name a Unix socket
		co.DialCtxFn = conns.dial
	}
	client, err := connect(ctx, co, o)
	if err != nil {
		return nil, err
	}
	e := &Store{opts: o, client: client, conns: conns, cluster: client.Mode() == rueidis.ClientModeCluster, self: randomName(machineNameLen),
		leases: newLeases(), selfDeliveries: newSelfDeliveries(), peerRequests: newPeerRequests(), acks: newAckBook(), lives: newLives(), outbox: outbox{posted: make(chan struct{}, 1)}, heardOnce: make(chan struct{}), deaf: make(chan struct{})}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	e.all = e.mailboxAt("all")
	e.health.logger = o.Logger
	if e.scripts, err = loadScripts(); err == nil {
		e.lives.now.Store(e.newLife("", 0))
		err = e.inspect(ctx)
	}
	if err == nil {
		err = e.checkFormat(ctx)
	}
	if err != nil {
		e.disconnect()
		return nil, err
	}
	return e, nil
}

func (s *Store) disconnect() {
	s.cancel()
	s.loops.Wait()
	s.client.Close()
}

func connect(ctx context.Context, co rueidis.ClientOption, o Options) (rueidis.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		client, err := rueidis.NewClient(co)
		if err == nil {
			return client, nil
		}
		o.Logger.Warn("Redis is not there yet", "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: redis: %w", bridge.ErrUnavailable, err)
		}
	}
}

func (s *Store) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errNoAnswer)
	defer cancel()
	if err := s.checkWhole(ctx); err != nil {
		return err
	}
	var err error
	if s.metrics, err = newMetrics(s.opts.Registerer, s); err != nil {
		return err
	}
	if err := s.beginIndex(ctx); err != nil {
		return err
	}
	if err := s.findLife(ctx, nil, 0); err != nil {
		return err
	}
	s.loops.Go(func() { s.opts.Guard.Loop("redis channels", s.ctx.Done(), s.subscribe) })
	select {
	case <-s.heardOnce:
	case <-time.After(startTimeout):
		return fmt.Errorf("%w: redis: the channels cannot be heard", bridge.ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.renew(ctx); err != nil {
		return err
	}
	s.loops.Go(func() { s.opts.Guard.Loop("redis lease", s.ctx.Done(), s.keepRenewing) })
	s.loops.Go(func() { s.opts.Guard.Loop("redis acks", s.ctx.Done(), s.keepWritingAcks) })
	return s.beginOutbox(ctx)
}

// inspect refuses a server that is too old and warns of settings that break
// promises.
func (s *Store) inspect(ctx context.Context) error {
	text, err := s.client.Do(ctx, s.client.B().Info().Build()).ToString()
	if err != nil {
		return s.fault(ctx, err)
	}
	info := parseInfo(text)
	major, _, _ := strings.Cut(info["redis_version"], ".")
	if n, err := strconv.Atoi(major); err == nil && n < 7 {
		return fmt.Errorf("redis: the server is version %s; 7 or later is needed", info["redis_version"])
	}
	if p := info["maxmemory_policy"]; p != "" && p != "noeviction" {
		s.opts.Logger.Warn("Redis evicts what it was given to keep: set maxmemory-policy noeviction, or messages that were answered with 202 may vanish", "policy", p)
	}
	if info["aof_enabled"] == "0" && info["connected_slaves"] == "0" {
		s.opts.Logger.Warn("Redis keeps nothing that outlives a crash: set appendonly yes (and appendfsync always), or add a replica")
	}
	return nil
}

func (s *Store) checkFormat(ctx context.Context) error {
	set := s.client.B().Set().Key(s.formatKey()).Value(strconv.Itoa(formatVersion)).Nx().Build()
	r := s.client.DoMulti(ctx, set, s.client.B().Get().Key(s.formatKey()).Build())
	if err := r[0].Error(); err != nil && !rueidis.IsRedisNil(err) {
		return s.fault(ctx, err)
	}
	n, err := r[1].AsInt64()
	if err != nil {
		return s.fault(ctx, err)
	}
	if n > formatVersion {
		return errFormat
	}
	return nil
}

// checkWhole refuses a store that an import has not finished.
func (s *Store) checkWhole(ctx context.Context) error {
	n, err := s.client.Do(ctx, s.client.B().Exists().Key(s.importKey()).Build()).AsInt64()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	if n != 0 {
		return fmt.Errorf("redis: %w", bridge.ErrUnfinished)
	}
	return nil
}

// Epoch implements bridge.Store.
func (s *Store) Epoch() string { return *s.epoch.Load() }

// Listen implements bridge.Store.
func (s *Store) Listen(h bridge.Hub) { s.hub.Store(&h) }

// sessionsHere counts the user's sessions on this machine (everybody's where user is
// empty), without the ones excepted.
func (s *Store) sessionsHere(user string, except []string) int {
	if h := s.hub.Load(); h != nil {
		return (*h).Count(user, except)
	}
	return 0
}

// enter counts a call that Close waits for. A caller who has set no deadline gets
// one.
func (s *Store) enter(ctx context.Context) (limited context.Context, leave func(), err error) {
	s.gate.RLock()
	if s.closed.Load() {
		s.gate.RUnlock()
		return ctx, nil, bridge.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		s.gate.RUnlock()
		return ctx, nil, err
	}
	if _, ok := ctx.Deadline(); ok {
		return ctx, s.gate.RUnlock, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, s.opts.Patience, errNoAnswer)
	return limited, func() { cancel(); s.gate.RUnlock() }, nil
}

// whileOpen calls do unless Close has begun, and Close waits for it: what the Store's own
// loops write about this machine and its sessions must not come after Close has taken
// both out. It does not wait for Close, which waits for the loops.
func (s *Store) whileOpen(do func(ctx context.Context) error) error {
	if !s.gate.TryRLock() {
		return bridge.ErrClosed
	}
	defer s.gate.RUnlock()
	if s.closed.Load() {
		return bridge.ErrClosed
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.Patience)
	defer cancel()
	return do(ctx)
}

// errNoAnswer is that a server has not answered in time.
var errNoAnswer = fmt.Errorf("%w: redis: no answer in time", bridge.ErrUnavailable)

// Close implements bridge.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return bridge.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(closeTimeout, s.opts.Patience))
	defer cancel()
	free := make(chan struct{})
	go func() {
		s.gate.Lock() // waits for the calls under way
		close(free)
	}()
	answers := false
	select {
	case <-free:
		if err := s.writeAcks(ctx); err != nil {
			s.opts.Logger.Warn("the last acks were not written; their messages may come again", "error", err)
		}
		answers = s.withdrawPresence(ctx)
	case <-ctx.Done():
		s.opts.Logger.Warn("calls of Redis are under way, and are given up")
	}
	if !answers {
		s.conns.end() // or callers of a server that hangs would wait on
	}
	s.disconnect()
	<-free
	s.gate.Unlock()
	s.metrics.close()
	return nil
}

// closeTimeout is how long Close waits for calls under way, and for its own.
const closeTimeout = 3 * time.Second

// withdrawPresence takes this machine and its sessions out of Redis. If that fails (it
// returns false), other machines take them for alive until the lease lapses.
func (s *Store) withdrawPresence(ctx context.Context) bool {
	if late := s.lateLeaves.take(maxLateLeaves); len(late) > 0 {
		if err := s.leaveMany(ctx, late); err != nil {
			s.opts.Logger.Warn("presence was not withdrawn; it will lapse", "error", err)
			return false
		}
	}
	var cmds rueidis.Commands
	if h := s.hub.Load(); h != nil {
		for _, m := range (*h).AllMembers() {
			cmds = append(cmds, s.client.B().Hdel().Key(s.mailboxOf(m.User).l).Field(m.Session).Build())
		}
	}
	leases, sessions, _ := s.machineKeys()
	live, _ := s.sessionLists(s.self)
	cmds = append(cmds, s.client.B().Unlink().Key(live).Build(), s.client.B().Zrem().Key(leases).Member(s.self).Build(), s.client.B().Hdel().Key(sessions).Field(s.self).Build())
	for _, r := range s.doMany(ctx, cmds) {
		if err := r.Error(); err != nil {
			s.opts.Logger.Warn("presence was not withdrawn; it will lapse", "error", err)
			return false
		}
	}
	return true
}

// nowMs is the callers' clock.
func (s *Store) nowMs() int64 { return s.opts.Now().UnixMilli() }

func itoa[T int | int64 | uint64](n T) string { return strconv.FormatInt(int64(n), 10) }
