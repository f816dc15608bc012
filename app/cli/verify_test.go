package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/auth"
	"hookbridge/auth/authtest"
)

func TestVerify(t *testing.T) {
	t.Run("names the step that fails", verifyNamesStep)
	t.Run("reads headers as tools show them", verifyReadsHeaders)
	t.Run("says what is wrong with a token", verifyToken)
}

func verifyNamesStep(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	dir := devFolder(t, secret)
	body := filepath.Join(dir, "body.json")
	expect.NoError(t, os.WriteFile(body, []byte("{\"a\":1}\n"), 0o600))
	sign := func(at time.Time, text string) auth.Header {
		h, err := auth.SignWebhook(secret, "msg_1", at, []byte(text))
		expect.NoError(t, err)
		return h
	}
	now := time.Now()
	for name, c := range map[string]struct {
		header auth.Header
		code   int
		out    []string
		err    string
	}{
		"good":            {sign(now, "{\"a\":1}\n"), 0, []string{"✓ match"}, ""},
		"stale":           {sign(now.Add(-time.Hour), "{\"a\":1}\n"), 1, []string{"✗ clock", "✓ match"}, "clock fails"},
		"no line break":   {sign(now, `{"a":1}`), 1, []string{"✓ clock", "✗ match", "→ hint", "without the line break"}, "match fails"},
		"another body":    {sign(now, `{"a":2}`), 1, []string{"✗ match"}, "match fails"},
		"nothing at all":  {auth.Header{}, 1, []string{"✗ headers", "webhook-id, webhook-timestamp, webhook-signature"}, "headers fails"},
		"a bad timestamp": {auth.Header{ID: "msg_1", Timestamp: "x", Signature: "v1,x"}, 1, []string{"✗ webhook-timestamp"}, "webhook-timestamp fails"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := command(t, nil, "verify", "--id", c.header.ID, "--timestamp", c.header.Timestamp,
				"--signature", c.header.Signature, "--body", body, "--data-dir", dir)
			if code != c.code || !strings.Contains(stderr, c.err) {
				t.Errorf("exit %d, %q", code, stderr)
			}
			for _, want := range c.out {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
			if strings.Contains(out+stderr, secret[6:]) || strings.Contains(out, `"a"`) {
				t.Errorf("a secret or the body is shown:\n%s%s", out, stderr)
			}
		})
	}
}

func verifyReadsHeaders(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	h, err := auth.SignWebhook(secret, "msg_1", time.Now(), []byte("{}"))
	expect.NoError(t, err)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"curl -v": "* Trying…\n> POST /x HTTP/1.1\r\n> Host: x\r\n> webhook-id: msg_1\r\n> webhook-timestamp: " + h.Timestamp + "\r\n> webhook-signature: " + h.Signature + "\r\n> \r\n",
		"svix":    "Svix-Id: msg_1\nSVIX-TIMESTAMP:" + h.Timestamp + "\nsvix-signature: " + h.Signature,
		"both":    "svix-id: other\nwebhook-id: msg_1\nwebhook-timestamp: " + h.Timestamp + "\nwebhook-signature: " + h.Signature,
	} {
		file := filepath.Join(dir, "headers")
		expect.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		code, out, stderr := command(t, strings.NewReader("{}"), "verify", "--header-file", file, "--body", "-", "--secret", "whpk_"+strings.Repeat("A", 43)+","+secret)
		if code != 0 || !strings.Contains(out, "key 2 of 2") {
			t.Errorf("%s: exit %d: %s%s", name, code, out, stderr)
		}
	}
	for _, args := range [][]string{
		{"--header-file", "-", "--body", "-"}, {"--header-file", "nowhere", "--body", "-"}, {"--body", "nowhere"},
		{"--body", "-", "--secret", "whsec_short"}, {},
	} {
		args = append([]string{"verify"}, args...)
		if !strings.Contains(strings.Join(args, " "), "--secret") {
			args = append(args, "--secret", secret)
		}
		if code, _, stderr := command(t, strings.NewReader(""), args...); code == 0 || stderr == "" {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
}

func verifyToken(t *testing.T) {
	dir := devFolder(t, testWebhookSecret)
	token := func(args ...string) string {
		code, out, errs := command(t, nil, append([]string{"token", "patient-42", "--data-dir", dir}, args...)...)
		if code != 0 {
			t.Fatal(errs)
		}
		return strings.TrimSpace(out)
	}
	good, foreign := token("--send", "patient-*"), token("--jwt-secret", "another-secret-of-more-than-32-bytes")
	for name, c := range map[string]struct {
		token string
		args  []string
		code  int
		out   []string
		err   string
	}{
		"good":             {good, nil, 0, []string{"✓ signature", "✓ exp", `"patient-42"`, "✓ rights", "patient-*"}, ""},
		"out of a header":  {"Bearer " + good, nil, 0, []string{"✓ signature"}, ""},
		"out of a log":     {"authorization: bearer " + good, nil, 0, []string{"✓ signature"}, ""},
		"out of JSON":      {` "` + good + `",`, nil, 0, []string{"✓ signature"}, ""},
		"another secret":   {foreign, nil, 1, []string{"✓ key", "✗ signature", "✓ exp"}, "signature fails"},
		"one of two":       {foreign, []string{"--jwt-secret", commandSecret + ",another-secret-of-more-than-32-bytes"}, 0, []string{"2 keys may have signed it"}, ""},
		"another audience": {good, []string{"--jwt-secret", commandSecret, "--jwt-audience", "app"}, 1, []string{"✗ aud"}, "aud fails"},
		"no token":         {"hello", nil, 1, []string{"✗ form"}, "form fails"},
		"a weak secret":    {good, []string{"--jwt-secret", "short"}, 1, nil, "BRIDGE_JWT_SECRET"},
	} {
		for way, args := range map[string][]string{"as a flag": {"--token", c.token}, "from standard input": {"--token", "-"}} {
			t.Run(name+" "+way, func(t *testing.T) {
				code, out, errs := command(t, strings.NewReader(c.token+"\n"), append(append([]string{"verify", "--data-dir", dir}, args...), c.args...)...)
				if code != c.code || !strings.Contains(errs, c.err) {
					t.Errorf("exit %d: %s%s", code, out, errs)
				}
				for _, want := range c.out {
					if !strings.Contains(out, want) {
						t.Errorf("%q is missing in\n%s", want, out)
					}
				}
				if strings.Contains(out+errs, good) || strings.Contains(out+errs, commandSecret) {
					t.Error("the token or a secret is shown")
				}
			})
		}
	}
	if code, _, errs := command(t, nil, "verify", "--data-dir", dir); code != 1 || !strings.Contains(errs, "--body") {
		t.Errorf("nothing to verify: %d %s", code, errs)
	}
}
