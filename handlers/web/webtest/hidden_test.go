package webtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/fasthttp/websocket"

	"hookbridge/handlers/web"
	"hookbridge/handlers/web/webtest"
)

func TestHiddenPage(t *testing.T) {
	t.Run("notices a dead connection, though its timers fire once a minute", hiddenPageDeadConnection)
}

// The browser's own throttling and its real clock: this takes four minutes,
// nearly all of them waiting. It stands in a package of its own, so that they
// pass beside the others' tests.
func hiddenPageDeadConnection(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes four minutes")
	}
	sockets := make(chan *websocket.Conn, 1)
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(web.Files))
	mux.HandleFunc("/blank", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<!doctype html><title>blank</title>")
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{"bridge.v1.json"}}
		if conn, err := up.Upgrade(w, r, nil); err == nil { // else the upgrader has answered
			sockets <- conn
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	p := webtest.Throttling(t)
	webtest.Do(p, chromedp.Navigate(server.URL+"/blank"))
	p.Hide()
	p.Eval(`import("/bridge-client.js").then(({ BridgeClient }) => new BridgeClient({ url: "/ws", getToken: () => "token-1" }).connect())`)
	var conn *websocket.Conn
	select {
	case conn = <-sockets:
	case <-time.After(webtest.Patience):
		t.Fatal("no connection came")
	}
	t.Cleanup(func() { conn.Close() })
	next := func(want string) error {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(3 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		var frame struct{ Type string }
		err := conn.ReadJSON(&frame)
		if err == nil && frame.Type != want {
			t.Fatalf("instead of a %s came a %q", want, frame.Type)
		}
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(next("connect"))
	must(conn.WriteMessage(websocket.TextMessage, []byte(
		`{"type":"connected","session":"s","user":"u","cursor":"c.0","resumed":false,"pending":0,"pingMs":1000,"expiresAt":"","maxBytes":1024}`)))

	// Chromium throttles timers that timers set, from the fifth on: the server
	// answers until one of the client's own is half a minute late.
	asked := time.Now()
	for n := 0; ; n++ {
		must(next("ping"))
		if time.Since(asked) > 40*time.Second { // else each eleven
			break
		}
		if n == 15 {
			t.Fatal("the browser does not throttle")
		}
		asked = time.Now()
		must(conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"pong"}`)))
	}
	// From here on it is silent, as one whose machine has died.
	must(next("ping"))
	if err := next("close"); !websocket.IsCloseError(err, websocket.CloseNoStatusReceived) {
		t.Fatalf("after two pings without an answer: %v", err)
	}
}
