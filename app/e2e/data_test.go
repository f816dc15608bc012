package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/cli"
	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/wire"
)

// What the door takes, every way out carries, byte for byte.

func TestData(t *testing.T) {
	t.Parallel()
	t.Run("of odd JSON survives Redis and each archive", dataSurvives)
	t.Run("of odd JSON neither closes a socket nor sinks a batch", dataHarmsNothing)
}

// oddData is what RFC 8259 allows and JSON libraries differ about.
var oddData = []string{
	`{"a":1,"a":2}`, `{"message":"x","\u006dessage":"y"}`, `"caf\ud83d"`, `{"\udead":"\ud83d"}`, `{"message":"cut \ud83d"}`,
	`{ "b" : 1.0 , "a" : [ 1e3 , -0 ] }`, "{\n  \"n\":\r\n 1,\r\r\"m\":\t[\n]}", `1E+999`, `123456789012345678901234567890.0`,
	`null`, `""`, `"\u0000\/\u00e9é"`, `"` + "\u2028\ufeff\u0085" + `"`, `[[],{},""]`, `{"from":"x","cursor":"y","event":{"id":"z"}}`,
	strings.Repeat("[", wire.MaxDepth) + strings.Repeat("]", wire.MaxDepth),
}

// noData is what is not taken.
var noData = []string{
	``, `01`, `nul`, `[1,]`, "\"\xff\"", "\"\n\"", `"caf\ud83`, `1} {`,
	strings.Repeat("[", wire.MaxDepth+1) + strings.Repeat("]", wire.MaxDepth+1), strings.Repeat("[", 9_998) + strings.Repeat("]", 9_998),
}

// outlets are all ways out of one program, for one user.
type outlets struct {
	w       *world
	n       int
	framed  *websocket.Conn
	plain   *websocket.Conn
	stream  *bufio.Reader
	listen  *lastWrite        // the listen command
	senders []*websocket.Conn // a doctor's: with frames, and plain
}

const patient1 = "patient-1"

func openOutlets(t testing.TB, w *world) *outlets {
	t.Helper()
	tok := token(t, patient1, time.Hour, "")
	o := &outlets{w: w, framed: w.socket(t, tok, true), plain: w.socket(t, tok, false)}
	t.Cleanup(func() {
		for _, ws := range append(o.senders, o.framed, o.plain) {
			ws.Close()
		}
	})
	req, err := http.NewRequest(http.MethodGet, w.base+"/v1/stream", nil)
	expect.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+tok)
	res, err := http.DefaultTransport.RoundTrip(req)
	expect.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	o.stream = bufio.NewReader(res.Body)
	o.listen = new(lastWrite)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, []string{"listen", "--no-ack", "--url", w.base, "--token", tok}, cli.Streams{Out: o.listen, Err: io.Discard})
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	w.sessions(4)
	return o
}

// lastWrite keeps what was written last.
type lastWrite struct {
	mu   sync.Mutex
	text string
}

func (l *lastWrite) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = string(p)
	return len(p), nil
}

func (l *lastWrite) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

// socket opens a session that shows frames as they come; the caller closes it.
func (w *world) socket(t testing.TB, tok string, frames bool) *websocket.Conn {
	t.Helper()
	d := websocket.Dialer{HandshakeTimeout: expect.Patience}
	if frames {
		d.Subprotocols = []string{wire.Subprotocol}
	}
	header := http.Header{"Authorization": {"Bearer " + tok}}
	ws, _, err := d.Dial("ws"+strings.TrimPrefix(w.base, "http")+"/ws", header)
	expect.NoError(t, err)
	if frames {
		expect.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"connect"}`)))
		rawFrame(t, ws, "connected")
	}
	return ws
}

// rawFrame is the next frame of a type; of any type where typ is empty.
func rawFrame(t testing.TB, ws *websocket.Conn, typ string) string {
	t.Helper()
	for {
		expect.NoError(t, ws.SetReadDeadline(time.Now().Add(expect.Patience)))
		_, b, err := ws.ReadMessage()
		if err != nil {
			t.Fatalf("waiting for %q: %v", typ, err)
		}
		if typ == "" || strings.HasPrefix(string(b), `{"type":"`+typ+`"`) {
			return string(b)
		}
	}
}

// streamed is the next event on the stream, put together as the standard says.
func (o *outlets) streamed(t testing.TB) string {
	t.Helper()
	for {
		var event string
		var data []string
		for {
			line, err := o.stream.ReadString('\n')
			expect.NoError(t, err)
			if line = strings.TrimSuffix(line, "\n"); line == "" {
				break
			}
			if strings.ContainsAny(line, "\r") {
				t.Fatalf("a reader would take this for two lines: %q", line)
			}
			name, value, _ := strings.Cut(line, ":")
			switch value = strings.TrimPrefix(value, " "); name {
			case "event":
				event = value
			case "data":
				data = append(data, value)
			}
		}
		if event == "event" {
			return strings.Join(data, "\n")
		}
	}
}

// raw calls the program and returns what it answers, unread.
func (o *outlets) raw(t testing.TB, req *http.Request, tok string) (int, string) {
	t.Helper()
	if tok != "" {
		req.Header.Set("Authorization", "Bearer "+tok)
	}
	res, err := http.DefaultClient.Do(req)
	expect.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	expect.NoError(t, err)
	return res.StatusCode, string(b)
}

func (o *outlets) get(t testing.TB, path, tok string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, o.w.base+path, nil)
	expect.NoError(t, err)
	code, b := o.raw(t, req, tok)
	if code != http.StatusOK {
		t.Fatalf("%s: %d %.300s", path, code, b)
	}
	return b
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

// webhook sends data as a backend does, and compares what comes out everywhere.
func (o *outlets) webhook(t testing.TB, data string) {
	t.Helper()
	o.n++
	other := fmt.Sprintf("patient-x%d", o.n) // who is away, and has only this message
	id := fmt.Sprintf("msg_%d", o.n)
	body := `{"type":"t","to":{"users":["` + patient1 + `","` + other + `"]},"topic":"t","data":` + data + `}`
	e, err := wire.DecodeEvent([]byte(body))
	code, reply := o.raw(t, o.w.sign(id, body, time.Now()), "")
	if err != nil || len(body) > 64<<10 {
		if code != 400 && code != 422 && code != 413 {
			t.Fatalf("%.80q: %d %s", data, code, reply)
		}
		return
	}
	if e.TTL >= 0 || len(e.To.Users) != 2 || e.Topic != "t" || e.Type != "t" || len(e.Except) > 0 {
		return // the data was more than data
	}
	if code != 202 {
		t.Fatalf("%.80q: %d %s", data, code, reply)
	}
	want := string(e.Data)
	ends := func(way, got, tail string) {
		t.Helper()
		if want := `"data":` + want + tail; !strings.HasSuffix(got, want) {
			t.Fatalf("%s:\n got %.300q\nwant %.300q", way, got, want)
		}
	}
	frame := rawFrame(t, o.framed, "event")
	ends("socket", frame, "}}")
	ends("plain", rawFrame(t, o.plain, ""), "}")
	if got := o.streamed(t); got != strings.ReplaceAll(replaceCursor(frame, got), "\r", "\n") {
		t.Fatalf("stream:\n got %.300q\nwant %.300q", got, frame)
	}
	tok := token(t, other, time.Hour, "")
	ends("poll", o.get(t, "/v1/poll?waitMs=0", tok), "}}]}")
	ends("poll once more", o.get(t, "/v1/poll?waitMs=0", tok), "}}]}")

	lines := strings.Split(o.get(t, "/v1/users/"+other+"/export", token(t, "operator", time.Hour, allAreas)), "\n")
	if len(lines) < 2 || !strings.HasSuffix(lines[1], oneLine(`"data":`+want+`}}}`)) {
		t.Fatalf("export:\n got %.300q\nwant %.300q", lines, want)
	}

	var got string
	expect.Eventually(t, "listen prints it", func() bool {
		got = o.listen.last()
		return strings.Contains(got, `"id":"`+id+`"`)
	})
	if !strings.HasSuffix(got, oneLine(`"data":`+want+`}`)+"\n") || strings.Count(got, "\n") != 1 {
		t.Fatalf("listen:\n got %.300q\nwant %.300q", got, want)
	}
}

// replaceCursor gives a frame the cursor and the mark of another one: each session
// has its own.
func replaceCursor(frame, from string) string {
	head, _, _ := strings.Cut(from, `,"event":`)
	_, tail, _ := strings.Cut(frame, `,"event":`)
	return head + `,"event":` + tail
}

// user sends data as a doctor does, in both modes.
func (o *outlets) user(t testing.TB, data string) {
	t.Helper()
	if o.n%400 == 1 || o.senders == nil { // a session may send so many frames at once
		for _, ws := range o.senders {
			ws.Close()
		}
		tok := token(t, fmt.Sprintf("doctor-%d", o.n), time.Hour, `{"send":["patient-*"]}`)
		o.senders = []*websocket.Conn{o.w.socket(t, tok, true), o.w.socket(t, tok, false)}
	}
	send := `{"type":"send","to":{"user":"` + patient1 + `"},"event":{"type":"t","topic":"t","data":` + data + `}}`
	f, err := wire.Parse([]byte(send))
	if s, ok := f.Body.(*wire.Send); ok && err == nil && len(send) < 60<<10 {
		e, err := wire.DecodeSend(s)
		if err == nil && e.TTL < 0 && e.To.User == patient1 && e.Topic == "t" {
			expect.NoError(t, o.senders[0].WriteMessage(websocket.TextMessage, []byte(send)))
			if got := rawFrame(t, o.senders[0], ""); !strings.HasPrefix(got, `{"type":"result"`) {
				t.Fatalf("%.80q: %s", data, got)
			}
			o.arrives(t, "send", string(e.Data), string(wire.PlainMessage("d", "p", wire.AppendEventObject(nil, "i", "t", time.Now(), e.Data))))
		}
	}
	send = `{"toUserId":"` + patient1 + `","message":` + data + `}`
	m, err := wire.ParsePlainSend([]byte(send))
	if err == nil && m.ToUserID == patient1 && len(send) < 60<<10 {
		expect.NoError(t, o.senders[1].WriteMessage(websocket.TextMessage, []byte(send)))
		o.arrives(t, "plain send", `{"message":`+string(m.Message)+`}`, `"message":`+string(m.Message)+`}`)
	}
}

func (o *outlets) arrives(t testing.TB, way, data, plain string) {
	t.Helper()
	if got := rawFrame(t, o.framed, "event"); !strings.HasSuffix(got, `"data":`+data+"}}") {
		t.Fatalf("%s, socket:\n got %.300q\nwant %.300q", way, got, data)
	}
	_, message, _ := strings.Cut(plain, `"message":`)
	if got := rawFrame(t, o.plain, ""); !strings.HasSuffix(got, `"message":`+message) {
		t.Fatalf("%s, plain:\n got %.300q\nwant %.300q", way, got, message)
	}
	if got := o.streamed(t); !strings.HasSuffix(got, strings.ReplaceAll(`"data":`+data+"}}", "\r", "\n")) {
		t.Fatalf("%s, stream:\n got %.300q\nwant %.300q", way, got, data)
	}
}

// FuzzEveryWayOut sends what the door takes through each way out.
func FuzzEveryWayOut(f *testing.F) {
	for _, data := range append(oddData, noData...) {
		f.Add(data)
	}
	w := start(f)
	o := openOutlets(f, w)
	f.Fuzz(func(t *testing.T, data string) {
		w.t = t // what fails, fails this input
		defer func() { w.t = f }()
		o.webhook(t, data)
		o.user(t, data)
	})
}

func dataSurvives(t *testing.T) {
	heavy(t)
	t.Parallel()
	redis := redistest.Start(t)
	first := start(t, func(s *server.Settings) { s.RedisURL, s.RedisPrefix = server.Secret(redis.URL()), "one" })
	first.client = &http.Client{Timeout: expect.Patience} // the contract's readers do not take all of this
	o := openOutlets(t, first)
	for _, data := range oddData {
		o.webhook(t, data)
		o.user(t, data)
		// Kept apart from the rest, to be carried.
		first.fire(first.nextID(), `{"type":"t","to":{"user":"kept"},"data":`+data+`}`)
	}
	first.stop()

	dir := t.TempDir()
	carry(t, inRedis(redis.URL(), "one"), onFile(dir))
	holds := func(change func(*server.Settings)) {
		w := start(t, change)
		frames := (&outlets{w: w}).get(t, "/v1/poll?waitMs=0", token(t, "kept", time.Hour, ""))
		for _, data := range oddData {
			if !strings.Contains(frames, `"data":`+data+`}}`) {
				t.Errorf("%.80q is not in %.300q", data, frames)
			}
		}
		w.stop()
	}
	holds(func(s *server.Settings) { s.DataDir = dir })
	carry(t, onFile(dir), inRedis(redis.URL(), "two"))
	holds(func(s *server.Settings) { s.RedisURL, s.RedisPrefix = server.Secret(redis.URL()), "two" })
}

func dataHarmsNothing(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.client = &http.Client{Timeout: expect.Patience} // the contract's readers do not take all of this
	tok := token(t, "doctor-7", time.Hour, `{"send":["patient-*"]}`)
	s := w.socket(t, tok, true)
	defer s.Close()
	for i, data := range append(oddData, noData...) {
		batch := fmt.Sprintf(`{"events":[{"id":"a_%d","type":"t","to":{"user":"u"}},{"id":"b_%d","type":"t","to":{"user":"u"},"data":%s},{"id":"c_%d","type":"t","to":{"user":"u"}}]}`, i, i, data, i)
		a := w.do(w.signFor("/webhooks/events/batch", "application/json", w.nextID(), batch, time.Now()))
		torn := i >= len(oddData) && len(data) < 100 // the body is not JSON; the others are only too deep
		if torn && a.HTTP != 400 || !torn && (a.HTTP != 202 || strings.Count(a.Raw, `"status":"queued"`) < 2) {
			t.Errorf("%.80q: %d %s", data, a.HTTP, a.Raw)
		}
		if refused := strings.Contains(a.Raw, `"problem":{`); !torn && refused != (i >= len(oddData)) {
			t.Errorf("%.80q: %s", data, a.Raw)
		}
	}
	for _, data := range oddData {
		expect.NoError(t, s.WriteMessage(websocket.TextMessage, []byte(`{"type":"dance","data":`+data+`}`)))
		if got := rawFrame(t, s, ""); !strings.Contains(got, `"unknown_type"`) {
			t.Errorf("%.80q: %s", data, got)
		}
	}
	// Nested too deeply is too much of what is right, and no end of a session.
	p := w.socket(t, tok, false)
	defer p.Close()
	for _, data := range noData {
		if len(data) < 100 {
			continue
		}
		expect.NoError(t, s.WriteMessage(websocket.TextMessage, []byte(`{"type":"send","ref":"r","to":{"user":"patient-1"},"event":{"type":"t","data":`+data+`}}`)))
		expect.NoError(t, p.WriteMessage(websocket.TextMessage, []byte(`{"toUserId":"patient-1","message":`+data+`}`)))
		for ws, ref := range map[*websocket.Conn]string{s: `"ref":"r"`, p: ""} {
			if got := rawFrame(t, ws, "error"); !strings.Contains(got, `"invalid_frame"`) || !strings.Contains(got, "500") || !strings.Contains(got, ref) {
				t.Errorf("%.80q: %s", data, got)
			}
		}
	}
}
