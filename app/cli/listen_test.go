package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/go-json-experiment/json"

	"hookbridge/app/wire"
	"hookbridge/auth"
)

func TestListenResumesWhereItWasAndPrintsEachEventOnce(t *testing.T) {
	b := newFakeBridge(t)
	l := listen(t, ListenCmd{URL: b.URL})

	c := b.accept()
	if got := c.request.Get("Authorization"); got != "Bearer token-of-the-test" {
		t.Errorf("Authorization is %q", got)
	}
	c.greeted("")
	c.say(event(1))
	c.hear(`{"type":"ack","cursor":"c1"}`)
	c.part(wire.CloseInternal, "")

	c = b.accept()
	c.greeted("c1")
	c.say(event(1), event(2), `{"type":"reconnect","afterMs":4210,"reason":"draining"}`)
	c.part(wire.CloseRestart, "restart")

	c = b.accept()
	c.greeted("c2")
	c.say(`{"type":"gap","after":"c2","cursor":"c7","reason":"expired"}`)
	c.part(wire.CloseSlow, "slow")

	c = b.accept()
	c.greeted("c7")
	c.Close() // lost

	c = b.accept()
	c.greeted("c7")
	c.say(event(8), `{"type":"news_of_later_days"}`, `{"type":"recalled","id":"msg_8"}`)
	c.hear(`{"type":"ack","cursor":"c8"}`)
	l.cancel()
	if frames, code := c.gone(); code != websocket.CloseNormalClosure || len(frames) > 0 {
		t.Errorf("it left with %d and %q", code, frames)
	}
	if err := l.ended(); err != nil {
		t.Error(err)
	}
	if got, want := l.out.String(), printed(1, 2, 8); got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
	if got := l.waited(); got != "[500ms 4.21s 0s 500ms]" {
		t.Errorf("waited %s", got)
	}
	for _, want := range []string{"connected as u", "gap: some events are gone (expired)", "recalled: msg_8", "again in 4.21s"} {
		if !strings.Contains(l.err.String(), want) {
			t.Errorf("%q is not said in:\n%s", want, l.err.String())
		}
	}
	if strings.Contains(l.err.String(), "token-of-the-test") {
		t.Error("the token is said")
	}
}

func TestListenGathersItsAcks(t *testing.T) {
	b := newFakeBridge(t)
	listen(t, ListenCmd{URL: b.URL})
	c := b.accept()
	c.greeted("")
	const events = 500
	for n := 1; n <= events; n++ {
		c.say(event(n))
	}
	acks := 1
	for c.next() != fmt.Sprintf(`{"type":"ack","cursor":"c%d"}`, events) {
		acks++
	}
	if acks > events/4 {
		t.Errorf("%d acks for %d events", acks, events)
	}
}

func TestListenWithoutAcksSendsNone(t *testing.T) {
	b := newFakeBridge(t)
	l := listen(t, ListenCmd{URL: b.URL, NoAck: true})
	c := b.accept()
	c.greeted("")
	c.say(event(1))
	eventually(t, "printed", func() bool { return l.out.String() != "" })
	l.cancel()
	if frames, _ := c.gone(); len(frames) > 0 {
		t.Errorf("it sent %q", frames)
	}
}

func TestListenAnswersPings(t *testing.T) {
	b := newFakeBridge(t)
	listen(t, ListenCmd{URL: b.URL})
	c := b.accept()
	c.greeted("")
	c.SetPongHandler(func(place string) error { return errors.New("pong " + place) }) // ends the read
	if err := c.WriteControl(websocket.PingMessage, []byte("12.5"), time.Now().Add(testPatience)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(testPatience)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); err == nil || err.Error() != "pong 12.5" {
		t.Errorf("got %v", err)
	}
}

func TestListenLeavesAConnectionThatHasGoneQuiet(t *testing.T) {
	b := newFakeBridge(t)
	l := listen(t, ListenCmd{URL: b.URL})
	c := b.accept()
	c.hear(`{"type":"connect"}`)
	c.say(`{"type":"connected","session":"ses_1","user":"u\u001b[2J","cursor":"c1","pingMs":5}`) // and no ping
	c = b.accept()
	c.greeted("c1")
	if said := l.err.String(); !strings.Contains(said, "nothing came for too long") || strings.Contains(said, "\x1b") {
		t.Errorf("said %q", said)
	}
}

func TestListenKeepsItsPlaceInAFile(t *testing.T) {
	b := newFakeBridge(t)
	file := filepath.Join(t.TempDir(), "cursor")
	l := listen(t, ListenCmd{URL: b.URL, CursorFile: file})
	c := b.accept()
	c.greeted("")
	c.say(event(1), event(2))
	for c.next() != `{"type":"ack","cursor":"c2"}` {
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "c2\n" { // written before the ack
		t.Errorf("the file holds %q, %v", got, err)
	}
	l.cancel()
	c.gone()
	if err := l.ended(); err != nil {
		t.Fatal(err)
	}

	l = listen(t, ListenCmd{URL: b.URL, CursorFile: file})
	c = b.accept()
	c.greeted("c2")
	c.part(wire.CloseErased, "erased")
	if err := l.ended(); err == nil || !strings.Contains(err.Error(), "erased") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of an erased user: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	l = listen(t, ListenCmd{URL: b.URL, CursorFile: filepath.Join(file, "no", "folder"), After: "c1"})
	c = b.accept()
	c.greeted("c1")
	c.say(event(3))
	c.gone()
	if err := l.ended(); err == nil || !strings.Contains(err.Error(), "--cursor-file") {
		t.Errorf("got %v", err)
	}
}

func TestListenRenewsTheTokensItMakes(t *testing.T) {
	b := newFakeBridge(t)
	tokens, err := auth.NewTokens(t.Context(), auth.TokenConfig{Secrets: []string{commandSecret}, Audience: "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	whose := func(token string) string {
		t.Helper()
		c, err := tokens.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return c.User
	}
	l := listen(t, ListenCmd{URL: b.URL, User: "patient-42", Audience: "bridge", TokenSecret: TokenSecret{JWTSecret: commandSecret}})
	c := b.accept()
	if got := whose(strings.TrimPrefix(c.request.Get("Authorization"), "Bearer ")); got != "patient-42" {
		t.Errorf("connected as %s", got)
	}
	c.greeted("")
	c.say(`{"type":"token_expiring","inMs":60000}`)
	var f clientFrame
	if err := json.Unmarshal([]byte(c.next()), &f); err != nil || f.Type != wire.TypeRefresh || whose(f.Token) != "patient-42" {
		t.Errorf("heard %+v, %v", f, err)
	}
	c.part(wire.CloseUnauthorized, "expired")
	c = b.accept() // with a new token
	c.hear(`{"type":"connect"}`)
	c.part(wire.CloseUnauthorized, "bad signature") // twice in a row
	if err := l.ended(); err == nil || !strings.Contains(err.Error(), "the token was refused (close code 4401): bad signature") {
		t.Errorf("got %v", err)
	}
}

func TestListenDoesNotShowAGivenTokenTwice(t *testing.T) {
	b := newFakeBridge(t)
	l := listen(t, ListenCmd{URL: b.URL})
	c := b.accept()
	c.greeted("")
	c.say(`{"type":"token_expiring","inMs":60000}`)
	eventually(t, "said", func() bool { return strings.Contains(l.err.String(), "expires in 1m0s") })
	c.part(wire.CloseUnauthorized, "expired")
	if err := l.ended(); err == nil {
		t.Error("no error")
	}
}

func TestListenInPlainMode(t *testing.T) {
	b := newFakeBridge(t)
	l := listen(t, ListenCmd{URL: b.URL, Plain: true})
	c := b.accept()
	if got := c.request.Get("Sec-Websocket-Protocol"); got != "" {
		t.Errorf("it offered %q", got)
	}
	const chat = `{"fromUserId":"doctor-7","toUserId":"u","message":"hello"}`
	const own = `{"id":"msg_2","type":"error","data":{}}`
	c.say(`{"id":"msg_1","type":"t","data":[1,
		2]}`, chat, `{"type":"error","problem":{"code":"invalid_frame","detail":"no"}}`, own, own, chat)
	eventually(t, "printed", func() bool { return strings.Count(l.out.String(), "\n") == 4 })
	if got, want := l.out.String(), `{"id":"msg_1","type":"t","data":[1, 		2]}`+"\n"+chat+"\n"+own+"\n"+chat+"\n"; got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
	if !strings.Contains(l.err.String(), "invalid_frame no") {
		t.Errorf("said %s", l.err.String())
	}
	c.part(wire.CloseGoingAway, "")
	c = b.accept()
	l.cancel()
	if frames, code := c.gone(); code != websocket.CloseNormalClosure || len(frames) > 0 {
		t.Errorf("it left with %d and %q", code, frames)
	}
}

func TestListenNamesTheUserAnEventCameFrom(t *testing.T) {
	b := newFakeBridge(t)
	l := listen(t, ListenCmd{URL: b.URL})
	c := b.accept()
	c.greeted("")
	c.say(`{"type":"event","cursor":"c1","from":"d\"7","event":{"id":"msg_1","type":"t"}}`)
	eventually(t, "printed", func() bool { return l.out.String() == `{"id":"msg_1","type":"t","from":"d\"7"}`+"\n" })
}

func TestListenEndsWhereGoingOnWouldLose(t *testing.T) {
	for name, frame := range map[string]string{
		"not JSON": "hello", "no type": "{}", "an event that is none": `{"type":"event","cursor":"c1","event":7}`,
	} {
		b := newFakeBridge(t)
		l := listen(t, ListenCmd{URL: b.URL})
		c := b.accept()
		c.greeted("")
		c.say(frame)
		if _, code := c.gone(); code != websocket.CloseNormalClosure {
			t.Errorf("%s: it left with %d", name, code)
		}
		if err := l.ended(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	b := newFakeBridge(t)
	l := listen(t, ListenCmd{URL: b.URL}, func(f *feed) { f.out.out = closedPipe{} })
	c := b.accept()
	c.greeted("")
	c.say(event(1))
	if frames, _ := c.gone(); len(frames) > 0 {
		t.Errorf("what was not printed was acked: %q", frames)
	}
	if err := l.ended(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestListenAndAHandshakeThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		waits  string // of the first retries; empty: it ends
		want   string
	}{
		"401":            {answers(401, problem(wire.CodeUnauthorized)), "", "401 unauthorized"},
		"403":            {answers(403, problem(wire.CodeOriginRefused)), "", "403 origin_refused"},
		"404":            {answers(404, ""), "", "not the bridge's"},
		"200":            {answers(200, "hello"), "", "not the bridge's"},
		"503":            {answers(503, problem(wire.CodeTooManyConnections), "Retry-After", "7"), "[7.5s 8s 9s]", ""},
		"500":            {answers(500, ""), "[500ms 1s 2s]", ""},
		"no subprotocol": {plainUpgrade, "", "does not speak bridge.v1.json"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(c.answer)
			defer s.Close()
			l := listen(t, ListenCmd{URL: s.URL}, func(f *feed) {
				count, inner := 0, f.sleep
				f.sleep = func(ctx context.Context, d time.Duration) error {
					if count++; count == 3 {
						return errors.Join(inner(ctx, d), context.Canceled)
					}
					return inner(ctx, d)
				}
			})
			err := l.ended()
			if c.waits != "" {
				if got := l.waited(); err != nil || got != c.waits {
					t.Errorf("%v, waited %s", err, got)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func plainUpgrade(w http.ResponseWriter, r *http.Request) {
	var up websocket.Upgrader
	if c, err := up.Upgrade(w, r, nil); err == nil {
		defer c.Close()
	}
}

func TestTheListenCommandSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nobody":          {nil, "say who listens"},
		"two":             {[]string{"--token", "x", "--user", "u"}, "not both"},
		"plain and after": {[]string{"--plain", "--after", "c", "--token", "x"}, "--plain has no cursors"},
		"a bad URL":       {[]string{"--token", "x", "--url", "ftp://x"}, "--url"},
		"no secret":       {[]string{"--user", "u", "--data-dir", t.TempDir()}, "BRIDGE_JWT_SECRET"},
		"a bad user":      {[]string{"--user", "a\nb", "--jwt-secret", commandSecret}, "control character"},
		"a folder":        {[]string{"--token", "x", "--cursor-file", t.TempDir()}, "--cursor-file"},
	} {
		code, out, stderr := command(t, nil, append([]string{"listen"}, c.args...)...)
		if code != 1 || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, stderr)
		}
	}
}

func TestRecentIdsAreBounded(t *testing.T) {
	r := newRecent(3)
	for i, c := range []struct {
		id  string
		new bool
	}{{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"d", true}, {"b", false}, {"a", true}, {"b", true}} {
		if r.add(c.id) != c.new {
			t.Errorf("step %d: %s", i, c.id)
		}
	}
	if len(r.ids) != 3 {
		t.Errorf("%d ids are kept", len(r.ids))
	}
}
