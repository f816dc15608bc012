package cli

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/callback/receiver"
	"hookbridge/app/expect"
	"hookbridge/auth"
	"hookbridge/auth/authtest"
)

func TestReceive(t *testing.T) {
	t.Run("prints what comes, one line each", receivePrints)
	t.Run("answers requests with its file", receiveAnswers)
	t.Run("checks by dev's secret, and by the public key of one that signs", receiveSecrets)
	t.Run("says what to mend", receiveChecks)
	t.Run("tells where the bridge reaches it", receiveReached)
}

const testCallbackSecret = "whsec_Y2FsbGJhY2stc2VjcmV0LW9mLTMyLWJ5dGVzISEhISE="

// receiving is a receive command that runs.
type receiving struct {
	out, err expect.Output
	url      string
	stop     func() int
}

func receive(t *testing.T, args ...string) *receiving {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, done := &receiving{}, make(chan int, 1)
	if !slices.Contains(args, "--data-dir") && !slices.Contains(args, "--secret") {
		args = append(args, "--secret", testCallbackSecret)
	}
	go func() {
		done <- Run(ctx, append([]string{"receive", "--listen", "127.0.0.1:0"}, args...), Streams{Out: &r.out, Err: &r.err})
	}()
	r.stop = func() int { cancel(); return <-done }
	expect.Eventually(t, "its address", func() bool {
		_, r.url, _ = strings.Cut(r.err.String(), "BRIDGE_CALLBACK_URL=")
		return strings.HasSuffix(r.url, "\n")
	})
	r.url = strings.TrimSpace(r.url)
	return r
}

// fire posts a body that is signed with a secret.
func (r *receiving) fire(t *testing.T, secret, body string) (status int) {
	t.Helper()
	h, err := auth.SignWebhook(secret, "msg_1", time.Now(), []byte(body))
	expect.NoError(t, err)
	req, err := http.NewRequest("POST", r.url, strings.NewReader(body))
	expect.NoError(t, err)
	req.Header = http.Header{"Webhook-Id": {h.ID}, "Webhook-Timestamp": {h.Timestamp}, "Webhook-Signature": {h.Signature}}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	expect.NoError(t, err)
	expect.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func receivePrints(t *testing.T) {
	r := receive(t)
	const other = "whsec_YW5vdGhlci1jYWxsYmFjay1zZWNyZXQtb2YtMzItYnk="
	for _, c := range []struct {
		secret, body string
		want         int
	}{
		{testCallbackSecret, "{\"type\":\"event.acked\",\n\"data\":{\"n\": 1,\"n\":2}}\n", 204},
		{testCallbackSecret, `{"type":"request"}`, 200},
		{other, `{"type":"canary"}`, 401},
	} {
		if got := r.fire(t, c.secret, c.body); got != c.want {
			t.Errorf("%s: %d", c.body, got)
		}
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if got := r.out.String(); got != `{"type":"event.acked", "data":{"n": 1,"n":2},"webhookId":"msg_1"}`+"\n"+`{"type":"request","webhookId":"msg_1"}`+"\n" {
		t.Errorf("printed %s", got)
	}
	if said := r.err.String(); !strings.Contains(said, "refused: 1 signature tried against 1 key, none matches") || strings.Contains(said, "canary") || strings.Count(said, "\n") != 2 {
		t.Error(said)
	}
}

func receiveAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "slots.json")
	expect.NoError(t, os.WriteFile(file, []byte(`[1]`), 0o600))
	r := receive(t, "--reply", file)
	if got := r.fire(t, testCallbackSecret, `{"type":"request"}`); got != 200 {
		t.Error(got)
	}
	expect.NoError(t, os.WriteFile(file, []byte(`[`), 0o600))
	if got := r.fire(t, testCallbackSecret, `{"type":"request"}`); got != 500 {
		t.Error(got)
	}
	if r.stop(); !strings.Contains(r.err.String(), "refused: --reply "+file+" must hold one JSON value") {
		t.Error(r.err.String())
	}
}

func receiveSecrets(t *testing.T) {
	dir := t.TempDir()
	dev, err := devSecrets(dir)
	expect.NoError(t, err)
	private, _ := authtest.NewWebhookKeyPair()
	for name, c := range map[string]struct {
		secret string
		args   []string
	}{
		"dev's":            {dev.CallbackSecret, []string{"--data-dir", dir}},
		"the bridge's key": {private, []string{"--secret", private}},
	} {
		r := receive(t, c.args...)
		if got := r.fire(t, c.secret, `{"type":"request"}`); got != 200 {
			t.Errorf("%s: %d", name, got)
		}
		if got := r.fire(t, testCallbackSecret, `{"type":"request"}`); got != 401 {
			t.Errorf("%s: what another secret signed gets %d", name, got)
		}
		r.stop()
	}
}

func receiveReached(t *testing.T) {
	for ip, want := range map[string]string{"0.0.0.0": "127.0.0.1:9", "::": "127.0.0.1:9", "::1": "[::1]:9", "127.0.0.2": "127.0.0.2:9"} {
		if got := reached(&net.TCPAddr{IP: net.ParseIP(ip), Port: 9}); got != want {
			t.Errorf("%s: %s", ip, got)
		}
	}
}

func receiveChecks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "slots.json")
	expect.NoError(t, os.WriteFile(file, []byte(`{`), 0o600))
	large := filepath.Join(t.TempDir(), "large.json")
	expect.NoError(t, os.WriteFile(large, nil, 0o600))
	expect.NoError(t, os.Truncate(large, receiver.MaxBytes+1))
	old := t.TempDir()
	expect.NoError(t, os.WriteFile(filepath.Join(old, secretsFile), []byte(`{"jwtSecret":"canary"}`), 0o600))
	for want, args := range map[string][]string{
		"no secret to check signatures with: set BRIDGE_CALLBACK_SECRET": {"--data-dir", file},
		"no secret to check signatures with: " + old:                     {"--data-dir", old},
		"--secret (BRIDGE_CALLBACK_SECRET): the ed25519 key holds 6":     {"--secret", "whsk_canary+w"},
		"--secret (BRIDGE_CALLBACK_SECRET): webhook secret 1 of 1":       {"--secret", "whsec_canary"},
		"--forward: it must be an address":                               {"--secret", testCallbackSecret, "--forward", "127.0.0.1:3000"},
		"--forward: it must be an address like":                          {"--secret", testCallbackSecret, "--forward", "http://127.0.0.1:99999"},
		"--reply " + file + ".none cannot be read: no such file":         {"--secret", testCallbackSecret, "--reply", file + ".none"},
		"--reply /dev/zero cannot be read: it must be a regular file":    {"--secret", testCallbackSecret, "--reply", "/dev/zero"},
		"--reply " + large + " cannot be read: it has 8388609 bytes":     {"--secret", testCallbackSecret, "--reply", large},
		"--reply " + old + " cannot be read: it is a folder":             {"--secret", testCallbackSecret, "--reply", old},
		"--reply " + file + " must hold one JSON value":                  {"--secret", testCallbackSecret, "--reply", file},
		"--listen: cannot listen on 127.0.0.1:99999":                     {"--secret", testCallbackSecret, "--listen", "127.0.0.1:99999"},
	} {
		code, out, errs := command(t, nil, append([]string{"receive"}, args...)...)
		if code != 1 || out != "" || !strings.HasPrefix(errs, "hookbridge: "+want) || strings.Contains(errs, "canary") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%d %s%s", code, out, errs)
		}
	}
}
