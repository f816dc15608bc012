package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestFailingDisk(t *testing.T) {
	t.Parallel()
	t.Run("makes calls fail with nothing half done, and may recover", failingDiskRefuses)
	t.Run("that is full is survived", failingDiskIsFull)
	t.Run("that is stuck is reported, and the queue stays bounded", failingDiskIsStuck)
}

var errDisk = errors.New("injected failure")

// breakDisk makes every access of the kind fail; mend ends that.
func breakDisk(e *Store, op string) (mend func()) {
	f := func(got string) error {
		if got == op {
			return errDisk
		}
		return nil
	}
	e.vfs.Fault.Store(&f)
	return func() { e.vfs.Fault.Store(nil) }
}

// stickDisk makes every sync wait until mend is called; reached is closed at the
// first one.
func stickDisk(e *Store) (reached <-chan struct{}, mend func()) {
	stuck, at := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f := func(op string) error {
		if op == "sync" {
			once.Do(func() { close(at) })
			<-stuck
		}
		return nil
	}
	e.vfs.Fault.Store(&f)
	return at, func() { close(stuck) }
}

func failingDiskRefuses(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			e := open(t, Options{Dir: scratch(t)})
			mustAppend(t, e, message("before", "u", 100, inAnHour()))
			if _, err := e.Enter(t.Context(), bridge.Member{User: "u"}, ""); err != nil {
				t.Fatal(err)
			}
			mend := breakDisk(e, op)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					m := message(fmt.Sprintf("lost-%d", i), "u", 100, inAnHour())
					if i%4 == 0 {
						m.To = bridge.Target{All: true}
					}
					if r, err := e.Append(t.Context(), m); !errors.Is(err, bridge.ErrUnavailable) {
						t.Errorf("append: %+v, %v", r, err)
					}
					if err := ack(e, i%2 == 0, "u", bridge.Position{Mailbox: 100, Broadcast: 100}); i%2 == 0 && err != nil || i%2 != 0 && !errors.Is(err, bridge.ErrUnavailable) {
						t.Errorf("ack: %v", err)
					}
				})
			}
			wg.Wait()
			if err := e.Check(t.Context()); !errors.Is(err, bridge.ErrUnavailable) {
				t.Fatalf("check: %v", err)
			}
			s, err := e.Enter(t.Context(), bridge.Member{User: "u"}, "")
			if err != nil || s.Head != (bridge.Position{Mailbox: 1}) || s.Acked.Mailbox != 1 {
				t.Fatalf("a known user's place: %+v, %v", s, err)
			}
			if _, err := e.Enter(t.Context(), bridge.Member{User: "new"}, ""); !errors.Is(err, bridge.ErrUnavailable) {
				t.Fatalf("a new user's join: %v", err)
			}
			mend()
			if err := e.Check(t.Context()); err != nil {
				t.Fatalf("check after recovery: %v", err)
			}
			for i := range 3 {
				r := mustAppend(t, e, message(fmt.Sprintf("lost-%d", 1+i), "u", 100, inAnHour()))
				if r.Duplicate || r.Recipients[0].Seq != uint64(i+2) {
					t.Fatalf("after recovery: %+v", r)
				}
			}
			p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 100, 1<<20)
			if err != nil || len(p.Deliveries) != 4 || p.Lost() != (bridge.Lost{}) {
				t.Fatalf("read: %d, %+v, %v", len(p.Deliveries), p.Lost(), err)
			}
			if n := number(t, e, "SELECT count(*) FROM log"); n != 4 {
				t.Fatalf("%d rows", n)
			}
			expect.Eventually(t, "the ack to be written", func() bool {
				return number(t, e, "SELECT acked_mail FROM users WHERE user = 'u'") == 1
			})
		})
	}
}

func failingDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	unmount, err := mountSmall(dir, "6m")
	if err != nil {
		t.Skipf("no small disk to be had: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	e := open(t, Options{Dir: filepath.Join(dir, "data"), Backends: bridge.Backends{{Name: "phone", Types: []string{"call.*"}}}})
	urgent := message("urgent", "v", 10, inAnHour())
	urgent.Escalate = time.Minute
	mustAppend(t, e, urgent)
	stored := 0
	var full error
	for i := 0; full == nil && i < 10_000; i++ {
		if _, full = e.Append(t.Context(), message(fmt.Sprint("m", i), "u", 8<<10, inAnHour())); full == nil {
			stored++
		}
	}
	if !errors.Is(full, bridge.ErrUnavailable) || stored == 0 {
		t.Fatalf("after %d messages: %v", stored, full)
	}
	expect.NoError(t, ack(e, true, "v", bridge.Position{Mailbox: 1})) // waits for room, as all acks do
	p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 10_000, 1<<30)
	if err != nil || len(p.Deliveries) != stored {
		t.Fatalf("reading on the full disk: %d of %d, %v", len(p.Deliveries), stored, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r := mustAppend(t, e, message(fmt.Sprint("m", stored), "u", 8<<10, inAnHour()))
	if r.Duplicate || r.Recipients[0].Seq != uint64(stored+1) {
		t.Fatalf("after the disk has room again: %+v", r)
	}
	expect.NoError(t, e.flushed(t))
	if n := number(t, e, "SELECT count(*) FROM timers"); n != 0 {
		t.Errorf("%d timers of what was acked", n)
	}
	if err := e.Check(t.Context()); err != nil {
		t.Fatalf("check: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func failingDiskIsStuck(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t), QueueLimit: 4, Patience: 50 * time.Millisecond})
	reached, mend := stickDisk(e)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := e.Append(t.Context(), message("first", "u", 10, inAnHour())); err != nil {
			t.Errorf("first: %v", err)
		}
	})
	<-reached
	errs := make(chan error, 10)
	for i := range 10 {
		wg.Go(func() {
			_, err := e.Append(t.Context(), message(fmt.Sprint("m", i), "u", 10, inAnHour()))
			errs <- err
		})
	}
	for range 6 {
		if err := <-errs; !errors.Is(err, bridge.ErrUnavailable) {
			t.Errorf("append to a full queue: %v", err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := e.Check(short); err == nil {
		t.Error("check found nothing wrong")
	}
	mend()
	for range 4 {
		if err := <-errs; err != nil {
			t.Errorf("append that had a place in the queue: %v", err)
		}
	}
	wg.Wait()
}
