package sqlite

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestMigration(t *testing.T) {
	t.Parallel()
	t.Run("keeps all that the first version stored", migrationKeeps)
	t.Run("lets what the first version stored take part in what is new", migrationTakesPart)
}

// firstVersion is a file as programs of the first schema version left it.
type firstVersion struct {
	*testing.T
	conn *sqlite3.Conn
}

const firstEpoch = "firstepoch"

func newFirstVersion(t *testing.T, dir string) *firstVersion {
	t.Helper()
	c, err := sqlite3.Open(filepath.Join(dir, "bridge.db"))
	if err != nil {
		t.Fatal(err)
	}
	f := &firstVersion{t, c}
	f.exec(`PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL`)
	f.exec("BEGIN; " + migrations[0] + "; PRAGMA user_version = 1; COMMIT")
	f.exec("INSERT INTO meta (key, value) VALUES ('epoch', '" + firstEpoch + "')")
	return f
}

func (f *firstVersion) exec(sql string) {
	f.Helper()
	if err := f.conn.Exec(sql); err != nil {
		f.Fatalf("%s: %v", sql, err)
	}
}

// message writes a message's row, and one in each mailbox that still holds it.
func (f *firstVersion) message(no int64, m *bridge.Message, gone bool, places ...place) {
	f.Helper()
	s, _, err := f.conn.Prepare(`INSERT INTO log (no, id, digest, born, expires, targets, sender, barred, event) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		f.Fatal(err)
	}
	var targets, barred []byte
	for _, p := range places {
		targets = appendPlace(targets, p)
	}
	if m.Except != nil {
		barred = appendNames(nil, m.Except)
	}
	expires, event, at := nanos(m.Expires), m.Event, no
	if gone {
		event, at = nil, archived(no)
	}
	expect.NoError(f.T, with(s).int(at).text(m.ID).blob(m.Digest[:]).int(time.Now().UnixNano()).int(expires).
		blob(targets).text(m.From).blob(barred).blob(event).exec())
	expect.NoError(f.T, s.Close())
	for _, p := range places {
		if !gone {
			f.exec(fmt.Sprintf("INSERT INTO mail (user, seq, no, expires) VALUES ('%s', %d, %d, %d)", p.user, p.seq, no, expires))
		}
	}
}

func migrationKeeps(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	f := newFirstVersion(t, dir)
	plain := message("plain", "ada", 100, inAnHour())
	plain.From, plain.Except = "doctor-7", []string{"ses_1", "ses_2"}
	acked := message("acked", "ada", 100, inAnHour())
	long := spelling("long", "long", 20_000, inAnHour(), bridge.Target{Users: []string{"ada", "bob"}})
	toAll := message("to-all", "", 10, inAnHour())
	toAll.To = bridge.Target{All: true}
	gone := message("gone", "ada", 10, time.Now().Add(-time.Minute))
	f.message(1, gone, true, place{"ada", 1})
	f.message(2, acked, false, place{"ada", 2})
	f.message(3, plain, false, place{"ada", 3})
	f.message(4, long, false, place{"ada", 4}, place{"bob", 1})
	f.message(5, toAll, false, place{"", 1})
	// cleo's only messages expired and are pruned: her head is in users alone.
	f.exec(`INSERT INTO users (user, head, trimmed, seen, first, acked_mail, acked_all) VALUES
		('ada', 1, 0, 1, 0, 2, 0), ('cleo', 9, 4, 1, 1, 5, 1)`)
	expect.NoError(t, f.conn.Close())

	e := open(t, Options{Dir: dir})
	for range 2 {
		if e.Epoch() != firstEpoch {
			t.Fatalf("the epoch became %s", e.Epoch())
		}
		p, err := e.Read(t.Context(), "ada", e.Life(), bridge.Position{}, 10, 1<<20)
		if err != nil || len(p.Deliveries) != 4 {
			t.Fatalf("ada has %d messages, %v", len(p.Deliveries), err)
		}
		for i, want := range []*bridge.Message{acked, plain, long, toAll} {
			got := p.Deliveries[i].Message
			if got.ID != want.ID || !bytes.Equal(got.Event, want.Event) || got.From != want.From ||
				fmt.Sprint(got.Except) != fmt.Sprint(want.Except) || !got.Expires.Equal(want.Expires) || got.Digest != want.Digest {
				t.Errorf("message %d is %v, want %v", i, got, want)
			}
		}
		if p.Lost().Expired.Mailbox != 1 || p.Next() != (bridge.Position{Mailbox: 4, Broadcast: 1}) {
			t.Errorf("the page is %+v, %+v", p.Next(), p.Lost())
		}
		if n, err := e.Pending(t.Context(), "ada", bridge.Position{Mailbox: 2}); err != nil || n.Count() != 3 {
			t.Errorf("%d are pending, %v", n, err)
		}
		if p, err = e.Read(t.Context(), "cleo", e.Life(), bridge.Position{}, 10, 1<<20); err != nil || p.Lost().Trimmed.Mailbox != 4 || p.Lost().Expired.Mailbox != 9 {
			t.Errorf("cleo lost %+v, %v", p.Lost(), err)
		}
		for _, m := range []*bridge.Message{gone, acked, plain, long, toAll} {
			if r := mustAppend(t, e, m); !r.Duplicate {
				t.Errorf("%s is new again: %+v", m.ID, r)
			}
		}
		other := message("plain", "ada", 5, inAnHour())
		if _, err := e.Append(t.Context(), other); !errors.Is(err, bridge.ErrConflict) {
			t.Errorf("another message under a known id: %v", err)
		}
		s, err := e.Enter(t.Context(), bridge.Member{User: "ada", Session: "ses_1", Since: time.Now()}, "")
		if err != nil || s.Head != (bridge.Position{Mailbox: 4, Broadcast: 1}) || s.Acked != (bridge.Position{Mailbox: 2}) || s.First != (bridge.Position{}) {
			t.Errorf("ada stands at %+v, %v", s, err)
		}
		r, err := e.Lookup(t.Context(), "plain")
		if err != nil || len(r.Recipients) != 1 || r.Recipients[0].User != "ada" || r.Recipients[0].Seq != 3 || !r.Recipients[0].Held || r.Recipients[0].Acked {
			t.Errorf("lookup: %+v, %v", r, err)
		}
		expect.NoError(t, e.Close())
		e = open(t, Options{Dir: dir})
	}
}

func migrationTakesPart(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	f := newFirstVersion(t, dir)
	for i := range 6 {
		f.message(int64(i+1), spelling(fmt.Sprint("m", i), fmt.Sprint("canary-", i), 300, inAnHour(), bridge.Target{User: erasedUser}),
			false, place{erasedUser, uint64(i + 1)})
	}
	shared := spelling("shared", "shared-and-kept", 300, inAnHour(), bridge.Target{Users: []string{erasedUser, "bob"}})
	f.message(7, shared, false, place{erasedUser, 7}, place{"bob", 1})
	f.exec(`INSERT INTO users (user, head, trimmed, seen, first, acked_mail, acked_all) VALUES ('` + erasedUser + `', 0, 0, 1, 0, 2, 0)`)
	expect.NoError(t, f.conn.Close())

	e := open(t, Options{Dir: dir})
	if n := number(t, e, "PRAGMA user_version"); n != int64(len(migrations)) {
		t.Fatalf("the file has version %d", n)
	}
	expect.NoError(t, e.Recall(t.Context(), "m2"))
	expect.NoError(t, e.Seen(t.Context(), erasedUser, "ses_1", "m3", time.Now()))
	expect.NoError(t, e.SetMember(t.Context(), "g", erasedUser, true))
	for _, id := range []string{"t1", "t2"} {
		m := &bridge.Message{ID: id, To: bridge.Target{Group: "g"}, Topic: "t", Event: []byte(`{}`), Expires: inAnHour(), Digest: sha256.Sum256([]byte(id))}
		m.Encode()
		mustAppend(t, e, m)
	}
	p, err := e.Read(t.Context(), erasedUser, e.Life(), bridge.Position{Mailbox: 2}, 20, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range p.Deliveries {
		got = append(got, d.Message.ID)
	}
	if fmt.Sprint(got) != "[m3 m4 m5 shared t2]" || p.Lost() != (bridge.Lost{}) {
		t.Errorf("%v, lost %+v", got, p.Lost())
	}
	r, err := e.Lookup(t.Context(), "m3")
	if err != nil || len(r.Recipients) != 1 || len(r.Recipients[0].Seen) != 1 {
		t.Errorf("lookup: %+v, %v", r, err)
	}
	if len(where(files(t, dir), "canary")) == 0 {
		t.Fatal("nothing to erase is there")
	}
	expect.NoError(t, e.Erase(t.Context(), erasedUser))
	if found := where(files(t, dir), "canary"); len(found) > 0 {
		t.Errorf("there are copies in %v", found)
	}
	if p, err := e.Read(t.Context(), "bob", e.Life(), bridge.Position{}, 10, 1<<20); err != nil || len(p.Deliveries) != 1 || p.Deliveries[0].Message.ID != "shared" {
		t.Errorf("bob has %+v, %v", p.Deliveries, err)
	}
}
