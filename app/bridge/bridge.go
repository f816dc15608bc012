package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"hookbridge/app/guard"
)

// Config is what the domain can be set to.
type Config struct {
	// These must be set, or New panics. What operators get by default stands in
	// server.Settings.
	DefaultTTL      time.Duration // how long an event without ttl is kept
	MaxBytes        int           // largest event and frame, bytes
	MaxSessions     int           // live sessions on this machine
	SessionsPerUser int           // one more closes the oldest
	PingEvery       time.Duration // heartbeat; silence of 2.5 times as long ends the session
	DrainTimeout    time.Duration // to give reconnect advice and end all sessions

	ConnectTimeout time.Duration // for the first frame; 0: 5 s

	// UserRate and UserBytes bound what one user sends through this machine, in
	// events and in bytes a second; 0: no limit.
	UserRate  float64
	UserBytes float64

	// Backends are told what users do, by callbacks in the Outbox, and answer requests
	// through the Requester. Without backends both are nil.
	Backends  Backends
	Outbox    Outbox
	Requester Requester

	Now        func() time.Time      // nil: time.Now
	Logger     *slog.Logger          // nil: slog.Default()
	Audit      Audit                 // the zero value writes nothing
	Registerer prometheus.Registerer // nil: a registry that nobody reads
	Guard      *guard.Guard          // catches panics; nil: one of its own, with Logger and Registerer
}

// fill gives the fields that may be left out their defaults.
func (c *Config) fill() {
	if c.DefaultTTL <= 0 || c.MaxBytes <= 0 || c.MaxSessions <= 0 || c.SessionsPerUser <= 0 || c.PingEvery <= 0 || c.DrainTimeout <= 0 {
		panic("bridge: DefaultTTL, MaxBytes, MaxSessions, SessionsPerUser, PingEvery and DrainTimeout must be set")
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Guard == nil {
		c.Guard = guard.New(c.Logger, c.Registerer)
	}
}

// Bridge carries messages between backends, mailboxes and sessions. All its
// methods may be called from many goroutines.
type Bridge struct {
	cfg     Config
	store   Store
	live    Live
	auth    Authenticator
	hub     *hub
	metrics *metrics
	log     *slog.Logger
	audit   Audit
	waits   *waits
	writers writers
	users   *userLimits
	heavy   chan struct{} // one in it for each heavy call of an operator
	guard   *guard.Guard
	// refusals bounds what unauthenticated callers write into the logs.
	refusals *Refusals
	started  time.Time
	// armFailures bounds the warnings of what cannot be told of users who come and go.
	armFailures rate.Sometimes
	lateGone    lateGone
	requests    userRequests

	enterMu         sync.Mutex // orders draining against running and guards unauthenticated
	draining        atomic.Bool
	running         sync.WaitGroup    // connections that Accept has taken, until they end
	unauthenticated map[Conn]struct{} // those that have not shown a good token yet
}

// New wires a Bridge to its store and to those who are live, and starts to listen
// to them.
func New(cfg Config, store Store, live Live, auth Authenticator) *Bridge {
	cfg.fill()
	b := &Bridge{cfg: cfg, store: store, live: live, auth: auth, log: cfg.Logger, audit: cfg.Audit, guard: cfg.Guard,
		unauthenticated: make(map[Conn]struct{}), started: cfg.Now(), users: newUserLimits(cfg.UserRate, cfg.UserBytes), heavy: make(chan struct{}, maxHeavy)}
	b.refusals = newRefusals(cfg.Logger, cfg.Audit)
	b.armFailures = rate.Sometimes{First: 1, Interval: time.Minute}
	b.refusals.after = func(d time.Duration, f func()) {
		time.AfterFunc(d, func() { b.guard.Run("refusals", f) })
	}
	b.waits = newWaits(b.tell)
	b.waits.guard = b.guard
	b.hub = newHub(b.waits, cfg.Now)
	b.metrics = newMetrics(cfg.Registerer, b.hub, b.guard)
	store.Listen(b.hub)
	live.Listen(b.hub)
	return b
}

// tell sends a notice in a goroutine of its own. If the notice is lost, the caller that
// waits for it waits until its time is up.
func (b *Bridge) tell(n Notice) {
	go b.guard.Run("notice", func() {
		ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
		defer cancel()
		if err := b.live.Tell(ctx, n); err != nil && !errors.Is(err, ErrClosed) {
			b.log.Warn("another machine was not told of a message's progress", "id", n.ID, "error", err)
		}
	})
}

// Check tells whether the bridge can take work: not draining, store well.
func (b *Bridge) Check(ctx context.Context) error {
	if b.draining.Load() {
		return ErrDraining
	}
	return b.store.Check(ctx)
}

// enforceSessionLimit makes room where a user has too many sessions, on whichever machine
// they are: the oldest polls are answered, or the oldest sessions closed.
func (b *Bridge) enforceSessionLimit(ctx context.Context, user string) error {
	list, err := b.live.Sessions(ctx, user)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	list = slices.DeleteFunc(list, func(m Member) bool { return b.hub.ending(user, m.Session) })
	for _, m := range surplus(list, b.cfg.SessionsPerUser) {
		if err := b.live.Tell(ctx, Notice{Kind: NoticeReplaced, User: user, Session: m.Session}); err != nil {
			return fmt.Errorf("end an older session: %w", err)
		}
	}
	return nil
}

// Full reports whether this machine has all the sessions it may have.
func (b *Bridge) Full() bool { return b.hub.count() >= b.cfg.MaxSessions }

// Draining reports whether Drain was called.
func (b *Bridge) Draining() bool { return b.draining.Load() }

// MaxBytes is the largest event and frame, bytes.
func (b *Bridge) MaxBytes() int { return b.cfg.MaxBytes }

// Refusals bounds what is written of unauthenticated callers, here and at
// the edge.
func (b *Bridge) Refusals() *Refusals { return b.refusals }

// Audit is where the edge writes what it refuses.
func (b *Bridge) Audit() Audit { return b.audit }
