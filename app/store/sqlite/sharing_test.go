package sqlite

import (
	"context"
	"fmt"
	"testing"

	"hookbridge/app/bridge"
)

// payloads is how many messages in the file still have theirs.
func payloads(t *testing.T, e *Store) (n int64) {
	t.Helper()
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	n, err := queryInt(e.writer.store.conn, "SELECT count(*) FROM log WHERE event IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The payload of a message to several goes when a later one of its topic has taken
// its place everywhere, and not before.
func TestAPayloadThatWasReplacedEverywhereIsGone(t *testing.T) {
	e := open(t, Options{Dir: t.TempDir()})
	users := []string{"u", "v", "w"}
	send := func(id string, to ...string) {
		t.Helper()
		m := message(id, "", 500, inAnHour())
		m.To, m.Topic = bridge.Target{Users: to}, "t"
		if _, err := e.Append(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		send(fmt.Sprint("all-", i), users...)
		if n := payloads(t, e); n != 1 {
			t.Errorf("%d payloads are kept after %d messages to the same", n, i+1)
		}
	}
	send("some", "u", "v")
	if n := payloads(t, e); n != 2 {
		t.Errorf("%d payloads are kept while w has the older one", n)
	}
	send("others", "v", "w")
	if n := payloads(t, e); n != 2 { // some for u, others for v and w
		t.Errorf("%d payloads are kept", n)
	}
}

// Many callers' long work goes in turns: a share has some of each.
func TestAShareOfTheLongWorkHasSomeOfEachCaller(t *testing.T) {
	q := newQueue(100, DefaultPatience)
	const callers, each = 3, 400
	for c := range callers {
		var rs []*request
		for range each {
			r := newRequest(kindAppend)
			r.msg = message(fmt.Sprint("m", c), fmt.Sprint("caller-", c), 10, inAnHour())
			rs = append(rs, r)
		}
		if err := q.putBulk(context.Background(), rs); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for share := q.takeBulk((*request).places); len(share) > 0; share = q.takeBulk((*request).places) {
		if len(share) > bulkShare {
			t.Fatalf("a share of %d", len(share))
		}
		of := make(map[string]int)
		for _, r := range share {
			of[r.msg.To.User]++
		}
		if total == 0 && len(of) != callers {
			t.Errorf("the first share has %v", of)
		}
		total += len(share)
	}
	if total != callers*each || len(q.bulkSlots) != 0 {
		t.Errorf("%d requests, %d slots are left", total, len(q.bulkSlots))
	}
}
