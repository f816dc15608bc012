package cli

import (
	"os"
	"strings"
	"testing"

	"hookbridge/app/expect"
)

func TestSettings(t *testing.T) {
	t.Run("have defaults in their ranges", settingsInRange)
	t.Run("that cannot be are refused", settingsRefused)
}

// Defaults that nobody changes are good, but for what has none.
func settingsInRange(t *testing.T) {
	code, out, errs := command(t, nil, "serve", "--check", "--webhook-secrets", testWebhookSecret, "--jwt-secret", testJWTSecret)
	if code != 0 || errs != "" || !strings.Contains(out, "good") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func settingsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		variable, value, want string
	}{
		"a heartbeat of a millisecond": {"BRIDGE_PING_INTERVAL", "1ms", "from 1s to 10m"},
		"a heartbeat without a unit":   {"BRIDGE_PING_INTERVAL", "25", "such as 25s"},
		"a heartbeat of nothing":       {"BRIDGE_PING_INTERVAL", "0s", "from 1s to 10m"},
		"no port":                      {"BRIDGE_LISTEN", "127.0.0.1", "with a port"},
		"a port beyond":                {"BRIDGE_LISTEN", ":70000", "0 to 65535"},
		"a port by name":               {"BRIDGE_LISTEN", ":http-alt", "0 to 65535"},
		"no folder":                    {"BRIDGE_DATA_DIR", "", "BRIDGE_DATA_DIR is empty"},
		"a batch below an event":       {"BRIDGE_MAX_BATCH_BYTES", "2048", "room for the largest event"},
		"a key that is no URL":         {"BRIDGE_JWT_PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----", "not PEM"},
		"a leeway of an hour":          {"BRIDGE_JWT_LEEWAY", "1h", "from 0s to 5m"},
		"the user in exp":              {"BRIDGE_JWT_USER_CLAIM", "exp", "BRIDGE_JWT_USER_CLAIM and BRIDGE_JWT_RIGHTS_CLAIM: claim names: the user claim"},
		"the rights in sub":            {"BRIDGE_JWT_RIGHTS_CLAIM", "sub", `BRIDGE_JWT_RIGHTS_CLAIM: claim names: the user claim and the rights claim are both "sub"`},
		"metrics on the public port":   {"BRIDGE_METRICS_LISTEN", "127.0.0.1:8080", "the port of BRIDGE_LISTEN"},
		"a file for a folder":          {"BRIDGE_DATA_DIR", os.Args[0], "BRIDGE_DATA_DIR is a file"},
		"a folder for an audit log":    {"BRIDGE_AUDIT", os.TempDir(), "BRIDGE_AUDIT must be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("BRIDGE_WEBHOOK_SECRETS", testWebhookSecret)
			if c.variable != "BRIDGE_JWT_PUBLIC_KEY" {
				t.Setenv("BRIDGE_JWT_SECRET", testJWTSecret)
			}
			t.Setenv(c.variable, c.value)
			var out, errs expect.Output
			code := Run(t.Context(), []string{"serve", "--check"}, Streams{Out: &out, Err: &errs})
			if said := errs.String(); code != 1 || !strings.Contains(said, c.want) || !strings.Contains(said, "BRIDGE_") || strings.Count(said, "\n") != 1 {
				t.Errorf("%d %s", code, said)
			}
		})
	}
}
