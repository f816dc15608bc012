package server

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestSettings(t *testing.T) {
	t.Run("that are numbers have ranges, which are kept", settingsRanges)
	t.Run("with white space around them are told", settingsBlanks)
	t.Run("name no port twice", settingsPorts)
	t.Run("of issuers in a file are checked with it", settingsIssuers)
	t.Run("that name a file want a regular one, and do not repeat what may be a secret", settingsFiles)
}

func TestSecret(t *testing.T) {
	t.Run("prints as stars", secretPrints)
	t.Run("may hold several", secretHoldsSeveral)
}

// eachSetting calls f for every setting of serve.
func eachSetting(v reflect.Value, f func(v reflect.Value, tag reflect.StructTag)) {
	for i := range v.NumField() {
		if v.Type().Field(i).Name == "Times" {
			continue
		}
		if v.Field(i).Kind() == reflect.Struct {
			eachSetting(v.Field(i), f)
			continue
		}
		f(v.Field(i), v.Type().Field(i).Tag)
	}
}

func settingsRanges(t *testing.T) {
	good := goodSettings(t.TempDir())
	expect.NoError(t, good.Check())
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
			out = []any{mustRead(strconv.Atoi(low)) - 1, mustRead(strconv.Atoi(high)) + 1, math.MinInt}
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
			if err := good.Check(); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%v: %v", name, value, err)
			}
		}
	})
	if n < 10 {
		t.Errorf("only %d numbers", n)
	}
}

// settingsBlanks: with white space around it each of these would be taken to the letter,
// and refuse every token, or name another file.
func settingsBlanks(t *testing.T) {
	good := goodSettings(t.TempDir())
	for name, value := range map[string]*string{
		"BRIDGE_DATA_DIR": &good.DataDir, "BRIDGE_AUDIT": &good.Audit, "BRIDGE_JWT_ISSUER": &good.JWTIssuer, "BRIDGE_JWT_AUDIENCE": &good.JWTAudience,
		"BRIDGE_JWT_USER_CLAIM": &good.JWTUserClaim, "BRIDGE_JWT_RIGHTS_CLAIM": &good.JWTRightsClaim,
	} {
		was := *value
		for _, wrong := range []string{" ", "canary ", "\tcanary", "canary\r\n"} {
			*value = wrong
			if err := good.Check(); err == nil || !strings.Contains(err.Error(), name+": it begins or ends with white space") || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s is %q: %v", name, wrong, err)
			}
		}
		*value = was
	}
	expect.NoError(t, good.Check())
}

func settingsPorts(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{":8080", ":8080", true}, {":8080", "127.0.0.1:8080", true}, {"[::]:8080", "10.0.0.1:08080", true}, {"a:8080", "a:8080", true}, {"0.0.0.0:80", ":80", true},
		{":8080", ":9091", false}, {"127.0.0.1:8080", "127.0.0.2:8080", false}, {":0", ":0", false}, {":8080", "", false}, {":8080", "8080", false},
	} {
		if got := sameListener(c.a, c.b); got != c.same || sameListener(c.b, c.a) != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

func settingsIssuers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "issuers.json")
	write := func(text string) {
		expect.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	write(`{"issuers":[{"issuer":"partner","audience":"app","secrets":["the-secret-of-the-partner-0000000"],"userClaim":"uid"}]}`)
	good := func(s Settings) {
		t.Helper()
		expect.NoError(t, s.Check())
	}
	s := goodSettings(t.TempDir())
	s.JWTIssuersFile = file
	good(s)
	s.JWTSecret = ""
	good(s)
	if s.tokenSetting() != "BRIDGE_JWT_ISSUERS_FILE" {
		t.Error(s.tokenSetting())
	}
	for name, set := range map[string]*string{"BRIDGE_JWT_AUDIENCE": &s.JWTAudience, "BRIDGE_JWT_ISSUER": &s.JWTIssuer, "BRIDGE_JWT_USER_CLAIM": &s.JWTUserClaim, "BRIDGE_JWT_RIGHTS_CLAIM": &s.JWTRightsClaim} {
		was := *set
		*set = "app"
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), name+" does not hold for the issuers") {
			t.Errorf("%s would check nothing: %v", name, err)
		}
		s.JWTSecret = testJWTSecret
		good(s)
		*set, s.JWTSecret = was, ""
	}
	for text, want := range map[string]string{
		`{"issuers":[{"issuer":"a"},{"issuer":"b"}]}`:                                                                                                 "issuer 1: exactly one of jwksUrl, discover, publicKey and secrets must be set; 0 are\nBRIDGE_JWT_ISSUERS_FILE: issuer 2: exactly",
		`{"issuers":[{"issuer":"a","secrets":["canary"]},{"issuer":"b","discover":true}]}`:                                                            "issuer 1: the token secret has 6 bytes; at least 32 are needed\nBRIDGE_JWT_ISSUERS_FILE: issuer 2: with discover",
		`{"issuers":[{"issuer":"a","secrets":["` + DevMark + `canary-canary-canary"]}]}`:                                                              "issuer 1 has a secret that dev made",
		`{"issuers":[{"issuer":"a","secrets":["the-secret-of-the-partner-0000000"]},{"issuer":"a","secrets":["the-secret-of-the-partner-0000000"]}]}`: "judged by another entry already",
		`{}`: "no issuers",
	} {
		write(text)
		err := s.Check()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func settingsFiles(t *testing.T) {
	folder := t.TempDir()
	large := filepath.Join(folder, "canary.json")
	expect.NoError(t, os.WriteFile(large, nil, 0o600))
	expect.NoError(t, os.Truncate(large, maxSettingsFile+1))
	for name, set := range map[string]func(s *Settings, path string){
		"BRIDGE_WEBHOOK_SECRETS_FILE": func(s *Settings, path string) { s.SecretsFile = path },
		"BRIDGE_JWT_ISSUERS_FILE":     func(s *Settings, path string) { s.JWTIssuersFile = path },
		"BRIDGE_JWT_PUBLIC_KEY":       func(s *Settings, path string) { s.JWTSecret, s.JWTPublicKey = "", path },
		"BRIDGE_CALLBACKS_FILE":       func(s *Settings, path string) { s.CallbacksFile = path },
	} {
		for path, want := range map[string]string{
			"whsec_Y2FuYXJ5-canary": "no such file", folder: "it is a folder", "/dev/zero": "it must be a regular file",
			large: "it has 4194305 bytes; at most 4194304 are read",
		} {
			s := goodSettings(t.TempDir())
			set(&s, path)
			err := s.Check()
			if err == nil || !strings.HasPrefix(err.Error(), name) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s=%s: %v", name, path, err)
			}
		}
	}
}

func secretPrints(t *testing.T) {
	if s := Secret("hunter2"); s.String() != "***" || s.LogValue().String() != "***" {
		t.Error(s.String())
	}
}

func secretHoldsSeveral(t *testing.T) {
	if got := fmt.Sprint(Secret("a,b, c").List(), Secret("").List(), Secret(" one ").List()); got != "[a b c] [] [ one ]" {
		t.Error(got)
	}
}

// goodSettings are settings with which serve would start.
func goodSettings(dir string) Settings {
	s := Defaults()
	s.Listen, s.DataDir = "127.0.0.1:0", dir
	s.WebhookSecrets = []Secret{"whsec_ZTJlLXdlYmhvb2stc2VjcmV0LW9mLTMyLWJ5dGVzISE="}
	s.JWTSecret = testJWTSecret
	s.AllowedOrigins = []string{"https://app.example"}
	return s
}

const testJWTSecret = "a-jwt-secret-that-is-long-enough-for-hs256"
