package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/valyala/fasthttp"

	"hookbridge/app/expect"
	"hookbridge/app/store/redis/redistest"
)

// Benchmarks against the real program in a process of its own, so that what is
// counted is the server's and not the load's. Run them without -race:
//
//	go test ./app/e2e -run '^$' -bench . -benchtime 5s -count 5

// cpu is the processor time a process has used.
func (p *process) cpu(t testing.TB) time.Duration {
	t.Helper()
	return cpuOf(t, p.cmd.Process.Pid)
}

func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	expect.NoError(t, err)
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	var ticks int
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		expect.NoError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// rss is the memory a process holds, bytes.
func (p *process) rss(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	expect.NoError(t, err)
	for line := range strings.SplitSeq(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			expect.NoError(t, err)
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// BenchmarkPublishToOneSession: 64 keep-alive publishers, one session that acks.
func BenchmarkPublishToOneSession(b *testing.B) {
	for _, publishers := range []int{1, 64} {
		b.Run(fmt.Sprintf("publishers=%d", publishers), func(b *testing.B) { benchmarkPublish(b, publishers, 0, nil) })
	}
	b.Run("rate=1000", func(b *testing.B) { benchmarkPublish(b, 64, time.Millisecond, nil) })
}

// BenchmarkPublishOverRedis is the same over Redis, with its processor time: by
// how soon Redis has what it is given on disk.
func BenchmarkPublishOverRedis(b *testing.B) {
	for _, fsync := range []string{"no-aof", "everysec", "always"} {
		args := []string{"--appendfsync", fsync}
		if fsync == "no-aof" {
			args = []string{"--appendonly", "no"}
		}
		b.Run(fsync+"/publishers=64", func(b *testing.B) { benchmarkPublish(b, 64, 0, redistest.Start(b, args...)) })
		b.Run(fsync+"/rate=1000", func(b *testing.B) { benchmarkPublish(b, 64, time.Millisecond, redistest.Start(b, args...)) })
	}
}

func benchmarkPublish(b *testing.B, publishers int, every time.Duration, store *redistest.Server) {
	var env []string
	if store != nil {
		env = append(env, "BRIDGE_REDIS_URL="+store.URL())
	}
	p := serve(b, b.TempDir(), env...)
	s := p.connectSlow("patient-1", "")
	// The load shares the machine with what is measured: a light client, and
	// everything signed beforehand.
	client := &fasthttp.HostClient{Addr: strings.TrimPrefix(p.base, "http://"), MaxConns: publishers}
	defer client.CloseIdleConnections()
	pad := strings.Repeat("x", 200)
	requests := make([]*fasthttp.Request, b.N)
	for i := range requests {
		r := p.sign(fmt.Sprintf("b%d", i), fmt.Sprintf(`{"type":"bench","to":{"user":"patient-1"},"data":{"n":%d,"pad":%q}}`, i, pad), time.Now())
		body, err := io.ReadAll(r.Body)
		expect.NoError(b, err)
		requests[i] = &fasthttp.Request{}
		requests[i].SetRequestURI(r.URL.String())
		requests[i].Header.SetMethod(r.Method)
		for k, v := range r.Header {
			requests[i].Header.Set(k, v[0])
		}
		requests[i].SetBody(body)
	}
	sentAt := make([]time.Time, b.N)
	latency := make([]time.Duration, 0, b.N)
	done := make(chan struct{})
	expect.NoError(b, s.ws.SetReadDeadline(time.Time{}))
	go func() {
		defer close(done)
		for len(latency) < b.N {
			_, text, err := s.ws.ReadMessage()
			if err != nil {
				b.Error(err)
				return
			}
			_, after, _ := bytes.Cut(text, []byte(`"n":`))
			digits, _, _ := bytes.Cut(after, []byte(","))
			n, err := strconv.Atoi(string(digits))
			if err != nil {
				b.Errorf("%s: %v", text, err)
				return
			}
			latency = append(latency, time.Since(sentAt[n]))
			if len(latency)%100 == 0 || len(latency) == b.N {
				_, cursor, _ := bytes.Cut(text, []byte(`"cursor":"`))
				cursor, _, _ = bytes.Cut(cursor, []byte(`"`))
				s.ack(string(cursor))
			}
		}
	}()
	reply := make([]time.Duration, b.N)
	work := make(chan int)
	var wg sync.WaitGroup
	before, storeBefore := p.cpu(b), time.Duration(0)
	if store != nil {
		storeBefore = cpuOf(b, store.Pid())
	}
	b.ResetTimer()
	for range publishers {
		wg.Go(func() {
			var res fasthttp.Response
			for i := range work {
				sentAt[i] = time.Now()
				if err := client.Do(requests[i], &res); err != nil || res.StatusCode() != http.StatusAccepted {
					b.Errorf("%d %s %v", res.StatusCode(), res.Body(), err)
				}
				reply[i] = time.Since(sentAt[i])
			}
		})
	}
	var tick <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for i := range b.N {
		if tick != nil {
			<-tick
		}
		work <- i
	}
	close(work)
	wg.Wait()
	<-done
	b.StopTimer()
	b.ReportMetric(float64((p.cpu(b)-before).Microseconds())/float64(b.N), "server-µs/event")
	if store != nil {
		b.ReportMetric(float64((cpuOf(b, store.Pid())-storeBefore).Microseconds())/float64(b.N), "redis-µs/event")
	}
	report := func(name string, d []time.Duration) {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(d[len(d)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
	report("delivered", latency)
	report("replied", reply)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkIdleSession: what a session that waits costs the server.
func BenchmarkIdleSession(b *testing.B) {
	const n = 4000
	for range b.N {
		p := serve(b, b.TempDir(), "BRIDGE_MAX_UNAUTHENTICATED_PER_ADDRESS=10000", "BRIDGE_CONNECT_RATE=0")
		warm := openIdle(b, p, "warm", 200) // pools and caches are not a session's cost
		for _, c := range warm {
			expect.NoError(b, c.Close())
		}
		p.sessions(0)
		settleMemory(b, p)
		before := p.rss(b)
		conns := openIdle(b, p, "patient", n)
		p.sessions(n)
		settleMemory(b, p)
		b.ReportMetric(float64(p.rss(b)-before)/n/1024, "KiB/session")
		b.ReportMetric(p.metric("go_memstats_stack_inuse_bytes")/n/1024, "stack-KiB/session")
		b.ReportMetric(p.metric("go_memstats_heap_inuse_bytes")/n/1024, "heap-KiB/session")
		for _, c := range conns {
			expect.NoError(b, c.Close())
		}
		expect.NoError(b, p.cmd.Process.Kill())
	}
}

// settleMemory waits until the resident size stops falling: workers of the HTTP
// server end 10 s after their last request.
func settleMemory(b *testing.B, p *process) {
	last, same := 0, 0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for started := time.Now(); same < 3 || time.Since(started) < 15*time.Second; {
		<-tick.C
		if now := p.rss(b); now/(1<<17) == last/(1<<17) {
			same++
		} else {
			last, same = now, 0
		}
	}
}

func openIdle(b *testing.B, p *process, prefix string, n int) []net.Conn {
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	gate := make(chan struct{}, 2*runtime.NumCPU())
	for i := range n {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			header := http.Header{
				"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"},
				"Accept-Language": {"en-US,en;q=0.9,de;q=0.8"}, "Cache-Control": {"no-cache"}, "Cookie": {strings.Repeat("c", 400)},
			}
			c, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}, Header: ws.HandshakeHeaderHTTP(header)}.
				Dial(b.Context(), "ws"+strings.TrimPrefix(p.base, "http")+"/ws")
			if err != nil {
				b.Error(err)
				return
			}
			if err := wsutil.WriteClientText(c, []byte(`{"type":"connect","token":"`+token(b, fmt.Sprintf("%s-%d", prefix, i), time.Hour, "")+`"}`)); err != nil {
				b.Error(err)
			}
			if _, err := wsutil.ReadServerText(c); err != nil {
				b.Error(err)
			}
			conns[i] = c
		})
	}
	wg.Wait()
	return conns
}
