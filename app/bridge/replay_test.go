package bridge_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/wire"
)

func TestReplay(t *testing.T) {
	t.Run("tells a fresh device of what expires meanwhile, and of nothing that had expired before", replayToFreshDevice)
}

// A replay of more than one page takes time, in which messages may expire that were
// there when it began.
func replayToFreshDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	var elapsed atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(elapsed.Load())) }
	store := openStore(t, sqlite.Options{Now: now})
	b := bridge.New(bridge.QuietConfig(func(c *bridge.Config) { c.Now = now }), store, store, noTokens{})
	t.Cleanup(func() {
		if err := b.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	publish := func(n int, ttl time.Duration) {
		t.Helper()
		id := fmt.Sprint("msg_", n)
		if _, err := b.Publish(t.Context(), bridge.PublishRequest{ID: id, Timestamp: now(), Digest: sha256.Sum256([]byte(id)),
			Event: wire.Event{Type: "t", To: wire.Target{User: "patient-1"}, TTL: ttl, Data: []byte(`{}`)}}, bridge.Wait{}); err != nil {
			t.Fatal(err)
		}
	}
	// Of 400 messages the 150th, of the second page, has expired already, and the
	// 300th, of the third, will do so soon.
	const count, gone, brief = 400, 150, 300
	for n := 1; n <= count; n++ {
		switch n {
		case gone:
			publish(n, time.Minute)
			elapsed.Add(int64(2 * time.Minute))
		case brief:
			publish(n, time.Hour)
		default:
			publish(n, 24*time.Hour)
		}
	}
	// replay reads all that waits for a device, after so much time has passed.
	replay := func(first time.Duration) (pending any, events int, gaps []any) {
		t.Helper()
		l := newLine()
		l.out = make(chan map[string]any) // the writer goes no further than it is read
		l.in <- `{"type":"connect"}`
		b.Accept(l, bridge.Handshake{Identity: &bridge.Identity{User: "patient-1", Expires: now().Add(48 * time.Hour)}})
		defer l.Abort()
		pending = l.next(t)["pending"]
		elapsed.Add(int64(first))
		for {
			switch f := l.next(t); f["type"] {
			case "gap":
				gaps = append(gaps, fmt.Sprint(f["reason"], " before ", events+2))
			case "event":
				events++
				if f["event"].(map[string]any)["id"] == fmt.Sprint("msg_", count) {
					return pending, events, gaps
				}
			}
		}
	}
	pending, events, gaps := replay(2 * time.Hour)
	if pending != 399.0 || events != 398 || fmt.Sprint(gaps) != "[expired before 258]" {
		t.Errorf("of %v pending came %d, with the gaps %v", pending, events, gaps)
	}
	if pending, events, gaps = replay(0); pending != 398.0 || events != 398 || gaps != nil {
		t.Errorf("to a later device of %v pending came %d, with the gaps %v", pending, events, gaps)
	}
}
