package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/fasthttp/websocket"
)

const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// clinic is a backend and a bridge of one mailbox each, as much as the page can
// see of them.
type clinic struct {
	mu    sync.Mutex
	next  int
	live  map[string][]*websocket.Conn
	boxes map[string][]string // per user: event objects and senders, in order
	acked map[string]int
}

func newClinic(t *testing.T) string {
	t.Helper()
	c := &clinic{live: map[string][]*websocket.Conn{}, boxes: map[string][]string{}, acked: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", pagePolicy)
		http.FileServerFS(Files).ServeHTTP(w, r)
	})
	mux.HandleFunc("POST /demo/tokens", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]any{"token": body(r)["user"], "expiresAt": "2030-01-01T00:00:00Z"})
	})
	mux.HandleFunc("POST /demo/patients", func(w http.ResponseWriter, r *http.Request) {
		in := body(r)
		c.fire(w, in["patient"], "patient.added", map[string]string{"doctorId": in["doctor"], "name": in["name"], "message": "added you"})
	})
	mux.HandleFunc("POST /demo/announcements", func(w http.ResponseWriter, r *http.Request) {
		c.fire(w, "patient-42", "announcement", map[string]string{"message": body(r)["message"]})
	})
	mux.HandleFunc("GET /ws", c.serve)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func body(r *http.Request) map[string]string {
	var v map[string]string
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		return nil
	}
	return v
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, text(v))
}

func (c *clinic) fire(w http.ResponseWriter, user, typ string, data map[string]string) {
	sent := c.send(user, "", typ, data)
	event := text(map[string]any{"type": typ, "to": map[string]string{"user": user}, "data": data})
	reply(w, map[string]any{"id": sent["id"], "status": 202, "reply": sent, "request": map[string]any{
		"headers": map[string]string{"webhook-id": fmt.Sprint(sent["id"]), "webhook-timestamp": "1795379760",
			"webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="}, "body": event}})
}

func (c *clinic) send(user, from, typ string, data any) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	id := fmt.Sprintf("msg_%d", c.next)
	tail := `"event":` + text(map[string]any{"id": id, "type": typ, "timestamp": "2026-11-22T20:36:00Z", "data": data}) + "}"
	if from != "" {
		tail = `"from":"` + from + `",` + tail
	}
	c.boxes[user] = append(c.boxes[user], tail)
	frame := fmt.Sprintf(`{"type":"event","cursor":"k3f9.%d.0",%s`, len(c.boxes[user]), tail)
	for _, conn := range c.live[user] {
		_ = conn.WriteMessage(websocket.TextMessage, []byte(frame)) // a dead one leaves by its reader
	}
	status := "queued"
	if len(c.live[user]) > 0 {
		status = "sent"
	}
	return map[string]any{"id": id, "status": status, "sessions": len(c.live[user]), "duplicate": false}
}

func (c *clinic) serve(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"bridge.v1.json"}}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	var user string
	for {
		var f struct {
			Type, Token, After, Cursor, Ref string
			To                              struct{ User string }
			Event                           struct {
				Type string
				Data any
			}
		}
		if err := conn.ReadJSON(&f); err != nil {
			break
		}
		var n int
		switch f.Type {
		case "connect":
			c.mu.Lock()
			user = f.Token
			if _, err := fmt.Sscanf(f.After, "k3f9.%d.0", &n); err != nil {
				n = c.acked[user]
			}
			waiting := c.boxes[user][n:]
			_ = conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":"connected","session":"ses_8H%d","user":%q,`+
				`"cursor":"k3f9.%d.0","resumed":%t,"pending":%d,"pingMs":25000,"expiresAt":"","maxBytes":65536}`,
				c.next, user, n, f.After != "", len(waiting)))
			for i, tail := range waiting {
				_ = conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":"event","cursor":"k3f9.%d.0","replay":true,%s`, n+i+1, tail))
			}
			c.live[user] = append(c.live[user], conn)
			c.mu.Unlock()
		case "ack":
			c.mu.Lock()
			if _, err := fmt.Sscanf(f.Cursor, "k3f9.%d.0", &n); err == nil {
				c.acked[user] = n
			}
			c.mu.Unlock()
		case "send":
			out := c.send(f.To.User, user, f.Event.Type, f.Event.Data)
			out["type"], out["ref"] = "result", f.Ref
			c.mu.Lock()
			_ = conn.WriteMessage(websocket.TextMessage, []byte(text(out)))
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.live[user] {
		if other == conn {
			c.live[user] = append(c.live[user][:i:i], c.live[user][i+1:]...)
			break
		}
	}
}

// sees waits until an element's text is, or holds, what it should.
func (p *tab) sees(selector, want string) {
	p.t.Helper()
	found := fmt.Sprintf(`(() => [...document.querySelectorAll(%q)].some((el) => el.checkVisibility() && el.textContent.includes(%q)))()`,
		selector, want)
	ctx := p.ctx
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](found, chromedp.WithPollingTimeout(patience))); err != nil {
		p.t.Fatalf("%s never shows %q: %v; it shows %v", selector, want, err,
			p.eval(`[...document.querySelectorAll(%q)].map((el) => el.textContent)`, selector))
	}
}

func (p *tab) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("HOOKBRIDGE_ARTIFACTS")
	if dir == "" {
		return
	}
	p.eval(`Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {})))
		.then(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))))`)
	if err := os.WriteFile(filepath.Join(dir, name+".png"), do(p, chromedp.FullScreenshot(100)), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) media(name, value string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia,
		emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestTheDoctorAddsAPatientAndThePhoneRings(t *testing.T) {
	p := newTab(t)
	do(p, chromedp.EmulateViewport(1280, 900))
	do(p, chromedp.Navigate(newClinic(t)+"/?lang=en"))
	p.sees("#patient [data-pill]", "connected")
	p.sees("#doctor [data-pill]", "connected")
	p.shot("page-empty")

	do(p, chromedp.Click("#add button"))
	p.sees(".message", "Lin Yue, doctor-7 has added you")
	p.sees("#log .mark", "sent")
	p.sees("#log .why", "1 live session")
	if got := p.eval(`document.querySelector("#bell").className + getComputedStyle(document.querySelector("#bell svg")).animationName`); got != "bell ringingswing" {
		t.Fatalf("the bell does not ring: %q", got)
	}
	p.sees("#bell-count", "1")
	p.sees("#live", "New message")

	do(p, chromedp.SendKeys("#text", "<b>Good morning</b>, your results are in."))
	do(p, chromedp.Click("#write button"))
	p.sees(".message .text", "<b>Good morning</b>") // a payload is text, whatever it looks like
	p.sees(".message .about", "From doctor-7")

	do(p, chromedp.Click("#pocket"))
	p.sees("#patient [data-pill]", "in the pocket")
	p.sees("#patient .facts", "1000 signed out")
	do(p, chromedp.SendKeys("#news", "The clinic closes at five today."))
	do(p, chromedp.Click("#announce button"))
	p.sees("#log .mark", "queued")
	p.sees("#bridge-holds", "Bridge holds 1")
	p.eval(`document.querySelector("#log details").open = true`)
	p.sees("#log pre", "webhook-signature: v1,")
	p.sees("#log pre", `"status": "queued"`)
	p.shot("page-pocket")
	do(p, chromedp.Click("#pocket"))
	p.sees(".message .waited", "waited for you")
	p.sees("#patient .facts", "k3f9.3.0")
	p.shot("page-light")
	p.media("prefers-color-scheme", "dark")
	p.shot("page-dark")
	do(p, chromedp.EmulateViewport(360, 780, chromedp.EmulateMobile))
	p.shot("page-phone-dark")
	p.media("prefers-color-scheme", "light")
	p.narrow()

	do(p, chromedp.Click(`[data-language="zh"]`))
	p.sees("#add button", "添加患者")
	p.sees(".message .waited", "离线期间送来")
	p.sees(".message .text", "Lin Yue，doctor-7 已将您添加为患者。")
	p.sees("#patient [data-pill]", "已连接")
	if got := p.eval(`document.documentElement.lang`); got != "zh-Hans" {
		t.Fatalf("lang is %v", got)
	}
	p.sees("#patient .facts", "ses_")
	p.narrow()
	p.shot("page-phone-zh")
	do(p, chromedp.EmulateViewport(1280, 900))
	p.shot("page-zh")

	do(p, chromedp.Click("#bell"))
	p.sees("#bell-label", "没有新消息")
	p.media("prefers-reduced-motion", "reduce")
	do(p, chromedp.Click("#add button"))
	p.sees("#bell-label", "1 条新消息")
	if got := p.eval(`getComputedStyle(document.querySelector("#bell svg")).animationName`); got != "none" {
		t.Fatalf("the bell moves where motion is not wanted: %v", got)
	}
	p.quiet()
}

// narrow checks that nothing is wider than the screen.
func (p *tab) narrow() {
	p.t.Helper()
	if got := p.eval(`document.documentElement.scrollWidth`); got != 360.0 {
		p.t.Fatalf("the page is %v px wide on a phone of 360", got)
	}
}

func TestTwoWindowsAreTwoDevicesOfOnePatient(t *testing.T) {
	url := newClinic(t)
	both, phone := newTab(t), newTab(t)
	do(both, chromedp.Navigate(url+"/?lang=en&doctor=doctor-1&patient=patient-9"))
	both.sees("#patient [data-id]", "patient-9")
	both.sees("#patient [data-pill]", "connected")
	do(phone, chromedp.Navigate(both.eval(`document.querySelector("#second").href`).(string)))
	phone.sees("#patient [data-pill]", "connected")
	if phone.eval(`document.querySelector("#doctor").checkVisibility()`) != false {
		t.Fatal("the second device shows the doctor")
	}
	do(both, chromedp.Click("#add button"))
	both.sees("#log .why", "2 live sessions")
	both.sees(".message", "doctor-1 has added you")
	phone.sees(".message", "doctor-1 has added you")
	both.quiet()
	phone.quiet()
}

func TestThePageWithoutItsBackendSaysSo(t *testing.T) {
	server := httptest.NewServer(http.FileServerFS(Files))
	t.Cleanup(server.Close)
	p := newTab(t)
	do(p, chromedp.Navigate(server.URL+"/?lang=en"))
	p.sees("#patient [data-pill]", "again in")
	do(p, chromedp.Click("#add button"))
	p.sees("#log .mark", "failed")
}

func TestThePageHasNothingInlineAndNothingFromElsewhere(t *testing.T) {
	page, err := Files.ReadFile("index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"style=", "onclick=", "onload=", "<style", "http://", "https://", "<script>"} {
		if strings.Contains(string(page), bad) {
			t.Errorf("index.html has %q", bad)
		}
	}
}
