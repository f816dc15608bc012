package sqlite

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestErasure(t *testing.T) {
	t.Parallel()
	t.Run("leaves no byte of the user in any file", erasureLeavesNoByte)
}

// The erased user, and what else names only them.
const (
	erasedUser    = "patient-canary-61b7"
	erasedGroup   = "ward-canary-61b7"
	erasedTopic   = "topic-canary-61b7"
	erasedSession = "ses_canary61b7"
)

// canaries hands out payloads that are nothing but one word, again and again: a
// leftover of any part of it shows.
type canaries struct{ words []string }

func (c *canaries) message(id, word string, size int, expires time.Time, to bridge.Target) *bridge.Message {
	word = "canary-" + word + "-" + fmt.Sprint(size)
	c.words = append(c.words, word)
	return spelling(id, word, size, expires, to)
}

// spelling is a message with a payload of one word.
func spelling(id, word string, size int, expires time.Time, to bridge.Target) *bridge.Message {
	m := &bridge.Message{ID: id, To: to, Expires: expires, Type: "test",
		Event: fmt.Appendf(nil, `{"id":%q,"data":%q}`, id, strings.Repeat(word+" ", 1+size/(len(word)+1)))}
	m.Digest = sha256.Sum256(m.Event)
	m.Encode()
	return m
}

// files reads all that the store has on the disk.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte)
	for _, f := range entries {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name()] = b
	}
	return out
}

// where names the files in which a word stands.
func where(files map[string][]byte, word string) (names []string) {
	for name, b := range files {
		if n := bytes.Count(b, []byte(word)); n > 0 {
			names = append(names, fmt.Sprintf("%s (%d times)", name, n))
		}
	}
	return names
}

func erasureLeavesNoByte(t *testing.T) {
	t.Parallel()
	for _, size := range []int{30, 700, 20_000} {
		t.Run(fmt.Sprintf("payloads of %d bytes", size), func(t *testing.T) {
			t.Parallel()
			eraseEveryKind(t, size)
		})
	}
}

// eraseEveryKind brings messages into all the states that one can be in.
func eraseEveryKind(t *testing.T, size int) {
	dir := scratch(t)
	var clock shifted
	e := open(t, Options{Dir: dir, Now: clock.now, MailboxLimit: 12, Backends: bridge.Backends{{Name: "clinic", Types: []string{"*"}}}})
	u := bridge.Target{User: erasedUser}
	shared := bridge.Target{Users: []string{"other", erasedUser, "third"}}
	var c canaries
	ids := 0
	send := func(word string, ttl time.Duration, to bridge.Target, change func(*bridge.Message)) string {
		ids++
		expires := time.Time{}
		if ttl > 0 {
			expires = clock.now().Add(ttl)
		}
		m := c.message(fmt.Sprint("m", ids), word, size, expires, to)
		if change != nil {
			change(m)
		}
		mustAppend(t, e, m)
		// Others' messages lie between, so that pages are shared.
		mustAppend(t, e, message(fmt.Sprint("o", ids), fmt.Sprint("other-", ids%5), ids*37%900, clock.now().Add(48*time.Hour)))
		return m.ID
	}
	topical := func(m *bridge.Message) { m.Topic = erasedTopic }
	common := func(m *bridge.Message) { m.Topic = "common" }

	since := clock.now()
	me := bridge.Member{User: erasedUser, Session: erasedSession, Since: since, Groups: []string{erasedGroup}, Until: since.Add(time.Hour)}
	if _, err := e.Enter(t.Context(), me, ""); err != nil {
		t.Fatal(err)
	}
	expect.NoError(t, e.SetMember(t.Context(), "ward-shared", erasedUser, true))
	expect.NoError(t, e.SetMember(t.Context(), "ward-shared", "member", true))

	send("expired", time.Minute, u, nil)
	clock.advance(2 * time.Minute)
	expect.Eventually(t, "the expired message to be pruned", func() bool {
		return number(t, e, "SELECT count(*) FROM log WHERE no < 0") == 1
	})
	acked := send("acked", time.Hour, u, nil)
	expect.NoError(t, e.Ack(t.Context(), erasedUser, "ses_1", e.Life(), bridge.Position{Mailbox: 2}))
	expect.NoError(t, e.Seen(t.Context(), erasedUser, erasedSession, acked, clock.now()))
	send("replaced", time.Hour, u, topical)
	send("replacing", time.Hour, u, topical)
	recalled := send("recalled", time.Hour, u, nil)
	expect.NoError(t, e.Recall(t.Context(), recalled))
	recalled = send("recalled-shared", time.Hour, shared, nil)
	expect.NoError(t, e.Recall(t.Context(), recalled))
	send("replaced-shared", time.Hour, shared, common)
	send("replacing-shared", time.Hour, u, common)
	for _, user := range []string{"other", "third"} {
		m := message("common-"+user, user, 10, clock.now().Add(time.Hour))
		common(m)
		mustAppend(t, e, m)
	}
	send("urgent", 2*time.Hour, u, func(m *bridge.Message) { m.Escalate = time.Hour })
	for _, word := range []string{"canary-callback", "canary-given-up"} {
		c.words = append(c.words, word)
		expect.NoError(t, e.Post(t.Context(), bridge.SentCallback("clinic", erasedUser, erasedSession, word, "t", []byte(`"`+word+`"`), clock.now())))
	}
	given, _, err := e.Lease(t.Context(), "clinic", 9)
	expect.NoError(t, err)
	for _, l := range given {
		expect.NoError(t, e.Settle(t.Context(), bridge.Settlement{Leased: l, Last: "410"}))
	}
	send("never-stored", 0, u, nil)
	send("to-self", time.Hour, u, func(m *bridge.Message) { m.From = erasedUser })
	for i := range 12 { // more than a mailbox holds
		send(fmt.Sprint("trimmed-", i), time.Hour, u, nil)
	}
	for i := range 10 {
		send(fmt.Sprint("live-", i), time.Hour, u, nil)
	}
	send("live-with-topic", time.Hour, u, topical)
	// Only what is found before says something by being absent. So far all of it
	// is in the write-ahead log, also that which is gone from the mailbox.
	found := files(t, dir)
	for _, word := range append(c.words, erasedUser, erasedGroup, erasedTopic, erasedSession) {
		if len(where(found, word)) == 0 && !strings.HasPrefix(word, "canary-never-stored") {
			t.Errorf("%s is nowhere, before anything was erased", word)
		}
	}
	expect.NoError(t, e.checkpoints.truncate())
	kept := spelling("kept", "shared-and-kept", size, clock.now().Add(time.Hour), bridge.Target{Group: "ward-shared"})
	mustAppend(t, e, kept)
	late := clock.now().Add(time.Minute)
	me.Until = late
	expect.NoError(t, e.Exit(t.Context(), bridge.DeliveryLog{Member: me, Ended: late,
		Sent: []bridge.Mark{{Place: bridge.Position{Mailbox: 1}, At: late}}}))
	if logs, err := e.DeliveryLogs(t.Context(), []string{erasedUser}); err != nil || len(logs[0]) != 1 {
		t.Fatalf("delivery logs: %v, %v", logs, err)
	}
	main := map[string][]byte{"bridge.db": files(t, dir)["bridge.db"]}
	for _, word := range []string{fmt.Sprint("canary-live-1-", size), fmt.Sprint("canary-live-with-topic-", size), erasedUser, erasedGroup, erasedTopic} {
		if len(where(main, word)) == 0 {
			t.Errorf("%s is not in the main file, before anything was erased", word)
		}
	}

	expect.NoError(t, e.Erase(t.Context(), erasedUser))
	check := func(state string) {
		t.Helper()
		after := files(t, dir)
		for _, word := range append(c.words, erasedUser, erasedGroup, erasedTopic, erasedSession) {
			if found := where(after, word); len(found) > 0 {
				t.Errorf("%s, %s is in %v", state, word, found)
			}
		}
		if len(where(after, "shared-and-kept")) == 0 {
			t.Errorf("%s, what another member has, too, is gone", state)
		}
	}
	check("at once")
	for i := range 100 {
		mustAppend(t, e, message(fmt.Sprint("later", i), fmt.Sprint("other-", i%5), i*37%900, clock.now().Add(time.Hour)))
	}
	check("after others' messages")
	p, err := e.Read(t.Context(), "member", e.Life(), bridge.Position{}, 10, 1<<20)
	if err != nil || len(p.Deliveries) != 1 || !bytes.Equal(p.Deliveries[0].Message.Event, kept.Event) {
		t.Errorf("the other member's copy: %+v, %v", p, err)
	}
	expect.NoError(t, e.Close())
	check("after closing")
}
