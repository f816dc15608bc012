package redis

import (
	"context"
	"time"

	"hookbridge/app/bridge"
)

// HubOf is what Listen was given; nil before.
func HubOf(e *Store) bridge.Hub {
	if h := e.hub.Load(); h != nil {
		return *h
	}
	return nil
}

// MessagesKey is the key of a user's messages.
func MessagesKey(e *Store, user string) string { return e.mailboxOf(user).m }

// StateAndRemovedKeys are the keys of a mailbox's state, and of the places from which
// messages were removed on purpose.
func StateAndRemovedKeys(e *Store, user string) (state, removed string) {
	b := e.mailboxOf(user)
	return b.h, b.g
}

// MachinesKey is the key of the machines' leases.
func MachinesKey(e *Store) string {
	z, _, _ := e.machineKeys()
	return z
}

// IndexedKey is the key that says since when ids are listed.
func IndexedKey(e *Store) string { return e.indexedKey() }

// HearOld has a store hear a message as a version without lives publishes it.
func HearOld(e *Store, m *bridge.Message, user string, seq uint64) {
	v := envelope{user: user, machine: "of-an-old-id", token: 1}
	b := v.encode()
	old := b[1:] // without the room for a life
	head := append([]byte{byte(len(old))}, old...)
	e.hear("D" + itoa(seq) + " " + string(head) + string(encodeMessage(m)))
}

// Kill ends a Store as kill -9 of its process would: nothing goes to Redis any more.
func Kill(e *Store) {
	e.conns.end()
	e.closed.Store(true)
	e.disconnect()
}

// SubscribeAnew has a machine give up the connection over which it hears the channels.
func SubscribeAnew(e *Store) { e.subscribeAnew() }

// Renew renews a machine's lease.
func Renew(ctx context.Context, e *Store) error { return e.renew(ctx) }

// Skewed has a machine's clock differ from that of Redis.
func Skewed(o Options, by func() time.Duration) Options {
	o.Now, o.redisClock = func() time.Time { return time.Now().Add(by()) }, true
	return o
}

// Admit has the indexes know of callbacks that are never stored: a machine died between.
func Admit(ctx context.Context, e *Store, cs ...bridge.Callback) error {
	_, _, err := e.storing(cs).admit(ctx, e.run)
	return err
}

// CallbackKeys are all keys of the indexes of a backend's callbacks but the one of how many
// bytes wait.
func CallbackKeys(e *Store, backend string) []string {
	x := e.callbackIndex(backend)
	return append(append(x.waiting[:], x.dead[:]...), x.due, x.hurry)
}

// Existing is how many of some keys there are; -1 if that cannot be told.
func Existing(ctx context.Context, e *Store, keys []string) int64 {
	n, err := e.client.Do(ctx, e.client.B().Exists().Key(keys...).Build()).AsInt64()
	if err != nil {
		return -1
	}
	return n
}

// LoseIndexes deletes the indexes of what is due.
func LoseIndexes(ctx context.Context, e *Store, backend string) error {
	return e.do(ctx, e.client.B().Del().Key(e.callbackIndex(backend).due, e.timerIndex()).Build())
}
