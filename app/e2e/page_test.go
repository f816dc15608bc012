package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/app/expect"
	"hookbridge/app/wire"
	"hookbridge/handlers/web/webtest"
)

// dev launches the dev command and returns its address.
func dev(t *testing.T) string {
	t.Helper()
	p := launch(t, nil, "dev", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "data"))
	expect.Eventually(t, "the greeting", func() bool { return strings.Contains(p.out.String(), "Stop with Ctrl-C") })
	return regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(p.out.String())
}

func TestTheDoctorAddsAPatientAndThePhoneRings(t *testing.T) {
	heavy(t)
	t.Parallel()
	p := webtest.New(t)
	webtest.Do(p, chromedp.EmulateViewport(1280, 900))
	webtest.Do(p, chromedp.Navigate(dev(t)+"/?lang=en"))
	p.Sees("#patient [data-pill]", "connected")
	p.Sees("#doctor [data-pill]", "connected")
	p.Shot("page-empty")

	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees(".message", "Lin Yue, doctor-7 has added you")
	answered(p, "patient.added", `"status": "sent"`, `"sessions": 1`)
	if got := p.Eval(`document.querySelector("#bell").className + getComputedStyle(document.querySelector("#bell svg")).animationName`); got != "bell ringingswing" {
		t.Fatalf("the bell does not ring: %q", got)
	}
	p.Sees("#bell-count", "1")
	p.Sees("#live", "New message")

	webtest.Do(p, chromedp.SendKeys("#text", "<b>Good morning</b>, your results are in."))
	webtest.Do(p, chromedp.Click("#write button"))
	p.Sees(".message .text", "<b>Good morning</b>") // a payload is text, whatever it looks like
	p.Sees(".message .about", "From doctor-7")

	webtest.Do(p, chromedp.Click("#pocket"))
	p.Sees("#patient [data-pill]", "in the pocket")
	p.Sees("#patient .facts", "1000 signed out")
	webtest.Do(p, chromedp.SendKeys("#news", "The clinic closes at five today."))
	webtest.Do(p, chromedp.Click("#announce button"))
	answered(p, "closes at five", `"sessions": 1`) // the doctor's own
	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees("#log .mark", "queued")
	p.Sees("#bridge-holds", "Bridge holds 1")
	p.Eval(`document.querySelector("#log details").open = true`)
	p.Sees("#log pre", "webhook-signature: v1,")
	p.Sees("#log pre", `"status": "queued"`)
	p.Shot("page-pocket")
	webtest.Do(p, chromedp.Click("#pocket"))
	p.Sees(".message .waited", "waited for you")
	p.Sees("#patient .facts", ".3.1") // the cursor: three of their own, one to all
	p.Shot("page-light")
	p.Media("prefers-color-scheme", "dark")
	p.Shot("page-dark")
	webtest.Do(p, chromedp.EmulateViewport(360, 780, chromedp.EmulateMobile))
	p.Shot("page-phone-dark")
	p.Media("prefers-color-scheme", "light")
	p.Narrow()

	webtest.Do(p, chromedp.Click(`[data-language="zh"]`))
	p.Sees("#add button", "添加患者")
	p.Sees(".message .waited", "离线期间送来")
	p.Sees(".message .text", "Lin Yue，doctor-7 已将您添加为患者。")
	p.Sees("#patient [data-pill]", "已连接")
	if got := p.Eval(`document.documentElement.lang`); got != "zh-Hans" {
		t.Fatalf("lang is %v", got)
	}
	p.Sees("#patient .facts", "ses_")
	p.Narrow()
	p.Shot("page-phone-zh")
	webtest.Do(p, chromedp.EmulateViewport(1280, 900))
	p.Shot("page-zh")

	webtest.Do(p, chromedp.Click("#bell"))
	p.Sees("#bell-label", "没有新消息")
	p.Media("prefers-reduced-motion", "reduce")
	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees("#bell-label", "1 条新消息")
	if got := p.Eval(`getComputedStyle(document.querySelector("#bell svg")).animationName`); got != "none" {
		t.Fatalf("the bell moves where motion is not wanted: %v", got)
	}
	p.Quiet()
}

// answered waits until the newest entry of the doctor's record has some texts in what it
// tells of the request and its reply. Its headline changes as soon as the patient's app acks.
func answered(p *webtest.Tab, texts ...string) {
	p.T.Helper()
	p.Eval(`new Promise((found) => (function look() {
		const entry = document.querySelector("#log li")?.textContent ?? "";
		if (%s.every((text) => entry.includes(text))) found(true); else setTimeout(look, 20);
	})())`, wire.Encode(texts))
}

func TestTwoWindowsAreTwoDevicesOfOnePatient(t *testing.T) {
	heavy(t)
	t.Parallel()
	url := dev(t)
	both, phone := webtest.New(t), webtest.New(t)
	webtest.Do(both, chromedp.Navigate(url+"/?lang=en&doctor=doctor-1&patient=patient-9"))
	both.Sees("#patient [data-id]", "patient-9")
	both.Sees("#patient [data-pill]", "connected")
	webtest.Do(phone, chromedp.Navigate(both.Eval(`document.querySelector("#second").href`).(string)))
	phone.Sees("#patient [data-pill]", "connected")
	if phone.Eval(`document.querySelector("#doctor").checkVisibility()`) != false {
		t.Fatal("the second device shows the doctor")
	}
	webtest.Do(both, chromedp.Click("#add button"))
	answered(both, "patient.added", `"sessions": 2`)
	both.Sees(".message", "doctor-1 has added you")
	phone.Sees(".message", "doctor-1 has added you")
	both.Quiet()
	phone.Quiet()
}

// The README's two snippets for a page run in a page, as they are written but
// for the address and the token.
func TestTheSnippetsOfTheReadmeRunInABrowser(t *testing.T) {
	heavy(t)
	t.Parallel()
	base := dev(t)
	p := webtest.New(t)
	webtest.Do(p, chromedp.Navigate(base+"/livez"))
	token := p.Eval(`fetch("/demo/tokens", {method: "POST", body: '{"user":"patient-42"}'}).then((r) => r.json()).then((r) => r.token)`).(string)
	ran := 0
	for _, b := range readmeBlocks(t) {
		code := strings.ReplaceAll(b.text, "127.0.0.1:8080", strings.TrimPrefix(base, "http://"))
		switch {
		case b.lang == "html":
			code = regexp.MustCompile(`</?script[^>]*>`).ReplaceAllString(code, "")
			code = strings.Replace(code, "(await fetch('/my/token')).text()", fmt.Sprintf("%q", token), 1)
			p.Eval(`new Promise((ok) => { const s = document.createElement("script"); s.type = "module"; s.textContent = %q; document.head.append(s); ok(true); })`, code)
		case b.lang == "js" && strings.Contains(b.text, "new WebSocket"):
			p.Eval(`new Promise((ok) => { window.heard = []; const token = %q; console.log = (m) => window.heard.push(m);
				const s = document.createElement("script"); s.textContent = "{ const token = " + JSON.stringify(token) + ";" + %q + "; window.plain = ws; }"; document.head.append(s);
				window.plain.addEventListener("message", () => 0); ok(true); })`, token, code)
		default:
			continue
		}
		ran++
	}
	if ran != 2 {
		t.Fatalf("%d snippets were found", ran)
	}
	expect.Eventually(t, "both are connected", func() bool {
		return p.Eval(`fetch("/metrics").then((r) => r.text()).then((s) => s.includes("hookbridge_sessions 2"))`) == true
	})
	p.Eval(`fetch("/demo/patients", {method: "POST", body: '{"doctor":"doctor-7","patient":"patient-42"}'}).then((r) => r.status)`)
	expect.Eventually(t, "the ten lines show it", func() bool { return p.Eval(`document.title`) == "doctor-7 added you" })
	expect.Eventually(t, "the plain one too", func() bool {
		return p.Eval(`window.heard.length && window.heard[0].data.message`) == "doctor-7 added you"
	})
}
