package bridge

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/wire"
)

// Config is what the domain can be set to. New fills zero fields with the
// defaults given here.
type Config struct {
	DefaultTTL      time.Duration // how long an event without ttl is kept; 72 h
	MaxBytes        int           // largest event and frame, bytes; 64 KiB
	MaxSessions     int           // live sessions on this machine; 10,000
	SessionsPerUser int           // one more closes the oldest; 16

	ConnectTimeout time.Duration // for the first frame; 5 s
	PingEvery      time.Duration // heartbeat; 25 s. Silence of twice as long ends the session.
	WriteTimeout   time.Duration // for one write to a socket; 10 s
	SlowGrace      time.Duration // what an overflowed session's last write may still take; 5 s
	ExpiryWarning  time.Duration // token_expiring comes this long before; 60 s

	QueueFrames int     // frames waiting for one slow socket; 1,024
	QueueBytes  int     // bytes waiting for one slow socket; 1 MiB
	FrameRate   float64 // frames a second that a client may send; 100
	FrameBurst  int     // frames it may send at once; 1,000

	DrainTimeout time.Duration // to give reconnect advice and end all sessions; 15 s
	DrainSpread  time.Duration // reconnects are spread over this long; 5 s

	Now        func() time.Time // time.Now
	Logger     *slog.Logger     // slog.Default()
	Registerer prometheus.Registerer
}

func (c *Config) fill() {
	setDefault(&c.DefaultTTL, 72*time.Hour)
	setDefault(&c.MaxBytes, 64<<10)
	setDefault(&c.MaxSessions, 10_000)
	setDefault(&c.SessionsPerUser, 16)
	setDefault(&c.ConnectTimeout, 5*time.Second)
	setDefault(&c.PingEvery, 25*time.Second)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.SlowGrace, 5*time.Second)
	setDefault(&c.ExpiryWarning, time.Minute)
	setDefault(&c.QueueFrames, 1024)
	setDefault(&c.QueueBytes, 1<<20)
	setDefault(&c.FrameRate, 100)
	setDefault(&c.FrameBurst, 1000)
	setDefault(&c.DrainTimeout, 15*time.Second)
	setDefault(&c.DrainSpread, 5*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
}

func setDefault[T int | float64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Bridge carries messages between backends, mailboxes and sessions. All its
// methods may be called from many goroutines.
type Bridge struct {
	cfg     Config
	engine  Engine
	auth    Authenticator
	hub     *hub
	metrics *metrics
	log     *slog.Logger

	enterMu  sync.Mutex // orders draining against running and guards greeting
	draining atomic.Bool
	running  sync.WaitGroup    // connections that Accept has taken, until they end
	greeting map[Conn]struct{} // those that are no sessions yet
}

// New wires a Bridge to its engine and starts to listen to it.
func New(cfg Config, engine Engine, auth Authenticator) *Bridge {
	cfg.fill()
	b := &Bridge{cfg: cfg, engine: engine, auth: auth, log: cfg.Logger, greeting: make(map[Conn]struct{})}
	b.hub = newHub()
	b.metrics = newMetrics(cfg.Registerer, b.hub)
	engine.Listen(b.hub)
	return b
}

// Outcome is the truthful answer to one event.
type Outcome struct {
	ID         string
	Status     Status
	Sessions   int // live sessions it went to
	Duplicate  bool
	Expires    time.Time // zero if never stored
	Several    bool      // the target named several users: Recipients and Online count them
	Recipients int
	Online     int
}

// Report is an event of a backend, on its way to Publish.
type Report struct {
	ID        string            // the webhook's id
	Timestamp time.Time         // the webhook's own time
	Digest    [sha256.Size]byte // of the signed bytes
	Event     wire.Event
}

// Publish takes an event of a backend. When it returns without error the event
// is stored (unless its ttl is 0), and the outcome says whom it reached.
// Errors: ErrDraining, *InvalidError, and Engine.Append's.
func (b *Bridge) Publish(ctx context.Context, r Report) (Outcome, error) {
	at := r.Event.Timestamp
	if at.IsZero() {
		at = r.Timestamp
	}
	m, err := b.message(r.ID, "", at, r.Digest, &r.Event)
	if err != nil {
		return Outcome{}, err
	}
	return b.append(ctx, m)
}

// Send takes a message from one user to others. A ref makes a retry idempotent
// for this user; without one each call is a message of its own.
// Errors: ErrForbiddenTarget and those of Publish.
func (b *Bridge) Send(ctx context.Context, from Identity, ref string, e wire.Event) (Outcome, error) {
	id := "msg_" + ulid.Make().String()
	if ref != "" {
		sum := sha256.Sum256([]byte("send\x00" + from.User + "\x00" + ref))
		id = "msg_" + tagEncoding.EncodeToString(sum[:16])
	}
	m, err := b.message(id, from.User, b.cfg.Now(), sendDigest(&e), &e)
	if err != nil {
		return Outcome{}, err
	}
	if !from.Policy.MaySend(m.To) {
		return Outcome{}, ErrForbiddenTarget
	}
	return b.append(ctx, m)
}

// message checks an event against the domain's rules and makes the Message.
func (b *Bridge) message(id, from string, at time.Time, digest [sha256.Size]byte, e *wire.Event) (*Message, error) {
	to, err := checkTarget(e.To)
	if err != nil {
		return nil, err
	}
	ttl := e.TTL
	if ttl < 0 {
		ttl = b.cfg.DefaultTTL
	}
	m := &Message{ID: id, From: from, To: to, Digest: digest, Except: e.Except}
	if ttl > 0 {
		m.Expires = b.cfg.Now().Add(ttl).UTC().Truncate(time.Millisecond)
	}
	m.Event = wire.AppendEventObject(make([]byte, 0, len(e.Data)+len(e.Type)+len(id)+72), id, e.Type, at, e.Data)
	m.Encode()
	return m, nil
}

func checkTarget(t wire.Target) (Target, error) {
	switch {
	case t.All:
		return Target{All: true}, nil
	case t.Group != "":
		return Target{}, invalid("/to/group is not available: this bridge keeps no groups; name the users in /to/users")
	case t.User != "":
		if err := CheckUserID(t.User); err != nil {
			return Target{}, invalid("/to/user: %v", err)
		}
		return Target{User: t.User}, nil
	case t.Users == nil:
		return Target{}, invalid("/to/user: %v", CheckUserID(""))
	case len(t.Users) == 0 || len(t.Users) > MaxRecipients:
		return Target{}, invalid("/to/users must name 1 to %d users; it names %d", MaxRecipients, len(t.Users))
	}
	seen := make(map[string]struct{}, len(t.Users))
	users := make([]string, 0, len(t.Users))
	for i, u := range t.Users {
		if err := CheckUserID(u); err != nil {
			return Target{}, invalid("/to/users/%d: %v", i, err)
		}
		if _, twice := seen[u]; !twice {
			seen[u] = struct{}{}
			users = append(users, u)
		}
	}
	return Target{Users: users}, nil
}

// sendDigest covers what a user asked for, so that a reused ref with other
// content is a conflict.
func sendDigest(e *wire.Event) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range append([]string{e.Type, string(e.Data), e.Topic, e.TTL.String(), e.To.User, boolName(e.To.All)}, e.To.Users...) {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Sum(sum[:0])
	return sum
}

func boolName(b bool) string {
	if b {
		return "all"
	}
	return ""
}

func (b *Bridge) append(ctx context.Context, m *Message) (Outcome, error) {
	if b.draining.Load() {
		return Outcome{}, ErrDraining
	}
	started := time.Now()
	r, err := b.engine.Append(ctx, m)
	if err != nil {
		b.metrics.refused(err)
		return Outcome{}, err
	}
	b.metrics.appendSeconds.Observe(time.Since(started).Seconds())
	o := b.outcome(m, r)
	b.metrics.published(o)
	return o, nil
}

// outcome reads a receipt. A first Append is judged by whom it was handed to; a
// duplicate by where its message stands now.
func (b *Bridge) outcome(m *Message, r Receipt) Outcome {
	o := Outcome{ID: m.ID, Duplicate: r.Duplicate, Expires: r.Expires, Sessions: r.Sessions, Several: m.To.Users != nil}
	away := StatusQueued
	if r.Expires.IsZero() {
		away = StatusDropped
	}
	if m.To.All {
		o.Status = away
		if r.Duplicate {
			o.Sessions = b.hub.holdingAll(r.Broadcast)
		}
		if o.Sessions > 0 {
			o.Status = StatusSent
		}
		return o
	}
	o.Recipients = len(r.Recipients)
	allAcked := len(r.Recipients) > 0
	for i := range r.Recipients {
		rc := &r.Recipients[i]
		online, status := rc.Sessions > 0, StatusSent
		if r.Duplicate {
			var holding int
			holding, status = b.hub.holding(rc.User, rc.Seq)
			online = holding > 0
			o.Sessions += holding
		}
		if rc.Acked {
			status = StatusAcked
		} else {
			allAcked = false
		}
		if !online {
			continue
		}
		o.Online++
		if o.Status == "" || status.Less(o.Status) {
			o.Status = status
		}
	}
	switch {
	case o.Status != "":
	case allAcked: // nobody is online now, but everybody has it
		o.Status = StatusAcked
	default:
		o.Status = away
	}
	return o
}

// Check tells whether the bridge can take work: not draining, engine well.
func (b *Bridge) Check(ctx context.Context) error {
	if b.draining.Load() {
		return ErrDraining
	}
	return b.engine.Check(ctx)
}

// Full reports whether this machine has all the sessions it may have.
func (b *Bridge) Full() bool { return b.hub.count() >= b.cfg.MaxSessions }

// Draining reports whether Drain was called.
func (b *Bridge) Draining() bool { return b.draining.Load() }

// MaxBytes is the largest event and frame, bytes.
func (b *Bridge) MaxBytes() int { return b.cfg.MaxBytes }
