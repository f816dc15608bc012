package sqlite

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
)

// Defaults and bounds of Options.
const (
	DefaultMailboxLimit   = 10_000             // messages a mailbox holds
	DefaultMailboxBytes   = 16 << 20           // payload a mailbox holds
	DefaultBroadcastLimit = 100_000            // messages the log of messages to all holds
	DefaultIDRetention    = 7 * 24 * time.Hour // what senders are promised
	DefaultQueueLimit     = 4_096              // requests waiting for the writer
	DefaultPatience       = 5 * time.Second    // wait for room in the queue
)

// Options says where a Store keeps its file and within which bounds. Only Dir
// is required.
type Options struct {
	// Dir holds bridge.db. It is made (0700) when missing.
	Dir string
	// MailboxLimit is how many unexpired messages one mailbox holds before the
	// oldest go; DefaultMailboxLimit when 0.
	MailboxLimit int
	// MailboxBytes is how much payload, in bytes, the unexpired messages of one
	// mailbox have before the oldest go; one message always fits. A payload that
	// several mailboxes share counts in each. DefaultMailboxBytes when 0.
	MailboxBytes int
	// BroadcastLimit is the same for the log of messages to all, of which
	// there is one; DefaultBroadcastLimit when 0. Its BroadcastBytes are ten
	// times MailboxBytes when 0.
	BroadcastLimit int
	BroadcastBytes int
	// IDRetention is how long the id of a message is remembered after it was
	// appended, stored or not; DefaultIDRetention when 0. The id of a message
	// that is kept longer is remembered as long as the message.
	IDRetention time.Duration
	// Backends are whom callbacks are stored for; none when empty. MaxCallbacks and
	// MaxCallbackBytes bound what is kept for each, of what waits and of what was given
	// up; bridge's when 0.
	Backends         bridge.Backends
	MaxCallbacks     int
	MaxCallbackBytes int64
	// QueueLimit bounds the requests that wait for the writer, and Patience
	// how long a caller waits for room before it gets ErrUnavailable.
	QueueLimit int
	Patience   time.Duration
	// Now is the clock that decides what has expired; time.Now when nil.
	Now func() time.Time
	// Logger hears of failures and recoveries, never of payloads; silent when nil.
	Logger *slog.Logger
	// Registerer takes the store's metrics until Close; none when nil.
	Registerer prometheus.Registerer
	// Guard catches panics of the store's loops; nil: without a word.
	Guard *guard.Guard
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("sqlite: Options.Dir is empty")
	}
	if o.MailboxLimit < 0 || o.MailboxBytes < 0 || o.BroadcastBytes < 0 || o.BroadcastLimit < 0 || o.IDRetention < 0 || o.QueueLimit < 0 || o.Patience < 0 ||
		o.MaxCallbacks < 0 || o.MaxCallbackBytes < 0 {
		return o, errors.New("sqlite: a limit in Options is negative")
	}
	o.MailboxLimit = orDefault(o.MailboxLimit, DefaultMailboxLimit)
	o.MailboxBytes = orDefault(o.MailboxBytes, DefaultMailboxBytes)
	o.BroadcastBytes = orDefault(o.BroadcastBytes, 10*o.MailboxBytes)
	o.BroadcastLimit = orDefault(o.BroadcastLimit, DefaultBroadcastLimit)
	o.IDRetention = orDefault(o.IDRetention, DefaultIDRetention)
	o.MaxCallbacks = orDefault(o.MaxCallbacks, bridge.MaxCallbacks)
	o.MaxCallbackBytes = orDefault(o.MaxCallbackBytes, bridge.MaxCallbackBytes)
	o.QueueLimit = orDefault(o.QueueLimit, DefaultQueueLimit)
	o.Patience = orDefault(o.Patience, DefaultPatience)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
