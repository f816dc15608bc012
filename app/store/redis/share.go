package redis

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// A message to several is kept once, by its id. Each mailbox holds only that id and the
// mailbox's number among those that share the message. A bit for each number says whether
// its mailbox still holds the message; the last mailbox that gives the message up deletes
// it. If a mailbox gave it up and the bits were not told, the message goes when it
// expires.

const (
	// shareFrom is the least size of a payload, bytes, that is shared: for a smaller one
	// sharing costs more than it saves.
	shareFrom = 256
	// shareMargin is how long a shared message is kept after it has expired, so that
	// clocks that differ a little never delete it too early.
	shareMargin = time.Minute
	// readAgain is how often a page is read again because a shared message in it was
	// deleted meanwhile: by then the message is out of the mailbox, too.
	readAgain = 2
)

// sharedKeys are the keys of a shared message and of the mailboxes that hold it.
func (s *Store) sharedKeys(id string) (message, holders string) {
	return s.record(id) + ":b", s.record(id) + ":n"
}

// shares reports whether so many mailboxes share a message.
func shares(m *bridge.Message, mailboxes int) bool {
	return mailboxes > 1 && m.Stored() && len(m.Event) >= shareFrom
}

// holders returns a bit string with a bit set for each of n mailboxes.
func holders(n int) string {
	b := slices.Repeat([]byte{0xff}, (n+7)/8)
	if n%8 != 0 {
		b[len(b)-1] = 0xff << (8 - n%8)
	}
	return rueidis.BinaryString(b)
}

// sharedTTL is how long a shared message is kept, milliseconds.
func (s *Store) sharedTTL(m *bridge.Message) int64 {
	return max(1, m.Expires.UnixMilli()-s.nowMs()) + shareMargin.Milliseconds()
}

// release notes that mailboxes have given up shared messages: each is the mailbox's
// number and the message's id, with a blank between.
func (s *Store) release(ctx context.Context, released []string) error {
	calls := make([]call, 0, len(released))
	for _, one := range released {
		if number, id, ok := strings.Cut(one, " "); ok {
			message, holders := s.sharedKeys(id)
			calls = append(calls, call{&s.scripts.releaseShared, []string{message, holders}, []string{number}})
		}
	}
	for _, one := range s.runManyDurably(ctx, calls) {
		if one.err != nil {
			return one.err
		}
	}
	return nil
}

// tryRelease is release for callers who do not depend on it: what is not released goes
// when it expires.
func (s *Store) tryRelease(ctx context.Context, released []string) {
	if len(released) == 0 {
		return
	}
	if err := s.release(ctx, released); err != nil {
		s.opts.Logger.Warn("shared messages that mailboxes gave up may be kept until they expire", "messages", len(released), "error", err)
	}
}

// shared reads shared messages, by their ids. Those that are gone are missing in the
// answer.
func (s *Store) shared(ctx context.Context, ids []string) (map[string]string, error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	texts, err := repliesOf(ctx, s, ids, func(id string) rueidis.Completed {
		message, _ := s.sharedKeys(id)
		return s.get(message)
	}, (*rueidis.RedisResult).ToString)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(ids))
	for i, text := range texts {
		if text != "" {
			out[ids[i]] = text
		}
	}
	return out, nil
}

// sharedMark begins lua/read.lua's answer for a shared message; the id follows.
const sharedMark = 0

// fill reads the shared messages of a stretch for its user, and reports whether all
// are there. With last, those that are not count as expired.
func (s *stretch) fill(found map[string]string, user string, last bool) (whole bool, err error) {
	whole = true
	for i, id := range s.shared {
		if id == "" {
			continue
		}
		text, ok := found[id]
		if !ok {
			whole = false
			continue
		}
		if s.messages[i], err = decodeMessage([]byte(text), user); err != nil {
			return false, err
		}
	}
	if whole || !last {
		return whole, nil
	}
	places, messages := s.places[:0], s.messages[:0]
	for i, m := range s.messages {
		if m != nil {
			places, messages = append(places, s.places[i]), append(messages, m)
		}
	}
	s.places, s.messages = places, messages
	return true, nil
}
