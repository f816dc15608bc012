package e2e

import (
	"net"
	"net/http"
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

// The README's backends, as they are written but for the port, with the official
// libraries: each hears of a send that a page makes with the README's lines, and answers
// its request.
func TestTheReadmesBackendsHearAndAnswer(t *testing.T) {
	t.Parallel()
	var secret, page, forward string
	backends := map[string]string{}
	for _, b := range readmeBlocks(t) {
		switch {
		case b.lang == "sh" && strings.Contains(b.text, "CALLBACK_SECRET"):
			secret = b.text
		case b.lang == "sh" && strings.Contains(b.text, "dev --forward"):
			forward = strings.TrimPrefix(strings.TrimSpace(b.text), "go run ./app ")
		case strings.Contains(b.text, "CALLBACK_SECRET"):
			backends[b.lang] = b.text
		case b.lang == "js" && strings.Contains(b.text, "client.request("):
			page = b.text
		}
	}
	if len(backends) != 3 || secret == "" || page == "" || forward == "" {
		t.Fatalf("the README lacks a block: %d backends, %q, %q, %q", len(backends), secret, page, forward)
	}
	for lang, run := range map[string]func(t *testing.T, dir, code string) *exec.Cmd{
		"js": func(t *testing.T, dir, code string) *exec.Cmd {
			webtest.LinkModules(t, dir)
			expect.NoError(t, os.WriteFile(filepath.Join(dir, "backend.mjs"), []byte(code), 0o600))
			return exec.Command("node", filepath.Join(dir, "backend.mjs"))
		},
		"python": func(t *testing.T, _, code string) *exec.Cmd {
			// The official library of Python is a folder of the module that holds the one of Go.
			out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/standard-webhooks/standard-webhooks/libraries").Output()
			expect.NoError(t, err)
			cmd := exec.Command("python3", "-c", code)
			cmd.Env = []string{"PYTHONPATH=" + filepath.Join(strings.TrimSpace(string(out)), "python"), "PYTHONDONTWRITEBYTECODE=1"}
			return cmd
		},
		"go": func(t *testing.T, dir, code string) *exec.Cmd {
			file, program := filepath.Join(dir, "backend.go"), filepath.Join(dir, "backend")
			expect.NoError(t, os.WriteFile(file, []byte(code), 0o600))
			if out, err := exec.Command("go", "build", "-o", program, file).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return exec.Command(program)
		},
	} {
		t.Run(lang, func(t *testing.T) {
			dir := t.TempDir()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			expect.NoError(t, err)
			_, port, err := net.SplitHostPort(ln.Addr().String())
			expect.NoError(t, err)
			expect.NoError(t, ln.Close())
			args := append(strings.Fields(strings.ReplaceAll(forward, "9000", port)), "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"))
			bridge := launch(t, nil, args...)
			expect.Eventually(t, "the greeting", func() bool { return strings.Contains(bridge.out.String(), "Stop with Ctrl-C") })
			base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(bridge.out.String())
			shell := exec.Command("bash", "-euo", "pipefail", "-c", secret+`printf %s "$CALLBACK_SECRET"`)
			shell.Dir = dir
			key, err := shell.Output()
			expect.NoError(t, err)

			cmd := run(t, dir, strings.ReplaceAll(backends[lang], "9000", port))
			cmd.Env = append(append(os.Environ(), cmd.Env...), "CALLBACK_SECRET="+string(key))
			backend := launchCommand(t, cmd)
			forged := func() (status int) {
				req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:"+port, strings.NewReader(`{"type":"forged","data":{}}`))
				expect.NoError(t, err)
				req.Header.Set("webhook-id", "cb_1")
				req.Header.Set("webhook-timestamp", "1")
				req.Header.Set("webhook-signature", "v1,c2lnbmF0dXJl")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					return 0 // it does not listen yet
				}
				expect.NoError(t, res.Body.Close())
				return res.StatusCode
			}
			expect.Eventually(t, "what is forged is refused", func() bool { return forged() == http.StatusUnauthorized })

			p := webtest.New(t)
			webtest.Do(p, chromedp.Navigate(base+"/livez"))
			got := p.Eval(`(async () => {
				const { BridgeClient } = await import("/bridge.js");
				const getToken = async () => (await (await fetch("/demo/tokens", {method: "POST", body: '{"user":"patient-42"}'})).json()).token;
				const client = new BridgeClient({ url: "/ws", user: "patient-42", getToken });
				const open = new Promise((ok) => client.on("open", ok));
				client.connect();
				await open;
				%s
				return data.slots[0];
			})()`, page)
			if got != "9:30" {
				t.Errorf("the page was answered %v", got)
			}
			for _, heard := range []string{`cb_\w+ message\.sent \{.*"visit":\s?7`, `req_\w+ request \{.*"slots\.list"`} {
				expect.Eventually(t, "it hears "+heard, func() bool { return regexp.MustCompile(heard).MatchString(backend.out.String()) })
			}
			if said := backend.out.String(); strings.Contains(said, "forged") {
				t.Errorf("it heard %s", said)
			}
		})
	}
}
