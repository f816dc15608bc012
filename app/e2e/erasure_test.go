package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestErasure(t *testing.T) {
	t.Parallel()
	t.Run("leaves nothing and ends sessions with 4410", erasureLeavesNothing)
}

func erasureLeavesNothing(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	const canary = "canary-of-an-erased-user"
	s := w.connect("patient-1", "")
	shared := w.fire(w.nextID(), `{"type":"t","to":{"users":["patient-1","patient-2"]},"data":{"n":1}}`)
	own := w.fire(w.nextID(), `{"type":"t","to":{"user":"patient-1"},"data":"`+canary+`"}`)
	f := s.want("event")
	s.want("event")
	w.done(http.MethodPut, "/v1/groups/ward-3/members/patient-1", "")
	var members struct{ Members []string }
	export := w.call(http.MethodGet, "/v1/users/patient-1/export", "")
	lines := strings.Split(strings.TrimSpace(export.Raw), "\n")
	if export.HTTP != 200 || export.Header.Get("Content-Type") != "application/x-ndjson" || len(lines) != 4 ||
		!strings.Contains(lines[0], `"ward-3"`) || !strings.Contains(lines[2], canary) || !strings.Contains(lines[3], s.id) {
		t.Fatalf("export: %d %s", export.HTTP, export.Raw)
	}
	for _, l := range lines {
		if !json.Valid([]byte(l)) {
			t.Errorf("not JSON: %s", l)
		}
	}
	w.done(http.MethodDelete, "/v1/users/patient-1", "")
	if code := s.closed(); code != 4410 {
		t.Errorf("closed with %d", code)
	}
	if w.get("/v1/groups/ward-3/members", &members); len(members.Members) != 0 {
		t.Errorf("%v", members)
	}
	if a := w.call(http.MethodGet, "/v1/users/patient-1/export", ""); strings.Contains(a.Raw, canary) || strings.Contains(a.Raw, "ward-3") || strings.Count(a.Raw, "\n") != 1 {
		t.Errorf("export: %s", a.Raw)
	}
	var e eventReply
	if w.get("/v1/events/"+own.ID, &e); len(e.Recipients) != 0 {
		t.Errorf("%+v", e)
	}
	if a := w.fire(own.ID, `{"type":"t","to":{"user":"patient-1"},"data":"`+canary+`"}`); !a.Duplicate {
		t.Errorf("a late retry: %s", a.Raw)
	}
	// The user may come again: as somebody new, and an old cursor is told so.
	back := w.connect("patient-1", "")
	if back.hello.Pending != 0 {
		t.Errorf("%s", back.hello.Raw)
	}
	back.settle()
	old := w.connect("patient-1", f.Cursor)
	if old.hello.Resumed {
		t.Errorf("resumed from before the erasure: %s", old.hello.Raw)
	}
	other := w.connect("patient-2", "")
	if f := other.want("event"); f.Event.ID != shared.ID {
		t.Errorf("%s", f.Raw)
	}
}
