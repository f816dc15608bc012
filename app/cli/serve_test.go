package cli

import (
	"context"
	"encoding/base64"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestServe(t *testing.T) {
	t.Run("refuses to start without good secrets, in one line each", serveRefuses)
	t.Run("without any argument has the defaults", serveDefaults)
	t.Run("checks its settings and tells of every fault at once", serveChecks)
}

func serveRefuses(t *testing.T) {
	dir := t.TempDir()
	dev, err := devSecrets(dir)
	expect.NoError(t, err)
	short := "whsec_" + base64.StdEncoding.EncodeToString([]byte("only-23-bytes-long-.....")[:23])
	const hook, jwt = "BRIDGE_WEBHOOK_SECRETS=", "BRIDGE_JWT_SECRET="
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"nothing":             {nil, "openssl rand -base64 32\nhookbridge: no way to check tokens"},
		"no way for tokens":   {[]string{hook + testWebhookSecret}, "BRIDGE_JWT_SECRET"},
		"empty":               {[]string{hook, jwt + testJWTSecret}, "BRIDGE_WEBHOOK_SECRETS"},
		"one of two is empty": {[]string{hook + "," + testWebhookSecret, jwt + testJWTSecret}, "BRIDGE_WEBHOOK_SECRETS"},
		"a weak webhook key":  {[]string{hook + short, jwt + testJWTSecret}, "24"},
		"an empty one":        {[]string{hook + "whsec_", jwt + testJWTSecret}, "nothing"},
		"no whsec_":           {[]string{hook + "secret", jwt + testJWTSecret}, "whsec_"},
		"a weak JWT secret":   {[]string{hook + testWebhookSecret, jwt + testJWTSecret[:31]}, "BRIDGE_JWT_SECRET"},
		"an empty JWT secret": {[]string{hook + testWebhookSecret, jwt}, "BRIDGE_JWT_SECRET"},
		"dev's webhook key":   {[]string{hook + testWebhookSecret + "," + dev.WebhookSecret, jwt + testJWTSecret}, "entry 2, is a secret that dev made"},
		"dev's JWT secret":    {[]string{hook + testWebhookSecret, jwt + dev.JWTSecret}, "a secret that dev made"},
		"two ways for tokens": {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_JWKS_URL=https://x.example"}, "only one"},
		"no PEM":              {[]string{hook + testWebhookSecret, "BRIDGE_JWT_PUBLIC_KEY=nowhere.pem"}, "BRIDGE_JWT_PUBLIC_KEY"},
		"an origin's path":    {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_ALLOWED_ORIGINS=https://a.example/"}, "BRIDGE_ALLOWED_ORIGINS"},
		"a limit of nothing":  {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_MAILBOX_LIMIT=0"}, "BRIDGE_MAILBOX_LIMIT"},
		"a mailbox too small": {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_MAILBOX_BYTES=65535"}, "BRIDGE_MAILBOX_BYTES"},
		"a rate below none":   {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_USER_RATE=-1"}, "BRIDGE_USER_RATE"},
		"bytes below none":    {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_USER_BYTES=-1"}, "BRIDGE_USER_BYTES"},
		"a long leeway":       {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_JWT_LEEWAY=6m"}, "BRIDGE_JWT_LEEWAY"},
		"a negative leeway":   {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_JWT_LEEWAY=-1s"}, "BRIDGE_JWT_LEEWAY"},
		"a port in use":       {[]string{hook + testWebhookSecret, jwt + testJWTSecret, "BRIDGE_LISTEN=127.0.0.1:99999"}, "BRIDGE_LISTEN"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kv := range append([]string{"BRIDGE_LISTEN=127.0.0.1:0", "BRIDGE_DATA_DIR=" + t.TempDir()}, c.env...) {
				name, value, _ := strings.Cut(kv, "=")
				t.Setenv(name, value)
			}
			ended, end := context.WithCancel(t.Context())
			end() // one that does start ends at once, with 0
			var errs expect.Output
			code := Run(ended, []string{"serve"}, Streams{Out: io.Discard, Err: &errs})
			said := strings.TrimSpace(errs.String())
			if code != 1 || strings.Count(said, "\n") != strings.Count(c.want, "\n") || !strings.HasPrefix(said, "hookbridge: ") || !strings.Contains(said, c.want) {
				t.Errorf("exit %d\n%s", code, said)
			}
			for _, secret := range []string{testJWTSecret[:31], testWebhookSecret[10:], dev.JWTSecret, short[8:]} {
				if strings.Contains(said, secret) {
					t.Error("a secret was printed")
				}
			}
		})
	}
}

// What the program's own code and its tests begin with is what a user begins with.
func serveDefaults(t *testing.T) {
	var c commands
	parser, err := newParser(t.Context(), &c, Streams{Out: io.Discard, Err: io.Discard}, func(int) {})
	expect.NoError(t, err)
	if _, err := parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	if want := server.Defaults(); !reflect.DeepEqual(c.Serve.Settings, want) {
		t.Errorf("%+v\n%+v", c.Serve.Settings, want)
	}
}

func serveChecks(t *testing.T) {
	const canary = "canary-4711"
	for name, value := range map[string]string{
		"BRIDGE_LISTEN": "", "BRIDGE_PING_INTERVAL": "-5s", "BRIDGE_DRAIN_TIMEOUT": "soon " + canary, "BRIDGE_MAX_BYTES": "64KiB",
		"BRIDGE_MAX_SESSIONS": "", "BRIDGE_CONNECT_RATE": "NaN", "BRIDGE_LOG_LEVEL": canary, "BRIDGE_REDIS_WAIT": "-1",
		"BRIDGE_WEBHOOK_SECRETS": "whsec_" + canary + "," + testWebhookSecret + "," + canary, "BRIDGE_JWT_SECRET": testJWTSecret + "," + canary,
		"BRIDGE_ALLOWED_ORIGINS": "https://a.example/x,https://b.example/y", "BRIDGE_REDIS_URL": "redis://user:" + canary + "#1@redis.example:6379",
		"BRIDGE_REDIS_PREFIX": "a b", "BRIDGE_AUDIT": "/no/such/folder/audit.jsonl", "BRIDGE_CLIENT_IP_HEADER": "X Real IP",
		"BRIDGE_JWT_ISSUERS_FILE": filepath.Join(t.TempDir(), "none.json"),
	} {
		t.Setenv(name, value)
	}
	var out, errs expect.Output
	code := Run(t.Context(), []string{"serve", "--check"}, Streams{Out: &out, Err: &errs})
	said := errs.String()
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{
		"BRIDGE_LISTEN: ", "BRIDGE_PING_INTERVAL is -5s; it must be from 1s to 10m", "BRIDGE_DRAIN_TIMEOUT must be a length of time", "BRIDGE_MAX_BYTES must be a whole number",
		"BRIDGE_MAX_SESSIONS is empty", "BRIDGE_CONNECT_RATE is NaN", "BRIDGE_LOG_LEVEL must be one of", "BRIDGE_REDIS_WAIT is -1",
		"webhook secret 1 of 3", "webhook secret 3 of 3", "token secret 2 of 2 has 11 bytes", "BRIDGE_ALLOWED_ORIGINS", "BRIDGE_REDIS_URL: ", "percent-encoded",
		"BRIDGE_REDIS_PREFIX", "BRIDGE_AUDIT", "BRIDGE_CLIENT_IP_HEADER", "BRIDGE_JWT_ISSUERS_FILE cannot be read",
	} {
		if !strings.Contains(said, "hookbridge: ") || !strings.Contains(said, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(said, canary) {
		t.Error("a value that may be secret was printed")
	}
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "hookbridge: ") {
			t.Errorf("a line without a beginning: %s", line)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}
