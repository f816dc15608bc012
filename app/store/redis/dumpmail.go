package redis

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// letters is how many messages are read from a mailbox in one go.
const letters = 200

// mailboxes gives where mailboxes stand, and of each what is in it.
func (d *dumping) mailboxes(ctx context.Context, keys []string) error {
	e := d.e
	var calls []call
	var tags []string
	for _, k := range keys {
		tag, rest := d.split(k)
		if rest != "h" { // a key of another kind that looks like one
			continue
		}
		b := e.mailboxAt(tag)
		calls = append(calls, call{&e.scripts.mailboxState, []string{b.h, b.g}, nil},
			call{&e.scripts.pending, []string{b.m}, []string{"0", itoa(d.now)}})
		tags = append(tags, tag)
	}
	replies := e.runMany(ctx, calls)
	for i := range tags {
		state, pending := replies[2*i], replies[2*i+1]
		if err := cmp.Or(state.err, pending.err); err != nil {
			return err
		}
		m, err := d.mailboxEntry(state.message, pending.message)
		if err != nil {
			return fmt.Errorf("read where the mailbox of %s stands: %w", tags[i], err)
		}
		known := tags[i] == "all"
		if !known {
			m.User, known = d.names[tags[i]]
		}
		if m.Head == 0 && !m.Seen && tags[i] != "all" {
			continue // what is left of an erasure, for a while
		}
		if !known {
			m = &bridge.MailboxEntry{Head: m.Head}
			if m.Hash, err = nameEncoding.DecodeString(tags[i][1:]); err != nil {
				return fmt.Errorf("read the tag %s: %w", tags[i], err)
			}
		}
		if err := d.take(bridge.Entry{Mailbox: m}); err != nil {
			return err
		}
		if known {
			if err := d.messages(ctx, e.mailboxAt(tags[i]), m); err != nil {
				return err
			}
		}
	}
	return nil
}

// mailboxEntry reads the answers of lua/mailbox_state.lua and lua/pending.lua.
func (d *dumping) mailboxEntry(state, pending rueidis.RedisMessage) (*bridge.MailboxEntry, error) {
	list, err := state.ToArray()
	if err != nil {
		return nil, err
	}
	if len(list) != 8 {
		return nil, errFormat
	}
	first, err := list[2].ToString()
	if err != nil {
		return nil, err
	}
	n, err := numbers(append(list[:2:2], list[3:6]...))
	if err != nil {
		return nil, err
	}
	m := &bridge.MailboxEntry{Head: n[0], Trimmed: n[1], Acked: bridge.Position{Mailbox: n[2], Broadcast: n[3]}, LastSeen: int64(n[4])}
	if first != "" {
		m.Seen = true
		if m.First, err = strconv.ParseUint(first, 10, 64); err != nil {
			return nil, err
		}
		m.Acked.Broadcast = max(m.Acked.Broadcast, m.First)
	}
	starts, err := list[6].ToString()
	if err != nil {
		return nil, err
	}
	if m.Lives, err = d.lifeStarts(starts); err != nil {
		return nil, err
	}
	removed, err := ranges(list[7])
	if err != nil {
		return nil, err
	}
	held, err := ranges(pending)
	if err != nil {
		return nil, err
	}
	m.Gone(held, removed)
	return m, nil
}

// lifeStarts names the lives that began in a mailbox. One that the list has
// forgotten ends with the next: too early is safe.
func (d *dumping) lifeStarts(text string) (out []bridge.LifeStart, err error) {
	if text == "" {
		return nil, nil
	}
	starts, err := parseLifeStarts(text)
	if err != nil {
		return nil, err
	}
	forgotten := false
	after := uint64(0)
	for _, s := range starts {
		if !forgotten {
			after = s.after
		}
		name, ok := d.lived[s.no]
		if forgotten = !ok; ok {
			out = append(out, bridge.LifeStart{Life: name, After: after})
		}
	}
	return out, nil
}

// messages gives what is in a mailbox.
func (d *dumping) messages(ctx context.Context, b mailbox, box *bridge.MailboxEntry) error {
	e := d.e
	for after := box.Trimmed; ; {
		page, err := e.client.Do(ctx, e.client.B().Xrange().Key(b.m).Start(itoa(after+1)+"-0").End("+").Count(letters).Build()).AsXRange()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		var ids []string
		for _, x := range page {
			if id := x.FieldValues["r"]; id != "" {
				ids = append(ids, id)
			}
		}
		shared, err := e.shared(ctx, ids)
		if err != nil {
			return err
		}
		for _, x := range page {
			text, _, _ := strings.Cut(x.ID, "-")
			if after, err = strconv.ParseUint(text, 10, 64); err != nil {
				return fmt.Errorf("read a place: %w", err)
			}
			blob, own := x.FieldValues["d"]
			if !own {
				if blob = shared[x.FieldValues["r"]]; blob == "" {
					continue // it was just taken away, or is about to expire
				}
			}
			m, err := decodeMessage([]byte(blob), box.User)
			if err != nil {
				return fmt.Errorf("read a message: %w", err)
			}
			if m.Expires.UnixMilli() <= d.now {
				continue
			}
			entry := &bridge.MessageEntry{User: box.User, Seq: after, ID: m.ID, Topic: m.Topic, Expires: nanos(m.Expires), Event: m.Event}
			if err := d.take(bridge.Entry{Message: entry}); err != nil {
				return err
			}
		}
		if len(page) < letters {
			return nil
		}
	}
}
