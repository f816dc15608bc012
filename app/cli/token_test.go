package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbridge/app/expect"
	"hookbridge/auth"
)

func TestToken(t *testing.T) {
	t.Run("verifies", tokenVerifies)
	t.Run("is not made where something is missing", tokenChecks)
}

const commandSecret = "a-secret-for-the-command-line-tests!"

// devFolder is a data folder as dev leaves it.
func devFolder(t *testing.T, webhookSecret string) string {
	t.Helper()
	dir := t.TempDir()
	b, err := json.Marshal(devSecretsFile{WebhookSecret: webhookSecret, JWTSecret: commandSecret})
	expect.NoError(t, err)
	expect.NoError(t, os.WriteFile(filepath.Join(dir, secretsFile), b, 0o600))
	return dir
}

func tokenVerifies(t *testing.T) {
	tokens, err := auth.NewTokens(t.Context(), auth.TokenConfig{Secrets: []string{commandSecret}, Issuer: "me", Audience: "bridge"})
	expect.NoError(t, err)
	flags := []string{"token", "doctor-7", "--send", "patient-*", "--send=group:a,b", "--group", "ward-3", "--admin", "presence",
		"--ttl", "2h", "--issuer", "me", "--audience", "bridge", "--id", "j1"}
	for name, secret := range map[string][]string{
		"a secret given": {"--jwt-secret", commandSecret},
		"dev's":          {"--data-dir", devFolder(t, "whsec_x")},
	} {
		code, out, stderr := command(t, nil, append(flags, secret...)...)
		if code != 0 {
			t.Fatalf("%s: exit %d: %s", name, code, stderr)
		}
		c, err := tokens.Verify(t.Context(), strings.TrimSpace(out))
		expect.NoError(t, err)
		const rights = `{"send":["patient-*","group:a,b"],"groups":["ward-3"],"admin":["presence"]}`
		if c.User != "doctor-7" || c.ID != "j1" || string(c.Rights) != rights || c.Expires.Sub(c.IssuedAt).Hours() != 2 {
			t.Errorf("%s: %+v %s", name, c, c.Rights)
		}
	}
}

func tokenChecks(t *testing.T) {
	torn := devFolder(t, "")
	expect.NoError(t, os.WriteFile(filepath.Join(torn, secretsFile), []byte(`{"jwtSecret":"hidden`), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no user":          {[]string{"token"}, "<user>"},
		"no secret":        {[]string{"token", "u", "--data-dir", t.TempDir()}, "set BRIDGE_JWT_SECRET, or start dev first"},
		"a torn file":      {[]string{"token", "u", "--data-dir", torn}, "not the JSON that dev writes"},
		"a short secret":   {[]string{"token", "u", "--jwt-secret", "hidden"}, "at least 32"},
		"no time":          {[]string{"token", "u", "--ttl", "0s"}, "--ttl"},
		"an unknown area":  {[]string{"token", "u", "--admin", "all"}, "the areas are presence"},
		"a bad user":       {[]string{"token", "a\nb", "--jwt-secret", commandSecret}, "control character"},
		"an unknown flag":  {[]string{"token", "u", "--nope"}, "--nope"},
		"ttl not duration": {[]string{"token", "u", "--ttl", "soon"}, "ttl"},
	} {
		code, out, stderr := command(t, nil, c.args...)
		if code == 0 || out != "" && !strings.Contains(out, "Usage") || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "hidden") {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, stderr)
		}
	}
}
