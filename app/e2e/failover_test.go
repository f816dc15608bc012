package e2e

import (
	"fmt"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/store/redis/redistest"
)

func TestFailover(t *testing.T) {
	t.Parallel()
	t.Run("to a replica that lagged is told to live sessions", failoverTold)
	t.Run("to an empty Redis is told and erases nobody", failoverToEmpty)
}

// to patient-1, and counted.
func counted(n int) string {
	return fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, n)
}

// A replica that lagged takes over while sessions are live on both machines. Each is
// told, reads what the store has, and skips nothing that was answered afterwards.
func failoverTold(t *testing.T) {
	heavy(t)
	t.Parallel()
	p := redistest.StartPair(t)
	m := onRedis(t, p.URL(), p.URL())
	sessions := []*session{m[0].connect("patient-1", ""), m[1].connect("patient-1", "")}
	quiet := m[1].connect("patient-2", "")
	for i := range 3 {
		m[i%2].fire(fmt.Sprint("kept_", i), counted(i))
	}
	m[0].fire("quiet", `{"type":"t","to":{"user":"patient-2"}}`)
	known := quiet.want("event").Cursor
	p.CutOff()
	for i := 3; i < 8; i++ {
		m[i%2].fire(fmt.Sprint("lost_", i), counted(i))
	}
	var last string // that a session has of what is about to be lost
	for _, s := range sessions {
		for i := range 8 {
			f := s.want("event")
			if f.n() != i {
				t.Fatalf("instead of %d: %s", i, f.Raw)
			}
			last = f.Cursor
		}
	}
	p.Promote()

	const fresh = 10 // more than were lost, so that places are given out again, and beyond
	for i := range fresh {
		var a answer
		expect.Eventually(t, "an event to be taken", func() bool {
			a = m[i%2].do(m[i%2].sign(fmt.Sprint("new_", i), counted(100+i), time.Now()))
			return a.HTTP == 202
		})
		if a.Status == "acked" || a.Sessions > len(sessions) || a.Duplicate && a.Status == "dropped" {
			t.Errorf("%s", a.Raw)
		}
	}
	for i, s := range sessions {
		gaps, next := 0, 100
		for next < 100+fresh {
			switch f := s.next(); {
			case f.Type == "gap":
				if gaps++; f.Reason != "rewound" || f.Cursor == "" {
					t.Errorf("session %d: %s", i, f.Raw)
				}
			case f.Type == "event" && f.n() < 100: // what it has seen already
			case f.Type != "event" || f.n() != next || gaps != 1:
				t.Fatalf("session %d, after %d gaps, instead of %d: %s", i, gaps, next, f.Raw)
			default:
				next++
			}
		}
	}

	// A late ack of what was lost hides nothing from a fresh device, and answers that
	// are given now do not take it for theirs.
	sessions[0].ack(last)
	sessions[0].settle()
	device := m[1].connect("patient-1", "")
	for next := 100; next < 100+fresh; {
		if f := device.want("event"); f.n() == next {
			next++
		} else if f.n() >= 100 {
			t.Fatalf("instead of %d: %s", next, f.Raw)
		}
	}
	for i := range fresh {
		if a := m[0].fire(fmt.Sprint("new_", i), counted(100+i)); a.Status == "acked" || !a.Duplicate {
			t.Errorf("%s", a.Raw)
		}
	}
	if a := m[1].fire("lost_5", counted(5)); a.Duplicate {
		t.Errorf("what was lost is known: %s", a.Raw)
	}

	// Whoever has lost nothing is told of nothing.
	m[1].fire("quiet_again", `{"type":"t","to":{"user":"patient-2"},"data":{"n":1}}`)
	if f := quiet.want("event"); f.n() != 1 {
		t.Errorf("%s", f.Raw)
	}
	if again := m[0].connect("patient-2", known); !again.hello.Resumed || again.hello.Pending != 1 {
		t.Errorf("%s", again.hello.Raw)
	}
}

// Redis is emptied under sessions that are live: they are told that it is another
// store, and read on. Nobody was erased.
func failoverToEmpty(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	m := onRedis(t, r.URL(), r.URL())
	s := m[0].connect("patient-1", "")
	quiet := m[1].connect("patient-2", "")
	for i := range 3 {
		m[1].fireTo("patient-1", i)
		s.want("event")
	}
	r.Do("FLUSHALL")
	for i := range 5 {
		m[i%2].fire(fmt.Sprint("new_", i), counted(100+i))
	}
	gap := s.want("gap")
	if gap.Reason != "foreign" && gap.Reason != "rewound" {
		t.Errorf("%s", gap.Raw)
	}
	for i := range 5 {
		if f := s.want("event"); f.n() != 100+i {
			t.Fatalf("%s", f.Raw)
		}
	}
	if gap := quiet.want("gap"); gap.Reason != "foreign" && gap.Reason != "rewound" {
		t.Errorf("%s", gap.Raw)
	}
	expect.Eventually(t, "both to be present", func() bool {
		var one, two presenceReply
		m[1].get("/v1/users/patient-1/presence", &one)
		m[0].get("/v1/users/patient-2/presence", &two)
		return one.Sessions == 1 && two.Sessions == 1
	})
	if a := m[0].fire("to_the_quiet_one", `{"type":"t","to":{"user":"patient-2"},"data":{"n":1}}`); a.Status != "sent" {
		t.Errorf("%s", a.Raw)
	}
	if f := quiet.want("event"); f.n() != 1 {
		t.Errorf("%s", f.Raw)
	}
}
