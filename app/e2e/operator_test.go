package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/auth"
)

const allAreas = `{"admin":["presence","sessions","events","users","groups"]}`

// call is an operator's request, with a token for all areas.
func (w *world) call(method, path, body string) answer {
	w.t.Helper()
	return w.callAs(token(w.t, "operator", time.Hour, allAreas), method, path, body)
}

func (w *world) callAs(token, method, path, body string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return w.do(req)
}

// done wants a 204.
func (w *world) done(method, path, body string) {
	w.t.Helper()
	if a := w.call(method, path, body); a.HTTP != http.StatusNoContent || a.Raw != "" {
		w.t.Fatalf("%s %s: %d %s", method, path, a.HTTP, a.Raw)
	}
}

// get wants a 200 and reads it.
func (w *world) get(path string, into any) answer {
	w.t.Helper()
	a := w.call(http.MethodGet, path, "")
	if a.HTTP != http.StatusOK {
		w.t.Fatalf("%s: %d %s", path, a.HTTP, a.Raw)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.Raw), into); err != nil {
			w.t.Fatalf("%s: %v: %s", path, err, a.Raw)
		}
	}
	return a
}

type presenceReply struct {
	User     string `json:"user"`
	Online   bool   `json:"online"`
	Sessions int    `json:"sessions"`
	LastSeen string `json:"lastSeen"`
}

func TestPresenceTellsOneManyAndByHeadAlone(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	path := "/v1/users/patient%2F42%20%C3%A9/presence"
	var p presenceReply
	w.get(path, &p)
	if p.User != "patient/42 é" || p.Online || p.Sessions != 0 || p.LastSeen != "" {
		t.Errorf("never seen: %+v", p)
	}
	if a := w.call(http.MethodHead, path, ""); a.HTTP != http.StatusNotFound {
		t.Errorf("HEAD of one who is away: %d", a.HTTP)
	}
	s := w.connect("patient/42 é", "")
	w.connect("patient/42 é", "")
	w.get(path, &p)
	if seen, err := time.Parse(time.RFC3339, p.LastSeen); !p.Online || p.Sessions != 2 || err != nil || time.Since(seen) > time.Minute {
		t.Errorf("online: %+v", p)
	}
	if a := w.call(http.MethodHead, path, ""); a.HTTP != http.StatusOK || a.Raw != "" {
		t.Errorf("HEAD of one who is there: %d %q", a.HTTP, a.Raw)
	}
	var many struct{ Users []presenceReply }
	a := w.call(http.MethodPost, "/v1/presence", `{"users":["nobody","patient/42 é"]}`)
	if err := json.Unmarshal([]byte(a.Raw), &many); err != nil || a.HTTP != 200 || len(many.Users) != 2 ||
		many.Users[0].Online || many.Users[0].User != "nobody" || many.Users[1].Sessions != 2 {
		t.Errorf("many: %d %s", a.HTTP, a.Raw)
	}
	expect.NoError(t, s.ws.Close())
	expect.Eventually(t, "one session less", func() bool { w.get(path, &p); return p.Sessions == 1 })
}

func TestASessionListNamesEachSessionAndOneOrAllAreEndedWith4403(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	a, b, other := w.connect("patient-1", ""), w.connect("patient-1", ""), w.connect("patient-2", "")
	var list struct {
		Sessions []struct{ Session, Since, Transport string }
	}
	w.get("/v1/users/patient-1/sessions", &list)
	if len(list.Sessions) != 2 || list.Sessions[0].Session != a.id || list.Sessions[1].Session != b.id || list.Sessions[0].Transport != "websocket" {
		t.Fatalf("%+v", list)
	}
	if since, err := time.Parse(time.RFC3339, list.Sessions[0].Since); err != nil || time.Since(since) > time.Minute {
		t.Errorf("since: %v %v", since, err)
	}
	if got := w.call(http.MethodDelete, "/v1/users/patient-2/sessions/"+a.id, ""); got.HTTP != 404 || got.Code != "not_found" {
		t.Errorf("another user's session: %d %s", got.HTTP, got.Raw)
	}
	w.done(http.MethodDelete, "/v1/users/patient-1/sessions/"+a.id, "")
	if code := a.closed(); code != 4403 {
		t.Errorf("one: closed with %d", code)
	}
	c := w.connect("patient-1", "")
	w.done(http.MethodDelete, "/v1/users/patient-1/sessions", "")
	if x, y := b.closed(), c.closed(); x != 4403 || y != 4403 {
		t.Errorf("all: closed with %d, %d", x, y)
	}
	w.connect("patient-1", "") // a disconnect is no revocation
	w.done(http.MethodDelete, "/v1/users/nobody/sessions", "")
	other.settle()
}

func issuedToken(t testing.TB, user, id string, issued time.Time) string {
	t.Helper()
	s, err := auth.SignToken(testJWTSecret, auth.Claims{User: user, ID: id, IssuedAt: issued, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARevocationEndsLiveSessionsRefusesLaterOnesAndSurvivesARestart(t *testing.T) {
	heavy(t)
	t.Parallel()
	settings := testSettings(t.TempDir())
	w := startWith(t, settings)
	now := time.Now().Truncate(time.Second)
	old, young := issuedToken(t, "patient-1", "a", now.Add(-time.Hour)), issuedToken(t, "patient-1", "b", now.Add(-time.Minute))
	byID := issuedToken(t, "patient-2", "stolen", now)
	kept := issuedToken(t, "patient-2", "mine", now)
	s1, s2, s3, s4 := w.connectAs(old, ""), w.connectAs(young, ""), w.connectAs(byID, ""), w.connectAs(kept, "")
	w.done(http.MethodPost, "/v1/users/patient-1/revocations", fmt.Sprintf(`{"issuedBefore":%d}`, now.Add(-30*time.Minute).Unix()))
	w.done(http.MethodPost, "/v1/users/patient-2/revocations", `{"jti":"stolen"}`)
	if a, b := s1.closed(), s3.closed(); a != 4403 || b != 4403 {
		t.Fatalf("closed with %d, %d", a, b)
	}
	s2.settle()
	s4.settle()
	for round := range 2 {
		for name, tok := range map[string]string{"issued before": old, "by its jti": byID} {
			s, _, err := w.dial(nil, "", "bridge.v1.json")
			expect.NoError(t, err)
			s.send(map[string]string{"type": "connect", "token": tok})
			if code := s.closed(); code != 4403 {
				t.Errorf("round %d: %s: closed with %d", round, name, code)
			}
			if a := w.callAs(tok, http.MethodGet, "/v1/poll?waitMs=0", ""); a.HTTP != 403 || a.Code != "token_revoked" {
				t.Errorf("round %d: %s: poll: %d %s", round, name, a.HTTP, a.Raw)
			}
		}
		w.connectAs(young, "").settle()
		w.connectAs(kept, "").settle()
		if round == 0 {
			w.stop()
			w = startWith(t, settings)
		}
	}
	// A refresh with a revoked token is no way around it.
	s := w.connectAs(kept, "")
	s.send(map[string]string{"type": "refresh", "token": byID})
	if code := s.closed(); code != 4403 {
		t.Errorf("refresh: closed with %d", code)
	}
}

type eventReply struct {
	ID, Type, Timestamp, Expires, Recalled string
	Recipients                             []struct {
		User, Status string
		Sessions     []struct{ Session, SentAt, ReceivedAt, AckedAt, SeenAt string }
	}
}

func TestAnEventsFateIsToldForEachRecipientAndSession(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	id := w.nextID()
	sent := w.fire(id+"", `{"type":"test.event","to":{"users":["patient-1","patient-2"]},"data":{}}`)
	f := s.want("event")
	var e eventReply
	get := func() {
		t.Helper()
		e = eventReply{}
		w.get("/v1/events/"+id, &e)
		if len(e.Recipients) != 2 || e.Recipients[0].User != "patient-1" || e.Recipients[1].User != "patient-2" {
			t.Fatalf("%+v", e)
		}
	}
	get()
	if e.ID != id || e.Type != "test.event" || e.Expires != sent.Expires || e.Timestamp != f.Event.Timestamp || e.Recalled != "" {
		t.Errorf("%+v", e)
	}
	if r := e.Recipients[1]; r.Status != "queued" || r.Sessions == nil || len(r.Sessions) != 0 {
		t.Errorf("away: %+v", r)
	}
	r := e.Recipients[0]
	if r.Status != "sent" || len(r.Sessions) != 1 || r.Sessions[0].Session != s.id || r.Sessions[0].SentAt == "" || r.Sessions[0].AckedAt != "" {
		t.Errorf("sent: %+v", r)
	}
	if a := w.do(waiting(w.sign(id, `{"type":"test.event","to":{"users":["patient-1","patient-2"]},"data":{}}`, time.Now()), "received", "20s")); a.Status != "received" {
		t.Fatalf("%s", a.Raw)
	}
	get()
	if r = e.Recipients[0]; r.Status != "received" || r.Sessions[0].ReceivedAt == "" {
		t.Errorf("received: %+v", r)
	}
	s.ack(f.Cursor)
	s.send(map[string]string{"type": "seen", "id": id})
	s.settle()
	get()
	if r = e.Recipients[0]; r.Status != "acked" || r.Sessions[0].AckedAt == "" || r.Sessions[0].SeenAt == "" {
		t.Errorf("acked and seen: %+v", r)
	}
	expect.NoError(t, s.ws.Close()) // its trail outlives it
	w.sessions(0)
	get()
	if r = e.Recipients[0]; r.Status != "acked" || len(r.Sessions) != 1 || r.Sessions[0].SentAt == "" || r.Sessions[0].AckedAt == "" {
		t.Errorf("after its end: %+v", r)
	}
}

// waiting adds what a caller waits for.
func waiting(req *http.Request, level, timeout string) *http.Request {
	req.URL.RawQuery = "wait=" + level
	if timeout != "" {
		req.URL.RawQuery += "&timeout=" + timeout
	}
	return req
}

func TestARecalledEventIsGoneFromMailboxesAndSessionsThatHadItAreTold(t *testing.T) {
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

// ward is a token of patient-1 that names a group, or none.
func ward(t testing.TB, id string, groups ...string) string {
	t.Helper()
	rights, err := json.Marshal(map[string][]string{"groups": groups})
	expect.NoError(t, err)
	s, err := auth.SignToken(testJWTSecret, auth.Claims{User: "patient-1", ID: id, IssuedAt: time.Now(), Expires: time.Now().Add(time.Hour), Rights: rights})
	expect.NoError(t, err)
	return s
}

func TestAGroupReachesWhomTokensNameNowAndNobodyElse(t *testing.T) {
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

func TestAnErasedUserLeavesNothingAndTheirSessionsEndWith4410(t *testing.T) {
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

func TestEachOperatorPathWantsItsAreaAndAGoodToken(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fireTo("patient-1", 1)
	for path, area := range map[string]string{
		"GET /v1/events/msg_000001":              "events",
		"DELETE /v1/events/msg_000001":           "events",
		"GET /v1/events/msg_never":               "events",
		"GET /v1/users/patient-1/presence":       "presence",
		"HEAD /v1/users/patient-1/presence":      "presence",
		"POST /v1/presence":                      "presence",
		"GET /v1/users/patient-1/sessions":       "sessions",
		"DELETE /v1/users/patient-1/sessions":    "sessions",
		"DELETE /v1/users/patient-1/sessions/s1": "sessions",
		"POST /v1/users/patient-1/revocations":   "sessions",
		"DELETE /v1/users/patient-1":             "users",
		"GET /v1/users/patient-1/export":         "users",
		"GET /v1/groups/g/members":               "groups",
		"PUT /v1/groups/g/members/patient-1":     "groups",
		"DELETE /v1/groups/g/members/patient-1":  "groups",
		"GET /v1/callbacks":                      "callbacks",
		"GET /v1/callbacks/default/dead":         "callbacks",
		"POST /v1/callbacks/default/redrive":     "callbacks",
	} {
		method, path, _ := strings.Cut(path, " ")
		var others []string
		for _, o := range []string{"presence", "sessions", "events", "users", "groups", "callbacks"} {
			if o != area {
				others = append(others, `"`+o+`"`)
			}
		}
		// The user's own token does not do either: it names no area.
		for name, c := range map[string]struct {
			token  string
			status int
			code   string
		}{
			"no token":        {"", 401, "unauthorized"},
			"no JWT":          {"abc", 401, "unauthorized"},
			"an expired one":  {token(t, "operator", -time.Hour, allAreas), 401, "unauthorized"},
			"no area":         {token(t, "patient-1", time.Hour, ""), 403, "forbidden"},
			"all other areas": {token(t, "operator", time.Hour, `{"send":["*"],"admin":[`+strings.Join(others, ",")+`]}`), 403, "forbidden"},
		} {
			a := w.callAs(c.token, method, path, "")
			if a.HTTP != c.status || method != "HEAD" && (a.Code != c.code || c.status == 403 && !strings.Contains(a.Detail, area)) {
				t.Errorf("%s %s, %s: %d %s", method, path, name, a.HTTP, a.Raw)
			}
			if c.status == 401 && a.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s %s, %s: WWW-Authenticate %q", method, path, name, a.Header.Get("WWW-Authenticate"))
			}
		}
	}
}

func TestBadOperatorRequestsAreRefusedWithTheLimitNamed(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	long := strings.Repeat("x", 129)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code, detail       string
	}{
		"presence of nobody":       {"POST", "/v1/presence", `{"users":[]}`, 422, "invalid_request", "/users must name 1 to 1000"},
		"presence of too many":     {"POST", "/v1/presence", `{"users":[` + strings.Repeat(`"u",`, 1000) + `"u"]}`, 422, "invalid_request", "1000"},
		"presence of a long name":  {"POST", "/v1/presence", `{"users":["u","` + long + `"]}`, 422, "invalid_request", "/users/1"},
		"presence of a number":     {"POST", "/v1/presence", `{"users":[1]}`, 422, "invalid_request", "/users/0"},
		"presence, no JSON":        {"POST", "/v1/presence", `users`, 400, "malformed", "JSON"},
		"presence, a list":         {"POST", "/v1/presence", `[]`, 400, "malformed", "object"},
		"presence, cut off":        {"POST", "/v1/presence", `{"users":["u"`, 400, "malformed", "JSON"},
		"a long name in the path":  {"GET", "/v1/users/" + long + "/presence", "", 422, "invalid_request", "128"},
		"a control in the path":    {"GET", "/v1/users/a%01b/presence", "", 422, "invalid_request", "control"},
		"a long group":             {"PUT", "/v1/groups/" + long + "/members/u", "", 422, "invalid_request", "group"},
		"a long member":            {"PUT", "/v1/groups/g/members/" + long, "", 422, "invalid_request", "user"},
		"revoking nothing":         {"POST", "/v1/users/u/revocations", `{}`, 422, "invalid_request", "exactly one"},
		"revoking both ways":       {"POST", "/v1/users/u/revocations", `{"jti":"a","issuedBefore":1}`, 422, "invalid_request", "exactly one"},
		"revoking no id":           {"POST", "/v1/users/u/revocations", `{"jti":""}`, 422, "invalid_request", "/jti"},
		"revoking a long id":       {"POST", "/v1/users/u/revocations", `{"jti":"` + strings.Repeat("x", 513) + `"}`, 422, "invalid_request", "/jti"},
		"revoking before no time":  {"POST", "/v1/users/u/revocations", `{"issuedBefore":"now"}`, 422, "invalid_request", "/issuedBefore"},
		"revoking before time":     {"POST", "/v1/users/u/revocations", `{"issuedBefore":-5}`, 422, "invalid_request", "/issuedBefore"},
		"revoking after all time":  {"POST", "/v1/users/u/revocations", `{"issuedBefore":99999999999999}`, 422, "invalid_request", "/issuedBefore"},
		"an event without such id": {"GET", "/v1/events/msg_never", "", 404, "not_found", "no such event"},
		"an event's id with a dot": {"GET", "/v1/events/a.b", "", 404, "not_found", "no such event"},
		"another method":           {"PATCH", "/v1/presence", "", 405, "method_not_allowed", "Allow"},
		"another path":             {"GET", "/v1/people", "", 404, "not_found", "no such path"},
	} {
		a := w.call(c.method, c.path, c.body)
		if a.HTTP != c.status || a.Code != c.code || !strings.Contains(a.Detail, c.detail) {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
		if a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: Content-Type %q", name, a.Header.Get("Content-Type"))
		}
	}
	req, err := http.NewRequest("POST", w.base+"/v1/presence", strings.NewReader(`{"users":["u"]}`))
	expect.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token(t, "operator", time.Hour, allAreas))
	if a := w.do(req); a.HTTP != 415 || a.Code != "unsupported_media_type" {
		t.Errorf("no media type: %d %s", a.HTTP, a.Raw)
	}
}
