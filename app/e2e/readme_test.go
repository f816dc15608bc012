package e2e

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/app/expect"
	"hookbridge/handlers/web/webtest"
)

func TestReadme(t *testing.T) {
	t.Parallel()
	t.Run("has commands that do what it says", readmeCommands)
	t.Run("has backends that hear and answer", readmeBackends)
	t.Run("has client snippets that get their first message", readmeClients)
	t.Run("has page snippets that run in a browser", readmePage)
}

// block is a fenced piece of README.md.
type block struct{ lang, text string }

func readmeBlocks(t *testing.T) []block {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	expect.NoError(t, err)
	var out []block
	for _, m := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		out = append(out, block{m[1], m[2]})
	}
	return out
}

// Every command of the README is run here as it is written, but for the address
// and the folder (a free port, a temporary folder), and for those that deploy to
// Fly.io, which are held against fly.toml, and make test, which runs this test.
func readmeCommands(t *testing.T) {
	heavy(t)
	t.Parallel()
	dir := t.TempDir()
	p := launch(t, nil, "dev", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"))
	expect.Eventually(t, "the greeting", func() bool { return strings.Contains(p.out.String(), "Stop with Ctrl-C") })
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(p.out.String())
	address := strings.TrimPrefix(base, "http://")
	p.world = &world{t: t, sent: new(atomic.Int64), base: base, client: &http.Client{}, logs: p.errs, stopped: true}

	var secret, token string
	shell := func(name, script string, stdin string, command ...string) string {
		t.Helper()
		script = strings.ReplaceAll(script, "127.0.0.1:8080", address)
		script = strings.ReplaceAll(script, "go run ./app", os.Args[0])
		cmd := exec.Command(command[0], append(command[1:], script)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), asProgram+"=1", "BRIDGE_URL="+base, "WEBHOOK_SECRET="+secret)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	out := shell("token", "go run ./app token patient-42", "", "bash", "-euo", "pipefail", "-c")
	token = strings.TrimSpace(out)
	s := p.connectAs(token, "")
	arrived := func(message string) {
		t.Helper()
		f := s.want("event")
		if !strings.Contains(string(f.Event.Data), message) {
			t.Errorf("instead of %q came %s", message, f.Raw)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	expect.NoError(t, err)
	ran := map[string]int{}
	for _, m := range regexp.MustCompile("`(go run ./app ([^`]+))`").FindAllStringSubmatch(string(readme), -1) {
		switch command, _, _ := strings.Cut(m[2], " "); command {
		case "token":
			if out := shell("token", m[1], "", "bash", "-euo", "pipefail", "-c"); !strings.HasPrefix(out, "eyJ") {
				t.Errorf("%s: %s", m[1], out)
			}
		case "receive": // run by readmeBackends
		case "dev": // run by devOrigins
		default:
			t.Errorf("a command that no test runs: %s", m[1])
		}
		ran["in a sentence"]++
	}
	for _, b := range readmeBlocks(t) {
		switch {
		case strings.Contains(b.text, "CALLBACK_SECRET"), strings.Contains(b.text, "dev --forward"):
			continue // run by readmeBackends
		case b.lang == "sh" && strings.Contains(b.text, "export WEBHOOK_SECRET"):
			secret = strings.TrimSpace(shell("secret", b.text+`printf %s "$WEBHOOK_SECRET"`, "", "bash", "-euo", "pipefail", "-c"))
			if !strings.HasPrefix(secret, "whsec_") {
				t.Fatal("the README's way to the secret finds none")
			}
		case b.lang == "sh" && strings.Contains(b.text, "--wait acked"):
			l := launch(t, []string{"BRIDGE_URL=" + base, "BRIDGE_DATA_DIR=" + filepath.Join(dir, "data")}, "listen", "--user", "patient-42")
			expect.Eventually(t, "listen is connected", func() bool { return strings.Contains(l.errs.String(), "onnected") })
			if out := shell("send", b.text, "", "bash", "-euo", "pipefail", "-c"); !strings.Contains(out, `"status":"acked"`) {
				t.Errorf("send --wait: %s", out)
			}
			arrived("9:30")
			expect.NoError(t, l.cmd.Process.Signal(os.Interrupt))
			if err := l.wait(t); err != nil {
				t.Errorf("listen ended with %v: %s", err, l.errs)
			}
		case b.lang == "sh" && strings.Contains(b.text, "OPERATOR"):
			out := shell("operate", b.text, "", "bash", "-euo", "pipefail", "-c")
			if !strings.Contains(out, `"online":true`) || !strings.Contains(out, `"id":"visit-1"`) || !strings.Contains(out, `"status":"acked"`) {
				t.Errorf("operate: %s", out)
			}
			if f := s.want("recalled"); f.ID != "visit-1" {
				t.Errorf("%s", f.Raw)
			}
		case b.lang == "sh" && strings.Contains(b.text, "go run ./app send"):
			if out := shell("send", b.text, "", "bash", "-euo", "pipefail", "-c"); !strings.Contains(out, `"status":"sent"`) {
				t.Errorf("send: %s", out)
			}
			arrived("Dr. Silva added you")
		case b.lang == "sh" && strings.Contains(b.text, "curl -sS"):
			if out := shell("curl", b.text, "", "bash", "-euo", "pipefail", "-c"); !strings.Contains(out, `"status":"sent"`) {
				t.Errorf("curl: %s", out)
			}
			arrived("from curl")
		case b.lang == "sh" && strings.Contains(b.text, "listen"):
			l := launch(t, []string{"BRIDGE_URL=" + base, "BRIDGE_DATA_DIR=" + filepath.Join(dir, "data")}, strings.Fields(strings.TrimPrefix(b.text, "go run ./app"))...)
			expect.Eventually(t, "listen is connected", func() bool { return strings.Contains(l.errs.String(), "onnected") })
			shell("send", `go run ./app send --to patient-42 --data '{"message":"heard"}'`, "", "bash", "-c")
			arrived("heard")
			expect.Eventually(t, "listen prints it", func() bool { return strings.Contains(l.out.String(), "heard") })
			expect.NoError(t, l.cmd.Process.Signal(os.Interrupt))
			if err := l.wait(t); err != nil {
				t.Errorf("listen ended with %v: %s", err, l.errs)
			}
		case b.lang == "js" && strings.Contains(b.text, "node:crypto"):
			if out := shell("node", b.text, "", "node", "--input-type=module", "-e"); !strings.HasPrefix(out, "202 ") {
				t.Errorf("node: %s", out)
			}
			arrived("from Node")
		case b.lang == "python":
			if out := shell("python", b.text, "", "python3", "-c"); !strings.Contains(out, `"status":"sent"`) {
				t.Errorf("python: %s", out)
			}
			arrived("from Python")
		case b.lang == "go":
			file := filepath.Join(dir, "send.go")
			expect.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(b.text, "127.0.0.1:8080", address)), 0o600))
			if out := shell("go", file, "", "go", "run"); !strings.HasPrefix(out, "202 ") {
				t.Errorf("go: %s", out)
			}
			arrived("from Go")
		case b.lang == "sh" && strings.Contains(b.text, "fly deploy"):
			fly, err := os.ReadFile("../../fly.toml")
			expect.NoError(t, err)
			volume := regexp.MustCompile(`fly volumes create (\w+)`).FindStringSubmatch(b.text)
			if volume == nil || !strings.Contains(string(fly), `source = "`+volume[1]+`"`) || strings.Count(strings.TrimSpace(b.text), "\n") != 4 {
				t.Errorf("the five commands do not fit fly.toml:\n%s", b.text)
			}
		case b.lang == "sh" && strings.TrimSpace(b.text) == "go run ./app dev", b.lang == "sh" && strings.TrimSpace(b.text) == "make test":
			// the one runs beside this test, the other runs it
		case b.lang == "html", b.lang == "js", b.lang == "json", b.lang == "ts", b.lang == "tsx":
			continue // run by page_test.go and client_test.go; shown only
		default:
			t.Errorf("a block that no test runs:\n%s", b.text)
			continue
		}
		ran[b.lang]++
	}
	if ran["sh"] != 9 || ran["js"] != 1 || ran["python"] != 1 || ran["go"] != 1 || ran["in a sentence"] != 3 {
		t.Errorf("blocks that were run: %v", ran)
	}
}

// The README's backends, as they are written but for the port, with the official
// libraries: each hears of a send that a page makes with the README's lines, and answers
// its request.
func readmeBackends(t *testing.T) {
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
	readme, err := os.ReadFile("../../README.md")
	expect.NoError(t, err)
	if strings.Contains(string(readme), "`go run ./app receive`") {
		backends["sh"] = "receive --listen 127.0.0.1:9000" // where it listens anyway
	}
	if len(backends) != 4 || secret == "" || page == "" || forward == "" {
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
		"sh": func(t *testing.T, dir, code string) *exec.Cmd {
			reply := filepath.Join(dir, "slots.json")
			expect.NoError(t, os.WriteFile(reply, []byte(`{"slots":["9:30"]}`), 0o600))
			cmd := exec.Command(os.Args[0], append(strings.Fields(code), "--data-dir", filepath.Join(dir, "data"), "--reply", reply)...)
			cmd.Env = []string{asProgram + "=1"}
			return cmd
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
			half, err := net.Dial("tcp", "127.0.0.1:"+port)
			expect.NoError(t, err)
			_, err = half.Write([]byte("POST / HTTP/1.1\r\nHost: backend\r\nContent-Length: 9\r\n\r\n{"))
			expect.NoError(t, err)
			expect.NoError(t, half.Close()) // which must be the end of this request alone

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
			heards := []string{`cb_\w+ "?message\.sent"? \{.*"visit":\s?7`, `req_\w+ "?request"? \{.*"slots\.list"`}
			if lang == "sh" {
				heards = []string{`"message\.sent".*"visit":7.*"webhookId":"cb_\w+"`, `"request".*"slots\.list".*"webhookId":"req_\w+"`}
			}
			for _, heard := range heards {
				expect.Eventually(t, "it hears "+heard, func() bool { return regexp.MustCompile(heard).MatchString(backend.out.String()) })
			}
			if said := backend.out.String(); strings.Contains(said, "forged") {
				t.Errorf("it heard %s", said)
			}
		})
	}
}
