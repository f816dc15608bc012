package e2e

import (
	"fmt"
	"sync"
	"testing"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestReplay(t *testing.T) {
	t.Parallel()
	t.Run("is in order, and then the session is live", replayInOrder)
	t.Run("becomes live without a hole", replayBecomesLive)
	t.Run("misses nothing while a client reconnects all the time", replayToReconnecting)
}

func TestMessageToAll(t *testing.T) {
	t.Parallel()
	t.Run("reaches who is there or was there, and nobody else", toAllReaches)
}

func TestGap(t *testing.T) {
	t.Parallel()
	t.Run("answers a cursor that cannot be honoured", gapForCursor)
	t.Run("tells what a full mailbox lost", gapOfFullMailbox)
	t.Run("tells what expired to who asks for it", gapOfExpired)
	t.Run("is not told after a restart", gapNotOfRestart)
}

func replayInOrder(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	for i := range 300 {
		w.fireTo("patient-1", i)
	}
	s := w.connect("patient-1", "")
	if s.hello.Pending != 300 || s.hello.Resumed {
		t.Errorf("%s", s.hello.Raw)
	}
	var middle string
	for i := range 300 {
		f := s.want("event")
		if f.n() != i || !f.Replay {
			t.Fatalf("message %d: %s", i, f.Raw)
		}
		if i == 199 {
			middle = f.Cursor
		}
	}
	w.fireTo("patient-1", 300)
	if f := s.want("event"); f.n() != 300 || f.Replay {
		t.Errorf("live: %s", f.Raw)
	}
	resumed := w.connect("patient-1", middle)
	if !resumed.hello.Resumed || resumed.hello.Pending != 101 || resumed.hello.Cursor != middle {
		t.Errorf("%s", resumed.hello.Raw)
	}
	for i := 200; i <= 300; i++ {
		if f := resumed.want("event"); f.n() != i {
			t.Fatalf("message %d: %s", i, f.Raw)
		}
	}
	s.ack(middle)
	s.settle()
	fresh := w.connect("patient-1", "")
	if f := fresh.want("event"); f.n() != 200 {
		t.Errorf("a fresh device gets what no session has acked: %s", f.Raw)
	}
}

// A session in the middle of its replay is neither skipped nor served twice
// when messages arrive in the moment it becomes live.
func replayBecomesLive(t *testing.T) {
	t.Parallel()
	w := start(t)
	const readers, before, during = 8, 200, 200
	for i := range before {
		w.fireTo("patient-1", i)
	}
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			s := w.connect("patient-1", "")
			for i := range before + during {
				f, err := s.read()
				if err != nil || f.n() != i {
					t.Errorf("instead of %d: %s %v", i, f.Raw, err)
					return
				}
			}
		})
	}
	for i := range during {
		w.fireTo("patient-1", before+i)
	}
	wg.Wait()
}

// The promise of all promises: a client that reconnects all the time while
// events pour in misses none and sees them in order.
func replayToReconnecting(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	const total, senders = 2000, 4
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for i := range total / senders {
				w.fire(fmt.Sprintf("s%d_%04d", sender, i), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, sender*100_000+i))
			}
		})
	}
	seen := make(map[string]bool)
	last := make([]int, senders) // each sender waits for its answers, so its own events are in its order
	for i := range last {
		last[i] = -1
	}
	cursor, connections := "", 0
	for len(seen) < total {
		s := w.connect("patient-1", cursor)
		connections++
		for range 1 + connections*7%23 {
			f := s.next()
			if f.Type != "event" {
				t.Fatalf("%s", f.Raw)
			}
			cursor = f.Cursor
			if seen[f.Event.ID] {
				t.Fatalf("within its cursors a client saw %s twice", f.Event.ID)
			}
			seen[f.Event.ID] = true
			sender, n := f.n()/100_000, f.n()%100_000
			if n != last[sender]+1 {
				t.Fatalf("sender %d: after %d came %d", sender, last[sender], n)
			}
			last[sender] = n
			if len(seen) == total {
				break
			}
		}
		expect.NoError(t, s.ws.Close())
	}
	wg.Wait()
	t.Logf("%d events over %d connections", total, connections)
}

func toAllReaches(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fire("before", `{"type":"t","to":{"all":true},"data":{"n":0}}`)
	known := w.connect("patient-1", "")
	known.settle() // not older ones
	expect.NoError(t, known.ws.Close())
	w.sessions(0)
	w.fireTo("patient-1", 1)
	w.fire("while_away", `{"type":"t","to":{"all":true},"data":{"n":2}}`)
	known = w.connect("patient-1", "")
	got := map[int]bool{known.want("event").n(): true, known.want("event").n(): true}
	if !got[1] || !got[2] {
		t.Errorf("%v", got)
	}
	stranger := w.connect("patient-2", "")
	w.fire("after", `{"type":"t","to":{"all":true},"data":{"n":3}}`)
	if f := stranger.want("event"); f.n() != 3 {
		t.Errorf("%s", f.Raw)
	}
	f := known.want("event")
	if f.n() != 3 {
		t.Errorf("%s", f.Raw)
	}
	w.fire("after2", `{"type":"t","to":{"all":true},"data":{"n":4}}`)
	resumed := w.connect("patient-1", f.Cursor)
	if f := resumed.want("event"); f.n() != 4 {
		t.Errorf("%s", f.Raw)
	}
}

func gapForCursor(t *testing.T) {
	t.Parallel()
	w := start(t)
	other := start(t)
	other.fireTo("patient-1", 1)
	foreignStore := other.connect("patient-1", "").want("event").Cursor
	w.fireTo("patient-2", 1)
	foreignUser := w.connect("patient-2", "").want("event").Cursor
	w.fireTo("patient-1", 1)
	w.fireTo("patient-1", 2)
	s := w.connect("patient-1", "")
	s.want("event")
	s.ack(s.want("event").Cursor)
	s.settle()
	tag := s.hello.Cursor[:8]
	for cursor, reason := range map[string]string{
		foreignStore: "foreign", foreignUser: "foreign", "nonsense": "malformed", tag + ".99.0": "ahead", tag + ".1.1": "ahead",
	} {
		s := w.connect("patient-1", cursor)
		if s.hello.Resumed || s.hello.Pending != 2 {
			t.Errorf("%s: %s", cursor, s.hello.Raw)
		}
		if f := s.want("gap"); f.Reason != reason || f.Cursor == "" || (cursor != "nonsense" && f.After != cursor) {
			t.Errorf("%s: %s", cursor, f.Raw)
		}
		for n := 1; n <= 2; n++ { // everything still held
			if f := s.want("event"); f.n() != n {
				t.Errorf("%s: %s", cursor, f.Raw)
			}
		}
		s.settle()
	}
}

func gapOfFullMailbox(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MailboxLimit = 10 })
	s := w.connect("patient-1", "")
	w.fireTo("patient-1", 0)
	cursor := s.want("event").Cursor
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	for i := 1; i <= 30; i++ {
		w.fireTo("patient-1", i)
	}
	s = w.connect("patient-1", cursor)
	f := s.want("gap")
	if f.Reason != "trimmed" || f.After != cursor || s.hello.Resumed {
		t.Errorf("%s", f.Raw)
	}
	first := s.want("event")
	if first.n() < 15 || first.n() > 21 {
		t.Errorf("the oldest that is held: %s", first.Raw)
	}
	for i := first.n() + 1; i <= 30; i++ {
		if f := s.want("event"); f.n() != i {
			t.Fatalf("%d: %s", i, f.Raw)
		}
	}
	// Whoever resumes from the gap's own cursor is not told again.
	s = w.connect("patient-1", f.Cursor)
	if !s.hello.Resumed {
		t.Errorf("%s", s.hello.Raw)
	}
	s.want("event")
}

func gapOfExpired(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	w.fireTo("patient-1", 0)
	cursor := s.want("event").Cursor
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	w.fire("short", `{"type":"t","to":{"user":"patient-1"},"ttl":1,"data":{"n":1}}`)
	w.fireTo("patient-1", 2)
	expect.Eventually(t, "the gap", func() bool {
		s := w.connect("patient-1", cursor)
		f := s.next()
		return f.Type == "gap" && f.Reason == "expired" && !s.hello.Resumed && s.want("event").n() == 2
	})
	if s = w.connect("patient-1", ""); s.want("event").n() != 0 || s.want("event").n() != 2 {
		t.Error("a fresh device gets what is held")
	}
	s.settle() // and no gap: it asked for nothing
}

func gapNotOfRestart(t *testing.T) {
	t.Parallel()
	s := testSettings(t.TempDir())
	w := startWith(t, s)
	w.fireTo("patient-1", 0)
	cursor := w.connect("patient-1", "").want("event").Cursor
	for i := range 4 {
		w.stop()
		w = startWith(t, s)
		w.fire(fmt.Sprint("m", i), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, i+1))
		client := w.connect("patient-1", cursor)
		if f := client.want("event"); f.n() != i+1 || !client.hello.Resumed {
			t.Fatalf("%s %s", client.hello.Raw, f.Raw)
		} else {
			cursor = f.Cursor
		}
		expect.NoError(t, client.ws.Close())
	}
}
