package web

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/fasthttp/websocket"

	"hookbridge/handlers/web/webtest"
)

// The browser's own throttling and its real clock: this takes three or four
// minutes, nearly all of them waiting, beside whatever else runs.
func TestAHiddenPageWhoseTimersFireOnceAMinuteNoticesADeadConnection(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	p := &tab{webtest.Throttling(t)}
	webtest.Do(p.Tab, chromedp.Navigate(s.url+"/blank"))
	p.Hide()
	p.Eval(`import("/bridge-client.js").then(({ BridgeClient }) => {
		new BridgeClient({ url: "/ws", getToken: () => "token-1" }).connect();
		window.late = 0; // the most that a timer was late
		(function next(due) {
			setTimeout(() => { late = Math.max(late, Date.now() - due); next(Date.now() + 1000); }, 1000);
		})(Date.now() + 1000);
	})`)
	peer := s.accept()
	peer.expect(firstConnect)
	peer.write(`{"type":"connected","session":"s","user":"u","cursor":"c.0","resumed":false,"pending":0,"pingMs":40000,"expiresAt":"","maxBytes":1024}`) // its first timer is throttled already
	// From here on the server is silent, as one whose machine has died.
	for n, want := range []string{"ping", "ping", ""} {
		if err := peer.conn.SetReadDeadline(time.Now().Add(3 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		var frame struct{ Type string }
		err := peer.conn.ReadJSON(&frame)
		if want == "" && !websocket.IsCloseError(err, websocket.CloseNoStatusReceived) || want != "" && (err != nil || frame.Type != want) {
			t.Fatalf("after %d pings came %q (%v)", n, frame.Type, err)
		}
	}
	if late := p.Eval(`late`); late.(float64) < 30_000 {
		t.Fatalf("the browser did not throttle: no timer was later than %v ms", late)
	}
}
