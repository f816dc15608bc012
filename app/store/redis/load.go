package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// year is YEAR of lua/lib.lua.
const year = 31_536_000_000

// loading is one Load.
type loading struct {
	*Archive
	now     int64
	records map[string]*idRecord // of events that messages name
	cmds    rueidis.Commands
	letters call                // messages that go into one mailbox
	to      string              // whose that is
	shared  map[string]struct{} // ids of messages that are there to be shared
}

// Load implements bridge.Archive.
func (a *Archive) Load(ctx context.Context, entries []bridge.Entry) error {
	l := &loading{Archive: a, now: a.e.nowMs(), records: make(map[string]*idRecord), shared: make(map[string]struct{})}
	for _, en := range entries {
		if en.Event != nil {
			l.event(en.Event)
		}
	}
	// Messages are without what is kept of their events.
	if err := l.lookup(ctx, entries); err != nil {
		return err
	}
	for _, en := range entries {
		if err := l.entry(en); err != nil {
			return err
		}
	}
	l.post()
	return a.write(ctx, l.cmds...)
}

func (l *loading) entry(en bridge.Entry) error {
	switch {
	case en.Life != nil:
		l.life(en.Life)
	case en.Message != nil:
		return l.message(en.Message)
	case en.Mailbox != nil:
		return l.mailbox(en.Mailbox)
	case en.Membership != nil:
		l.membership(en.Membership)
	case en.Revocation != nil:
		l.revocation(en.Revocation)
	case en.DeliveryLog != nil:
		return l.deliveryLog(en.DeliveryLog)
	case en.Seen != nil:
		l.seenAt(en.Seen)
	case en.Callback != nil:
		l.callback(en.Callback)
	case en.Taken != nil:
		l.taken(en.Taken)
	case en.Timer != nil:
		l.timer(en.Timer)
	}
	return nil
}

// add writes after what was added before, as far as both are of one mailbox.
func (l *loading) add(cmd rueidis.Completed) { l.cmds = append(l.cmds, cmd) }

func (l *loading) run(c call) { l.add(l.e.byHash(l.e.lives.now.Load(), c)) }

func (l *loading) prolong(key string, ttl int64) {
	l.add(l.e.client.B().Pexpire().Key(key).Milliseconds(ttl).Build())
}

// life takes a life over. Lives are exported by name: their numbers are the store's own,
// and only their order counts.
func (l *loading) life(life *bridge.LifeEntry) {
	_, list, _ := l.e.lifeKeys()
	if l.numbers[life.Name] == 0 {
		l.numbers[life.Name] = int64(len(l.numbers) + 1)
		l.add(l.e.client.B().Zadd().Key(list).ScoreMember().ScoreMember(float64(l.numbers[life.Name]), life.Name).Build())
	}
}

// event writes what is known of an id. Each mailbox also notes that it had the message
// if a repeat might go to several: how it was addressed is not known any more.
func (l *loading) event(ev *bridge.EventEntry) {
	e := l.e
	r := dedupEntry{digest: string(ev.Digest), until: millis(ev.Until), recalled: bridge.ArchiveTime(ev.Recalled),
		idRecord: &idRecord{from: ev.From, typ: ev.Type, at: bridge.ArchiveTime(ev.At), expires: bridge.ArchiveTime(ev.Expires), except: ev.Except}}
	for _, p := range ev.Places {
		if p.User == "" {
			r.all = true
		} else {
			r.users = append(r.users, p.User)
		}
	}
	l.records[ev.ID] = r.idRecord
	ttl := r.until - l.now
	if ttl <= 0 {
		return
	}
	if !e.cluster && len(ev.Places) == 1 {
		r.seq, r.placed = ev.Places[0].Seq, true
	}
	l.list(ev, r.until)
	l.add(e.client.B().Set().Key(e.record(ev.ID)).Value(r.encode()).PxMilliseconds(ttl).Build())
	for _, p := range ev.Places {
		// A stored message without a place has not been everywhere it was to go:
		// whoever sends it again completes it.
		if r.all && !e.cluster || p.Seq == 0 && ev.Expires != 0 {
			continue
		}
		key := e.boxOf(p.User).delivered(ev.ID)
		l.add(e.client.B().Set().Key(key).Value(itoa(p.Seq)).PxMilliseconds(ttl).Build())
	}
}

// lookup finds the events of messages that came with batches before.
func (l *loading) lookup(ctx context.Context, entries []bridge.Entry) error {
	e := l.e
	var ids []string
	for _, en := range entries {
		if m := en.Message; m != nil && millis(m.Expires) > l.now {
			if _, ok := l.records[m.ID]; !ok {
				l.records[m.ID] = nil
				ids = append(ids, m.ID)
			}
		}
	}
	texts, err := repliesOf(ctx, e, ids, func(id string) rueidis.Completed { return e.get(e.record(id)) }, (*rueidis.RedisResult).ToString)
	if err != nil {
		return err
	}
	for i, text := range texts {
		if text == "" {
			continue
		}
		rec, err := decodeDedupEntry(text)
		if err != nil {
			return fmt.Errorf("read what %q is remembered by: %w", ids[i], err)
		}
		l.records[ids[i]] = rec.idRecord
	}
	return nil
}

// mailbox writes where a mailbox stands, as append, join and ack would have left it.
func (l *loading) mailbox(m *bridge.MailboxEntry) error {
	e := l.e
	l.post()
	b := e.boxOf(m.User)
	if len(m.Hash) > 0 {
		b = e.mailboxAt("u" + nameEncoding.EncodeToString(m.Hash))
	}
	state := e.client.B().Hset().Key(b.h).FieldValue().FieldValue("s", itoa(m.Head))
	if len(m.Hash) > 0 { // as lua/erase.lua leaves it
		state = state.FieldValue("tr", itoa(m.Head)).FieldValue("am", itoa(m.Head))
	} else {
		state = state.FieldValue("tr", itoa(m.Trimmed)).FieldValue("am", itoa(m.Acked.Mailbox)).FieldValue("ab", itoa(m.Acked.Broadcast))
	}
	if m.Seen {
		l.add(e.client.B().Zadd().Key(e.users()).ScoreMember().ScoreMember(0, m.User).Build())
		state = state.FieldValue("f", itoa(m.First))
	}
	if len(m.Lives) > 0 {
		lv, ln, err := l.startsOf(m)
		if err != nil {
			return err
		}
		state = state.FieldValue("lv", lv).FieldValue("ln", ln)
	}
	if m.LastSeen != 0 {
		state = state.FieldValue("ls", itoa(m.LastSeen))
	}
	l.add(state.Build())
	l.prolong(b.h, year) // or longer, as messages come
	if len(m.Removed) > 0 {
		removed := e.client.B().Zadd().Key(b.g).ScoreMember()
		for _, r := range m.Removed {
			removed = removed.ScoreMember(float64(r[1]), itoa(r[0]))
		}
		l.add(removed.Build())
		l.prolong(b.g, year)
	}
	return nil
}

// startsOf writes where lives began in a mailbox as its lv has it, and the last of
// them.
func (l *loading) startsOf(m *bridge.MailboxEntry) (lv, ln string, err error) {
	for _, s := range m.Lives {
		no, ok := l.numbers[s.Life]
		if !ok {
			return "", "", fmt.Errorf("%w: it has no life %q", bridge.ErrBadEntry, s.Life)
		}
		if lv != "" {
			lv += ","
		}
		ln = itoa(no)
		lv += ln + ":" + itoa(s.After)
	}
	return lv, ln, nil
}

// message puts one behind those that go into the same mailbox.
func (l *loading) message(m *bridge.MessageEntry) error {
	e := l.e
	if millis(m.Expires) <= l.now {
		return nil
	}
	ev := l.records[m.ID]
	if ev == nil {
		return fmt.Errorf("%w: it has no event for the message %q", bridge.ErrBadEntry, m.ID)
	}
	if l.to != m.User || len(l.letters.args) > 6*letters {
		l.post()
	}
	if l.letters.script == nil {
		b := e.boxOf(m.User)
		l.to, l.letters = m.User, call{&e.scripts.load, []string{b.h, b.m, b.t}, []string{itoa(l.now)}}
	}
	msg := &bridge.Message{ID: m.ID, From: ev.from, Type: ev.typ, At: ev.at, Expires: bridge.ArchiveTime(m.Expires),
		Topic: m.Topic, Except: ev.except, Event: m.Event}
	blob, number := rueidis.BinaryString(encodeMessage(msg)), ""
	if i := slices.Index(ev.users, m.User); i >= 0 && shares(msg, len(ev.users)) {
		l.share(msg, blob, i)
		blob, number = m.ID, itoa(i)
	}
	l.letters.args = append(l.letters.args, itoa(m.Seq), itoa(millis(m.Expires)), m.Topic, blob, number, itoa(len(m.Event)))
	return nil
}

// share puts a message where the mailboxes that have it share it, once, and notes
// that the number-th of them does.
func (l *loading) share(m *bridge.Message, blob string, number int) {
	message, who := l.e.sharedKeys(m.ID)
	ttl := l.e.sharedTTL(m)
	if _, there := l.shared[m.ID]; !there {
		l.shared[m.ID] = struct{}{}
		l.add(l.e.client.B().Set().Key(message).Value(blob).PxMilliseconds(ttl).Build())
	}
	l.add(l.e.client.B().Setbit().Key(who).Offset(int64(number)).Value(1).Build())
	l.prolong(who, ttl)
}

// post sends off the messages that have been collected.
func (l *loading) post() {
	if l.letters.script != nil {
		l.run(l.letters)
	}
	l.letters = call{}
}

func (l *loading) membership(m *bridge.MembershipEntry) {
	e := l.e
	g, b, until := e.groupKeys(m.Group), e.mailboxOf(m.User), millis(m.Until)
	if m.Stored || until > l.now {
		l.add(e.client.B().Sadd().Key(b.groups()).Member(m.Group).Build())
	}
	if m.Stored {
		l.add(e.client.B().Sadd().Key(g.stored).Member(m.User).Build())
	}
	if until <= l.now {
		return
	}
	key, member := g.older, m.User
	if m.Token != "" {
		key, member = g.named, indexMember(m.User, m.Token)
		l.run(call{&e.scripts.tokenAddGroup, []string{b.tokens()}, []string{
			m.Token, itoa(until), itoa(millis(m.Issued)), m.TokenID, m.Group, itoa(l.now)}})
	}
	l.add(e.client.B().Zadd().Key(key).Gt().ScoreMember().ScoreMember(float64(until), member).Build())
}

// revocation is written as Revoke does, which nobody is there to hear of.
func (l *loading) revocation(r *bridge.RevocationEntry) {
	l.run(l.e.revoking(r.User, r.Revocation))
}

// deliveryLog puts a delivery log at the head of its user's list. A copy that was there
// is removed first.
func (l *loading) deliveryLog(t *bridge.DeliveryLog) error {
	e := l.e
	b, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("keep a delivery log: %w", err)
	}
	key, text := e.mailboxOf(t.Member.User).logs(), rueidis.BinaryString(b)
	l.add(e.client.B().Lrem().Key(key).Count(0).Element(text).Build())
	l.add(e.client.B().Lpush().Key(key).Element(text).Build())
	l.add(e.client.B().Ltrim().Key(key).Start(0).Stop(bridge.MaxDeliveryLogs - 1).Build())
	l.prolong(key, e.opts.IDRetention.Milliseconds())
	return nil
}

// seenAt writes who has seen an event into the key of its period. Only those of the
// current period and the last are read, so that an older one counts as the oldest.
func (l *loading) seenAt(s *bridge.SeenEntry) {
	e := l.e
	now := time.UnixMilli(l.now)
	at := bridge.ArchiveTime(s.At)
	if oldest := now.Add(-e.opts.IDRetention); at.Before(oldest) {
		at = oldest
	} else if at.After(now) {
		at = now
	}
	b := e.mailboxOf(s.User)
	l.run(call{&e.scripts.seen, []string{e.seenKey(b, at), b.h}, []string{
		s.ID, s.Session, itoa(s.At), itoa(2 * e.opts.IDRetention.Milliseconds())}})
}

// millis is a time of an entry as Redis has it.
func millis(nanos int64) int64 { return nanos / int64(time.Millisecond) }
