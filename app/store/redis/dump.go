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

// dumpPage is how many keys are read in one go.
const dumpPage = 200

// dumping is one Dump.
type dumping struct {
	*Archive
	now   int64 // when it began, Unix milliseconds: what had not expired then is given
	take  func(e bridge.Entry) error
	names map[string]string   // of users, by their mailbox's tag
	lived map[int64]string    // names of lives, by number
	told  map[string]struct{} // whose callbacks for which backend were given
}

// kinds are the keys that have entries, and who gives what is in them, in the order
// that bridge.Archive wants. Records are what ids are remembered by; the keys of shared
// messages, which stand beside them, go on after the brace.
var kinds = []struct {
	pattern string
	dump    func(d *dumping, ctx context.Context, keys []string) error
}{
	{"machines}:lives", (*dumping).lives},
	{"i*}", (*dumping).events},
	{"[au]*}:h", (*dumping).mailboxes},
	{"u*}:G", (*dumping).memberships},
	{"u*}:R", (*dumping).revocations},
	{"u*}:T", (*dumping).deliveryLogs},
	{"u*}:S*", (*dumping).seen},
	{"u*}:[bd]:*", (*dumping).callbacks},
	{"u*}:s:*", (*dumping).taken},
	{"u*}:W", (*dumping).timers},
}

// Dump implements bridge.Archive.
func (a *Archive) Dump(ctx context.Context, take func(e bridge.Entry) error) error {
	d := &dumping{Archive: a, now: a.e.nowMs(), take: take, names: make(map[string]string), told: make(map[string]struct{})}
	if err := d.learnNames(ctx); err != nil {
		return err
	}
	for _, k := range kinds {
		err := a.e.scanKeys(ctx, k.pattern, func(keys []string) error {
			for some := range slices.Chunk(keys, dumpPage) {
				if err := k.dump(d, ctx, some); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// learnNames fills names: keys tell only the hashes of those. Names that only records
// have come with the events.
func (d *dumping) learnNames(ctx context.Context) error {
	e := d.e
	for at := "-"; ; {
		page, err := e.client.Do(ctx, e.client.B().Zrangebylex().Key(e.users()).Min(at).Max("+").Limit(0, scanned).Build()).AsStrSlice()
		if err = e.fault(ctx, err); err != nil || len(page) == 0 {
			return err
		}
		d.learn(page...)
		at = "(" + page[len(page)-1]
	}
}

func (d *dumping) learn(users ...string) {
	for _, u := range users {
		d.names["u"+short(u)] = u
	}
}

// lives gives what the store has lived through, oldest first.
func (d *dumping) lives(ctx context.Context, keys []string) error {
	e := d.e
	d.lived = make(map[int64]string)
	for _, list := range keys {
		all, err := e.client.Do(ctx, e.client.B().Zrange().Key(list).Min("0").Max("-1").Withscores().Build()).AsZScores()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		for _, s := range all {
			d.lived[int64(s.Score)] = s.Member
			if err := d.take(bridge.Entry{Life: &bridge.LifeEntry{Name: s.Member}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// records reads what ids are remembered by; nil for one that is over.
func (d *dumping) records(ctx context.Context, keys []string) ([]*dedupEntry, error) {
	texts, err := repliesOf(ctx, d.e, keys, d.e.get, (*rueidis.RedisResult).ToString)
	if err != nil {
		return nil, err
	}
	out := make([]*dedupEntry, len(keys))
	for i, text := range texts {
		if text == "" {
			continue
		}
		rec, err := decodeDedupEntry(text)
		if err != nil {
			return nil, fmt.Errorf("read what the id of %s is remembered by: %w", keys[i], err)
		}
		d.learn(rec.users...)
		if rec.until > d.now {
			out[i] = &rec
		}
	}
	return out, nil
}

// events gives what is remembered by ids.
func (d *dumping) events(ctx context.Context, keys []string) error {
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
		if err := d.take(bridge.Entry{Event: ev}); err != nil {
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
	var keys []string
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
			keys = append(keys, e.boxOf(u).delivered(ids[i]))
			to = append(to, &out[i][j].Seq)
		}
	}
	places, err := repliesOf(ctx, e, keys, e.get, (*rueidis.RedisResult).AsUint64)
	for i, n := range places {
		*to[i] = n
	}
	return out, err
}

// boxOf is the mailbox of a user, or of all where that is empty.
func (s *Store) boxOf(user string) mailbox {
	if user == "" {
		return s.all
	}
	return s.mailboxOf(user)
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
