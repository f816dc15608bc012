package e2e

import (
	"encoding/json"
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

func TestDev(t *testing.T) {
	t.Parallel()
	t.Run("needs no settings and prints what to paste", devPrints)
	t.Run("takes a developer's own page, where it is named", devOrigins)
}

func devOrigins(t *testing.T) {
	t.Parallel()
	const page = "http://localhost:5173"
	for _, c := range []struct {
		env, args []string
		want      int
	}{
		{nil, nil, 403},
		{nil, []string{"--allowed-origins", "https://app.example," + page}, 201},
		{[]string{"BRIDGE_ALLOWED_ORIGINS=" + page}, nil, 201}, // as the refusal says
	} {
		p := launch(t, c.env, append([]string{"dev", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "data")}, c.args...)...)
		expect.Eventually(t, "the greeting", func() bool { return strings.Contains(p.out.String(), "Stop with Ctrl-C") })
		said := p.out.String()
		req, err := http.NewRequest(http.MethodPost, regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(said)+"/v1/tickets", nil)
		expect.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+regexp.MustCompile(`eyJ[\w.-]+`).FindString(said))
		req.Header.Set("Origin", page)
		res, err := http.DefaultClient.Do(req)
		expect.NoError(t, err)
		expect.NoError(t, res.Body.Close())
		if res.StatusCode != c.want {
			t.Errorf("%q %q: %d, want %d", c.env, c.args, res.StatusCode, c.want)
		}
	}
}

func devPrints(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := launch(t, nil, "dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
	expect.Eventually(t, "the greeting", func() bool { return strings.Contains(p.out.String(), "Stop with Ctrl-C") })
	said := p.out.String()
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(said)
	p.world = &world{t: t, sent: new(atomic.Int64), base: base, client: &http.Client{}, logs: p.errs, stopped: true}

	secretsFile := filepath.Join(dir, "dev-secrets.json")
	info, err := os.Stat(secretsFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secrets' file: %v %v", info, err)
	}
	kept, err := os.ReadFile(secretsFile)
	expect.NoError(t, err)
	var secrets struct{ WebhookSecret, JWTSecret, CallbackSecret string }
	expect.NoError(t, json.Unmarshal(kept, &secrets))
	for _, secret := range []string{secrets.WebhookSecret, secrets.JWTSecret, secrets.CallbackSecret} {
		if len(secret) < 32 || strings.Contains(said, secret) {
			t.Error("a secret was printed")
		}
	}
	curl := regexp.MustCompile(`(?s)curl -sS.*?-d '[^']*'`).FindString(said)
	out, err := exec.Command("bash", "-c", curl).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"status":"queued"`) {
		t.Errorf("the pasted curl: %v %s", err, out)
	}
	jwt := regexp.MustCompile(`eyJ[\w.-]+`).FindString(said)
	if f := p.connectAs(jwt, "").want("event"); f.Event.Type != "patient.added" {
		t.Errorf("%s", f.Raw)
	}
	req, err := http.NewRequest(http.MethodGet, base+"/", nil)
	expect.NoError(t, err)
	page := p.do(req)
	if page.HTTP != 200 || !strings.Contains(page.Header.Get("Content-Security-Policy"), "script-src 'self'") || strings.Contains(page.Raw, "<script>") {
		t.Errorf("the page: %d %v", page.HTTP, page.Header)
	}
	for host, want := range map[string]int{"": 200, "localhost": 200, "evil.example": 403} { // the last has a name that leads here
		for _, path := range []string{"POST /demo/tokens", "GET /demo/callbacks?user=patient-42", "POST /demo/patients", "POST /demo/announcements"} {
			method, path, _ := strings.Cut(path, " ")
			if host != "evil.example" && path != "/demo/tokens" && method == http.MethodPost {
				continue
			}
			req, err := http.NewRequest(method, base+path, strings.NewReader(`{"user":"patient-42"}`))
			expect.NoError(t, err)
			req.Host = host
			if a := p.do(req); a.HTTP != want || want == 403 && a.Code != "forbidden" {
				t.Errorf("%s for the host %q: %d %s", path, host, a.HTTP, a.Raw)
			}
		}
	}
	expect.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	if err := p.wait(t); err != nil {
		t.Errorf("exit: %v\n%s", err, p.errs)
	}
	if again, err := os.ReadFile(secretsFile); err != nil || string(again) != string(kept) {
		t.Errorf("the secrets are not kept: %v", err)
	}
	if p := launch(t, nil, "dev", "--listen", "0.0.0.0:0", "--data-dir", dir); p.wait(t) == nil || !strings.Contains(p.errs.String(), "loopback only") {
		t.Errorf("dev listens to the world: %s", p.errs)
	}
}
