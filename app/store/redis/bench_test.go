package redis_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"

	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// BenchmarkAppend appends messages to single users and reports what Redis itself
// spends on one.
func BenchmarkAppend(b *testing.B) {
	s := redistest.Start(b, "--appendfsync", "no")
	e, err := redis.Open(context.Background(), redis.Options{URL: s.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	e.Listen(&hub{})
	var serial atomic.Int64
	run := strconv.Itoa(os.Getpid())
	b.SetParallelism(32)
	spent := func() (usec int) {
		for _, m := range regexp.MustCompile(`cmdstat_evalsha:calls=\d+,usec=(\d+)`).FindAllStringSubmatch(s.Do("INFO", "commandstats"), 1) {
			usec, _ = strconv.Atoi(m[1])
		}
		return usec
	}
	before := spent()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			n := serial.Add(1)
			if _, err := e.Append(context.Background(), message(fmt.Sprintf("m%s_%d", run, n), fmt.Sprint("user-", n%100))); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(spent()-before)/float64(b.N), "redis-µs/msg")
}
