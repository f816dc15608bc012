package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"hookbridge/app/expect"
)

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
func TestEveryCommandOfTheReadmeDoesWhatItSays(t *testing.T) {
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
	ran := map[string]int{}
	for _, b := range readmeBlocks(t) {
		switch {
		case strings.Contains(b.text, "CALLBACK_SECRET"), strings.Contains(b.text, "dev --forward"):
			continue // run by TestTheReadmesBackendsHearAndAnswer
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
	if ran["sh"] != 9 || ran["js"] != 1 || ran["python"] != 1 || ran["go"] != 1 {
		t.Errorf("blocks that were run: %v", ran)
	}
}
