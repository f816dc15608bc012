package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hookbridge/app/expect"
)

func TestServeRefusesToStartWithoutGoodSecretsInOneLineEach(t *testing.T) {
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

func TestHelpListsEveryCommandAndEachSettingWithItsVariable(t *testing.T) {
	var out, errs expect.Output
	if code := Run(t.Context(), []string{"--help"}, Streams{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("%d %s", code, errs.String())
	}
	for _, command := range []string{"dev", "serve", "token", "send", "listen", "verify", "export", "import"} {
		if !strings.Contains(out.String(), "\n  "+command+" ") {
			t.Errorf("--help does not list %s", command)
		}
	}
	out = expect.Output{}
	if code := Run(t.Context(), []string{"serve", "--help"}, Streams{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("%d %s", code, errs.String())
	}
	readme, err := os.ReadFile("../../README.md")
	expect.NoError(t, err)
	settings := regexp.MustCompile(`BRIDGE_[A-Z_]+`).FindAllString(out.String(), -1)
	if len(settings) < 15 {
		t.Errorf("only %d settings in --help", len(settings))
	}
	for _, s := range settings {
		if !strings.Contains(string(readme), "`"+s+"`") {
			t.Errorf("README's table lacks %s", s)
		}
	}
	for _, s := range regexp.MustCompile("`(BRIDGE_[A-Z_]+)`").FindAllStringSubmatch(string(readme), -1) {
		if !strings.Contains(out.String(), s[1]) {
			t.Errorf("README names %s, which serve does not have", s[1])
		}
	}
	if code := Run(t.Context(), []string{"frobnicate"}, Streams{Out: &out, Err: &errs}); code != 2 {
		t.Errorf("an unknown command exits with %d", code)
	}
}

func TestDevKeepsTheSecretsThatItHasMade(t *testing.T) {
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
}
