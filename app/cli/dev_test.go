package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hookbridge/app/client/clienttest"
	"hookbridge/app/expect"
)

func TestDev(t *testing.T) {
	t.Run("keeps the secrets that it has made", devKeepsSecrets)
	t.Run("prints a send that finds it, wherever it is", devPrintsSend)
}

func devPrintsSend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "the patient's data")
	secrets, err := devSecrets(dir)
	expect.NoError(t, err)
	r := clienttest.NewReceiver(t, secrets.WebhookSecret, clienttest.Answers(202, `{"status":"queued"}`))
	var out strings.Builder
	expect.NoError(t, (&DevCmd{DataDir: dir}).greet(&out, r.URL, secrets))
	_, send, _ := strings.Cut(out.String(), "(then: hookbridge ")
	send, _, _ = strings.Cut(send, ")\n")
	args, err := exec.Command("sh", "-c", `printf '%s\n' `+send).Output() // a line for each
	expect.NoError(t, err)
	code, _, stderr := command(t, nil, strings.Split(strings.TrimSpace(string(args)), "\n")...)
	if code != 0 || stderr != "" || len(r.Taken()) != 1 {
		t.Errorf("%s: exit %d: %s", send, code, stderr)
	}
}

func devKeepsSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	made, err := devSecrets(dir)
	expect.NoError(t, err)
	if again, err := devSecrets(dir); err != nil || again != made {
		t.Errorf("the secrets are not kept: %v", err)
	}
	older, err := json.Marshal(map[string]string{"webhookSecret": made.WebhookSecret, "jwtSecret": made.JWTSecret})
	expect.NoError(t, err)
	expect.NoError(t, os.WriteFile(filepath.Join(dir, secretsFile), older, 0o600))
	added, err := devSecrets(dir)
	if err != nil || added.WebhookSecret != made.WebhookSecret || added.JWTSecret != made.JWTSecret || added.CallbackSecret == made.CallbackSecret {
		t.Errorf("a file without a secret for callbacks: %v", err)
	}
	if again, err := devSecrets(dir); err != nil || again != added {
		t.Errorf("the secret that was added is not kept: %v", err)
	}
	added.CallbackSecret = "whsec_canary"
	spoilt, err := json.Marshal(added)
	expect.NoError(t, err)
	expect.NoError(t, os.WriteFile(filepath.Join(dir, secretsFile), spoilt, 0o600))
	if _, err := devSecrets(dir); err == nil || !strings.HasSuffix(err.Error(), "is damaged: remove it and start dev again") || strings.Contains(err.Error(), "canary") {
		t.Errorf("a secret that is none: %v", err)
	}
}
