package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/app/expect"
	"hookbridge/handlers/web/webtest"
)

// clientSnippets finds the README's snippets for an app's developer: those for
// TypeScript, React and React Native, with the bridge's address and a token of
// patient-42 in the place of the reader's own.
func clientSnippets(t *testing.T, base, token string) (typescript, react, native string) {
	t.Helper()
	for _, b := range readmeBlocks(t) {
		code := strings.ReplaceAll(b.text, "127.0.0.1:8080", strings.TrimPrefix(base, "http://"))
		for _, own := range []string{"/my/token", "https://app.example/my/token"} {
			code = strings.ReplaceAll(code, "(await fetch('"+own+"')).text()", fmt.Sprintf("%q", token))
		}
		switch {
		case b.lang == "ts":
			typescript = code
		case b.lang == "tsx" && strings.Contains(code, "react-native"):
			native = code
		case b.lang == "tsx":
			react = code
		}
	}
	if typescript == "" || react == "" || native == "" || strings.Contains(typescript+react+native, "my/token") {
		t.Fatal("the README lacks a snippet, or one asks for its token in a new way")
	}
	return typescript, react, native
}

// What a new user does: install the packed client, paste the README's lines,
// compile them by the strictest rules, and get a first message.
func TestTheClientSnippetsOfTheReadmeGetTheirFirstMessage(t *testing.T) {
	heavy(t)
	t.Parallel()
	base := dev(t)
	p := webtest.New(t)
	webtest.Do(p, chromedp.Navigate(base+"/livez"))
	token := p.Eval(`fetch("/demo/tokens", {method: "POST", body: '{"user":"patient-42"}'}).then((r) => r.json()).then((r) => r.token)`).(string)
	typescript, react, native := clientSnippets(t, base, token)
	app := webtest.App(t, map[string]string{
		"node.ts": typescript, "inbox.tsx": react, "native.tsx": native,
		"page.tsx": `
import { createRoot } from 'react-dom/client';
import { Inbox } from './inbox.js';
createRoot(document.body.appendChild(document.createElement('main'))).render(<Inbox user="patient-42" />);
`,
		// What the phone's packages are as far as the snippet uses them.
		"packages.d.ts": `
declare module 'react-native' {
  export const AppState: { addEventListener(type: 'change', listener: (state: 'active' | 'background') => void): { remove(): void } };
}
declare module '@react-native-async-storage/async-storage' {
  const storage: { getItem(key: string): Promise<string | null>; setItem(key: string, value: string): Promise<void>; removeItem(key: string): Promise<void> };
  export default storage;
}
`,
		"native-packages.js": `
export const AppState = { addEventListener(type, listener) { listener('active'); return { remove() {} }; } };
const kept = new Map();
export default {
  getItem: async (key) => kept.get(key) ?? null,
  setItem: async (key, value) => { kept.set(key, value); console.log('kept', key); },
  removeItem: async (key) => { kept.delete(key); },
};
`,
		"phone.ts": fmt.Sprintf("import { connect } from './native.js';\nconnect('patient-42', async () => %q, (text) => console.log(text));\n", token),
		"start.js": "import { WebSocket } from 'ws';\nglobalThis.WebSocket = WebSocket;\nawait import('./phone.bundle.js');\n",
	})
	webtest.Compile(t, app, "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler", "--jsx", "react-jsx", "--types", "node",
		"node.ts", "page.tsx", "phone.ts", "packages.d.ts")
	expect.NoError(t, os.WriteFile(filepath.Join(app, "phone.bundle.js"), []byte(webtest.Bundle(t, app, "out/phone.js", "--format=esm",
		"--alias:react-native=./native-packages.js", "--alias:@react-native-async-storage/async-storage=./native-packages.js")), 0o600))

	run := func(args ...string) *expect.Output {
		cmd := exec.CommandContext(t.Context(), "node", args...)
		out := &expect.Output{}
		cmd.Dir, cmd.Stdout, cmd.Stderr = app, out, out
		expect.NoError(t, cmd.Start())
		t.Cleanup(func() {
			if err := cmd.Process.Kill(); err != nil {
				t.Errorf("%v; it said %s", err, out)
			}
			_ = cmd.Wait() // killed
		})
		return out
	}
	onNode, onPhone := run("out/node.js"), run("start.js")
	p.Eval(`(() => { const s = document.createElement("script"); s.textContent = %q; document.body.append(s); })()`,
		webtest.Bundle(t, app, "out/page.js", "--format=iife"))
	expect.Eventually(t, "all three are connected", func() bool {
		return p.Eval(`fetch("/metrics").then((r) => r.text()).then((s) => s.includes("hookbridge_sessions 3"))`) == true
	})
	p.Eval(`fetch("/demo/patients", {method: "POST", body: '{"doctor":"doctor-7","patient":"patient-42"}'}).then((r) => r.status)`)
	p.Sees(`section[title="connected"]`, "doctor-7 added you")
	expect.Eventually(t, "TypeScript under Node shows it", func() bool { return onNode.String() == "patient.added doctor-7 added you\n" })
	expect.Eventually(t, "React Native shows it and keeps its place", func() bool {
		return strings.HasSuffix(onPhone.String(), "doctor-7 added you\nkept cursor:patient-42\n")
	})
}

// Whatever an app hands to send(), its call is answered, and its connection and
// its other calls go on.
func TestWhatAnAppSendsWronglyRejectsThatCallAlone(t *testing.T) {
	t.Parallel()
	base := dev(t)
	p := webtest.New(t)
	webtest.Do(p, chromedp.Navigate(base+"/livez"))
	p.Eval(`(async () => {
		const { BridgeClient } = await import("/bridge-client.js");
		const getToken = async () => (await (await fetch("/demo/tokens", {method: "POST", body: '{"user":"doctor-7"}'})).json()).token;
		window.codes = [];
		window.client = new BridgeClient({ url: "/ws", getToken });
		client.on("close", ({ code }) => codes.push(code));
		client.connect();
		window.nested = (n) => { let a = 1; for (let i = 0; i < n; i++) a = [a]; return a; };
	})()`)
	for call, want := range map[string]string{
		`"patient-42", {type: "chat.message", data: {message: "good"}}`: "",
		`"patient-42", {type: "x", data: "half \ud83d a pair"}`:         "",
		`"patient-42", {type: "x", data: {"\udc00": 1}}`:                "",
		`"patient-42", {type: "x", data: nested(500)}`:                  "",
		`"patient-42", {type: "x"}`:                                     "",
		`"patient-42", {type: "x", data: nested(501)}`:                  "invalid",
		`"patient-42", {type: "x", data: nested(20000)}`:                "invalid",
		`"patient-42", {type: "x", data: 1n}`:                           "invalid",
		`"patient-\ud83d", {type: "x"}`:                                 "invalid",
		`"patient-42", {type: "\ud83d"}`:                                "invalid",
		`"patient-42", {type: "x"}, {ref: "x".repeat(200)}`:             "invalid",
		`"patient-42", {type: "x", data: "é".repeat(40_000)}`:           "too_large",
		`"patient-42", {type: "no type!"}`:                              "invalid_frame",
		`"patient-42", {type: 7}`:                                       "invalid_frame",
		`"patient-42", {}`:                                              "invalid_frame",
		`"patient-42", null`:                                            "invalid_frame",
		`"patient-42", undefined`:                                       "invalid_frame",
		`"patient-42", "x"`:                                             "invalid_frame",
		`"patient-42", [1]`:                                             "invalid_frame",
		`"patient-42", {type: "x", ttl: "long"}`:                        "invalid_frame",
		`"", {type: "x"}`:                                               "invalid_frame",
		`"a\u0000b", {type: "x"}`:                                       "invalid_frame",
		`7, {type: "x"}`:                                                "invalid_frame",
		`{}, {type: "x"}`:                                               "invalid_frame",
		`undefined, {type: "x"}`:                                        "invalid_frame",
		`{user: "u", all: true}, {type: "x"}`:                           "invalid_frame",
		`{users: "u"}, {type: "x"}`:                                     "invalid_frame",
	} {
		got := p.Eval(`client.send(%s).then(() => "", (error) => error.code)`, call)
		if got != want {
			t.Errorf("send(%s): %q, want %q", call, got, want)
		}
		if closed := p.Eval(`codes`).([]any); len(closed) > 0 {
			t.Fatalf("send(%s) closed the connection: %v", call, closed)
		}
	}
}
