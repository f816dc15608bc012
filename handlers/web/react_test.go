package web

import (
	"fmt"
	"strings"
	"testing"

	"hookbridge/handlers/web/webtest"
)

func TestUseBridge(t *testing.T) {
	t.Run("runs in a React app", useBridgeInApp)
}

const reactApp = `
import { StrictMode, useState } from 'react';
import { useBridge } from '@hookbridge/client/react';

export function Messages({ user }: { user: string }) {
  const [count, setCount] = useState(0);
  const [list, setList] = useState<string[]>([]);
  const { state, send, request, client } = useBridge({
    url: '/ws', user, getToken: ({ reason }) => reason + '-' + user,
    onMessage: ({ event }) => { setList((before) => [...before, count + ' ' + event.data.message]); },
    onGap: ({ reason }) => setList((before) => [...before, reason]),
    onRecalled: ({ id }) => setList((before) => before.concat('recalled ' + id)),
    onError: (error) => setList((before) => before.concat('error ' + error.code)),
  });
  const say = () => send('doctor-7', { type: 'x' }, { ref: 'c1' }).then(({ id }) => setList((before) => before.concat(id)),
    (error) => setList((before) => before.concat('refused ' + error.code)));
  const ask = () => request({ type: 'slots.list' }, { timeoutMs: 2000 }).then(({ data }) => setList((before) => before.concat(data)));
  return <main data-state={state} data-cursor={client?.cursor}>
    <button id="count" onClick={() => setCount(count + 1)}>{count}</button>
    <button id="say" onClick={say}>say</button>
    <button id="ask" onClick={ask}>ask</button>
    <ul>{list.map((text, i) => <li key={i}>{text}</li>)}</ul>
  </main>;
}

export function App() {
  const [user, setUser] = useState<string | null>('patient-1');
  return <StrictMode>
    <button id="other" onClick={() => setUser('patient-2')}>other</button>
    <button id="out" onClick={() => setUser(null)}>out</button>
    {user !== null && <Messages user={user} />}
  </StrictMode>;
}
`

func reactFiles() map[string]string {
	return map[string]string{"app.tsx": reactApp, "page.tsx": `
import { createRoot } from 'react-dom/client';
import { App } from './app.js';
createRoot(document.body.appendChild(document.createElement('div'))).render(<App />);
`, "server.tsx": `
import { renderToString } from 'react-dom/server';
import { App } from './app.js';
console.log(renderToString(<App />));
`}
}

func useBridgeInApp(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	app := webtest.App(t, reactFiles())
	webtest.Compile(t, app, "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler", "--jsx", "react-jsx",
		"--types", "node", "app.tsx", "page.tsx", "server.tsx")
	// A server that renders connects to nothing.
	if html := webtest.Run(t, app, "node", "out/server.js"); !strings.Contains(html, `<main data-state="stopped">`) {
		t.Errorf("it rendered %s", html)
	}
	s := newScript(t)
	p := s.plainPage()
	p.Eval(`(() => { window.fatal = []; addEventListener("error", (e) => fatal.push(e.message)); })()`)
	p.script(webtest.Bundle(t, app, "out/page.js", "--format=iife"))

	// Strict mode mounts twice: what is left is one connection.
	peer := s.connected(`{"type":"connect","token":"connect-patient-1"}`, "c.0")
	p.Sees(`main[data-state="connected"] #count`, "0")
	peer.event("msg_1", 1, "")
	p.Sees("li:nth-child(1)", "0 hi")
	peer.expect(`{"type":"ack","cursor":"c.1"}`)
	p.Eval(`document.querySelector("#count").click()`)
	p.Sees("#count", "1")
	peer.event("msg_2", 2, "")
	p.Sees("li:nth-child(2)", "1 hi") // the handler of the newest render
	peer.write(`{"type":"gap","cursor":"c.3","reason":"expired"}`, `{"type":"recalled","id":"msg_1"}`)
	p.Sees("li:nth-child(4)", "recalled msg_1")
	p.Eval(`document.querySelector("#say").click()`)
	if said := peer.asksAfterAcks(); said["ref"] != "c1" {
		t.Errorf("said %s", text(said))
	}
	peer.write(`{"type":"error","ref":"c1","problem":{"status":403,"code":"forbidden_target"}}`)
	p.Sees("li:nth-child(5)", "refused forbidden_target")
	p.Eval(`document.querySelector("#ask").click()`)
	asked := peer.asksAfterAcks()
	if asked["timeoutMs"] != 2000.0 {
		t.Errorf("asked %s", text(asked))
	}
	peer.write(fmt.Sprintf(`{"type":"response","ref":%q,"status":200,"data":"9:30"}`, asked["ref"]))
	p.Sees("li:nth-child(6)", "9:30")

	// Another user is another connection, from where that user is.
	p.Eval(`document.querySelector("#other").click()`)
	next := s.connected(`{"type":"connect","token":"connect-patient-2"}`, "c.0")
	peer.goneAfterAcks()
	p.Sees(`main[data-state="connected"] #count`, "1")
	p.Eval(`document.querySelector("#out").click()`)
	next.goneAfterAcks()
	if got := p.Eval(`[...fatal, document.querySelector("main")]`); text(got) != "[null]" {
		t.Errorf("the page has %s", text(got))
	}
	p.Quiet()
	if len(s.peers) > 0 {
		t.Error("there were more connections than users")
	}
}

// asksAfterAcks reads the next frame that wants an answer.
func (p *peer) asksAfterAcks() map[string]any {
	p.t.Helper()
	for {
		if frame := p.read(); frame["ref"] != nil {
			return frame
		}
	}
}

// goneAfterAcks is gone for a client that may have acked before.
func (p *peer) goneAfterAcks() {
	p.t.Helper()
	for {
		_, b, err := p.conn.ReadMessage()
		if err != nil {
			p.leftBy(err)
			return
		}
		if !strings.Contains(string(b), `"type":"ack"`) {
			p.t.Fatalf("instead of leaving it said %s", b)
		}
	}
}
