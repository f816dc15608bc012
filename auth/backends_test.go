package auth

import (
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"hookbridge/auth/authtest"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func TestBackends(t *testing.T) {
	t.Run("are read whole", backendsAreRead)
	t.Run("in a bad file are refused without their secrets", backendsAreRefused)
}

func TestSignWithAll(t *testing.T) {
	t.Run("makes a signature that each secret accepts", signedWithAll)
}

func backendsAreRead(t *testing.T) {
	a, b := authtest.NewWebhookSecret(), authtest.NewWebhookSecret()
	private, _ := authtest.NewWebhookKeyPair()
	got, err := ParseBackends([]byte("\ufeff" + `{"backends":[
		{"name":"clinic","url":"https://user:canary@clinic.example/hook?canary","secrets":["` + a + `","` + b + `"],"types":["*"],"users":["patient-*"]},
		{"name":"lab_2.x-Y","url":"http://lab.internal","secrets":["` + private + `"],"types":["event.*","visit.done"]}]}`))
	want := []Backend{
		{Name: "clinic", URL: "https://user:canary@clinic.example/hook?canary", Secrets: []string{a, b}, Types: []string{"*"}, Users: []string{"patient-*"}},
		{Name: "lab_2.x-Y", URL: "http://lab.internal", Secrets: []string{private}, Types: []string{"event.*", "visit.done"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%#v %v", got, err)
	}
	for _, b := range got {
		text := fmt.Sprintf("%v %+v %s", b, &b, slog.AnyValue(b).Resolve())
		if strings.Contains(text, "canary") || strings.Contains(text, b.Secrets[0][6:12]) {
			t.Errorf("a secret of %s is printed", b.Name)
		}
	}
}

func backendsAreRefused(t *testing.T) {
	key := rawSecret('k', 32)
	_, public := authtest.NewWebhookKeyPair()
	one := func(members string) string {
		return `{"backends":[{"name":"a","url":"https://canary@a.example",` + members + `}]}`
	}
	good := `"secrets":["` + key + `"],"types":["*"]`
	if _, err := ParseBackends([]byte(one(good))); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		``: "the file is empty", key: "not JSON", `null`: "no backends", `{}`: "no backends", `{"backends":[]}`: "no backends",
		`["` + key + `"]`:                 "the whole has the wrong type",
		`{"backends":[null]}`:             "backend 1: name must be",
		`{"backend":[]}`:                  "/backend is no member known here; a backend has name, url, secrets, types and users",
		one(`"user":["x"]`):               "/backends/0/user is no member",
		one(`"` + key + `":1`):            "a name in /backends/0 is no member",
		one(`"types":["*"]`):              "secrets must list",
		one(`"types":["*"],"secrets":[]`): "secrets must list",
		one(`"types":["*"],"secrets":["` + key + `","whsec_Y2FuYXJ5"]`):                                                    "secret 2 of 2: the webhook secret holds 6 bytes; at least 24",
		one(`"types":["*"],"secrets":["` + public + `"]`):                                                                  "public key",
		one(`"types":["*"],"secrets":["canary"]`):                                                                          "must begin with whsec_ or whsk_",
		one(`"types":["*"],"secrets":[` + strings.Repeat(`"`+key+`",`, 10) + `"` + key + `"]`):                             "11 secrets; at most 10",
		one(`"secrets":["` + key + `"]`):                                                                                   "types must list",
		one(`"secrets":["` + key + `"],"types":[]`):                                                                        "types must list",
		one(`"secrets":["` + key + `"],"types":null`):                                                                      "/backends/0/types has the wrong type",
		one(`"secrets":["` + key + `"],"types":["event acked"]`):                                                           "types: a pattern has",
		one(`"secrets":["` + key + `"],"types":[""]`):                                                                      "types: a pattern has",
		one(`"secrets":["` + key + `"],"types":["` + strings.Repeat("a", 129) + `"]`):                                      "types: a pattern has",
		one(good + `,"users":[]`):                                                                                          "users is empty",
		one(good + `,"users":null`):                                                                                        "/backends/0/users has the wrong type",
		one(good + `,"users":["a",""]`):                                                                                    "users: a pattern has",
		one(good + `,"users":["group:ward-3"]`):                                                                            "covers no user",
		`{"backends":[{"name":".","url":"u",` + good + `}]}`:                                                               "backend 1: name must be",
		`{"backends":[{"name":"..","url":"u",` + good + `}]}`:                                                              "backend 1: name must be",
		`{"backends":[{"name":"a b","url":"u",` + good + `}]}`:                                                             "backend 1: name must be",
		`{"backends":[{"name":"a","url":"u",` + good + `},{"name":"a","url":"u",` + good + `}]}`:                           "backend 2: name is given to another",
		`{"backends":[{"name":"a","url":"u"},{"name":"b","url":"u",` + good + `},{"name":"","url":"u"}]}`:                  "backend 1: secrets must list one secret at least\nbackend 3: name",
		`{"backends":[` + strings.Repeat(`{"name":"a","url":"u",`+good+`},`, 64) + `{"name":"b","url":"u",` + good + `}]}`: "65 backends; at most 64",
	} {
		got, err := ParseBackends([]byte(file))
		if err == nil || !strings.Contains(err.Error(), want) || got != nil {
			t.Errorf("%.80s: %v %v", file, got, err)
			continue
		}
		if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), key[6:20]) {
			t.Errorf("the error has a secret: %v", err)
		}
	}
}

func signedWithAll(t *testing.T) {
	now := time.Now()
	body := []byte(`{"type":"event.acked"}`)
	private, public := authtest.NewWebhookKeyPair()
	secrets := []string{authtest.NewWebhookSecret(), private, authtest.NewWebhookSecret()}
	h, err := SignWebhookWithAll(secrets, "msg_1", now, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, receiver := range []string{secrets[0], public, secrets[2]} {
		if v, err := mustWebhooks(t, receiver).Verify(h, body, now); err != nil || v.ID != "msg_1" {
			t.Errorf("%v %v", v, err)
		}
		if receiver == public { // the official Go library knows no v1a
			continue
		}
		official, err := standardwebhooks.NewWebhook(receiver)
		if err != nil {
			t.Fatal(err)
		}
		if err := official.Verify(body, http.Header{"Webhook-Id": {h.ID}, "Webhook-Timestamp": {h.Timestamp}, "Webhook-Signature": {h.Signature}}); err != nil {
			t.Error(err)
		}
	}
	if _, err := SignWebhookWithAll(nil, "msg_1", now, body); err == nil {
		t.Error("signed without a secret")
	}
	if h, err := SignWebhookWithAll([]string{secrets[0], "whsec_short"}, "msg_1", now, body); err == nil || h != (Header{}) {
		t.Error("signed with a secret that is none")
	}
}

func FuzzParseBackends(f *testing.F) {
	const canary = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5" // nobody else writes this
	good := `{"backends":[{"name":"a","url":"https://` + canary + `@a.example","secrets":["whsec_` + canary + `"],"types":["t.*"],"users":["*"]}]}`
	for _, seed := range []string{good, `{"backends":[{"whsec_` + canary + `":1}]}`, `{"backends":{"` + canary + `":[]}}`,
		`{"backends":[{"name":"` + canary + `","secrets":[{"` + canary + `":null}]}]}`, `{"backends":[{"name":"a","secrets":["whpk_` + canary + `"],"types":["*"]}]}`,
		`{"backends":[{"name":"a","secrets":["\u0077hsec_` + canary + `"],"types":["` + canary + ` "]}]}`, `{"a~1b":1}`, "\ufeff{}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		backends, err := ParseBackends(b)
		if err != nil {
			if strings.Contains(err.Error(), canary) || backends != nil {
				t.Errorf("%q is refused with %q", b, err)
			}
			return
		}
		seen := make(map[string]bool)
		for _, backend := range backends {
			if _, err := SignWebhookWithAll(backend.Secrets, "msg_1", time.Unix(0, 0), b); err != nil || seen[backend.Name] || len(backend.Types) == 0 ||
				backend.Users != nil && len(backend.Users) == 0 || strings.Contains(fmt.Sprintf("%v", backend), "whsec_"+canary) {
				t.Errorf("%q gave %s %v", b, backend, err)
			}
			seen[backend.Name] = true
		}
	})
}
