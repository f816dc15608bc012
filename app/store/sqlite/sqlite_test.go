package sqlite

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	t.Run("is for its owner only, with its files", folderIsOwners)
}

func TestRecords(t *testing.T) {
	t.Parallel()
	t.Run("of users are bounded in memory", recordsAreBounded)
	t.Run("of users that memory does not hold are read again", recordsAreReadAgain)
}

func TestAppend(t *testing.T) {
	t.Parallel()
	t.Run("refuses what cannot be written before it shares a transaction", appendRefuses)
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	e, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// scratch is a folder for a test that does not depend on what the sync of a disk
// costs: in memory where the machine has such a place with enough room.
func scratch(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	if free, _, ok := diskSpace(memory); !ok || free < 1<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "hookbridge-test-")
	expect.NoError(t, err)
	t.Cleanup(func() { expect.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func message(id, user string, size int, expires time.Time) *bridge.Message {
	m := &bridge.Message{
		ID: id, To: bridge.Target{User: user}, Expires: expires,
		Event: fmt.Appendf(nil, `{"id":%q,"type":"test","data":%q}`, id, make([]byte, size/4)),
	}
	m.Digest = sha256.Sum256(m.Event)
	m.Encode()
	return m
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

func mustAppend(t testing.TB, e *Store, m *bridge.Message) bridge.Receipt {
	t.Helper()
	r, err := e.Append(t.Context(), m)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return r
}

// number asks the file through a reading connection.
func number(t testing.TB, e *Store, sql string) int64 {
	t.Helper()
	r, err := e.readers.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.readers.give(r)
	n, err := queryInt(r.conn, sql)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// shifted is a clock that can be moved forward.
type shifted struct{ by atomic.Int64 }

func (c *shifted) now() time.Time          { return time.Now().Add(time.Duration(c.by.Load())) }
func (c *shifted) advance(d time.Duration) { c.by.Add(int64(d)) }

func folderIsOwners(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(scratch(t), "a b%20c", "data")
	e := open(t, Options{Dir: dir})
	mustAppend(t, e, message("m", "u", 100, inAnHour()))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	for _, name := range []string{"bridge.db", "bridge.db-wal", "bridge.db-shm", "bridge.lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", name, info.Mode())
		}
	}
}

func recordsAreBounded(t *testing.T) {
	t.Parallel()
	c := newRecords(10)
	for i := range 1_000 {
		c.put(&record{user: fmt.Sprint(i)})
		if c.get("0") == nil {
			t.Fatal("a user in use was forgotten")
		}
		if n := len(c.young) + len(c.old); n > 20 {
			t.Fatalf("%d records", n)
		}
	}
	if c.get("1") != nil {
		t.Fatal("a user long unused is remembered")
	}
}

func recordsAreReadAgain(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	e.commitMu.Lock()
	e.writer.users.limit = 2
	e.commitMu.Unlock()
	for round := range 4 {
		for u := range 20 {
			user := fmt.Sprintf("u%d", u)
			r := mustAppend(t, e, message(fmt.Sprintf("m-%d-%d", round, u), user, 10, inAnHour()))
			if got := r.Recipients[0].Seq; got != uint64(round+1) {
				t.Fatalf("%s got place %d in round %d", user, got, round)
			}
			if err := e.Ack(t.Context(), user, "ses_1", e.Life(), bridge.Position{Mailbox: uint64(round + 1)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := e.Enter(t.Context(), bridge.Member{User: "u3"}, "")
	if err != nil || s.Acked.Mailbox != 4 {
		t.Fatalf("%+v, %v", s, err)
	}
}

func appendRefuses(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	for _, to := range []bridge.Target{{}, {Users: []string{"a", ""}}} {
		m := message("m", "", 10, inAnHour())
		m.To = to
		if _, err := e.Append(t.Context(), m); err == nil {
			t.Errorf("%+v was taken", to)
		}
	}
	far := message("far", "u", 10, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	mustAppend(t, e, far)
	p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 10, 1000)
	if err != nil || len(p.Deliveries) != 1 {
		t.Fatalf("a message that is kept for very long: %+v, %v", p, err)
	}
}
