package redis

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"time"
)

var nameEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// short is a name of fixed length for any name: keys neither show names nor
// break at what names may hold.
func short(name string) string {
	sum := sha256.Sum256([]byte(name))
	return nameEncoding.EncodeToString(sum[:15])
}

// mailbox names the keys of one mailbox; see lua/lib.lua.
type mailbox struct{ h, m, g, t, l, base string }

func (e *Store) mailboxAt(tag string) mailbox {
	base := e.opts.Prefix + ":{" + tag + "}:"
	return mailbox{base + "h", base + "m", base + "g", base + "t", base + "l", base}
}

func (e *Store) mailboxOf(user string) mailbox { return e.mailboxAt("u" + short(user)) }

// delivered remembers that an id went into this mailbox, where a record of the
// id alone cannot.
func (b mailbox) delivered(id string) string { return b.base + "i:" + id }

func (b mailbox) trails() string      { return b.base + "T" }
func (b mailbox) revocations() string { return b.base + "R" }
func (b mailbox) groups() string      { return b.base + "G" }
func (b mailbox) tokens() string      { return b.base + "K" }

// sights holds what a user saw in one stretch of IDRetention; two stretches
// cover all that is remembered.
func (e *Store) sights(b mailbox, at time.Time) string {
	return b.base + "S" + strconv.FormatInt(at.UnixMilli()/e.opts.IDRetention.Milliseconds(), 10)
}

func (e *Store) record(id string) string { return e.opts.Prefix + ":{i" + id + "}" }

// groupKeys are what is kept of a group; see tokens.go.
type groupKeys struct {
	stored string // a set: whom an operator has put in
	named  string // sorted by end: whom tokens name, as indexed writes them
	older  string // sorted by end: whom tokens name, by versions that knew no tokens apart
}

func (e *Store) groupKeys(group string) groupKeys {
	base := e.opts.Prefix + ":{g" + short(group) + "}:"
	return groupKeys{stored: base + "s", named: base + "n", older: base + "t"}
}

// users lists those who were seen, by name.
func (e *Store) users() string { return e.all.base + "u" }

func (e *Store) machineKeys() (leases, sessions, epoch string) {
	base := e.opts.Prefix + ":{machines}:"
	return base + "z", base + "n", base + "e"
}

func (e *Store) formatKey() string { return e.opts.Prefix + ":{machines}:format" }

// importKey stands while an import is not finished.
func (e *Store) importKey() string { return e.opts.Prefix + ":{machines}:import" }

// channel is where a machine listens; with "all" where all do.
func (e *Store) channel() string { return e.opts.Prefix + ":c:" }
