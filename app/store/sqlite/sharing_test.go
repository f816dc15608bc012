package sqlite

import (
	"context"
	"fmt"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestSharedPayload(t *testing.T) {
	t.Parallel()
	t.Run("goes once it was replaced in every mailbox", sharedPayloadReplaced)
}

func TestLongWork(t *testing.T) {
	t.Parallel()
	t.Run("is done in shares that have some of each caller", longWorkShares)
	t.Run("is not in the transaction of an erasure", longWorkAndErasure)
}

// payloads is how many messages in the file still have theirs.
func payloads(t *testing.T, e *Store) (n int64) {
	t.Helper()
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	n, err := queryInt(e.writer.sql.conn, "SELECT count(*) FROM log WHERE event IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The payload of a message to several goes when a later one of its topic has taken
// its place everywhere, and not before.
func sharedPayloadReplaced(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
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
func longWorkShares(t *testing.T) {
	t.Parallel()
	q := newQueue(100, DefaultPatience)
	const callers, each = 3, 400
	caller := make(map[*request]int)
	for c := range callers {
		var rs []*request
		for range each {
			r := new(request)
			rs, caller[r] = append(rs, r), c
		}
		if err := q.putBulk(context.Background(), rs); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	one := func(*request) (places, bytes int) { return 1, 10 }
	for share := q.takeBulk(one); len(share) > 0; share = q.takeBulk(one) {
		if len(share) > bulkShare {
			t.Fatalf("a share of %d", len(share))
		}
		of := make(map[int]int)
		for _, r := range share {
			of[caller[r]]++
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

// What has a transaction to itself does not share it with long work either: what the
// others know is changed only after it.
func longWorkAndErasure(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	let := hold(t, e)
	ran := make(chan string, 4)
	note := func(what string) *request {
		return &request{
			done:  make(chan struct{}, 1),
			write: func(*writer) error { ran <- what + " runs"; return nil },
			after: func(*writer) { ran <- what + " is over" },
		}
	}
	alone, long := note("alone"), note("long")
	alone.alone, long.bulk = true, true
	expect.NoError(t, e.enqueue(t.Context(), alone))
	expect.NoError(t, e.enqueue(t.Context(), long))
	let()
	expect.NoError(t, alone.answer(t.Context()))
	expect.NoError(t, long.answer(t.Context()))
	for _, want := range []string{"alone runs", "alone is over", "long runs", "long is over"} {
		if got := <-ran; got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}
