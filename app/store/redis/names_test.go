package redis

import (
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
)

func TestKeyNames(t *testing.T) {
	t.Parallel()
	t.Run("stay the same", keyNamesStay)
}

func TestFormats(t *testing.T) {
	t.Parallel()
	t.Run("stay the same", formatsStay)
}

// Machines of two versions work on one store while one version replaces the other: keys
// and channels keep their names.
func keyNamesStay(t *testing.T) {
	t.Parallel()
	e := &Store{opts: Options{Prefix: "p", IDRetention: 24 * time.Hour}, self: "me"}
	e.all = e.mailboxAt("all")
	b, g := e.mailboxOf("u"), e.groupKeys("g")
	z, n, epoch := e.machineKeys()
	life, lives, primaries := e.lifeKeys()
	live, dead := e.sessionLists("other")
	message, holders := e.sharedKeys("id")
	at := time.UnixMilli(1_700_000_000_000)
	got := []string{b.h, b.m, b.g, b.t, b.l, b.delivered("id"), b.logs(), b.revocations(), b.groups(), b.tokens(), e.seenKey(b, at), e.index(b, at.UnixMilli()),
		e.all.h, e.users(), g.stored, g.named, g.older, z, n, epoch, life, lives, primaries, live, dead, message, holders,
		e.record("id"), e.ticketKey("k"), e.formatKey(), e.importKey(), e.indexedKey(), e.channel()}
	want := `p:{u1fv96njgocgsfihqvhqss38c}:h
p:{u1fv96njgocgsfihqvhqss38c}:m
p:{u1fv96njgocgsfihqvhqss38c}:g
p:{u1fv96njgocgsfihqvhqss38c}:t
p:{u1fv96njgocgsfihqvhqss38c}:l
p:{u1fv96njgocgsfihqvhqss38c}:i:id
p:{u1fv96njgocgsfihqvhqss38c}:T
p:{u1fv96njgocgsfihqvhqss38c}:R
p:{u1fv96njgocgsfihqvhqss38c}:G
p:{u1fv96njgocgsfihqvhqss38c}:K
p:{u1fv96njgocgsfihqvhqss38c}:S19675
p:{u1fv96njgocgsfihqvhqss38c}:I19675
p:{all}:h
p:{all}:u
p:{gpk5aj1b18urcbd7v5duvtpeq}:s
p:{gpk5aj1b18urcbd7v5duvtpeq}:n
p:{gpk5aj1b18urcbd7v5duvtpeq}:t
p:{machines}:z
p:{machines}:n
p:{machines}:e
p:{machines}:life
p:{machines}:lives
p:{machines}:reigns
p:{machines}:l:other
p:{machines}:d:other
p:{iid}:b
p:{iid}:n
p:{iid}
p:{kk}
p:{machines}:format
p:{machines}:import
p:{machines}:indexed
p:c:`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("keys are named\n%s\nand not\n%s", text, want)
	}
}

// For the same reason the formats of what is stored and published stay the same.
func formatsStay(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 5).UTC()
	m := &bridge.Message{ID: "id", From: "doctor", Type: "t", At: at, Expires: at.Add(time.Hour), Topic: "x", Except: []string{"s"},
		Event: []byte(`{"id":"id"}`), To: bridge.Target{User: "u"}}
	m.Encode()
	v := envelope{user: "u", machine: "machine", token: 7, wanted: "s"}
	entry := dedupEntry{idRecord: recordOf(m, []string{"u"}), digest: "digest", until: 1_700_000_000_000, seq: 5, placed: true, recalled: at}
	groups := tokenGroups{until: 5, issued: 3, tokenID: "jti", groups: []string{"a", "b"}}
	session := (&Store{self: "machine"}).encodePresence(bridge.Member{User: "u", Session: "s", Transport: "sse", Since: at, Token: "token", TokenID: "jti", Until: at})
	for _, f := range []struct{ name, text, want string }{
		{"message", string(encodeMessage(m)), "\x01\x01\x02id\x02\x06doctor\x03\x01t\x04\b\x17\x97\x9c\xfe6*\x00\x05\x05\b\x17\x97\xa0Df\xe2\xa0\x05\x06\x01x\a\x01s\b\v{\"id\":\"id\"}"},
		{"envelope", string(v.encode()) + string(lifeMark("12345678", 9)), ".\x01\v\x01u\f\amachine\r\b\x00\x00\x00\x00\x00\x00\x00\a\x0e\x01s\x1e\b12345678\x1f\b\x00\x00\x00\x00\x00\x00\x00\t"},
		{"dedup entry", entry.encode(), "digest170000000000017000000000000000055 \x01\x02\x06doctor\x03\x01t\x04\b\x17\x97\x9c\xfe6*\x00\x05\x05\b\x17\x97\xa0Df\xe2\xa0\x05\a\x01s\t\x01u"},
		{"token", groups.String(), "1\n5\n3\njti\na\nb"},
		{"session", session, "machine\x01\x0f\x05token\v\x01u\x02\x03sse\x04\b\x17\x97\x9c\xfe6*\x00\x05\x01\x03jti\x05\b\x17\x97\x9c\xfe6*\x00\x05"},
		{"holders", holders(11), "\xff\xe0"},
	} {
		if f.text != f.want {
			t.Errorf("%s: %q", f.name, f.text)
		}
	}
}
