package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"hookbridge/auth/authtest"
)

func TestWebhookDiagnosis(t *testing.T) {
	t.Run("of a good webhook passes each step", webhookPasses)
	t.Run("fails at the step that is wrong", webhookStepFails)
	t.Run("names usual mistakes", webhookMistakes)
	t.Run("names a line break that the signer did not have", webhookLineBreak)
}

func failing(steps []Step) (names, details []string) {
	for _, s := range steps {
		if !s.OK {
			names, details = append(names, s.Name), append(details, s.Detail)
		}
	}
	return names, details
}

func webhookPasses(t *testing.T) {
	steps := mustWebhooks(t, vectorSecret).Diagnose(vectorHeader(), []byte(vectorBody), vectorTime)
	var names []string
	for _, s := range steps {
		if !s.OK {
			t.Errorf("%+v", s)
		}
		names = append(names, s.Name)
	}
	want := []string{StepHeaders, StepID, StepTimestamp, StepClock, StepSignature, StepMatch}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", names, want)
	}
}

func webhookStepFails(t *testing.T) {
	for _, c := range []struct {
		fails  string
		change func(h *Header)
	}{
		{StepHeaders, func(h *Header) { h.ID = "" }},
		{StepTimestamp, func(h *Header) { h.Timestamp = "soon" }},
		{StepID, func(h *Header) { h.ID = "a.b" }},
		{StepSignature, func(h *Header) { h.Signature = "hello" }},
	} {
		h := vectorHeader()
		c.change(&h)
		names, _ := failing(mustWebhooks(t, vectorSecret).Diagnose(h, []byte(vectorBody), vectorTime))
		if len(names) == 0 || names[0] != c.fails {
			t.Errorf("%s: failing are %v", c.fails, names)
		}
	}
	// A stale signature that matches fails at the clock alone.
	names, details := failing(mustWebhooks(t, vectorSecret).Diagnose(vectorHeader(), []byte(vectorBody), vectorTime.Add(time.Hour)))
	if len(names) != 1 || names[0] != StepClock || !strings.Contains(details[0], "3600 s behind") {
		t.Errorf("stale: %v %v", names, details)
	}
	if steps := mustWebhooks(t, vectorSecret).Diagnose(Header{}, nil, vectorTime); len(steps) != 1 || steps[0].OK {
		t.Errorf("no headers: %+v", steps)
	}
}

func webhookMistakes(t *testing.T) {
	sign := func(key, text string) string {
		m := hmac.New(sha256.New, []byte(key))
		m.Write([]byte(text))
		return base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	raw, err := base64.StdEncoding.DecodeString(vectorSecret[6:])
	if err != nil {
		t.Fatal(err)
	}
	key, head := string(raw), vectorID+".1614265330."
	body := "{\"b\": [1, 2],\n\"a\": \"x\"}"
	good := sign(key, head+body)
	mac, err := base64.StdEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		signature string
		want      []string
	}{
		"newline added when signing":   {"v1," + sign(key, head+body+"\n"), []string{"with a line break at its end"}},
		"compact":                      {"v1," + sign(key, head+`{"b":[1,2],"a":"x"}`), []string{"compact JSON was signed"}},
		"spaced":                       {"v1," + sign(key, head+`{"b": [1, 2], "a": "x"}`), []string{"spaces after commas"}},
		"indented":                     {"v1," + sign(key, head+"{\n  \"b\": [\n    1,\n    2\n  ],\n  \"a\": \"x\"\n}"), []string{"indented by 2"}},
		"sorted":                       {"v1," + sign(key, head+`{"a":"x","b":[1,2]}`), []string{"members sorted"}},
		"empty":                        {"v1," + sign(key, head), []string{"empty body"}},
		"CRLF":                         {"v1," + sign(key, head+strings.ReplaceAll(body, "\n", "\r\n")), []string{"CRLF"}},
		"secret as text":               {"v1," + sign(vectorSecret[6:], head+body), []string{"used as text"}},
		"secret with prefix":           {"v1," + sign(vectorSecret, head+body), []string{"whsec_ prefix"}},
		"body alone":                   {"v1," + sign(key, body), []string{"body alone"}},
		"timestamp.body":               {"v1," + sign(key, "1614265330."+body), []string{"timestamp.body is signed"}},
		"order":                        {"v1," + sign(key, "1614265330."+vectorID+"."+body), []string{"wrong order"}},
		"no full stops":                {"v1," + sign(key, vectorID+"1614265330"+body), []string{"without full stops"}},
		"milliseconds":                 {"v1," + sign(key, vectorID+".1614265330000."+body), []string{"other digits"}},
		"hexadecimal":                  {"v1," + hex.EncodeToString(mac), []string{"hexadecimal"}},
		"no padding":                   {"v1," + strings.TrimRight(good, "="), []string{"another base64"}},
		"no version":                   {good, []string{"no version"}},
		"version with =":               {"v1=" + good, []string{"no version"}},
		"GitHub's own":                 {"sha256=" + hex.EncodeToString(mac), []string{"hexadecimal"}},
		"compact, and secret as text":  {"v1," + sign(vectorSecret[6:], head+`{"b":[1,2],"a":"x"}`), []string{"compact", "used as text"}},
		"nothing of the kind, no hint": {"v1," + sign("another", head+body), nil},
	} {
		t.Run(name, func(t *testing.T) {
			steps := mustWebhooks(t, authtest.NewWebhookSecret(), vectorSecret).
				Diagnose(Header{vectorID, "1614265330", c.signature}, []byte(body), vectorTime)
			var hints []string
			for _, s := range steps {
				if s.Name == StepHint {
					hints = append(hints, s.Detail)
				}
				if strings.Contains(s.Detail, vectorSecret[6:]) || strings.Contains(s.Detail, good) {
					t.Errorf("a step gives a secret away: %+v", s)
				}
			}
			if len(hints) != len(c.want) {
				t.Fatalf("hints are %q, want %q", hints, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(hints[i], want) {
					t.Errorf("hints are %q, want %q", hints, c.want)
				}
			}
		})
	}
}

func webhookLineBreak(t *testing.T) {
	private, public := authtest.NewWebhookKeyPair()
	h := mustSign(t, private, "msg_1", vectorTime, "{}")
	_, details := failing(mustWebhooks(t, public).Diagnose(h, []byte("{}\n"), vectorTime))
	if len(details) != 2 || !strings.Contains(details[1], "without the line break") {
		t.Errorf("got %q", details)
	}
}
