package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fasthttp/websocket"

	"hookbridge/app/client/clienttest"
	"hookbridge/app/expect"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

func TestListen(t *testing.T) {
	t.Run("prints each event once and says what happens", listenPrints)
	t.Run("without acks sends none", listenWithoutAcks)
	t.Run("keeps its cursor in a file", listenKeepsCursor)
	t.Run("renews the tokens that it makes", listenRenewsTokens)
	t.Run("prints what comes in plain mode", listenPlain)
	t.Run("ends where it cannot print", listenCannotPrint)
	t.Run("says what is wrong", listenChecks)
}

// listening is a listen command that runs.
type listening struct {
	out, err expect.Output
	cancel   context.CancelFunc
	done     chan error
}

func listen(t *testing.T, c ListenCmd) *listening {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	l := &listening{cancel: cancel, done: make(chan error, 1)}
	if c.Token == "" && c.User == "" {
		c.Token = "token-of-the-test"
	}
	go func() { l.done <- c.Run(ctx, Streams{Out: &l.out, Err: &l.err}) }()
	return l
}

func printed(n ...int) string {
	var b strings.Builder
	for _, n := range n {
		fmt.Fprintf(&b, `{"id":"msg_%d","type":"t","timestamp":"2026-11-22T20:36:00Z","data":{"n": %d}}`+"\n", n, n)
	}
	return b.String()
}

func listenPrints(t *testing.T) {
	b := clienttest.NewBridge(t)
	l := listen(t, ListenCmd{URL: b.URL})
	c := b.Accept()
	if got := c.Request.Get("Authorization"); got != "Bearer token-of-the-test" {
		t.Errorf("Authorization is %q", got)
	}
	c.Greet("")
	c.Say(clienttest.Event(1))
	c.Hear(`{"type":"ack","cursor":"c1"}`)
	c.Say(`{"type":"token_expiring","inMs":60000}`, `{"type":"reconnect","afterMs":0,"reason":"draining"}`)
	c.Part(wire.CloseRestart, "restart")

	c = b.Accept()
	c.Greet("c1")
	c.Say(clienttest.Event(1), clienttest.Event(2), `{"type":"gap","after":"c2","cursor":"c7","reason":"expired"}`,
		`{"type":"event","cursor":"c8","from":"d\"7","event":{"id":"msg_8","type":"t"}}`, `{"type":"recalled","id":"msg_8"}`)
	c.Hear(`{"type":"ack","cursor":"c8"}`)
	c.Part(wire.CloseNormal, "")
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	if got, want := l.out.String(), printed(1, 2)+`{"id":"msg_8","type":"t","from":"d\"7"}`+"\n"; got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
	const want = `connected as u, from the start, 0 waiting, session ses_1
the token expires in 1m0s; start again with a new one
disconnected (1012 restart), again in 0s
connected as u, from the start, 0 waiting, session ses_1
gap: some events are gone (expired)
recalled: msg_8
signed out
`
	if got := l.err.String(); got != want {
		t.Errorf("said\n%s", got)
	}
}

func listenWithoutAcks(t *testing.T) {
	b := clienttest.NewBridge(t)
	l := listen(t, ListenCmd{URL: b.URL, NoAck: true, CursorFile: filepath.Join(t.TempDir(), "cursor")})
	c := b.Accept()
	c.Greet("")
	c.Say(clienttest.Event(1))
	expect.Eventually(t, "printed", func() bool { return l.out.String() != "" })
	l.cancel()
	if frames, _ := c.Gone(); len(frames) > 0 {
		t.Errorf("it sent %q", frames)
	}
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

func listenKeepsCursor(t *testing.T) {
	b := clienttest.NewBridge(t)
	file := filepath.Join(t.TempDir(), "cursor")
	l := listen(t, ListenCmd{URL: b.URL, CursorFile: file})
	c := b.Accept()
	c.Greet("")
	c.Say(clienttest.Event(1), clienttest.Event(2))
	for c.Next() != `{"type":"ack","cursor":"c2"}` {
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "c2\n" { // written before the ack
		t.Errorf("the file holds %q, %v", got, err)
	}
	l.cancel()
	c.Gone()
	expect.NoError(t, <-l.done)

	l = listen(t, ListenCmd{URL: b.URL, CursorFile: file, After: "c1"}) // instead of the file's
	c = b.Accept()
	c.Greet("c1")
	l.cancel()
	c.Gone()
	expect.NoError(t, <-l.done)

	l = listen(t, ListenCmd{URL: b.URL, CursorFile: file})
	c = b.Accept()
	c.Greet("c1")
	c.Part(wire.CloseErased, "erased")
	if err := <-l.done; err == nil || !strings.Contains(err.Error(), "erased") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of an erased user: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	l = listen(t, ListenCmd{URL: b.URL, CursorFile: filepath.Join(file, "no", "folder"), After: "c1"})
	c = b.Accept()
	c.Greet("c1")
	c.Say(clienttest.Event(3))
	c.Gone()
	if err := <-l.done; err == nil || !strings.Contains(err.Error(), "--cursor-file") {
		t.Errorf("got %v", err)
	}
}

func listenRenewsTokens(t *testing.T) {
	b := clienttest.NewBridge(t)
	tokens, err := auth.NewTokens(t.Context(), auth.TokenConfig{Secrets: []string{testJWTSecret}, Audience: "bridge"})
	expect.NoError(t, err)
	whose := func(token string) string {
		t.Helper()
		c, err := tokens.Verify(t.Context(), token)
		expect.NoError(t, err)
		return c.User
	}
	l := listen(t, ListenCmd{URL: b.URL, User: "patient-42", Audience: "bridge", TokenSecret: TokenSecret{JWTSecret: testJWTSecret}})
	c := b.Accept()
	if got := whose(strings.TrimPrefix(c.Request.Get("Authorization"), "Bearer ")); got != "patient-42" {
		t.Errorf("connected as %s", got)
	}
	c.Greet("")
	c.Say(`{"type":"token_expiring","inMs":60000}`)
	f, err := wire.Parse([]byte(c.Next()))
	if refresh, ok := f.Body.(*wire.Refresh); err != nil || !ok || whose(refresh.Token) != "patient-42" {
		t.Errorf("heard %+v, %v", f, err)
	}
	c.Part(wire.CloseForbidden, "revoked")
	if err := <-l.done; err == nil || !strings.Contains(err.Error(), "this user may not connect (close code 4403): revoked") {
		t.Errorf("got %v", err)
	}
}

func listenPlain(t *testing.T) {
	b := clienttest.NewBridge(t)
	l := listen(t, ListenCmd{URL: b.URL, Plain: true})
	c := b.Accept()
	if got := c.Request.Get("Sec-Websocket-Protocol"); got != "" {
		t.Errorf("it offered %q", got)
	}
	const chat = `{"fromUserId":"doctor-7","toUserId":"u","message":"hello"}`
	const own = `{"id":"msg_2","type":"error","data":{}}`
	c.Say(`{"id":"msg_1","type":"t","data":[1,
		2]}`, chat, `{"type":"error","problem":{"code":"invalid_frame","detail":"no"}}`, own, own, chat)
	expect.Eventually(t, "printed", func() bool { return strings.Count(l.out.String(), "\n") == 4 })
	if got, want := l.out.String(), `{"id":"msg_1","type":"t","data":[1, 		2]}`+"\n"+chat+"\n"+own+"\n"+chat+"\n"; got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
	if !strings.Contains(l.err.String(), "invalid_frame no") {
		t.Errorf("said %s", l.err.String())
	}
	l.cancel()
	if frames, code := c.Gone(); code != websocket.CloseNormalClosure || len(frames) > 0 {
		t.Errorf("it left with %d and %q", code, frames)
	}
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

func listenCannotPrint(t *testing.T) {
	b := clienttest.NewBridge(t)
	done := make(chan error, 1)
	go func() {
		c := ListenCmd{URL: b.URL, Token: "token-of-the-test"}
		done <- c.Run(t.Context(), Streams{Out: closedPipe{}, Err: io.Discard})
	}()
	c := b.Accept()
	c.Greet("")
	c.Say(clienttest.Event(1))
	if frames, _ := c.Gone(); len(frames) > 0 {
		t.Errorf("what was not printed was acked: %q", frames)
	}
	if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func listenChecks(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nobody":          {nil, "say who listens"},
		"two":             {[]string{"--token", "x", "--user", "u"}, "not both"},
		"plain and after": {[]string{"--plain", "--after", "c", "--token", "x"}, "--plain has no cursors"},
		"a bad URL":       {[]string{"--token", "x", "--url", "ftp://x"}, "--url"},
		"no secret":       {[]string{"--user", "u", "--data-dir", t.TempDir()}, "BRIDGE_JWT_SECRET"},
		"a bad user":      {[]string{"--user", "a\nb", "--jwt-secret", testJWTSecret}, "control character"},
		"a folder":        {[]string{"--token", "x", "--cursor-file", t.TempDir()}, "--cursor-file"},
	} {
		code, out, stderr := command(t, nil, append([]string{"listen"}, c.args...)...)
		if code != 1 || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, stderr)
		}
	}
}
