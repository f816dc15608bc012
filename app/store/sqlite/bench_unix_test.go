//go:build unix

package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/storetest"
)

// cpu is the processor time this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

type deaf struct{ *storetest.Hub }

func (deaf) Deliver(string, bridge.Delivery) int { return 1 }
func (deaf) DeliverAll(bridge.Delivery) int      { return 1 }

// BenchmarkAppend appends messages of about 300 bytes, fsync and all, and reports
// the processor time of the whole process a message.
func BenchmarkAppend(b *testing.B) {
	for _, bench := range []struct {
		appenders, users int
		random           bool
	}{{1, 10_000, false}, {8, 10_000, false}, {64, 10_000, false}, {64, 10_000, true}, {64, 100_000, true}, {256, 10_000, false}} {
		b.Run(fmt.Sprintf("appenders=%d/users=%d/random=%v", bench.appenders, bench.users, bench.random), func(b *testing.B) {
			e := open(b, Options{Dir: b.TempDir()})
			e.Listen(deaf{})
			event := message("x", "u", 150, inAnHour()).Event
			expires := inAnHour()
			var serial atomic.Int64
			var worst atomic.Int64
			done := make(chan struct{})
			b.ResetTimer()
			before := cpu(b)
			for range bench.appenders {
				go func() {
					defer func() { done <- struct{}{} }()
					for {
						n := serial.Add(1)
						if n > int64(b.N) {
							return
						}
						id := fmt.Sprintf("msg_%012d%08x", n, rand.Uint32())
						if bench.random {
							id = fmt.Sprintf("msg_%016x%04x", rand.Uint64(), n)
						}
						m := &bridge.Message{ID: id, To: bridge.Target{User: fmt.Sprintf("patient-%d", rand.IntN(bench.users))},
							Event: event, Expires: expires}
						start := time.Now()
						if _, err := e.Append(context.Background(), m); err != nil {
							b.Errorf("append: %v", err)
							return
						}
						worst.Store(max(worst.Load(), int64(time.Since(start))))
					}
				}()
			}
			for range bench.appenders {
				<-done
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/msg")
			b.ReportMetric(float64(worst.Load())/1e6, "worst-ms")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkAck has 5,000 users ack a message to all, each once for every message, and waits
// after each round until all of that is written. It reports the processor time of the whole
// process an ack.
func BenchmarkAck(b *testing.B) {
	const users, ackers = 5_000, 50
	e := open(b, Options{Dir: b.TempDir()})
	e.Listen(deaf{})
	names := make([]string, users)
	for i := range names {
		names[i] = fmt.Sprintf("patient-%d", i)
		if _, err := e.Enter(b.Context(), bridge.Member{User: names[i]}, ""); err != nil {
			b.Fatal(err)
		}
	}
	waitForAcks(b, e)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	var took time.Duration // the callers' time
	done := make(chan error, ackers)
	for first := 0; first < b.N; first += users {
		n := min(users, b.N-first)
		m := message(fmt.Sprint("m", first), "", 10, inAnHour())
		m.To = bridge.Target{All: true}
		at := bridge.Position{Broadcast: mustAppend(b, e, m).Broadcast}
		start := time.Now()
		for acker := range ackers {
			go func() {
				var err error
				for i := acker; i < n && err == nil; i += ackers {
					err = e.AckLater(context.Background(), names[i], "ses_1", e.Life(), at)
				}
				done <- err
			}()
		}
		for range ackers {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
		took += time.Since(start)
		waitForAcks(b, e)
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/ack")
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "caller-ns/ack")
}

// waitForAcks returns when the store has nothing left to write.
func waitForAcks(b *testing.B, e *Store) {
	b.Helper()
	for range 1_000 {
		if e.acks.unwritten() == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.Fatal("the acks are not written")
}
