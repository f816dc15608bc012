package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestRewind(t *testing.T) {
	t.Parallel()
	t.Run("is told to a client that knows more, which misses nothing", rewindTold)
	t.Run("is told over a poll and a stream", rewindOverHTTP)
	t.Run("tells what expired since", rewindExpired)
	t.Run("lets a late ack hide nothing", rewindLateAck)
	t.Run("makes an id that was lost a new one", rewindLostID)
}

// restored is a program on a store that was put back to how it was after three
// messages, of eight that were answered with 202; five new ones were sent since.
type restored struct {
	*world
	cursor string // of a client that has seen all eight
	acked  string // its hello's, to name the place of the third
}

func restore(t *testing.T) *restored {
	t.Helper()
	s := testSettings(t.TempDir())
	backup := t.TempDir()
	w := startWith(t, s)
	for i := range 3 {
		w.fireTo("patient-1", i)
	}
	w.fire("all_0", `{"type":"t","to":{"all":true},"data":{"n":100}}`)
	first := w.connect("patient-1", "")
	third := ""
	for range 3 {
		third = first.want("event").Cursor
	}
	expect.NoError(t, first.ws.Close())
	w.stop()
	expect.NoError(t, os.CopyFS(backup, os.DirFS(s.DataDir)))

	w = startWith(t, s)
	for i := range 5 {
		w.fire(fmt.Sprint("lost_", i), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, 3+i))
	}
	r := &restored{acked: third}
	client := w.connect("patient-1", third)
	for i := range 5 {
		f := client.want("event")
		if f.n() != 3+i {
			t.Fatalf("%s", f.Raw)
		}
		r.cursor = f.Cursor
	}
	expect.NoError(t, client.ws.Close())
	w.stop()
	expect.NoError(t, os.RemoveAll(s.DataDir))
	expect.NoError(t, os.CopyFS(s.DataDir, os.DirFS(backup)))

	r.world = startWith(t, s)
	for i := range 5 {
		r.fire(fmt.Sprint("new_", i), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, 50+i))
	}
	return r
}

// wantNew reads the five messages that came after the backup was put back.
func (r *restored) wantNew(s *session) (last string) {
	r.t.Helper()
	for i := range 5 {
		f := s.want("event")
		for f.n() < 50 { // of before the backup, once more
			f = s.want("event")
		}
		if f.n() != 50+i {
			r.t.Fatalf("instead of %d: %s", 50+i, f.Raw)
		}
		last = f.Cursor
	}
	return last
}

func rewindTold(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := restore(t)
	s := w.connect("patient-1", w.cursor)
	if s.hello.Resumed {
		t.Errorf("%s", s.hello.Raw)
	}
	if gap := s.want("gap"); gap.Reason != "rewound" || gap.After != w.cursor || gap.Cursor == "" {
		t.Errorf("%s", gap.Raw)
	}
	last := w.wantNew(s)
	s.settle()
	if again := w.connect("patient-1", last); !again.hello.Resumed || again.hello.Pending != 0 {
		t.Errorf("with the cursor that it has now: %s", again.hello.Raw)
	}
	if before := w.connect("patient-1", w.acked); !before.hello.Resumed || before.hello.Pending != 5 {
		t.Errorf("with a cursor of before the backup: %s", before.hello.Raw)
	}
}

func rewindOverHTTP(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := restore(t)
	tok := token(t, "patient-1", time.Hour, "")
	p := w.poll(tok, "?waitMs=0&after="+w.cursor)
	if len(p.Frames) < 6 || p.Frames[0].Reason != "rewound" {
		t.Errorf("%+v", p)
	}
	stream := w.stream(tok, "", w.cursor)
	if f := stream.want("connected"); f.Resumed {
		t.Errorf("%s", f.Raw)
	}
	if f := stream.want("gap"); f.Reason != "rewound" {
		t.Errorf("%s", f.Raw)
	}
}

func rewindExpired(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := restore(t)
	w.fire("brief", `{"type":"t","to":{"user":"patient-1"},"ttl":1,"data":{"n":60}}`)
	expect.Eventually(t, "the brief one to expire", func() bool {
		var e struct{ Recipients []struct{ Status string } }
		w.get("/v1/events/brief", &e)
		return len(e.Recipients) == 1 && e.Recipients[0].Status == "dropped"
	})
	s := w.connect("patient-1", w.cursor)
	if gap := s.want("gap"); gap.Reason != "rewound" {
		t.Errorf("%s", gap.Raw)
	}
	if gap := s.want("gap"); gap.Reason != "expired" {
		t.Errorf("%s", gap.Raw)
	}
	w.wantNew(s)
}

func rewindLateAck(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := restore(t)
	s := w.connect("patient-1", w.acked)
	w.wantNew(s)
	s.ack(w.cursor)
	s.settle()
	if a := w.callAs(token(t, "patient-1", time.Hour, ""), "POST", "/v1/acks", fmt.Sprintf(`{"cursor":%q}`, w.cursor)); a.HTTP != 204 {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	for i := range 5 {
		if a := w.fire(fmt.Sprint("new_", i), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, 50+i)); a.Status == "acked" {
			t.Errorf("%s", a.Raw)
		}
	}
	w.wantNew(w.connect("patient-1", ""))
}

func rewindLostID(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := restore(t)
	if a := w.fire("lost_0", `{"type":"t","to":{"user":"patient-1"},"data":{"n":3}}`); a.Duplicate {
		t.Errorf("%s", a.Raw)
	}
}
