package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/app/expect"
	"hookbridge/handlers/web/webtest"
)

// devPage is dev, an empty page of its origin, and a token of patient-42.
func devPage(t *testing.T) (base string, p *webtest.Tab, token string) {
	t.Helper()
	base, p = dev(t), webtest.New(t)
	webtest.Do(p, chromedp.Navigate(base+"/livez"))
	token = p.Eval(`fetch("/demo/tokens", {method: "POST", body: '{"user":"patient-42"}'}).then((r) => r.json()).then((r) => r.token)`).(string)
	return base, p, token
}

// What a new user does: install the packed client, paste the README's lines,
// compile them by the strictest rules, and get a first message.
func readmeClients(t *testing.T) {
	heavy(t)
	t.Parallel()
	base, p, token := devPage(t)
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

// The README's two snippets for a page run in a page, as they are written but
// for the address and the token.
func readmePage(t *testing.T) {
	heavy(t)
	t.Parallel()
	base, p, token := devPage(t)
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
