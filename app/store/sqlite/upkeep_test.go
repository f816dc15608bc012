package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestUpkeep(t *testing.T) {
	t.Parallel()
	t.Run("removes expired messages and old ids, and gives their space back", upkeepOfExpired)
	t.Run("gives back the space of trimmed messages", upkeepOfTrimmed)
	t.Run("bounds the write-ahead log under reads and writes", upkeepOfLog)
	t.Run("writes acks that nothing else waits for", upkeepOfAcks)
}

// fill appends n messages with a few senders.
func fill(t *testing.T, e *Store, n, size int, expires time.Time) {
	t.Helper()
	const senders = 16
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := s; i < n; i += senders {
				if _, err := e.Append(t.Context(), message(fmt.Sprint("m", i), fmt.Sprint("u", i%10), size, expires)); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func upkeepOfExpired(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	var clock shifted
	registry := prometheus.NewRegistry()
	e := open(t, Options{Dir: scratch(t), Now: clock.now, Registerer: registry})
	fill(t, e, 4_000, 2_000, clock.now().Add(time.Hour))
	mustAppend(t, e, message("kept", "u0", 10, clock.now().Add(30*24*time.Hour)))
	never := message("never", "u0", 10, time.Time{})
	mustAppend(t, e, never)
	pages := number(t, e, "PRAGMA page_count")

	clock.advance(2 * time.Hour)
	expect.Eventually(t, "expired messages to leave", func() bool { return number(t, e, "SELECT count(*) FROM mail") == 1 })
	if n := number(t, e, "SELECT count(*) FROM log"); n != 4_002 {
		t.Fatalf("%d ids remembered", n)
	}
	if n := number(t, e, "SELECT count(*) FROM log WHERE event IS NOT NULL"); n != 1 {
		t.Fatalf("%d payloads kept", n)
	}
	t.Log(pages, number(t, e, "PRAGMA page_count"), number(t, e, "PRAGMA freelist_count"), number(t, e, "PRAGMA auto_vacuum"))
	expect.Eventually(t, "the file to shrink", func() bool { return number(t, e, "PRAGMA page_count") < pages*2/3 })
	if r := mustAppend(t, e, never); !r.Duplicate {
		t.Fatal("the id of a message never stored was forgotten too early")
	}

	clock.advance(DefaultIDRetention)
	expect.Eventually(t, "old ids to be forgotten", func() bool { return number(t, e, "SELECT count(*) FROM log") == 1 })
	if r := mustAppend(t, e, message("m11", "u1", 10, clock.now().Add(time.Hour))); r.Duplicate || r.Recipients[0].Seq != 401 {
		t.Fatalf("after everything was forgotten: %+v", r)
	}
	clock.advance(30 * 24 * time.Hour)
	expect.Eventually(t, "the id of the kept one to go with it", func() bool { return number(t, e, "SELECT count(*) FROM log WHERE id = 'kept'") == 0 })
	if families, err := registry.Gather(); err != nil || len(families) != 5 {
		t.Fatalf("metrics: %d, %v", len(families), err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Fatalf("metrics after Close: %d, %v", len(families), err)
	}
}

func upkeepOfTrimmed(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	e := open(t, Options{Dir: scratch(t), MailboxLimit: 10, BroadcastLimit: 5})
	fill(t, e, 1_000, 100, inAnHour())
	for i := range 12 {
		m := message(fmt.Sprint("all", i), "", 10, inAnHour())
		m.To = bridge.Target{All: true}
		mustAppend(t, e, m)
	}
	if n := number(t, e, "SELECT count(*) FROM mail"); n != 105 {
		t.Fatalf("%d rows in mailboxes", n)
	}
	if n := number(t, e, "SELECT count(*) FROM log WHERE event IS NOT NULL"); n != 105 {
		t.Fatalf("%d payloads kept", n)
	}
	if n := number(t, e, "SELECT count(*) FROM log"); n != 1_012 {
		t.Fatalf("%d ids remembered", n)
	}
}

func upkeepOfLog(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it writes 40 MB")
	}
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	e.checkpoints.sizes = logSizes{copy: 1 << 20, restart: 4 << 20, truncate: 16 << 20} // small, so that little has to be written
	stop := make(chan struct{})
	var reads sync.WaitGroup
	for range 3 {
		reads.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := e.Read(t.Context(), "u1", e.Life(), bridge.Position{}, 10, 1<<20); err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	fill(t, e, 1_000, 40_000, inAnHour()) // some 40 MB and more of log
	close(stop)
	reads.Wait()
	info, err := os.Stat(filepath.Join(dir, "bridge.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > e.checkpoints.sizes.truncate {
		t.Fatalf("the write-ahead log has %d bytes", info.Size())
	}
	t.Logf("write-ahead log: %d MiB", info.Size()>>20)
}

func upkeepOfAcks(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	mustAppend(t, e, message("m", "u", 10, inAnHour()))
	start := time.Now()
	if err := e.Ack(t.Context(), "u", "ses_1", e.Life(), bridge.Position{Mailbox: 1}); err != nil {
		t.Fatal(err)
	}
	expect.Eventually(t, "the ack to be written", func() bool {
		return number(t, e, "SELECT count(*) FROM users WHERE user = 'u' AND acked_mail = 1") == 1
	})
	t.Logf("after %v", time.Since(start))
}
