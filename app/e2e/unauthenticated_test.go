package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestUnauthenticated(t *testing.T) {
	t.Run("webhooks are refused by their headers before their bodies", unauthenticatedHeaders)
	t.Run("bodies wait for the headers however the target is written", unauthenticatedTargets)
	t.Run("bodies announced too large are refused at once", unauthenticatedTooLarge)
	t.Run("senders of a whole body read why it was refused", unauthenticatedWholeBody)
	t.Run("bodies that are only announced take no memory", unauthenticatedMemory)
	t.Run("slow bodies make room for others", unauthenticatedSlowBodies)
	t.Run("frames before a token make room for others", unauthenticatedFrames)
	t.Run("refusals are logged at a bounded rate", unauthenticatedLogRate)
	t.Run("connections beyond the descriptors leave sessions alone", unauthenticatedDescriptors)
}

// raw writes bytes as they are on a new connection.
func (w *world) raw(sent string) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	expect.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() }) // the test may have closed it
	expect.NoError(w.t, conn.SetDeadline(time.Now().Add(expect.Patience)))
	_, err = io.WriteString(conn, sent)
	expect.NoError(w.t, err)
	return conn
}

// replyOn reads one reply, and whether the connection ends after it.
func replyOn(t *testing.T, conn net.Conn) (status int, body string, res *http.Response) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	expect.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	expect.NoError(t, err)
	return res.StatusCode, string(b), res
}

// What its headers refuse is refused before its body: no byte of it is waited
// for. The requests that wait would get 408 instead.
func unauthenticatedHeaders(t *testing.T) {
	w := start(t)
	now := time.Now().Unix()
	for _, family := range []string{"webhook", "svix"} {
		headers := func(id, ts, sig string) string {
			out := ""
			for name, v := range map[string]string{"id": id, "timestamp": ts, "signature": sig} {
				if v != "" {
					out += family + "-" + name + ": " + v + "\r\n"
				}
			}
			return out
		}
		sig := "v1," + strings.Repeat("A", 43) + "="
		for name, c := range map[string]struct {
			headers string
			status  int
			code    string
		}{
			"none":              {"", 401, "signature_missing"},
			"no id":             {headers("", fmt.Sprint(now), sig), 401, "signature_missing"},
			"no timestamp":      {headers("m", "", sig), 401, "signature_missing"},
			"no signature":      {headers("m", fmt.Sprint(now), ""), 401, "signature_missing"},
			"too old":           {headers("m", fmt.Sprint(now-301), sig), 401, "timestamp_out_of_window"},
			"too new":           {headers("m", fmt.Sprint(now+310), sig), 401, "timestamp_out_of_window"},
			"in milliseconds":   {headers("m", fmt.Sprint(now*1000), sig), 401, "timestamp_out_of_window"},
			"no digits":         {headers("m", "now", sig), 400, "malformed"},
			"an id with a stop": {headers("a.b", fmt.Sprint(now), sig), 400, "malformed"},
			"no version":        {headers("m", fmt.Sprint(now), "AAAA"), 400, "malformed"},
			"too many":          {headers("m", fmt.Sprint(now), strings.Repeat(sig+" ", 11)), 400, "malformed"},
			"mixed families":    {"webhook-id: m\r\nsvix-timestamp: 1\r\nsvix-signature: " + sig + "\r\n", 401, "signature_missing"},
		} {
			for _, path := range []string{"/webhooks/events", "/webhooks/events/batch?x=1"} {
				for _, framing := range []string{"Content-Length: 9400000", "Content-Length: 20", "Transfer-Encoding: chunked", "Content-Length: 9\r\nExpect: 100-continue"} {
					for _, first := range []string{"", "1"} {
						conn := w.raw("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + c.headers + framing + "\r\n\r\n" + first)
						status, body, res := replyOn(t, conn)
						if status != c.status || !strings.Contains(body, `"code":"`+c.code+`"`) || !res.Close {
							t.Errorf("%s, %s, %s, %q: %d %v %s", family, name, framing, first, status, res.Close, body)
						}
						expect.NoError(t, conn.Close())
					}
				}
			}
		}
	}
}

// Nor does it help to write the request's target in another way.
func unauthenticatedTargets(t *testing.T) {
	for prefix, paths := range map[string][]string{
		"": {"/webhooks/events", "http://x/webhooks/events", "/webhooks/events#a", "/webhooks/events?#a", "/webhooks/events/batch#?a",
			"http://x/webhooks/events/batch?a=b", "HTTP://x:80/webhooks/events#a"},
		"/bridge": {"/bridge/webhooks/events", "http://x/bridge/webhooks/events", "/bridge/webhooks/events#a", "http://x/bridge/webhooks/events/batch#a"},
	} {
		w := start(t, func(s *server.Settings) { s.PathPrefix = prefix })
		for _, path := range paths {
			conn := w.raw("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\nx")
			if status, body, res := replyOn(t, conn); status != 401 || !strings.Contains(body, `"signature_missing"`) || !res.Close {
				t.Errorf("%s: %d %s", path, status, body)
			}
			expect.NoError(t, conn.Close())
		}
	}
}

func unauthenticatedTooLarge(t *testing.T) {
	w := start(t)
	for path, limit := range map[string]int{"/webhooks/events": 64 << 10, "/webhooks/events/batch": 8 << 20} {
		for _, more := range []int{1, 1 << 30} {
			conn := w.raw(announced(path, limit+more))
			if status, body, res := replyOn(t, conn); status != 413 || !strings.Contains(body, `"too_large"`) || !strings.Contains(body, strconv.Itoa(limit)) || !res.Close {
				t.Errorf("%s: %d %s", path, status, body)
			}
			expect.NoError(t, conn.Close())
		}
	}
	conn := w.raw("POST /v1/acks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n")
	if status, body, _ := replyOn(t, conn); status != 413 {
		t.Errorf("an ack: %d %s", status, body)
	}
}

// A client that writes all before it reads must not lose the answer to a reset.
func unauthenticatedWholeBody(t *testing.T) {
	w := start(t)
	large := strings.Repeat("a", 9<<20)
	for name, c := range map[string]struct {
		head string
		want int
	}{
		"unsigned":           {"POST /webhooks/events/batch HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(large)) + "\r\n\r\n", 401},
		"too large":          {announced("/webhooks/events/batch", len(large)), 413},
		"no such path":       {"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", 404},
		"without a token":    {"POST /v1/acks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", 401},
		"a method of no use": {"PUT /webhooks/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", 405},
	} {
		body := large
		if strings.Contains(c.head, "1000000") {
			body = large[:1_000_000]
		}
		conn := w.raw(c.head)
		if _, err := io.WriteString(conn, body); err != nil {
			t.Errorf("%s: it was cut off while it wrote: %v", name, err)
		}
		if status, answer, _ := replyOn(t, conn); status != c.want {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		expect.NoError(t, conn.Close())
	}
	// In chunks, of which nobody knows how many will come.
	conn := w.raw("POST /webhooks/events/batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range 100 {
		if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", 10_000, large[:10_000]); err != nil {
			t.Errorf("in chunks: %v", err)
			break
		}
	}
	if status, answer, _ := replyOn(t, conn); status != 401 {
		t.Errorf("in chunks: %d %s", status, answer)
	}
}

// 300 senders announce a large body and send one byte of it.
func unauthenticatedMemory(t *testing.T) {
	w := start(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const senders = 300
	for i := range senders {
		head := announced("/webhooks/events/batch", 8_300_000)
		if i%2 == 0 {
			head = strings.Replace(head, "Content-Length: 8300000", "Transfer-Encoding: chunked", 1) + "7e0000\r\n"
		}
		w.raw(head + "x")
	}
	expect.Eventually(t, "all are taken in", func() bool { return w.metric("hookbridge_connections") > senders })
	s := w.connect("patient-1", "")
	w.fireTo("patient-1", 1)
	s.want("event")
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > senders*128<<10 {
		t.Errorf("%d MiB were allocated", used>>20)
	}
}

// A slow body holds no place for long, and little memory, however it is framed.
func unauthenticatedSlowBodies(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.MaxUnauthenticated = 50 })
	kept := w.connect("patient-1", "")
	dropped := new(atomic.Int64)
	for range 300 {
		conn := w.raw(announced("/webhooks/events", 60_000) + strings.Repeat("a", 6_000))
		go func() {
			b, err := io.ReadAll(conn)
			if err != nil || !bytes.Contains(b, []byte("408")) {
				dropped.Add(1)
			}
		}()
	}
	w.fireTo("patient-1", 1)
	kept.want("event")
	expect.Eventually(t, "the oldest are gone", func() bool { return dropped.Load() >= 200 })
	if n := w.metric(`hookbridge_dropped_connections_total{reason="unauthenticated"}`); n < 200 {
		t.Errorf("%v are counted", n)
	}
}

// What sockets send before their token has a limit, too; whoever is pushed out is
// told to come back later.
func unauthenticatedFrames(t *testing.T) {
	const size = 4 << 20
	w := start(t, func(s *server.Settings) {
		s.MaxBytes, s.MaxBatchBytes, s.Times.FirstFrame = size, size, expect.Patience
	})
	frame := append([]byte{opText, 0xff}, binary.BigEndian.AppendUint64(nil, size*3/4)...)
	frame = append(append(frame, 0, 0, 0, 0), bytes.Repeat([]byte(" "), size*3/4-1)...) // all but its last byte
	const n = 9                                                                         // 36 MiB, of which one address may have 32
	codes := make(chan uint16, n)
	for range n {
		s := w.rawDial(t)
		_, err := s.conn.Write(frame)
		expect.NoError(t, err)
		go func() {
			var b [4]byte // the head of a close frame, and its code
			_, _ = io.ReadFull(s.in, b[:])
			codes <- binary.BigEndian.Uint16(b[2:])
		}()
	}
	if code := <-codes; code != 1013 { // the others wait until their time is up
		t.Errorf("the first to be closed: %d", code)
	}
	w.connect("patient-1", "")
}

// Refusals of strangers must not fill the logs; metrics count all of them.
func unauthenticatedLogRate(t *testing.T) {
	heavy(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := start(t, func(s *server.Settings) { s.Audit = path })
	const requests = 1000
	began := time.Now()
	for range requests {
		res, err := w.client.Post(w.base+"/webhooks/events", "application/json", strings.NewReader("{}"))
		expect.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		expect.NoError(t, err)
		expect.NoError(t, res.Body.Close())
	}
	seconds := int(time.Since(began).Seconds()) + 2
	if n := w.metric(`hookbridge_refused_requests_total{code="signature_missing"}`); n != requests {
		t.Errorf("%v are counted", n)
	}
	w.stop()
	audit, err := os.ReadFile(path)
	expect.NoError(t, err)
	for name, text := range map[string]string{"log": w.logs.String(), "audit log": string(audit)} {
		written, omitted := 0, 0
		for line := range strings.Lines(text) {
			if _, rest, ok := strings.Cut(line, `"omitted":`); ok {
				var n int
				_, err := fmt.Sscan(strings.TrimRight(rest, "}\n"), &n)
				expect.NoError(t, err)
				omitted += n
			} else if strings.Contains(line, `"signature_missing"`) {
				written++
			}
		}
		if written > 10*seconds || written+omitted != requests {
			t.Errorf("the %s has %d lines and tells of %d more", name, written, omitted)
		}
	}
}

// The program with few descriptors, and more silent connections than those: it
// says what does not fit, goes on accepting, and serves its sessions and probes.
func unauthenticatedDescriptors(t *testing.T) {
	const files = 400
	p := serveIn(t, t.TempDir(), exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" serve`, files), os.Args[0]))
	if !strings.Contains(p.errs.String(), "BRIDGE_MAX_SESSIONS=20000 is taken as ") {
		t.Errorf("it does not say what does not fit: %s", p.errs)
	}
	s := p.connect("patient-1", "")
	var silent []net.Conn
	for range 3 * files {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://"))
		expect.NoError(t, err)
		silent = append(silent, conn)
	}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: expect.Patience}
	for _, path := range []string{"/livez", "/readyz"} {
		res, err := fresh.Get(p.base + path)
		expect.NoError(t, err)
		if res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
		expect.NoError(t, res.Body.Close())
	}
	p.fireTo("patient-1", 1)
	if f := s.want("event"); f.n() != 1 {
		t.Errorf("%s", f.Raw)
	}
	if n := p.metric("hookbridge_connections"); n > files-200+1 {
		t.Errorf("%v connections are open", n)
	}
	for _, conn := range silent {
		expect.NoError(t, conn.Close())
	}
	p.fireTo("patient-1", 2)
	s.want("event")
	select {
	case err := <-p.exited:
		t.Fatalf("it ended: %v\n%s", err, p.errs)
	default:
	}
}
