package redis_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// BenchmarkAppend appends messages to single users and reports what Redis itself
// spends on one: the CPU time of its main thread, and the commands that it runs. With
// one sender each script takes one message, with many it takes several.
func BenchmarkAppend(b *testing.B) {
	for _, senders := range []int{1, 64} {
		b.Run(fmt.Sprint(senders, "-senders"), func(b *testing.B) { benchmarkAppend(b, senders) })
	}
}

func benchmarkAppend(b *testing.B, senders int) {
	s := redistest.Start(b)
	e, err := redis.Open(context.Background(), redis.Options{URL: s.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	e.Listen(&hub{})
	run := strconv.Itoa(os.Getpid())
	var serial atomic.Int64
	next := make(chan struct{}, senders)
	before := spent(s)
	b.ResetTimer()
	go func() {
		for range b.N {
			next <- struct{}{}
		}
		close(next)
	}()
	done := make(chan error, senders)
	for range senders {
		go func() {
			for range next {
				n := serial.Add(1)
				if _, err := e.Append(context.Background(), message(fmt.Sprintf("m%s_%d", run, n), fmt.Sprint("user-", n%100))); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range senders {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	after := spent(s)
	b.ReportMetric((after.cpu-before.cpu)*1e6/float64(b.N), "redis-cpu-µs/msg")
	b.ReportMetric(float64(after.commands-before.commands)/float64(b.N), "redis-commands/msg")
}

// serverLoad is what a server has done so far.
type serverLoad struct {
	cpu      float64 // seconds
	commands int     // also those of scripts
}

func spent(s *redistest.Server) (l serverLoad) {
	info := s.Do("INFO", "cpu") + "\n" + s.Do("INFO", "commandstats")
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if strings.HasPrefix(name, "used_cpu_") && strings.HasSuffix(name, "_main_thread") {
			seconds, _ := strconv.ParseFloat(value, 64)
			l.cpu += seconds
		}
		if calls, ok := strings.CutPrefix(value, "calls="); ok {
			calls, _, _ = strings.Cut(calls, ",")
			n, _ := strconv.Atoi(calls)
			l.commands += n
		}
	}
	return l
}
