package server

import (
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/guard"
)

func TestBackends(t *testing.T) {
	t.Run("stand in the settings or in a file", backendsRead)
	t.Run("that cannot be are refused", backendsRefused)
}

const (
	callbackSecret = "whsec_Y2FsbGJhY2stc2VjcmV0LW9mLTMyLWJ5dGVzISEhISE="
	callbackOther  = "whsec_YW5vdGhlci1jYWxsYmFjay1zZWNyZXQtb2YtMzItYnk="
)

func backendsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "callbacks.json")
	if err := os.WriteFile(file, []byte(`{"backends":[{"name":"clinic","url":"https://clinic.example","secrets":["`+callbackSecret+`"],"types":["*"],"users":["patient-*"]},
		{"name":"lab","url":"http://lab.internal/","secrets":["`+callbackOther+`"],"types":["visit.*"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		settings CallbackSettings
		want     bridge.Backends
	}{
		"none":   {CallbackSettings{}, nil},
		"one":    {CallbackSettings{CallbackURL: "https://user:pass@clinic.example/hook?x=1", CallbackSecret: callbackSecret + ", " + callbackOther}, bridge.Backends{{Name: "default", Types: []string{"*"}}}},
		"a file": {CallbackSettings{CallbacksFile: file}, bridge.Backends{{Name: "clinic", Types: []string{"*"}, Users: []string{"patient-*"}}, {Name: "lab", Types: []string{"visit.*"}}}},
		"http, where it is allowed": {CallbackSettings{CallbackURL: "http://10.0.0.1:3000", CallbackSecret: callbackSecret, CallbackAllowPrivate: true},
			bridge.Backends{{Name: "default", Types: []string{"*"}}}},
	} {
		s := goodSettings(t.TempDir())
		s.CallbackSettings = c.settings
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		registry, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
		sender, err := s.callbacks(log, registry, guard.New(log, registry))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := sender.Backends(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
		sender.Stop(t.Context())
	}
}

func backendsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "callbacks.json")
	good := CallbackSettings{CallbackURL: "https://clinic.example", CallbackSecret: callbackSecret}
	of := func(change func(*CallbackSettings)) CallbackSettings { s := good; change(&s); return s }
	backend := func(name, url string) string {
		return `{"name":"` + name + `","url":"` + url + `","secrets":["` + callbackSecret + `"],"types":["*"]}`
	}
	dev := Secret("whsec_" + base64.StdEncoding.EncodeToString([]byte(DevMark+"canary-canary")))
	for name, c := range map[string]struct {
		settings CallbackSettings
		file     string
		want     []string // a line each, its beginning
	}{
		"a URL without a secret": {of(func(s *CallbackSettings) { s.CallbackSecret = "" }), "", []string{"BRIDGE_CALLBACK_SECRET is missing"}},
		"a secret without a URL": {of(func(s *CallbackSettings) { s.CallbackURL = "" }), "", []string{"BRIDGE_CALLBACK_SECRET is set, but BRIDGE_CALLBACK_URL is not"}},
		"a URL that is none":     {of(func(s *CallbackSettings) { s.CallbackURL = "canary" }), "", []string{"BRIDGE_CALLBACK_URL: the URL is not valid"}},
		"http to the internet":   {of(func(s *CallbackSettings) { s.CallbackURL = "http://canary:canary@clinic.example/" }), "", []string{"BRIDGE_CALLBACK_URL: the URL must be https"}},
		"a private address":      {of(func(s *CallbackSettings) { s.CallbackURL = "https://10.0.0.1/canary" }), "", []string{"BRIDGE_CALLBACK_URL: the URL's address 10.0.0.1 is not a public one"}},
		"secrets too short": {of(func(s *CallbackSettings) { s.CallbackSecret = "whsec_Y2FuYXJ5," + callbackSecret + ",canary" }), "",
			[]string{"BRIDGE_CALLBACK_SECRET, entry 1 of 3: the webhook secret holds 6 bytes; at least 24", "BRIDGE_CALLBACK_SECRET, entry 3 of 3: the webhook secret must begin with"}},
		"a secret of 23 bytes": {of(func(s *CallbackSettings) {
			s.CallbackSecret = Secret("whsec_" + base64.StdEncoding.EncodeToString([]byte("canary-canary-canary-ca")))
		}), "", []string{"BRIDGE_CALLBACK_SECRET, entry 1 of 1: the webhook secret holds 23 bytes; at least 24"}},
		"a secret with a blank in it": {of(func(s *CallbackSettings) { s.CallbackSecret = "whsec_Y2FuYXJ5LWNhbmFyeS1 jYW5hcnktY2FuYXJ5" }), "",
			[]string{"BRIDGE_CALLBACK_SECRET, entry 1 of 1: "}},
		"secrets that are only commas": {of(func(s *CallbackSettings) { s.CallbackSecret = "," }), "",
			[]string{"BRIDGE_CALLBACK_SECRET, entry 1 of 2: the webhook secret is empty", "BRIDGE_CALLBACK_SECRET, entry 2 of 2: the webhook secret is empty"}},
		"a secret with blanks around it": {of(func(s *CallbackSettings) { s.CallbackSecret = " " + callbackSecret + " " }), "", []string{"BRIDGE_CALLBACK_SECRET, entry 1 of 1: the webhook secret has white space around it"}},
		"a secret with a line's end":     {of(func(s *CallbackSettings) { s.CallbackSecret = callbackSecret + "\n" }), "", []string{"BRIDGE_CALLBACK_SECRET, entry 1 of 1: the webhook secret has white space in it"}},
		"a public key in a secret's place": {of(func(s *CallbackSettings) { s.CallbackSecret = "whpk_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5ISE=" }), "",
			[]string{"BRIDGE_CALLBACK_SECRET, entry 1 of 1: the webhook key is a public key; signing needs the private one"}},
		"a secret that is no base64": {of(func(s *CallbackSettings) { s.CallbackSecret = "whsec_canary!canary!canary!canary!canary" }), "",
			[]string{"BRIDGE_CALLBACK_SECRET, entry 1 of 1: the webhook secret is not base64"}},
		"a secret too long": {of(func(s *CallbackSettings) { s.CallbackSecret = Secret("whsec_" + strings.Repeat("Y2FuYXJ5", 200)) }), "",
			[]string{"BRIDGE_CALLBACK_SECRET, entry 1 of 1: the webhook secret is longer than 1024"}},
		"a URL too long":              {of(func(s *CallbackSettings) { s.CallbackURL += Secret("/" + strings.Repeat("canary", 2000)) }), "", []string{"BRIDGE_CALLBACK_URL: the URL has 12023 bytes; at most 8192"}},
		"a host that is none":         {of(func(s *CallbackSettings) { s.CallbackURL = "https://canary..example/" }), "", []string{"BRIDGE_CALLBACK_URL: the URL is not valid"}},
		"a URL with blanks around it": {of(func(s *CallbackSettings) { s.CallbackURL = " https://clinic.example/canary" }), "", []string{"BRIDGE_CALLBACK_URL: the URL is not valid"}},
		"a blank behind the URL":      {of(func(s *CallbackSettings) { s.CallbackURL = "https://clinic.example/canary " }), "", []string{"BRIDGE_CALLBACK_URL: the URL has a blank in it"}},
		"a blank in a file's URL": {CallbackSettings{CallbacksFile: file}, `{"backends":[` + backend("a", "https://a.example/can ary") + `]}`,
			[]string{"BRIDGE_CALLBACKS_FILE: backend a: the URL has a blank in it"}},
		"a port beyond all":        {of(func(s *CallbackSettings) { s.CallbackURL = "https://clinic.example:99999/canary" }), "", []string{"BRIDGE_CALLBACK_URL: the URL's port must be"}},
		"a file without a backend": {CallbackSettings{CallbacksFile: file}, "\ufeff" + `{"backends":[]}`, []string{"BRIDGE_CALLBACKS_FILE: no backends"}},
		"an empty file":            {CallbackSettings{CallbacksFile: file}, "", []string{"BRIDGE_CALLBACKS_FILE: the file is empty"}},
		"too many secrets": {of(func(s *CallbackSettings) {
			s.CallbackSecret = Secret(strings.Repeat(callbackSecret+",", 10) + callbackSecret)
		}), "",
			[]string{"BRIDGE_CALLBACK_SECRET: 11 secrets"}},
		"a secret that dev made": {of(func(s *CallbackSettings) { s.CallbackSecret = dev }), "", []string{"BRIDGE_CALLBACK_SECRET, entry 1, is a secret that dev made"}},
		"a URL and a secret that are none": {of(func(s *CallbackSettings) { s.CallbackURL, s.CallbackSecret = "canary", "canary" }), "",
			[]string{"BRIDGE_CALLBACK_URL: ", "BRIDGE_CALLBACK_SECRET, entry 1 of 1: "}},
		"the setting and the file": {of(func(s *CallbackSettings) { s.CallbacksFile = file }), "canary", []string{"BRIDGE_CALLBACKS_FILE and BRIDGE_CALLBACK_URL with BRIDGE_CALLBACK_SECRET are both set"}},
		"a file that is not there": {CallbackSettings{CallbacksFile: "/canary/4711"}, "", []string{"BRIDGE_CALLBACKS_FILE cannot be read"}},
		"a file that is no JSON":   {CallbackSettings{CallbacksFile: file}, "canary", []string{"BRIDGE_CALLBACKS_FILE: not JSON"}},
		"a file with a name twice": {CallbackSettings{CallbacksFile: file}, `{"backends":[` + backend("a", "https://a.example") + `,` + backend("a", "https://a.example") + `]}`,
			[]string{"BRIDGE_CALLBACKS_FILE: backend 2: name is given"}},
		"a file with members that nobody knows": {CallbackSettings{CallbacksFile: file}, `{"backends":[{"name":"a","Url":"canary"}]}`, []string{"BRIDGE_CALLBACKS_FILE: /backends/0/Url is no member"}},
		"a file with bad URLs": {CallbackSettings{CallbacksFile: file}, `{"backends":[` + backend("a", "http://canary.example") + `,` + backend("b", "") + `,` + backend("c", "https://c.example") + `]}`,
			[]string{"BRIDGE_CALLBACKS_FILE: backend a: the URL must be https", "BRIDGE_CALLBACKS_FILE: backend b: the URL is not valid"}},
		"a file with dev's secret": {CallbackSettings{CallbacksFile: file}, strings.Replace(`{"backends":[`+backend("a", "https://a.example")+`]}`, callbackSecret, string(dev), 1),
			[]string{"BRIDGE_CALLBACKS_FILE: backend a: secret 1 is one that dev made"}},
	} {
		expect.NoError(t, os.WriteFile(file, []byte(c.file), 0o600))
		s := goodSettings(t.TempDir())
		s.CallbackSettings = c.settings
		err := s.Check()
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(c.want) {
			t.Errorf("%s: %q", name, lines)
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%s: %q, not %q", name, lines[i], want)
			}
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: repeated what may be secret: %v", name, err)
		}
	}
}
