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
