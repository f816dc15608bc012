package redis

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"time"
)

var nameEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// short is a hash of a name, of fixed length: keys do not show names, and a name may
// have any characters.
func short(name string) string {
	sum := sha256.Sum256([]byte(name))
	return nameEncoding.EncodeToString(sum[:15])
}

// mailbox names the keys of one mailbox; see lua/lib.lua.
type mailbox struct{ h, m, g, t, l, base string }

func (s *Store) mailboxAt(tag string) mailbox {
	base := s.opts.Prefix + ":{" + tag + "}:"
	return mailbox{base + "h", base + "m", base + "g", base + "t", base + "l", base}
}

// userTag is the tag of a user's keys.
func userTag(user string) string { return "u" + short(user) }

func (s *Store) mailboxOf(user string) mailbox { return s.mailboxAt(userTag(user)) }

// delivered is the key that holds the place of an id's message in this mailbox, if the
// id's own entry does not hold it.
func (b mailbox) delivered(id string) string { return b.base + "i:" + id }

func (b mailbox) logs() string        { return b.base + "T" }
func (b mailbox) revocations() string { return b.base + "R" }
func (b mailbox) groups() string      { return b.base + "G" }
func (b mailbox) tokens() string      { return b.base + "K" }

// seenKey is the key of what a user saw in one period of IDRetention; the current period
// and the one before cover all ids that are known.
func (s *Store) seenKey(b mailbox, at time.Time) string {
	return b.base + "S" + strconv.FormatInt(at.UnixMilli()/s.opts.IDRetention.Milliseconds(), 10)
}

func (s *Store) record(id string) string { return s.opts.Prefix + ":{i" + id + "}" }

// groupKeys are the keys of a group; see tokens.go.
type groupKeys struct {
	stored string // a set: users whom an operator has put in
	named  string // a sorted set: users whom tokens name, and until when
	older  string // the same as written by versions that did not tell tokens apart
}

func (s *Store) groupKeys(group string) groupKeys {
	base := s.opts.Prefix + ":{g" + short(group) + "}:"
	return groupKeys{stored: base + "s", named: base + "n", older: base + "t"}
}

// users is the key of a sorted set: the users who were seen.
func (s *Store) users() string { return s.all.base + "u" }

func (s *Store) machineKeys() (leases, sessions, epoch string) {
	base := s.opts.Prefix + ":{machines}:"
	return base + "z", base + "n", base + "e"
}

func (s *Store) formatKey() string { return s.opts.Prefix + ":{machines}:format" }

// importKey is the key that is there while an import is not finished.
func (s *Store) importKey() string { return s.opts.Prefix + ":{machines}:import" }

// channel is the prefix of each machine's channel; with "all" it is the one that all share.
func (s *Store) channel() string { return s.opts.Prefix + ":c:" }
