package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/local"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/store/storetest"
)

// archivedStore is a store that the conformance suite can fill, and that archives carry.
type archivedStore struct {
	open    func(t *testing.T) (pair storetest.Pair, end func() error)
	archive func(t *testing.T) bridge.Archive
}

func archivedSQLite(t *testing.T, c *storetest.Clock) archivedStore {
	o := sqlite.Options{Dir: t.TempDir(), Now: c.Now, MailboxLimit: storetest.FilledMailbox, Backends: storetest.Backends}
	return archivedStore{
		open: func(t *testing.T) (storetest.Pair, func() error) {
			s, err := sqlite.Open(t.Context(), o)
			expect.NoError(t, err)
			return storetest.Pair{Store: s, Live: local.New(s, c.Now), Outbox: s}, s.Close
		},
		archive: func(t *testing.T) bridge.Archive {
			a, err := sqlite.OpenArchive(t.Context(), o)
			expect.NoError(t, err)
			return a
		},
	}
}

func archivedRedis(url, prefix string, c *storetest.Clock) archivedStore {
	o := redis.Options{URL: url, Prefix: prefix, Now: c.Now, Patience: expect.Patience, MailboxLimit: storetest.FilledMailbox, Backends: storetest.Backends}
	return archivedStore{
		open: func(t *testing.T) (storetest.Pair, func() error) {
			s, err := redis.Open(t.Context(), o)
			expect.NoError(t, err)
			return storetest.Pair{Store: s, Live: s, Outbox: s}, s.Close
		},
		archive: func(t *testing.T) bridge.Archive {
			a, err := redis.OpenArchive(t.Context(), o)
			expect.NoError(t, err)
			return a
		},
	}
}

// carryOver exports a store into another.
func carryOver(t *testing.T, from, to archivedStore) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), expect.Patience)
	defer cancel()
	a, b := from.archive(t), to.archive(t)
	epoch, err := a.Epoch()
	expect.NoError(t, err)
	var all []bridge.Entry
	kinds := make(map[string]int)
	expect.NoError(t, a.Dump(ctx, func(e bridge.Entry) error {
		switch {
		case e.Timer != nil:
			kinds[e.Timer.Type+" timer"]++
		case e.Callback != nil && e.Callback.Dead != 0:
			kinds["dead"]++
		case e.Callback != nil && e.Callback.Due&1 != 0:
			kinds["to be hurried"]++
		case e.Callback != nil:
			kinds["waiting"]++
		case e.Taken != nil:
			kinds["taken"]++
		}
		all = append(all, e)
		return e.Check()
	}))
	for _, kind := range []string{"waiting", "to be hurried", "dead", "taken", bridge.CallbackUnacked + " timer", bridge.CallbackExpired + " timer", bridge.CallbackOffline + " timer"} {
		if kinds[kind] == 0 {
			t.Errorf("the export has nothing of the kind %q: %v", kind, kinds)
		}
	}
	expect.NoError(t, a.Close())
	expect.NoError(t, b.Begin(ctx))
	for part := range slices.Chunk(all, 37) {
		expect.NoError(t, b.Load(ctx, part))
	}
	expect.NoError(t, b.Finish(ctx, epoch))
	expect.NoError(t, b.Close())
}

// keptIn tells what an outbox has and gives for each backend: what waits, what was given up,
// what is due (each user's messages in their order), and which timers are. What is due is
// taken, and with redrive what was given up is sent again before.
func keptIn(t *testing.T, o bridge.Outbox, redrive bool) (all []string) {
	t.Helper()
	ctx := t.Context()
	for _, backend := range storetest.Backends {
		b, err := o.Backlog(ctx, backend.Name)
		expect.NoError(t, err)
		dead, err := o.Dead(ctx, backend.Name, "", 100)
		expect.NoError(t, err)
		all = append(all, fmt.Sprint(backend.Name, b.Waiting, b.Bytes, b.Oldest.UTC(), b.Dead))
		for _, d := range dead {
			all = append(all, fmt.Sprint("dead ", d.ID, d.Type, d.User, d.Since.UTC(), d.Tries, d.Last))
		}
		if redrive {
			n, err := o.Redrive(ctx, backend.Name, nil, true)
			expect.NoError(t, err)
			all = append(all, fmt.Sprint("redriven ", n))
		}
		var taken []string
		messages := make(map[string]int) // of each user
		for {
			due, _, err := o.Lease(ctx, backend.Name, 10)
			expect.NoError(t, err)
			if len(due) == 0 {
				break
			}
			for _, l := range due {
				n := 0
				if l.InOrder() {
					messages[l.User]++
					n = messages[l.User]
				}
				taken = append(taken, fmt.Sprint("due ", l.ID, l.Type, l.User, n, l.At.UTC(), l.Tries, l.Since.UTC(), string(l.Body)))
				expect.NoError(t, o.Settle(ctx, bridge.Settlement{Leased: l, Done: true}))
			}
		}
		slices.Sort(taken)
		all = append(all, taken...)
	}
	timers, err := o.LeaseTimers(ctx, 100)
	expect.NoError(t, err)
	var due []string
	for _, timer := range timers {
		due = append(due, fmt.Sprint("timer ", timer.Type, timer.User, timer.EventID, timer.EventType, timer.After))
		_, err := o.Fire(ctx, timer)
		expect.NoError(t, err)
	}
	slices.Sort(due)
	return append(all, due...)
}

// What waits for backends, what was given up and timers come over as the rest does, from
// each store to the other.
func TestArchive(t *testing.T) {
	t.Parallel()
	heavy(t)
	r := redistest.Start(t)
	for name, pick := range map[string]func(t *testing.T, c *storetest.Clock) (from, to archivedStore){
		"carries the outbox from SQLite to Redis": func(t *testing.T, c *storetest.Clock) (from, to archivedStore) {
			return archivedSQLite(t, c), archivedRedis(r.URL(), "to", c)
		},
		"carries the outbox from Redis to SQLite": func(t *testing.T, c *storetest.Clock) (from, to archivedStore) {
			return archivedRedis(r.URL(), "from", c), archivedSQLite(t, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := storetest.NewClock()
			from, to := pick(t, c)
			filled, end := from.open(t)
			storetest.Fill(t, filled, c)
			expect.NoError(t, end())
			carryOver(t, from, to)
			c.Advance(time.Second)
			a, endA := from.open(t)
			b, endB := to.open(t)
			for _, pair := range []storetest.Pair{a, b} { // what was taken before is not stored again
				expect.NoError(t, pair.Outbox.Post(t.Context(), storetest.TakenBefore(c.Now())...))
			}
			for step := range 4 {
				if step == 1 {
					for _, pair := range []storetest.Pair{a, b} {
						expect.NoError(t, pair.Outbox.Hurry(t.Context(), "clinic"))
					}
				}
				if x, y := keptIn(t, a.Outbox, step == 3), keptIn(t, b.Outbox, step == 3); !slices.Equal(x, y) {
					t.Errorf("step %d:\n%s\nand\n%s", step, strings.Join(x, "\n"), strings.Join(y, "\n"))
				}
				if step > 0 {
					c.Advance(2 * time.Hour)
				}
			}
			expect.NoError(t, endA())
			expect.NoError(t, endB())
		})
	}
}
