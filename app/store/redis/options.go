package redis

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
)

// Defaults of Options.
const (
	DefaultPrefix         = "hookbridge"
	DefaultMailboxLimit   = 10_000             // messages a mailbox holds
	DefaultMailboxBytes   = 16 << 20           // payload a mailbox holds
	DefaultBroadcastLimit = 100_000            // messages the log of messages to all holds
	DefaultIDRetention    = 7 * 24 * time.Hour // as senders are promised
	DefaultLease          = 15 * time.Second   // how long a machine's sessions count after a renewal
	DefaultRenew          = 3 * time.Second    // how often a machine renews its lease
	DefaultPatience       = 5 * time.Second    // for one call to Redis
)

// Options says where a Store keeps what it keeps and within which bounds. Only
// URL is required.
type Options struct {
	// URL is redis://[user:password@]host:port[/db], or rediss:// for TLS. More
	// nodes of a Cluster follow as ?addr=host:port&addr=…; whether it is one is
	// found out. ?master_set=name makes the addresses those of Sentinels.
	URL string
	// Prefix begins every key and channel; DefaultPrefix when empty.
	Prefix string
	// WaitReplicas is how many replicas must have a message before Append
	// returns; none when 0. Where fewer answer within Patience, Append fails
	// with ErrUnavailable, and the same id sent again finds the message.
	WaitReplicas int
	// These limits and IDRetention are as in the embedded store.
	MailboxLimit   int
	MailboxBytes   int
	BroadcastLimit int
	BroadcastBytes int
	IDRetention    time.Duration
	// Backends are those that callbacks are kept for; none are kept where it is empty.
	Backends bridge.Backends
	// MaxCallbacks and MaxCallbackBytes bound what is kept for a backend; those of bridge
	// when 0.
	MaxCallbacks     int
	MaxCallbackBytes int64
	// A machine renews its lease every Renew. If it has not done so for a Lease, other
	// machines do not count its sessions any more.
	Lease time.Duration
	Renew time.Duration
	// Patience bounds each call to Redis.
	Patience time.Duration
	// Now is the clock that decides what has expired; time.Now when nil.
	Now func() time.Time
	// Logger hears of failures and recoveries, never of payloads; silent when nil.
	Logger *slog.Logger
	// Registerer takes the store's metrics until Close; none when nil.
	Registerer prometheus.Registerer
	// Guard catches panics of the store's loops; nil: silently.
	Guard *guard.Guard

	redisClock bool // Now was nil: where machines have to agree, Redis tells the time
}

func (o Options) withDefaults() (Options, error) {
	if o.URL == "" {
		return o, errors.New("redis: Options.URL is empty")
	}
	if o.MailboxLimit < 0 || o.MailboxBytes < 0 || o.BroadcastBytes < 0 || o.BroadcastLimit < 0 || o.IDRetention < 0 || o.WaitReplicas < 0 || o.MaxCallbacks < 0 || o.MaxCallbackBytes < 0 {
		return o, errors.New("redis: a limit in Options is negative")
	}
	if err := CheckPrefix(o.Prefix); err != nil {
		return o, fmt.Errorf("redis: %w", err)
	}
	setDefault(&o.Prefix, DefaultPrefix)
	setDefault(&o.MailboxLimit, DefaultMailboxLimit)
	setDefault(&o.MailboxBytes, DefaultMailboxBytes)
	setDefault(&o.BroadcastBytes, 10*o.MailboxBytes)
	setDefault(&o.BroadcastLimit, DefaultBroadcastLimit)
	setDefault(&o.IDRetention, DefaultIDRetention)
	setDefault(&o.MaxCallbacks, bridge.MaxCallbacks)
	setDefault(&o.MaxCallbackBytes, bridge.MaxCallbackBytes)
	setDefault(&o.Lease, DefaultLease)
	setDefault(&o.Renew, DefaultRenew)
	setDefault(&o.Patience, DefaultPatience)
	if o.Now == nil {
		o.Now, o.redisClock = time.Now, true
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// randomName has n characters of [0-9a-z].
func randomName(n int) string { return strings.ToLower(rand.Text()[:n]) }
