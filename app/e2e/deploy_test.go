package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

func TestDeploy(t *testing.T) {
	t.Parallel()
	t.Run("has a compose file that sets what there is", deployCompose)
	t.Run("has a dashboard that asks for what a bridge tells", deployDashboard)
	t.Run("describes a move that moves a store", deployMove)
	t.Run("has a fly.toml without the pitfalls of sockets and volumes", deployFly)
	t.Run("has an image that is small, static and not root", deployImage)
}

func deployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../deploy/" + name)
	expect.NoError(t, err)
	return string(b)
}

// Each setting in the compose file is one of ours, and with its secrets, which
// are for trying it out, a bridge does start.
func deployCompose(t *testing.T) {
	t.Parallel()
	text := deployed(t, "compose.yaml")
	var source []byte
	files, err := filepath.Glob("../server/*.go")
	expect.NoError(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		expect.NoError(t, err)
		source = append(source, b...)
	}
	for _, m := range regexp.MustCompile(`(?m)^\s+(BRIDGE_\w+):`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(source), `env:"`+m[1]+`"`) {
			t.Errorf("there is no setting %s", m[1])
		}
	}
	fallback := func(name string) string {
		m := regexp.MustCompile(name + `:-([^}]*)}`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("%s has no default", name)
		}
		return m[1]
	}
	s := testSettings(t.TempDir())
	s.WebhookSecrets, s.JWTSecret = []server.Secret{server.Secret(fallback("BRIDGE_WEBHOOK_SECRETS"))}, server.Secret(fallback("BRIDGE_JWT_SECRET"))
	s.AllowedOrigins = []string{fallback("BRIDGE_ALLOWED_ORIGINS")}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	// YAML refuses a colon and a space in a value without quotes, and so would docker compose.
	for _, m := range regexp.MustCompile(`(?m)^[ -]*[\w-]+: ([^"'\[{&*\s][^#\n]*)`).FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[1], ": ") {
			t.Errorf("a value that needs quotes: %s", m[0])
		}
	}
	for _, mounted := range regexp.MustCompile(`\./([\w/.]+):/`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat("../../deploy/" + mounted[1]); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"noeviction", "--appendonly", "stop_grace_period: 30s"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(deployed(t, "prometheus.yml"), "bridge1:8080") != strings.Contains(text, "bridge1: *bridge") {
		t.Error("Prometheus asks bridges that are not there")
	}
}

// The dashboard asks for metrics that a bridge has.
func deployDashboard(t *testing.T) {
	t.Parallel()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	expect.NoError(t, json.Unmarshal([]byte(deployed(t, "grafana/dashboards/hookbridge.json")), &board))
	r := redistest.Start(t)
	b := newClinicBackend(t)
	w := start(t, b.settings, func(s *server.Settings) { s.RedisURL = server.Secret(r.URL()) })
	b.answers(func(w http.ResponseWriter, _ *http.Request, _ heardCallback) {
		w.WriteHeader(http.StatusInternalServerError)
	})
	w.connectAs(backendUser(t, "patient-4"), "").sendRaw(`{"type":"request","ref":"q","event":{"type":"slots.list"}}`)
	w.acking("patient-1")
	w.ask("a", `{"type":"t","to":{"user":"patient-1"}}`, "acked", "10s")
	w.do(w.sign("a", `{"type":"t","to":{"user":"patient-2"}}`, time.Now()))
	bad := w.connect("patient-2", "")
	bad.sendRaw("not JSON")
	bad.closed()
	w.connect("patient-3", "elsewhere.1.1").want("gap")
	expect.Eventually(t, "the session's end to be counted", func() bool { return strings.Contains(w.scrape(), "\nhookbridge_session_ends_total") })
	expect.Eventually(t, "what waits for the backend", func() bool { return strings.Contains(w.scrape(), "\nhookbridge_callbacks_waiting{") })
	told := w.scrape()
	if len(board.Panels) == 0 {
		t.Fatal("no panels")
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`\b(?:hookbridge|go|process)_\w+`).FindAllString(target.Expr, -1) {
				if !strings.Contains(told, "\n"+name) {
					t.Errorf("%s: a bridge tells nothing of %s", p.Title, name)
				}
			}
		}
	}
}

// The commands by which a store moves are run as they stand.
func deployMove(t *testing.T) {
	heavy(t)
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```sh\n(hookbridge export.*?)```").FindAllStringSubmatch(deployed(t, "README.md"), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks", len(blocks))
	}
	dir := t.TempDir()
	w := startWith(t, testSettings(filepath.Join(dir, "data")))
	cursor := w.connect("patient-1", "").hello.Cursor
	w.sessions(1)
	w.fireTo("patient-1", 0)
	w.stop()
	r := redistest.Start(t)
	script := `hookbridge() { "` + os.Args[0] + `" "$@"; }` + "\n" + strings.ReplaceAll(blocks[0][1], "redis://127.0.0.1:6379", r.URL())
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asProgram+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	after := start(t, func(s *server.Settings) { s.RedisURL = server.Secret(r.URL()) })
	s := after.connect("patient-1", cursor)
	if !s.hello.Resumed {
		t.Errorf("the cursor is no good any more: %s", s.hello.Raw)
	}
	if f := s.want("event"); f.n() != 0 {
		t.Errorf("%s", f.Raw)
	}
}
