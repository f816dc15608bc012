package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// eachSetting calls f for every setting of serve.
func eachSetting(v reflect.Value, f func(v reflect.Value, tag reflect.StructTag)) {
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Struct {
			eachSetting(v.Field(i), f)
			continue
		}
		f(v.Field(i), v.Type().Field(i).Tag)
	}
}

func TestEveryNumberAmongTheSettingsHasARangeThatIsKept(t *testing.T) {
	good := testSettings(t.TempDir())
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	n := 0
	eachSetting(reflect.ValueOf(&good).Elem(), func(v reflect.Value, tag reflect.StructTag) {
		name := tag.Get("env")
		if !strings.HasPrefix(name, "BRIDGE_") || tag.Get("help") == "" {
			t.Errorf("%s: a setting has a variable and a help", name)
		}
		low, high, ok := strings.Cut(tag.Get("range"), "..")
		was := reflect.New(v.Type()).Elem()
		was.Set(v)
		defer v.Set(was)
		var out []any
		switch v.Interface().(type) {
		case time.Duration:
			out = []any{mustRead(time.ParseDuration(low)) - 1, mustRead(time.ParseDuration(high)) + 1, -5 * time.Second}
		case int:
			out = []any{atoi(low) - 1, atoi(high) + 1, math.MinInt}
		case float64:
			out = []any{-0.1, math.NaN(), math.Inf(1), math.Inf(-1)}
		default:
			if ok {
				t.Errorf("%s has a range and is no number", name)
			}
			return
		}
		if n++; !ok {
			t.Errorf("%s has no range", name)
			return
		}
		for _, value := range out {
			v.Set(reflect.ValueOf(value))
			if err := good.check(); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%v: %v", name, value, err)
			}
		}
	})
	if n < 10 {
		t.Errorf("only %d numbers", n)
	}
}

// Defaults that nobody changes are good, but for what has none.
func TestTheDefaultsAreInTheirRanges(t *testing.T) {
	code, out, errs := command(t, nil, "serve", "--check", "--webhook-secrets", testWebhookSecret, "--jwt-secret", testJWTSecret)
	if code != 0 || errs != "" || !strings.Contains(out, "good") {
		t.Errorf("%d %s%s", code, out, errs)
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
	var out, errs syncBuffer
	code := run(t.Context(), []string{"serve", "--check"}, Streams{Out: &out, Err: &errs})
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
		"the user in exp":              {"BRIDGE_JWT_USER_CLAIM", "exp", "user claim"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("BRIDGE_WEBHOOK_SECRETS", testWebhookSecret)
			if c.variable != "BRIDGE_JWT_PUBLIC_KEY" {
				t.Setenv("BRIDGE_JWT_SECRET", testJWTSecret)
			}
			t.Setenv(c.variable, c.value)
			var out, errs syncBuffer
			code := run(t.Context(), []string{"serve", "--check"}, Streams{Out: &out, Err: &errs})
			if said := errs.String(); code != 1 || !strings.Contains(said, c.want) || !strings.Contains(said, "BRIDGE_") || strings.Count(said, "\n") != 1 {
				t.Errorf("%d %s", code, said)
			}
		})
	}
}

func TestAFileOfIssuersBesideThePlainSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "issuers.json")
	write := func(text string) {
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
	write(`{"issuers":[{"issuer":"partner","audience":"app","secrets":["the-secret-of-the-partner-0000000"],"userClaim":"uid"}]}`)
	s := testSettings(t.TempDir())
	s.JWTIssuersFile = file
	must(t, s.check())
	s.JWTSecret = ""
	must(t, s.check())
	if s.tokenSetting() != "BRIDGE_JWT_ISSUERS_FILE" {
		t.Error(s.tokenSetting())
	}
	for text, want := range map[string]string{
		`{"issuers":[{"issuer":"a","secrets":["canary"]},{"issuer":"b","discover":true}]}`:                                                            "issuer 1: the token secret has 6 bytes; at least 32 are needed\nBRIDGE_JWT_ISSUERS_FILE: issuer 2: with discover",
		`{"issuers":[{"issuer":"a","secrets":["` + devMark + `canary-canary-canary"]}]}`:                                                              "issuer 1 has a secret that dev made",
		`{"issuers":[{"issuer":"a","secrets":["the-secret-of-the-partner-0000000"]},{"issuer":"a","secrets":["the-secret-of-the-partner-0000000"]}]}`: "judged by another entry already",
		`{}`: "no issuers",
	} {
		write(text)
		err := s.check()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTheVerifyCommandSaysWhatIsWrongWithAToken(t *testing.T) {
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

func TestTokensOfSeveralSecretsAreTakenByTheWholeProgram(t *testing.T) {
	w := start(t, func(s *Settings) { s.JWTSecret = Secret("another-secret-of-more-than-32-bytes, " + testJWTSecret) })
	w.connect("patient-1", "")
	if got := fmt.Sprint(jwtSecrets("a,b, c"), jwtSecrets(""), jwtSecrets(" one ")); got != "[a b c] [] [ one ]" {
		t.Error(got)
	}
}
