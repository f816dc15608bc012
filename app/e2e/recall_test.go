package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestRecall(t *testing.T) {
	t.Parallel()
	t.Run("empties mailboxes and is told to sessions that had it", recallTells)
	t.Run("that meets the delivery is told to those who had it, and nobody else", recallMeetsDelivery)
}

func recallTells(t *testing.T) {
	t.Parallel()
	w := start(t)
	had, fresh := w.connect("patient-1", ""), w.connect("patient-2", "")
	first := w.fireTo("patient-1", 1)
	taken := w.fire(w.nextID(), `{"type":"t","to":{"users":["patient-1","patient-3"]},"data":{"n":2}}`)
	w.fireTo("patient-3", 3)
	had.want("event")
	had.want("event")
	w.done(http.MethodDelete, "/v1/events/"+taken.ID, "")
	if f := had.want("recalled"); f.ID != taken.ID {
		t.Errorf("%s", f.Raw)
	}
	fresh.settle() // it was not for this one
	// Who comes later finds neither the message nor a gap.
	again := w.connect("patient-1", "")
	if f := again.want("event"); f.Event.ID != first.ID || again.hello.Pending != 1 {
		t.Errorf("%s", f.Raw)
	}
	again.settle()
	late := w.connect("patient-3", "")
	if f := late.want("event"); f.n() != 3 {
		t.Errorf("%s", f.Raw)
	}
	late.settle()
	// The id stays taken, and what became of it stays known.
	if a := w.fire(taken.ID, `{"type":"t","to":{"users":["patient-1","patient-3"]},"data":{"n":2}}`); !a.Duplicate {
		t.Errorf("%s", a.Raw)
	}
	var e eventReply
	if w.get("/v1/events/"+taken.ID, &e); e.Recalled == "" || len(e.Recipients) != 2 {
		t.Errorf("%+v", e)
	}
	w.done(http.MethodDelete, "/v1/events/"+taken.ID, "") // once more is no error, and tells again
	had.want("recalled")
	if a := w.call(http.MethodDelete, "/v1/events/msg_never", ""); a.HTTP != 404 || a.Code != "not_found" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	// One to all, and one that resumes after it had it.
	all := w.fire(w.nextID(), `{"type":"t","to":{"all":true},"data":{"n":4}}`)
	f := had.want("event")
	expect.NoError(t, had.ws.Close())
	back := w.connect("patient-1", f.Cursor)
	w.done(http.MethodDelete, "/v1/events/"+all.ID, "")
	if f := back.want("recalled"); f.ID != all.ID {
		t.Errorf("%s", f.Raw)
	}
}

// An event may be taken back while it is on its way: stored, queued, half
// replayed, just written. Whoever was handed it is told; nobody else is.
func recallMeetsDelivery(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 100 })
	live := w.connect("patient-1", "")
	const rounds = 60
	var joined []*session
	for round := range rounds {
		id := w.nextID()
		var wg sync.WaitGroup
		var late *session
		wg.Go(func() { w.fire(id, fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, round)) })
		wg.Go(func() {
			for w.call(http.MethodDelete, "/v1/events/"+id, "").HTTP != 204 { // not stored yet
			}
		})
		wg.Go(func() { late = w.connect("patient-1", "") })
		wg.Wait()
		joined = append(joined, late)
	}
	w.fire("msg_last", `{"type":"t","to":{"user":"patient-1"}}`)
	for i, s := range append(joined, live) {
		had := make(map[string]bool)
		for {
			f := s.next()
			if f.Type == "gap" {
				t.Fatalf("session %d: %s", i, f.Raw)
			}
			if f.Type == "recalled" {
				if !had[f.ID] {
					t.Fatalf("session %d is told of %s and never had it", i, f.ID)
				}
				delete(had, f.ID)
			}
			if f.Event.ID == "msg_last" {
				break
			}
			if f.Type == "event" {
				had[f.Event.ID] = true
			}
		}
		if len(had) > 0 {
			t.Fatalf("session %d was not told of %v", i, had)
		}
		expect.NoError(t, s.ws.Close())
	}
}
