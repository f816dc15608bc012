package redis

import (
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
)

// codecs decode a stored value and encode it again.
var codecs = []struct {
	name  string
	again func(text string) (string, error)
}{
	{"message", func(text string) (string, error) {
		m, err := decodeMessage([]byte(text), "u")
		if err != nil {
			return "", err
		}
		return string(encodeMessage(m)), nil
	}},
	{"envelope", func(text string) (string, error) {
		v, rest, err := decodeEnvelope([]byte(text))
		if err != nil || len(v.life) != lifeLength {
			return "", errFormat
		}
		return string(v.encode()) + string(lifeMark(v.life, v.born)) + string(rest), nil
	}},
	{"record", func(text string) (string, error) {
		r, err := decodeRecord(text)
		if err != nil {
			return "", err
		}
		return r.encode(), nil
	}},
	{"dedup entry", func(text string) (string, error) {
		r, err := decodeDedupEntry(text)
		if err != nil {
			return "", err
		}
		return r.encode(), nil
	}},
	{"token", func(text string) (string, error) {
		s := parseTokenGroups(text)
		return s.String(), nil
	}},
	{"session", func(text string) (string, error) {
		_, machine, _, err := decodePresence("ses_1", text)
		return machine, err
	}},
	{"lives", func(text string) (string, error) {
		starts, err := parseLifeStarts(text)
		var out []string
		for _, s := range starts {
			out = append(out, itoa(s.no)+":"+itoa(s.after))
		}
		return strings.Join(out, ","), err
	}},
	{"seen", func(text string) (out string, err error) {
		for _, s := range parseSeen(text) {
			out += ";" + s.Session + " " + itoa(s.At.UnixNano())
		}
		return out, nil
	}},
	{"callback", func(text string) (string, error) {
		k, err := decodeCallback("clinic", "cb_1", text)
		return k.encode(), err
	}},
	{"timer", func(text string) (string, error) {
		t, err := decodeTimer("u7", text)
		return encodeTimer(t), err
	}},
}

// What a machine has read of a value it writes so that another one reads the same.
func FuzzCodec(f *testing.F) {
	at := time.Unix(1_700_000_000, 5).UTC()
	m := &bridge.Message{ID: "id", From: "doctor", Type: "t", At: at, Expires: at.Add(time.Hour), Topic: "x", Except: []string{"s1", "s2"}, Event: []byte(`{"id":"id"}`)}
	m.To.User = "u"
	m.Encode()
	v := envelope{user: "u", machine: strings.Repeat("m", machineNameLen), token: 7, wanted: "s"}
	entry := dedupEntry{idRecord: recordOf(m, []string{"u", "v"}), digest: strings.Repeat("d", 32), until: 1_700_000_000_000, seq: 5, placed: true, recalled: at}
	groups := tokenGroups{until: 5, issued: 3, tokenID: "jti", groups: []string{"a", "b"}}
	waiting := keptCallback{Callback: bridge.Callback{Type: bridge.CallbackSent, User: "u", At: at, Body: []byte("{}")}, tries: 2, since: at, number: 7}
	dead := waiting
	dead.givenUp, dead.last = at, "410"
	timer := bridge.Timer{User: "u", EventID: "id", EventType: "t", After: time.Minute, Due: at}
	for i, text := range []string{
		string(encodeMessage(m)), string(v.encode()) + string(lifeMark("12345678", 9)) + "rest", entry.idRecord.encode(), entry.encode(),
		groups.String(), strings.Repeat("m", machineNameLen) + string([]byte{formatVersion, tagUser, 1, 'u'}), "5:7,9:11", ";s1 5;s2 6",
		dead.encode(), encodeTimer(timer),
	} {
		c := codecs[i]
		if again, err := c.again(text); err != nil || again != text && c.name != "session" {
			f.Fatalf("%s %q is written as %q: %v", c.name, text, again, err)
		}
		f.Add(uint8(i), text)
	}
	if head := waiting.encode(); head[23:39] != "0000000000000007" || encodeTimer(timer)[3:16] != "1700000000000" {
		f.Fatal("scripts look for numbers and times where there are none")
	}
	f.Fuzz(func(t *testing.T, kind uint8, text string) {
		c := codecs[int(kind)%len(codecs)]
		once, err := c.again(text)
		if err != nil || c.name == "session" {
			return // it is damaged, and that was noticed; or only Join writes it
		}
		if twice, err := c.again(once); err != nil || twice != once {
			t.Errorf("%s %q is read as %q, and that as %q, %v", c.name, text, once, twice, err)
		}
	})
}
