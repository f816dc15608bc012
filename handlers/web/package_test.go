package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/fasthttp/websocket"

	"hookbridge/handlers/web/webtest"
)

func TestSources(t *testing.T) {
	t.Run("are well typed", sourcesAreTyped)
	t.Run("need no more of the platform than React Native has", sourcesNeedLittle)
}

func TestBundle(t *testing.T) {
	t.Run("is what its sources make, and small", bundleIsBuilt)
	t.Run("runs in a browser", bundleInBrowser)
}

func TestPackage(t *testing.T) {
	t.Run("holds the client and nothing else", packageHolds)
	t.Run("is made from a fresh clone by one command", packageOfFreshClone)
	t.Run("runs in a TypeScript app under Node", packageUnderNode)
	t.Run("runs in a TypeScript app in a browser", packageInBrowser)
}

var update = flag.Bool("update", false, "write bridge.js anew from its sources")

func sourcesAreTyped(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	webtest.Run(t, webtest.Sources(t), "npm", "run", "--silent", "check")
}

func bundleIsBuilt(t *testing.T) {
	dir := webtest.Sources(t)
	if err := os.Remove(filepath.Join(dir, "bridge.js")); err != nil && !*update {
		t.Fatal(err)
	}
	webtest.Run(t, dir, "npm", "run", "--silent", "bundle")
	made, err := os.ReadFile(filepath.Join(dir, "bridge.js"))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("bridge.js", made, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if served, err := Files.ReadFile("bridge.js"); err != nil || !bytes.Equal(served, made) {
		t.Errorf("bridge.js is not what its sources make (%v); write it anew: go test ./handlers/web -run Bundle -update", err)
	}
	var small bytes.Buffer
	z := gzip.NewWriter(&small)
	if _, err := z.Write(made); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if small.Len() > 15<<10 {
		t.Errorf("it takes %d bytes of a network; 15 KB are allowed", small.Len())
	}
	t.Logf("%d bytes, %d gzipped", len(made), small.Len())
}

func packageHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	out := webtest.Run(t, webtest.Sources(t), "npm", "pack", "--silent", "--json", "--dry-run")
	var packs []struct{ Files []struct{ Path string } }
	if err := json.Unmarshal([]byte(out[strings.IndexByte(out, '['):]), &packs); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range packs[0].Files {
		got = append(got, f.Path)
	}
	want := []string{"LICENSE", "README.md", "bridge.js", "package.json"}
	modules, err := filepath.Glob("bridge-*.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modules {
		want = append(want, m, "types/"+strings.TrimSuffix(m, ".js")+".d.ts")
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("it holds %v, want %v", got, want)
	}
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(lock, []byte(`"resolved"`)) || bytes.Contains(lock, []byte("registry")) {
		t.Error("the lockfile names a registry: whoever has another one could not install from it")
	}
}

// Whoever has just cloned the project packs the client with the README's one
// command: what makes the types is fetched by itself.
func packageOfFreshClone(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "`npm pack ./handlers/web`") {
		t.Error("the README packs in another way")
	}
	dir, outer := webtest.Sources(t), t.TempDir()
	if err := os.Remove(filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	webtest.Run(t, outer, "npm", "pack", "--silent", dir)
	if made, err := filepath.Glob(filepath.Join(outer, "hookbridge-client-*.tgz")); err != nil || len(made) != 1 {
		t.Errorf("it made %v, %v", made, err)
	}
}

// An app in TypeScript that uses all there is. What must not compile is marked.
const typedApp = `
import { BridgeClient, BridgeError, storageCursor } from '@hookbridge/client';
import type { Answer, BridgeOptions, CursorStore, EventFrame, StateDetail } from '@hookbridge/client';

export function start(more: Partial<BridgeOptions>, say: (...words: unknown[]) => void): BridgeClient {
  const kept: CursorStore = { load: async () => 'c.0', save: async (cursor) => say('saved', cursor), clear() {} };
  const client = new BridgeClient({ url: '/ws', user: 'patient-42', getToken: async ({ reason }) => 'token-' + reason, cursorStore: kept, ...more });
  client.on('message', async ({ event, from, replay }: EventFrame) => say('message', event.id, event.data.message, from ?? '-', replay ?? false));
  client.on('state', (detail: StateDetail) => say('state', detail.state, detail.transport ?? '-'));
  client.on('error', (error) => say('error', error instanceof BridgeError, error.code));
  client.addEventListener('gap', ({ detail }) => say('gap', detail.reason));
  const may = (user: string | undefined, onGap: undefined) => new BridgeClient({ url: '/ws', user, getToken: () => 't', ackEveryMs: onGap, httpUrl: null });
  const mistakes = () => {
    // @ts-expect-error there is no such event
    client.on('massage', () => {});
    // @ts-expect-error the cursor is a string
    client.on('gap', ({ cursor }) => cursor.toFixed());
    // @ts-expect-error who is it for?
    client.send({}, { type: 'x' });
    // @ts-expect-error a request is for a backend
    client.request({ type: 'x' }, { to: { user: 'doctor-7' } });
    // @ts-expect-error what has no type is no event
    client.request({ data: 1 });
    // @ts-expect-error a token is wanted
    new BridgeClient({ url: '/ws' });
  };
  const store: CursorStore = storageCursor('key', () => ({ getItem: async () => null, setItem() {}, removeItem() {} }));
  store.clear();
  client.connect();
  client.send('doctor-7', { type: 'chat.message', data: { n: 1 } }, { ref: 'r1' })
    .then(({ id, status }) => say('result', id, status), (error: BridgeError) => say('refused', error.code, error.problem?.status));
  client.send({ backend: true }, { type: 'visit.confirmed' }, { ref: 'r2' }).then(({ status }) => say('result', status));
  client.request({ type: 'too.early' }, { to: { backend: 'clinic' }, timeoutMs: 100, signal: new AbortController().signal })
    .then(({ status, data }: Answer) => say(status, data), ({ code }: BridgeError) => say('refused', code));
  return client;
}
`

// gone waits until the client has left, and answers its close frame.
func (p *peer) gone() {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(webtest.Patience)); err != nil {
		p.t.Fatal(err)
	}
	_, b, err := p.conn.ReadMessage()
	if err == nil {
		p.t.Fatalf("instead of leaving it said %s", b)
	}
	p.leftBy(err)
}

// leftBy checks that a read ended because the client has signed out.
func (p *peer) leftBy(err error) {
	p.t.Helper()
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		p.t.Fatal(err)
	}
	p.conn.Close()
}

// sameLines compares what was printed, in whatever order.
func sameLines(t *testing.T, got string, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(got), "\n")
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("it said %q, want %q", lines, want)
	}
}

// served plays the server for typedApp and returns what it must have said.
func (s *script) served() (*peer, []string) {
	s.t.Helper()
	peer := s.connected(`{"type":"connect","token":"token-connect","after":"c.0"}`, "c.0")
	peer.expect(`{"type":"send","ref":"r1","to":{"user":"doctor-7"},"event":{"type":"chat.message","data":{"n":1}}}`)
	peer.expect(`{"type":"send","ref":"r2","to":{"backend":true},"event":{"type":"visit.confirmed"}}`)
	peer.write(`{"type":"result","ref":"r1","id":"msg_9","status":"sent","sessions":1}`)
	peer.write(`{"type":"result","ref":"r2","id":"msg_10","status":"queued","sessions":0}`)
	peer.event("msg_1", 1, `,"from":"doctor-7"`)
	peer.write(`{"type":"gap","cursor":"c.2","reason":"expired"}`)
	peer.expect(`{"type":"ack","cursor":"c.2"}`)
	return peer, []string{"state connecting -", "state connected websocket", "result msg_9 sent", "result queued", "refused not_connected", "message msg_1 hi doctor-7 false", "saved c.1", "gap expired", "saved c.2"}
}

func packageUnderNode(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	app := webtest.App(t, map[string]string{"app.ts": typedApp, "main.ts": `
import { WebSocket } from 'ws';
import { start } from './app.js';
const client = start({ url: process.argv[2]!, WebSocket }, (...words) => {
  console.log(words.join(' '));
  if (words.join(' ') === 'saved c.2') setTimeout(() => client.close(), 500); // the ack goes out by then
});
`})
	// Node's own types, not the browser's: the declarations must do without those.
	webtest.Compile(t, app, "--lib", "es2022", "--module", "nodenext", "--types", "node", "app.ts", "main.ts")
	s := newScript(t)
	cmd := exec.CommandContext(t.Context(), "node", "out/main.js", strings.Replace(s.url, "http", "ws", 1)+"/ws")
	cmd.Dir = app
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	peer, want := s.served()
	peer.gone()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	sameLines(t, out.String(), append(want, "state stopped -"))
}

func packageInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	app := webtest.App(t, map[string]string{"app.ts": typedApp, "main.ts": `
import { start } from './app.js';
const said: string[] = [];
Object.assign(globalThis, { said, client: start({}, (...words) => { said.push(words.join(' ')); }) });
`})
	webtest.Compile(t, app, "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler", "--types", "", "app.ts", "main.ts")
	s := newScript(t)
	p := s.plainPage()
	p.script(webtest.Bundle(t, app, "out/main.js", "--format=iife"))
	_, want := s.served()
	for _, line := range want {
		p.Eval(`new Promise((ok) => { const look = () => said.includes(%q) ? ok(true) : setTimeout(look, 5); look(); })`, line)
	}
	if got := p.Eval(`said.length`); got != float64(len(want)) {
		t.Errorf("it said %v, want %q", p.Eval(`said`), want)
	}
	p.Quiet()
}

func bundleInBrowser(t *testing.T) {
	s := newScript(t)
	p := s.plainPage()
	p.Eval(`import("/bridge.js").then(({ BridgeClient }) => {
		window.client = new BridgeClient({ url: "/ws", getToken: () => "token-1" });
		client.on("message", ({ event }) => { document.title = event.data.message; });
		client.connect();
	})`)
	peer := s.connected(firstConnect, "c.0")
	peer.event("msg_1", 1, "")
	peer.expect(`{"type":"ack","cursor":"c.1"}`)
	if got := p.Eval(`document.title`); got != "hi" {
		t.Errorf("the title is %v", got)
	}
	p.Quiet()
}

// plainPage opens a page of the script's with nothing in it.
func (s *script) plainPage() *tab {
	s.t.Helper()
	p := newTab(s.t)
	webtest.Do(p.Tab, chromedp.Navigate(s.url+"/blank"))
	return p
}

// script runs a classic script in the page.
func (p *tab) script(code string) {
	p.T.Helper()
	p.Eval(`(() => { const s = document.createElement("script"); s.textContent = %q; document.head.append(s); })()`, code)
}

// React Native has a WebSocket, fetch, timers and AbortController, but no page,
// no EventTarget, crypto, TextEncoder or TextDecoder, and a URL that throws.
func sourcesNeedLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	app := webtest.App(t, map[string]string{"native.js": `
import { BridgeClient } from '@hookbridge/client';
const client = new BridgeClient({ url: URL_OF_THE_BRIDGE, user: 'patient-42', getToken: () => 'token-1' });
client.addEventListener('message', ({ detail }) => console.log('message', detail.event.data.message));
client.on('state', ({ state }) => { console.log('state', state); if (state === 'connected') client.wake(); });
client.on('gap', () => client.close());
client.connect();
client.send('doctor-7', { type: 'x', data: 'é' }).then(({ id }) => console.log('result', id));
`, "phone.js": `
import vm from 'node:vm';
import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';
const native = (name) => () => { throw new Error(name + ' is not implemented'); };
class URL { constructor() { native('URL')(); } }
const globals = { WebSocket, fetch: native('fetch'), console, setTimeout, clearTimeout, AbortController, URL, URL_OF_THE_BRIDGE: process.argv[2],
  navigator: { product: 'ReactNative' } };
const context = vm.createContext(globals);
vm.runInContext('globalThis.window = globalThis; delete globalThis.crypto;', context);
vm.runInContext(readFileSync('native.bundle.js', 'utf8'), context);
`})
	if err := os.WriteFile(filepath.Join(app, "native.bundle.js"), []byte(webtest.Bundle(t, app, "native.js", "--format=iife")), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newScript(t)
	cmd := exec.CommandContext(t.Context(), "node", "phone.js", strings.Replace(s.url, "http", "WS", 1)+"/ws?x=1#y")
	cmd.Dir = app
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	peer := s.connected(firstConnect, "c.0")
	first := peer.read()
	if first["type"] != "send" || first["ref"] == "" {
		t.Errorf("it said %v", first)
	}
	peer.expect(`{"type":"ping"}`) // wake() asks
	peer.write(fmt.Sprintf(`{"type":"result","ref":%q,"id":"msg_9","status":"sent","sessions":1}`, first["ref"]))
	peer.event("msg_1", 1, "")
	peer.expect(`{"type":"ack","cursor":"c.1"}`)
	peer.write(`{"type":"gap","cursor":"c.2","reason":"expired"}`)
	peer.gone()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	sameLines(t, out.String(), []string{"state connecting", "state connected", "result msg_9", "message hi", "state stopped"})
}
