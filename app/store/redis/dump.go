package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// dumping is one Dump.
type dumping struct {
	*Archive
	place place // behind what was given
	take  func(e bridge.Entry, place string) error
	names map[string]string // of users, by their mailbox's tag
	lived map[int64]string  // of lives, by number
	read  bool              // all records are behind, and their names known
}

// kind is one kind of entries: the keys that have them, how many of these are
// looked at in one go, and who gives what is in them.
type kind struct {
	pattern string
	count   int64
	dump    func(d *dumping, ctx context.Context, keys []string) error
}

// records is the pattern of what ids are remembered by; shared messages, beside
// which they stand, have keys that go on after it.
const records = "i*}"

// kinds come in the order that bridge.Archive wants.
var kinds = []kind{
	{"machines}:lives", scanned, (*dumping).lives},
	{records, 500, (*dumping).events},
	{"[au]*}:h", scanned, (*dumping).mailboxes},
	{"u*}:G", scanned, (*dumping).memberships},
	{"u*}:R", scanned, (*dumping).revocations},
	{"u*}:T", scanned, (*dumping).trails},
	{"u*}:S*", scanned, (*dumping).sights},
}

// Dump implements bridge.Archive.
func (a *Archive) Dump(ctx context.Context, after string, take func(e bridge.Entry, place string) error) error {
	if err := a.e.checkWhole(ctx); err != nil {
		return err
	}
	d := &dumping{Archive: a, take: take, names: make(map[string]string), read: after == ""}
	var err error
	if d.place, err = parsePlace(after, a.e.nowMs()); err != nil {
		return err
	}
	servers, err := a.primaries(ctx)
	if err != nil {
		return err
	}
	d.place.of(servers)
	if err := d.learnNames(ctx); err != nil {
		return err
	}
	if d.lived, err = d.livesByNumber(ctx); err != nil {
		return err
	}
	for d.place.phase < len(kinds) {
		for d.place.server < len(servers) {
			if err := d.page(ctx, &servers[d.place.server]); err != nil {
				return err
			}
		}
		d.place = place{now: d.place.now, phase: d.place.phase + 1, servers: d.place.servers}
	}
	return nil
}

// page gives what is in one page of keys, and turns it.
func (d *dumping) page(ctx context.Context, server *primary) error {
	k := kinds[d.place.phase]
	keys, next, err := d.scan(ctx, server, d.place.cursor, k.pattern, k.count)
	if err != nil {
		return err
	}
	d.place.at(keys)
	if d.place.key < len(keys) {
		if err := k.dump(d, ctx, keys); err != nil {
			return err
		}
	}
	d.place.turn(next)
	return nil
}

// rest are the keys of a page that have not given everything yet, as far as is
// known, and the number of the first.
func (d *dumping) rest(keys []string) (first int, rest []string) {
	return d.place.key, keys[d.place.key:]
}

// give hands an entry on, unless it was before: with it, the i-th key of the page
// has given n. That only grows within a key, and is the same for an entry each
// time, whatever has expired meanwhile.
func (d *dumping) give(i int, n uint64, e bridge.Entry) error {
	if i < d.place.key || i == d.place.key && n <= d.place.done {
		return nil
	}
	d.place.key, d.place.done = i, n
	return d.take(e, d.place.String())
}

// learnNames fills names: keys tell only the hashes of those. Those that records
// have come with the events, unless these were given before.
func (d *dumping) learnNames(ctx context.Context) error {
	e := d.e
	for at := "-"; ; {
		page, err := e.client.Do(ctx, e.client.B().Zrangebylex().Key(e.users()).Min(at).Max("+").Limit(0, scanned).Build()).AsStrSlice()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		d.learn(page...)
		at = "(" + page[len(page)-1]
	}
	if d.read {
		return nil
	}
	return d.keys(ctx, records, func(keys []string) (bool, error) {
		_, err := d.records(ctx, keys)
		return false, err
	})
}

func (d *dumping) learn(users ...string) {
	for _, u := range users {
		d.names["u"+short(u)] = u
	}
}

// records reads what ids are remembered by; nil for one that is over.
func (d *dumping) records(ctx context.Context, keys []string) ([]*dedupEntry, error) {
	e := d.e
	cmds := make(rueidis.Commands, len(keys))
	for i, k := range keys {
		cmds[i] = e.client.B().Get().Key(k).Build()
	}
	out := make([]*dedupEntry, len(keys))
	for i, r := range e.client.DoMulti(ctx, cmds...) {
		text, err := r.ToString()
		if rueidis.IsRedisNil(err) {
			continue
		}
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		rec, err := decodeDedupEntry(text)
		if err != nil {
			return nil, fmt.Errorf("read what the id of %s is remembered by: %w", keys[i], err)
		}
		d.learn(rec.users...)
		if rec.until > d.place.now {
			out[i] = &rec
		}
	}
	return out, nil
}

// events gives what is remembered by ids.
func (d *dumping) events(ctx context.Context, keys []string) error {
	first, keys := d.rest(keys)
	recs, err := d.records(ctx, keys)
	if err != nil {
		return err
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k[len(d.e.opts.Prefix)+3 : len(k)-1]
	}
	places, err := d.places(ctx, ids, recs)
	if err != nil {
		return err
	}
	for i, r := range recs {
		if r == nil || r.begun(places[i]) {
			continue
		}
		ev := &bridge.EventEntry{ID: ids[i], Digest: []byte(r.digest), Until: r.until * int64(time.Millisecond), Type: r.typ, From: r.from,
			At: nanos(r.at), Expires: nanos(r.expires), Recalled: nanos(r.recalled), Except: r.except, Places: places[i]}
		if err := d.give(first+i, 1, bridge.Entry{Event: ev}); err != nil {
			return err
		}
	}
	return nil
}

// begun tells an append that came no further than its id, and that nobody was
// answered: where the id is sent again, it is to begin anew.
func (r *dedupEntry) begun(places []bridge.PlaceEntry) bool {
	return !r.expires.IsZero() && r.recalled.IsZero() && len(places) > 0 &&
		!slices.ContainsFunc(places, func(p bridge.PlaceEntry) bool { return p.Seq != 0 })
}

// places tells where each event stood in its mailboxes, as Store.places does.
func (d *dumping) places(ctx context.Context, ids []string, recs []*dedupEntry) ([][]bridge.PlaceEntry, error) {
	e := d.e
	out := make([][]bridge.PlaceEntry, len(recs))
	var cmds rueidis.Commands
	var to []*uint64
	for i, r := range recs {
		if r == nil {
			continue
		}
		users := r.users
		if r.all {
			users = []string{""}
		}
		for _, u := range users {
			out[i] = append(out[i], bridge.PlaceEntry{User: u, Seq: r.seq})
		}
		if r.seq != 0 || r.placed && r.expires.IsZero() {
			continue
		}
		for j, u := range users {
			cmds = append(cmds, e.client.B().Get().Key(e.boxOf(u).delivered(ids[i])).Build())
			to = append(to, &out[i][j].Seq)
		}
	}
	for i, r := range e.client.DoMulti(ctx, cmds...) {
		n, err := r.AsUint64()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		*to[i] = n
	}
	return out, nil
}

// boxOf is the mailbox of a user, or of all where that is empty.
func (e *Store) boxOf(user string) mailbox {
	if user == "" {
		return e.all
	}
	return e.mailboxOf(user)
}

// nanos is a time as entries have it.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// numbers reads a list of them.
func numbers(list []rueidis.RedisMessage) ([]uint64, error) {
	out := make([]uint64, len(list))
	for i := range list {
		text, err := list[i].ToString()
		if err != nil {
			return nil, err
		}
		if out[i], err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, err
		}
	}
	return out, nil
}
