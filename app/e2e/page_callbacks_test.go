package e2e

import (
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/handlers/web/webtest"
)

func TestThePatientAnswersAndTheDoctorSeesWhatTheBackendHeard(t *testing.T) {
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

func TestWhatNobodyAcksTurnsIntoAPhoneCall(t *testing.T) {
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

func TestOverEveryTransportAPageTellsAndAsksTheBackend(t *testing.T) {
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
