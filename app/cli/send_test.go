package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbridge/app/client/clienttest"
	"hookbridge/app/expect"
	"hookbridge/auth/authtest"
)

func TestSend(t *testing.T) {
	t.Run("fires what it is told", sendFires)
	t.Run("says what is wrong", sendChecks)
}

func sendFires(t *testing.T) {
	private, public := authtest.NewWebhookKeyPair()
	secret := authtest.NewWebhookSecret()
	file := filepath.Join(t.TempDir(), "data.json")
	expect.NoError(t, os.WriteFile(file, []byte(` {"b": "<1>"} `), 0o600))
	for name, c := range map[string]struct {
		receiver, secrets string
		args              []string
		in, body, id, uri string
	}{
		"to one":       {secret, secret, []string{"--to", "a,b", "--id", "msg_9"}, "", `{"type":"patient.added","to":{"user":"a,b"}}`, "msg_9", ""},
		"to some":      {secret, secret, []string{"--to", "a", "--to", "b", "--ttl", "24h"}, "", `{"type":"patient.added","to":{"users":["a","b"]},"ttl":86400}`, "", ""},
		"to a group":   {secret, secret, []string{"--group", "g", "--ttl", "0s"}, "", `{"type":"patient.added","to":{"group":"g"},"ttl":0}`, "", ""},
		"to all":       {secret, secret, []string{"--all", "--type", "x"}, "", `{"type":"x","to":{"all":true}}`, "", ""},
		"or phones":    {secret, secret, []string{"--to", "a", "--escalate", "2m"}, "", `{"type":"patient.added","to":{"user":"a"},"escalate":120}`, "", ""},
		"data":         {secret, secret, []string{"--to", "a", "--data", `{"a": 1.0}`}, "", `{"type":"patient.added","to":{"user":"a"},"data":{"a": 1.0}}`, "", ""},
		"from a file":  {secret, secret, []string{"--to", "a", "--data", "@" + file}, "", `{"type":"patient.added","to":{"user":"a"},"data":{"b": "<1>"}}`, "", ""},
		"from input":   {secret, secret, []string{"--to", "a", "--data", "-"}, "[1]\n", `{"type":"patient.added","to":{"user":"a"},"data":[1]}`, "", ""},
		"and waits":    {secret, secret, []string{"--to", "a", "--wait", "acked"}, "", `{"type":"patient.added","to":{"user":"a"}}`, "", "/webhooks/events?wait=acked"},
		"for so long":  {secret, secret, []string{"--to", "a", "--wait", "received", "--timeout", "10s"}, "", `{"type":"patient.added","to":{"user":"a"}}`, "", "/webhooks/events?timeout=10s&wait=received"},
		"with ed25519": {public, public + "," + private, []string{"--to", "a"}, "", `{"type":"patient.added","to":{"user":"a"}}`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := clienttest.NewReceiver(t, c.receiver, clienttest.Answers(202, "{\"status\":\"queued\"}\n"))
			code, out, stderr := command(t, strings.NewReader(c.in), append(append([]string{"send"}, c.args...), "--url", r.URL+"/", "--secret", c.secrets)...)
			if code != 0 || out != "{\"status\":\"queued\"}\n" || stderr != "" {
				t.Fatalf("exit %d: %q %q", code, out, stderr)
			}
			if w := r.Taken()[0]; w.Refused != nil || w.Body != c.body || w.URI != c.uri && c.uri != "" || c.id != "" && w.ID != c.id || !strings.HasPrefix(w.ID, "msg_") {
				t.Errorf("sent %+v", w)
			}
		})
	}
}

func sendChecks(t *testing.T) {
	_, public := authtest.NewWebhookKeyPair()
	secret := authtest.NewWebhookSecret()
	moved := clienttest.NewReceiver(t, secret, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nobody":        {[]string{"--secret", secret}, "say who gets it"},
		"two kinds":     {[]string{"--secret", secret, "--all", "--to", "a"}, "one of them"},
		"data no JSON":  {[]string{"--secret", secret, "--all", "--data", "{message:x}"}, "--data is not JSON"},
		"data nowhere":  {[]string{"--secret", secret, "--all", "--data", "@nowhere"}, "nowhere"},
		"empty data":    {[]string{"--secret", secret, "--all", "--data", "-"}, "--data is not JSON"},
		"no wait":       {[]string{"--secret", secret, "--all", "--timeout", "10s"}, "--timeout needs --wait"},
		"a long wait":   {[]string{"--secret", secret, "--all", "--wait", "acked", "--timeout", "31s"}, "--timeout must be at most 30s"},
		"half a second": {[]string{"--secret", secret, "--all", "--ttl", "500ms"}, "whole seconds"},
		"half a call":   {[]string{"--secret", secret, "--all", "--escalate", "1500ms"}, "--escalate must be whole seconds, 1s or more"},
		"a bad URL":     {[]string{"--secret", secret, "--all", "--url", "bridge:8080"}, "--url"},
		"a bad id":      {[]string{"--secret", secret, "--all", "--id", "a b"}, "webhook-id"},
		"no secret":     {[]string{"--data-dir", t.TempDir(), "--all"}, "set BRIDGE_WEBHOOK_SECRETS, or start dev first"},
		"a public key":  {[]string{"--secret", public, "--all"}, "cannot sign"},
		"redirected":    {[]string{"--secret", secret, "--all", "--url", moved.URL}, "307"},
	} {
		code, out, stderr := command(t, strings.NewReader(""), append([]string{"send"}, c.args...)...)
		if code != 1 || out != "" || !strings.Contains(stderr, c.want) || strings.Contains(stderr, secret[6:]) {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, stderr)
		}
	}
	if n := len(moved.Taken()); n != 1 {
		t.Errorf("the redirect was followed: %d requests", n)
	}
}
