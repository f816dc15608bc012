package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/handlers/web/webtest"
)

func TestBrowserClient(t *testing.T) {
	t.Parallel()
	t.Run("rejects only the call that an app got wrong", browserClientRejects)
}

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

// Whatever an app hands to send(), its call is answered, and its connection and
// its other calls go on.
func browserClientRejects(t *testing.T) {
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
