package cli

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

// Defaults that nobody changes are good, but for what has none.
func TestTheDefaultsAreInTheirRanges(t *testing.T) {
	code, out, errs := command(t, nil, "serve", "--check", "--webhook-secrets", testWebhookSecret, "--jwt-secret", testJWTSecret)
	if code != 0 || errs != "" || !strings.Contains(out, "good") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

// What the program's own code and its tests begin with is what a user begins with.
func TestServeWithoutAnyArgumentHasTheDefaults(t *testing.T) {
	var c commands
	parser, err := newParser(t.Context(), &c, Streams{Out: io.Discard, Err: io.Discard}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	if want := server.Defaults(); !reflect.DeepEqual(c.Serve.Settings, want) {
		t.Errorf("%+v\n%+v", c.Serve.Settings, want)
	}
}

func TestServeCheckTellsOfEveryFaultAtOnce(t *testing.T) {
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

func TestSettingsThatCannotBe(t *testing.T) {
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
