package redis

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// A message to several is kept once, by its id, and each mailbox holds only that
// id and its own number among those that share. A bit for each of these says
// whether it still holds the message; the last one to give it up takes it away.
// Beyond that the message goes by itself when its time is over: a mailbox whose
// script was told, but not the id's key, leaves nothing behind for longer.

const (
	// shareFrom is the size of a payload, bytes, from which on sharing it costs
	// less than it saves.
	shareFrom = 256
	// shareMargin is for how much longer a shared message is kept, so that clocks
	// that differ a little never take it away too early.
	shareMargin = time.Minute
	// readAgain is how often a stretch is read again of which a shared message was
	// taken away meanwhile: by then it is out of the mailbox, too.
	readAgain = 2
)

// sharedKeys are where a shared message is, and who holds it.
func (e *Store) sharedKeys(id string) (message, holders string) {
	return e.record(id) + ":b", e.record(id) + ":n"
}

// shares reports whether mailboxes share a message.
func shares(m *bridge.Message, mailboxes int) bool {
	return mailboxes > 1 && m.Stored() && len(m.Event) >= shareFrom
}

// holders has a bit set for each of n mailboxes.
func holders(n int) string {
	b := slices.Repeat([]byte{0xff}, (n+7)/8)
	if n%8 != 0 {
		b[len(b)-1] = 0xff << (8 - n%8)
	}
	return rueidis.BinaryString(b)
}

// sharedTTL is how long a shared message is kept, milliseconds.
func (e *Store) sharedTTL(m *bridge.Message) int64 {
	return max(1, m.Expires.UnixMilli()-e.nowMs()) + shareMargin.Milliseconds()
}

// release tells shared messages that mailboxes have given them up: a number and an
// id each.
func (e *Store) release(ctx context.Context, released []string) error {
	calls := make([]call, 0, len(released))
	for _, one := range released {
		if number, id, ok := strings.Cut(one, " "); ok {
			message, holders := e.sharedKeys(id)
			calls = append(calls, call{&e.scripts.releaseShared, []string{message, holders}, []string{number}})
		}
	}
	for _, one := range e.durably(ctx, calls) {
		if one.err != nil {
			return one.err
		}
	}
	return nil
}

// releaseLater is release for those whose answer does not depend on it: what is not
// released goes when its time is over.
func (e *Store) releaseLater(ctx context.Context, released []string) {
	if len(released) == 0 {
		return
	}
	if err := e.release(ctx, released); err != nil {
		e.opts.Logger.Warn("shared messages that mailboxes gave up may be kept until they expire", "messages", len(released), "error", err)
	}
}

// shared reads shared messages by their ids; those that are gone are missing in the
// answer.
func (e *Store) shared(ctx context.Context, ids []string) (map[string]string, error) {
	out := make(map[string]string, len(ids))
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	cmds := make(rueidis.Commands, len(ids))
	for i, id := range ids {
		message, _ := e.sharedKeys(id)
		cmds[i] = e.client.B().Get().Key(message).Build()
	}
	for i, r := range e.doMany(ctx, cmds) {
		text, err := r.ToString()
		if rueidis.IsRedisNil(err) {
			continue
		}
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		out[ids[i]] = text
	}
	return out, nil
}

// sharedMark begins what lua/read.lua says of a shared message; its id follows.
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
