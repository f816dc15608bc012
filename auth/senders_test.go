package auth

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"hookbridge/auth/authtest"
)

func TestSenders(t *testing.T) {
	t.Run("are read whole", sendersAreRead)
	t.Run("in a bad file are refused in one line without their keys", sendersAreRefused)
	t.Run("are named by the key that signed", sendersByKey)
}

// rawSecret is a secret's text with some byte all over.
func rawSecret(b byte, n int) string {
	return prefixSecret + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(b)), n)))
}

func mustSenders(t *testing.T, file string) []Sender {
	t.Helper()
	s, err := ParseSenders([]byte(file))
	if err != nil {
		t.Fatalf("%v in %s", err, file)
	}
	return s
}

func sendersAreRead(t *testing.T) {
	a, b, c := authtest.NewWebhookSecret(), authtest.NewWebhookSecret(), authtest.NewWebhookSecret()
	_, public := authtest.NewWebhookKeyPair()
	got := mustSenders(t, `{"senders":[
		{"name":"clinic","secrets":["`+a+`","`+b+`"],"types":["patient.*","visit.done"],"to":["patient-*","group:ward-*"],"rate":{"perSecond":50,"burst":100}},
		{"name":"lab_2.x-Y","secrets":["`+public+`"],"rate":{"perSecond":0.2}},
		{"name":"all","secrets":["`+c+`"],"to":["*"],"rate":{"perSecond":2.5,"burst":0}}]}`)
	want := []Sender{
		{Name: "clinic", Secrets: []string{a, b}, Types: []string{"patient.*", "visit.done"}, To: []string{"patient-*", "group:ward-*"}, Rate: 50, Burst: 100},
		{Name: "lab_2.x-Y", Secrets: []string{public}, Rate: 0.2, Burst: 1},
		{Name: "all", Secrets: []string{c}, To: []string{"*"}, Rate: 2.5, Burst: 3},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%#v", got)
	}
	for _, s := range got {
		text := fmt.Sprintf("%v %+v %s", s, &s, slog.AnyValue(s).Resolve())
		for _, secret := range s.Secrets {
			if strings.Contains(text, secret[6:12]) {
				t.Errorf("a secret of %s is printed", s.Name)
			}
		}
	}
}

func sendersAreRefused(t *testing.T) {
	key := authtest.NewWebhookSecret()
	private, _ := authtest.NewWebhookKeyPair()
	with := func(rest string) string { return `{"senders":[{"name":"a","secrets":["` + key + `"]` + rest + `}]}` }
	many := func(secrets int) string {
		var list []string
		for range secrets {
			list = append(list, `"`+authtest.NewWebhookSecret()+`"`)
		}
		return `{"senders":[{"name":"a","secrets":[` + strings.Join(list, ",") + `]}]}`
	}
	if _, err := ParseSenders([]byte(many(maxWebhookKeys))); err != nil {
		t.Errorf("as many keys as are allowed: %v", err)
	}
	for file, want := range map[string]string{
		``:                                      "the file is empty",
		key:                                     "not JSON: syntax error at byte 0",
		with("") + "\n" + key:                   "not JSON",
		with(`,"to":["` + "\xff" + `"]`):        "not JSON",
		`null`:                                  "no senders",
		`{}`:                                    "no senders",
		`{"senders":null}`:                      "no senders",
		`{"senders":[]}`:                        "no senders",
		`["` + key + `"]`:                       "the whole has the wrong type",
		`"` + key + `"`:                         "the whole has the wrong type",
		`{"senders":"` + key + `"}`:             "/senders has the wrong type",
		`{"senders":{"` + key + `":{}}}`:        "/senders has the wrong type",
		`{"senders":[null]}`:                    "sender 1: name",
		`{"senders":["` + key + `"]}`:           "/senders/0 has the wrong type",
		`{"Senders":[]}`:                        "/Senders is no member known here",
		`{"` + key + `":"a"}`:                   "a name in the file is no member known here",
		`{"senders":[{"` + key + `":"a"}]}`:     "a name in /senders/0 is no member",
		`{"senders":[{"` + key[6:] + `":"a"}]}`: "a name in /senders/0 is no member",
		with(`,"type":["a"]`):                   "/senders/0/type is no member",
		with(`,"name":"` + key + `"`):           "given twice",
		with(`,"rate":{"persecond":1}`):         "/senders/0/rate/persecond is no member",
		with(`,"types":null`):                   "/senders/0/types has the wrong type",
		with(`,"to":null`):                      "/senders/0/to has the wrong type",
		with(`,"types":"patient.*"`):            "/senders/0/types has the wrong type",
		with(`,"to":["a",7]`):                   "/senders/0/to/1 has the wrong type",
		with(`,"types":[]`):                     "types is empty",
		with(`,"to":[]`):                        "to is empty",
		with(`,"types":["a",""]`):               "types: a pattern has",
		with(`,"to":["` + strings.Repeat("é", 129) + `"]`): "to: a pattern has",
		with(`,"rate":{}`):                                                                            "rate/perSecond",
		with(`,"rate":{"perSecond":-1}`):                                                              "rate/perSecond",
		with(`,"rate":{"perSecond":1000001}`):                                                         "rate/perSecond",
		with(`,"rate":{"perSecond":1e400}`):                                                           "/senders/0/rate/perSecond has the wrong type",
		with(`,"rate":{"perSecond":1,"burst":-1}`):                                                    "rate/burst",
		with(`,"rate":{"perSecond":1,"burst":1.5}`):                                                   "/senders/0/rate/burst has the wrong type",
		`{"senders":[{"secrets":["` + key + `"]}]}`:                                                   "sender 1: name",
		`{"senders":[{"name":"` + key + `","secrets":["` + key + `"]}]}`:                              "sender 1: name",
		`{"senders":[{"name":"a\nb","secrets":["` + key + `"]}]}`:                                     "sender 1: name",
		`{"senders":[{"name":"a"}]}`:                                                                  "sender 1: secrets must list",
		`{"senders":[{"name":"a","secrets":[]}]}`:                                                     "sender 1: secrets must list",
		`{"senders":[{"name":"a","secrets":"` + key + `"}]}`:                                          "/senders/0/secrets has the wrong type",
		`{"senders":[{"name":"a","secrets":["` + key + `",""]}]}`:                                     "sender 1: secret 2 is empty",
		`{"senders":[{"name":"a","secrets":["` + key[6:] + `"]}]}`:                                    "secret 1 must begin with",
		`{"senders":[{"name":"a","secrets":["` + private + `"]}]}`:                                    "secret 1 is a private key",
		`{"senders":[{"name":"a","secrets":["` + rawSecret('k', 23) + `"]}]}`:                         "secret 1 holds 23 bytes",
		`{"senders":[{"name":"a","secrets":["` + key + `","` + key + `"]}]}`:                          "secret 2 stands in the file twice",
		`{"senders":[{"name":"a","secrets":["` + key + `"]},{"name":"b","secrets":["` + key + `"]}]}`: "sender 2: secret 1 stands in the file twice",
		`{"senders":[{"name":"a","secrets":["` + key + `"]},{"name":"b","secrets":["` + strings.TrimRight(key, "=") + `"]}]}`: "sender 2: secret 1 stands in the file twice",
		`{"senders":[{"name":"a","secrets":["` + key + `"]},{"name":"a","secrets":["` + rawSecret('k', 32) + `"]}]}`:          "sender 2: name is given to another",
		many(maxWebhookKeys + 1): "17 secrets; at most 16",
	} {
		s, err := ParseSenders([]byte(file))
		if err == nil || s != nil {
			t.Errorf("%.60q was taken: %v", file, s)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, want) || strings.ContainsAny(text, "\r\n") {
			t.Errorf("%.80q: %q, want one line about %q", file, text, want)
		}
		// Any run of a key is too much of it.
		for _, secret := range []string{key[6:], private[5:], rawSecret('k', 23)[6:]} {
			for i := 0; i+8 <= len(secret); i++ {
				if strings.Contains(text, secret[i:i+8]) {
					t.Fatalf("%q has a part of a key", text)
				}
			}
		}
	}
}

func sendersByKey(t *testing.T) {
	older, newer, lab := authtest.NewWebhookSecret(), authtest.NewWebhookSecret(), authtest.NewWebhookSecret()
	private, public := authtest.NewWebhookKeyPair()
	w, names, err := NewSenderWebhooks(mustSenders(t, `{"senders":[{"name":"clinic","secrets":["`+newer+`","`+older+`"]},
		{"name":"lab","secrets":["`+lab+`"]},{"name":"registry","secrets":["`+public+`"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	body := []byte(`{"type":"t"}`)
	for secret, want := range map[string]string{newer: "clinic", older: "clinic", lab: "lab", private: "registry"} {
		v, err := w.Verify(mustSign(t, secret, "msg_1", now, string(body)), body, now)
		if err != nil || names[v.Key-1] != want {
			t.Errorf("the key of %s gave %+v, %v", want, v, err)
		}
	}
	if _, err := w.Verify(mustSign(t, authtest.NewWebhookSecret(), "msg_1", now, string(body)), body, now); err == nil {
		t.Error("a key of nobody was taken")
	}
	// While a sender changes keys it signs with both.
	both := mustSign(t, authtest.NewWebhookSecret(), "msg_1", now, string(body))
	both.Signature += " " + mustSign(t, older, "msg_1", now, string(body)).Signature
	if v, err := w.Verify(both, body, now); err != nil || names[v.Key-1] != "clinic" {
		t.Errorf("signed with an unknown and a known key: %+v, %v", v, err)
	}
	// Once the old key is taken out, it is nobody's.
	w, names, err = NewSenderWebhooks(mustSenders(t, `{"senders":[{"name":"clinic","secrets":["`+newer+`"]}]}`))
	if err != nil || !reflect.DeepEqual(names, []string{"clinic"}) {
		t.Fatalf("%v, %v", names, err)
	}
	if _, err := w.Verify(mustSign(t, older, "msg_1", now, string(body)), body, now); err == nil {
		t.Error("a key that was taken out still counts")
	}
}

func FuzzParseSenders(f *testing.F) {
	const canary = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5" // nobody else writes this
	good := `{"senders":[{"name":"a","secrets":["whsec_` + canary + `"],"types":["t.*"],"to":["*"],"rate":{"perSecond":1}}]}`
	for _, seed := range []string{good, `{"senders":[{"whsec_` + canary + `":1}]}`, `{"senders":{"` + canary + `":[]}}`,
		`{"senders":[{"name":"` + canary + `","secrets":[{"` + canary + `":null}]}]}`, `{"senders":[{"name":"a","secrets":["whpk_` + canary + `"]}]}`,
		`{"senders":[{"name":"a","secrets":["\u0077hsec_` + canary + `","whsec_` + canary + `"]}]}`, `{"a~1b":1}`, "\ufeff{}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		senders, err := ParseSenders(b)
		if err != nil {
			if text := err.Error(); strings.Contains(text, canary) || strings.ContainsAny(text, "\r\n") || senders != nil {
				t.Errorf("%q is refused with %q", b, text)
			}
			return
		}
		w, names, err := NewSenderWebhooks(senders)
		if err != nil || len(names) != len(w.keys) {
			t.Fatalf("%q was taken, and then %v", b, err)
		}
		seen := make(map[string]bool)
		for _, s := range senders {
			if !validSenderName(s.Name) || seen[s.Name] || len(s.Secrets) == 0 || s.Rate < 0 || s.Rate > 0 && s.Burst < 1 ||
				s.Types != nil && len(s.Types) == 0 || s.To != nil && len(s.To) == 0 {
				t.Errorf("%q gave %+v", b, s)
			}
			seen[s.Name] = true
		}
	})
}
