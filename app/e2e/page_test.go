package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/app/expect"
	"hookbridge/app/wire"
	"hookbridge/handlers/web/webtest"
)

func TestPage(t *testing.T) {
	t.Parallel()
	t.Run("rings the phone when the doctor adds a patient", pageRings)
	t.Run("takes two windows for two devices of one patient", pageTwoDevices)
	t.Run("shows the doctor what the backend heard from the patient", pageShowsAnswer)
	t.Run("turns what nobody acks into a phone call", pagePhoneCall)
	t.Run("shows after a reload what it showed before", pageReloads)
	t.Run("brings an answer through a restart of the bridge", pageRestart)
	t.Run("keeps the keyboard's place while the patient answers", pageKeyboard)
	t.Run("forgets what was said to a user who was erased", pageErased)
	t.Run("tells and asks the backend over every transport", pageTransports)
}

// dev launches the dev command and returns its address.
func dev(t *testing.T) string {
	t.Helper()
	_, base := devIn(t, filepath.Join(t.TempDir(), "data"), "127.0.0.1:0")
	return base
}

// devIn launches the dev command with a data folder, on an address.
func devIn(t *testing.T, dir, listen string) (p *process, base string) {
	t.Helper()
	p = launch(t, nil, "dev", "--listen", listen, "--data-dir", dir)
	expect.Eventually(t, "the greeting", func() bool { return strings.Contains(p.out.String(), "Stop with Ctrl-C") })
	return p, regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(p.out.String())
}

func pageRings(t *testing.T) {
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

func pageTwoDevices(t *testing.T) {
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
	for _, device := range []*webtest.Tab{both, phone} {
		webtest.Do(device, chromedp.Click(".message .answer button"))
		device.Sees(".message .note", "Confirmed.")
	}
	webtest.Do(phone, chromedp.Click("#slots"))
	both.Sees("#heard .title", "patient-9 asked for free slots") // after both confirmations
	if n := both.Eval(`document.querySelectorAll("#heard [data-type='message.sent']").length`); n != 1.0 {
		t.Errorf("the backend heard %v confirmations of one patient", n)
	}
	both.Quiet()
	phone.Quiet()
}

func pageShowsAnswer(t *testing.T) {
	t.Parallel()
	p := webtest.New(t)
	webtest.Do(p, chromedp.EmulateViewport(1280, 900))
	webtest.Do(p, chromedp.Navigate(dev(t)+"/?lang=en"))
	p.Sees("#heard", "patient-42 is online")
	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees("#log .mark", "acknowledged") // by the callback: the reply said no more than sent
	p.Sees("#heard", "patient-42’s app has patient.added")

	webtest.Do(p, chromedp.Click(".message .answer button"))
	p.Sees(".message .note", "Confirmed. The clinic will hear of it.")
	p.Sees("#heard .title", "patient-42 has confirmed")
	p.Eval(`document.querySelector("#heard details").open = true`)
	p.Sees("#heard pre", "webhook-id: cb_")
	p.Sees("#heard pre", `"type": "visit.confirmed"`)

	webtest.Do(p, chromedp.Click("#slots"))
	p.Sees("#slots-note", "Which one suits you?")
	p.Sees("#heard .title", "patient-42 asked for free slots")
	if n := p.Eval(`document.querySelectorAll("#slots-list button").length`); n != 3.0 {
		t.Errorf("%v slots", n)
	}
	p.Shot("page-back")
	webtest.Do(p, chromedp.Click(`[data-language="zh"]`))
	p.Sees("#slots-list button", "09:30")
	p.Sees("#slots-list button", "月")
	webtest.Do(p, chromedp.Click("#slots-list button"))
	p.Sees("#slots-note", "已选定，医院会收到。")
	p.Sees("#heard .title", "patient-42 选好了时段")
	p.Sees("#heard .title", "patient-42 已确认就诊")
	if times := p.Eval(`[...document.querySelectorAll("time")].filter((el) => /[AP]M/.test(el.textContent)).length`); times != 0.0 {
		t.Errorf("%v times are still English", times)
	}
	p.Sees(".message .note", "已确认，医院会收到。")
	if n := p.Eval(`document.querySelectorAll(".message .answer button, #slots-list button").length`); n != 0.0 {
		t.Errorf("%v buttons are left for what is said", n)
	}
	if n := p.Eval(`new Set([...document.querySelectorAll("#heard pre")].map((el) => el.textContent)).size === document.querySelector("#heard").children.length`); n != true {
		t.Error("something is shown twice")
	}
	p.Shot("page-back-zh")
	p.Quiet()
}

func pagePhoneCall(t *testing.T) {
	t.Parallel()
	p := webtest.New(t)
	webtest.Do(p, chromedp.EmulateViewport(1280, 900))
	webtest.Do(p, chromedp.Navigate(dev(t)+"/?lang=en"))
	p.Sees("#patient [data-pill]", "connected")
	p.Sees("#doctor [data-pill]", "connected")
	webtest.Do(p, chromedp.Click("#pocket"))
	p.Sees("#patient [data-pill]", "in the pocket")
	webtest.Do(p, chromedp.Click("#slots"))
	p.Sees("#slots-note", "The phone is in the pocket.")
	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees("#log .mark", "queued")
	p.Sees("#log .mark", "phone now") // ten seconds later
	p.Sees("#log .why", "Nobody has acknowledged it in 10 s: the clinic would phone patient-42 now.")
	p.Sees("#live", "the clinic would phone patient-42 now.")
	p.Sees("#heard .title", "Nobody acknowledged patient.added in 10 s. The clinic would phone patient-42 now.")
	p.Sees("#heard .title", "patient-42 is offline")
	p.Shot("page-phone-call")
	p.Media("prefers-color-scheme", "dark")
	webtest.Do(p, chromedp.EmulateViewport(360, 780, chromedp.EmulateMobile))
	webtest.Do(p, chromedp.Click(`[data-language="zh"]`))
	p.Sees("#log .mark", "该打电话了")
	p.Sees("#heard .title", "patient.added 在 10 秒内无人确认，医院现在会给 patient-42 打电话。")
	p.Narrow()
	p.Shot("page-phone-call-zh")
	webtest.Do(p, chromedp.Click("#pocket"))
	p.Sees("#log .mark", "已确认") // late, but there
	p.Sees("#heard .title", "patient-42 上线了")
	p.Quiet()
}

func pageReloads(t *testing.T) {
	t.Parallel()
	p, url := webtest.New(t), dev(t)
	webtest.Do(p, chromedp.Navigate(url+"/?lang=en"))
	p.Sees("#patient [data-pill]", "connected")
	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees("#log .mark", "acknowledged")
	reload := func() {
		t.Helper()
		webtest.Do(p, chromedp.Reload())
		p.Sees("#patient [data-pill]", "connected")
		p.Sees(".message .text", "Lin Yue, doctor-7 has added you")
	}
	reload()
	p.Sees("#bell-label", "Mark 1 new as seen")
	webtest.Do(p, chromedp.Click(".message .answer button"))
	p.Sees(".message .note", "Confirmed.")
	webtest.Do(p, chromedp.Click("#bell"))
	p.Sees("#heard .title", "patient-42 has confirmed")
	reload()
	p.Sees(".message .note", "Confirmed.")
	p.Sees("#bell-label", "No new messages")
	if n := p.Eval(`document.querySelectorAll(".message").length + " " + document.querySelectorAll(".answer button").length`); n != "1 0" {
		t.Errorf("messages and buttons after two reloads: %v", n)
	}
	p.Sees("#heard .title", "patient-42 has confirmed") // what the backend heard is there again
	p.Quiet()
}

func pageRestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	bridge, url := devIn(t, dir, "127.0.0.1:0")
	p := webtest.New(t)
	webtest.Do(p, chromedp.Navigate(url+"/?lang=en"))
	p.Sees("#patient [data-pill]", "connected")
	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees("#log .mark", "acknowledged")
	expect.NoError(t, bridge.cmd.Process.Signal(os.Interrupt))
	expect.NoError(t, bridge.wait(t))
	p.Sees("#patient [data-pill]", "again in")
	webtest.Do(p, chromedp.Click(".message .answer button"))
	p.Sees(".message .note", "on its way")
	webtest.Do(p, chromedp.Click("#slots"))
	p.Sees("#slots-note", "There is no connection now.")
	devIn(t, dir, strings.TrimPrefix(url, "http://"))
	p.Sees("#patient [data-pill]", "connected")
	p.Sees(".message .note", "Confirmed.")
	p.Sees("#heard .title", "patient-42 has confirmed")
	if note := p.Eval(`document.querySelector("#slots-note").textContent`); note != "" {
		t.Errorf("the note of before says still %q", note)
	}
}

func pageKeyboard(t *testing.T) {
	t.Parallel()
	p := webtest.New(t)
	webtest.Do(p, chromedp.Navigate(dev(t)+"/?lang=en"))
	p.Sees("#patient [data-pill]", "connected")
	press := func(selector, place string) {
		t.Helper()
		p.Eval(`document.querySelector(%q).focus()`, selector)
		webtest.Do(p, chromedp.KeyEvent("\r"))
		p.Eval(`new Promise((found) => (function look() {
			if (document.activeElement.matches(%q)) found(true); else setTimeout(look, 20);
		})())`, place)
	}
	press("#add button", "#add button")
	p.Sees(".message .answer", "Confirm")
	press(".message .answer button", ".message .note")
	p.Sees(".message .note", "Confirmed.")
	press("#slots", "#slots")
	p.Sees("#slots-note", "Which one suits you?")
	press("#slots-list button", "#slots")
	p.Sees("#slots-note", "Chosen.")
	p.Quiet()
}

func pageErased(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	_, url := devIn(t, dir, "127.0.0.1:0")
	operator := launch(t, nil, "token", "ops", "--admin", "users", "--data-dir", dir)
	expect.NoError(t, operator.wait(t))
	p := webtest.New(t)
	webtest.Do(p, chromedp.Navigate(url+"/?lang=en"))
	p.Sees("#patient [data-pill]", "connected")
	webtest.Do(p, chromedp.Click("#add button"))
	p.Sees(".message .text", "Lin Yue")
	p.Eval(`fetch("/v1/users/patient-42", {method: "DELETE", headers: {Authorization: "Bearer " + %q}}).then((r) => r.status)`, strings.TrimSpace(operator.out.String()))
	p.Sees("#patient .facts", "4410 user erased")
	if kept := p.Eval(`document.querySelectorAll(".message").length + Object.values(sessionStorage).filter((s) => s.includes("Lin Yue")).length`); kept != 0.0 {
		t.Error("the phone still shows or keeps what was said to an erased user")
	}
	p.Quiet()
}

func pageTransports(t *testing.T) {
	t.Parallel()
	p, base := webtest.New(t), dev(t)
	webtest.Do(p, chromedp.Navigate(base+"/livez"))
	for _, transport := range []string{"websocket", "sse", "poll"} {
		got := p.Eval(`(async () => {
			const { BridgeClient } = await import("/bridge.js");
			const user = "patient-" + %q;
			const getToken = async () => (await (await fetch("/demo/tokens", {method: "POST", body: JSON.stringify({user})})).json()).token;
			const client = new BridgeClient({ url: "/ws", user, getToken, transports: [%[1]q] });
			const open = new Promise((ok) => client.on("open", ok));
			client.connect();
			await open;
			const event = (n) => ({ type: "visit.confirmed", data: { n } });
			const sent = await Promise.all([1, 2, 3].map((n) => client.send({ backend: true }, event(n))));
			const { status, data } = await client.request({ type: "slots.list" });
			const refused = await client.request({ type: "billing.list" }).catch(({ code }) => code);
			const taken = await client.send({ backend: true }, event(4), { ref: sent[0].ref }).catch(({ code }) => code);
			const heard = async () => {
				const { callbacks } = await (await fetch("/demo/callbacks?user=" + user)).json();
				const ns = callbacks.filter(({ body }) => body.type === "message.sent").map(({ body }) => body.data.event.data.n);
				return ns.length === 3 ? ns : new Promise((ok) => setTimeout(ok, 20)).then(heard);
			};
			const ns = await heard();
			client.close();
			return [sent.map(({ status }) => status).join(), status, data.slots.length, refused, taken, ns.join()].join(" ");
		})()`, transport)
		if got != "queued,queued,queued 200 3 forbidden_target id_conflict 1,2,3" {
			t.Errorf("over %s: %v", transport, got)
		}
	}
}
