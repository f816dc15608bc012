package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/auth"
)

func TestGroup(t *testing.T) {
	t.Parallel()
	t.Run("reaches its members, also those away", groupReachesMembers)
	t.Run("may be sent to by users whose token covers it", groupFromUsers)
	t.Run("reaches whom tokens name now, and nobody else", groupOfTokens)
}

// ward is a token of patient-1 that names a group, or none.
func ward(t testing.TB, id string, groups ...string) string {
	t.Helper()
	rights, err := json.Marshal(map[string][]string{"groups": groups})
	expect.NoError(t, err)
	s, err := auth.SignToken(testJWTSecret, auth.Claims{User: "patient-1", ID: id, IssuedAt: time.Now(), Expires: time.Now().Add(time.Hour), Rights: rights})
	expect.NoError(t, err)
	return s
}

func groupReachesMembers(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	w.done("PUT", "/v1/groups/ward-3/members/stored", "")
	w.done("PUT", "/v1/groups/ward-3/members/stored", "") // once more is no error
	w.done("PUT", "/v1/groups/ward-3/members/away", "")
	named := w.connectAs(token(t, "named", time.Hour, `{"groups":["ward-3"]}`), "")
	stored := w.connect("stored", "")
	var list struct{ Members []string }
	if w.get("/v1/groups/ward-3/members", &list); strings.Join(list.Members, " ") != "away named stored" {
		t.Fatalf("%v", list.Members)
	}
	a := w.fire(w.nextID(), `{"type":"t","to":{"group":"ward-3"},"data":{"n":1}}`)
	if a.Status != "sent" || a.Sessions != 2 || *a.Recipients != 3 || *a.Online != 2 {
		t.Errorf("%s", a.Raw)
	}
	for _, s := range []*session{named, stored, w.connect("away", "")} {
		if f := s.want("event"); f.n() != 1 {
			t.Errorf("%s", f.Raw)
		}
	}
	// Whoever is named by the token is a member while it lasts, also while away.
	expect.NoError(t, named.ws.Close())
	w.sessions(2)
	w.fire(w.nextID(), `{"type":"t","to":{"group":"ward-3"},"data":{"n":2}}`)
	if f := w.connect("named", ""); f.hello.Pending != 2 {
		t.Errorf("%s", f.hello.Raw)
	}
	w.done("DELETE", "/v1/groups/ward-3/members/away", "")
	w.done("DELETE", "/v1/groups/ward-3/members/away", "")
	if a := w.fire(w.nextID(), `{"type":"t","to":{"group":"ward-3"},"data":{"n":3}}`); *a.Recipients != 2 {
		t.Errorf("%s", a.Raw)
	}
	if a := w.fire(w.nextID(), `{"type":"t","to":{"group":"empty"},"data":{"n":4}}`); a.Status != "queued" || *a.Recipients != 0 || a.Sessions != 0 {
		t.Errorf("an empty group: %s", a.Raw)
	}
}

func groupFromUsers(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.done("PUT", "/v1/groups/ward-3/members/patient-1", "")
	to := w.connect("patient-1", "")
	s := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["group:ward-*"]}`), "")
	send := func(ref, group string) frame {
		s.send(map[string]any{"type": "send", "ref": ref, "to": map[string]string{"group": group}, "event": map[string]any{"type": "t", "data": 1}})
		return s.next()
	}
	if f := send("r1", "ward-3"); f.Type != "result" || f.Status != "sent" || f.Sessions != 1 {
		t.Errorf("%s", f.Raw)
	}
	if f := to.want("event"); f.From != "doctor-7" {
		t.Errorf("%s", f.Raw)
	}
	if f := send("r2", "lab"); f.Problem.Code != "forbidden_target" {
		t.Errorf("%s", f.Raw)
	}
}

func groupOfTokens(t *testing.T) {
	t.Parallel()
	w := start(t)
	reaches := func(when string, want int) {
		t.Helper()
		var members struct{ Members []string }
		w.get("/v1/groups/ward-3/members", &members)
		a := w.fire(w.nextID(), `{"type":"t","to":{"group":"ward-3"}}`)
		if a.HTTP != 202 || a.Recipients == nil || *a.Recipients != want || len(members.Members) != want {
			t.Errorf("%s: %v, %s", when, members.Members, a.Raw)
		}
	}
	first := w.connectAs(ward(t, "a", "ward-3"), "")
	second := w.connectAs(ward(t, "b", "ward-3"), "")
	reaches("by two tokens", 1)
	first.send(map[string]string{"type": "refresh", "token": ward(t, "c")})
	first.want("event")
	first.want("refreshed")
	reaches("by the other one", 1)
	w.done(http.MethodPost, "/v1/users/patient-1/revocations", `{"jti":"b"}`)
	second.closed()
	reaches("after its revocation", 0)
	w.done(http.MethodPut, "/v1/groups/ward-3/members/patient-1", "")
	reaches("by an operator's word", 1)
	w.done(http.MethodPost, "/v1/users/patient-1/revocations", `{"jti":"c"}`)
	reaches("whatever becomes of tokens", 1)
	w.done(http.MethodDelete, "/v1/users/patient-1", "")
	reaches("after the erasure", 0)
}
