package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestOperator(t *testing.T) {
	t.Parallel()
	t.Run("needs a good token of the area", operatorArea)
	t.Run("who asks for too much is told the limit", operatorRefused)
	t.Run("is audited at each call", operatorAudited)
}

func TestPresence(t *testing.T) {
	t.Parallel()
	t.Run("tells of one, of many, and by HEAD alone", presenceTells)
	t.Run("is right while sessions come and go", presenceComesAndGoes)
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	t.Run("ends one or all of the list with 4403", disconnectEnds)
}

const allAreas = `{"admin":["presence","sessions","events","users","groups"]}`

// call is an operator's request, with a token for all areas.
func (w *world) call(method, path, body string) answer {
	w.t.Helper()
	return w.callAs(token(w.t, "operator", time.Hour, allAreas), method, path, body)
}

func (w *world) callAs(token, method, path, body string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.base+path, strings.NewReader(body))
	expect.NoError(w.t, err)
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

// waiting adds what a caller waits for.
func waiting(req *http.Request, level, timeout string) *http.Request {
	req.URL.RawQuery = "wait=" + level
	if timeout != "" {
		req.URL.RawQuery += "&timeout=" + timeout
	}
	return req
}

func operatorArea(t *testing.T) {
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

func operatorRefused(t *testing.T) {
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

func operatorAudited(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := start(t, func(s *server.Settings) { s.Audit = path })
	s := w.connect("patient-1", "")
	w.fire("msg_1", `{"type":"t","to":{"user":"patient-1"}}`)
	calls := []struct{ method, path, body string }{
		{"GET", "/v1/events/msg_1", ""},
		{"GET", "/v1/events/msg_never", ""},
		{"DELETE", "/v1/events/msg_1", ""},
		{"GET", "/v1/users/patient-1/presence", ""},
		{"HEAD", "/v1/users/patient-1/presence", ""},
		{"POST", "/v1/presence", `{"users":["patient-1"]}`},
		{"POST", "/v1/presence", `{"users":[]}`},
		{"POST", "/v1/presence", `nonsense`},
		{"POST", "/v1/presence", ``},
		{"GET", "/v1/users/patient-1/sessions", ""},
		{"DELETE", "/v1/users/patient-1/sessions/" + s.id, ""},
		{"DELETE", "/v1/users/patient-1/sessions", ""},
		{"POST", "/v1/users/patient-1/revocations", `{"jti":"x"}`},
		{"POST", "/v1/users/patient-1/revocations", `{"issuedBefore":1}`},
		{"POST", "/v1/users/patient-1/revocations", `{}`},
		{"POST", "/v1/users/patient-1/revocations", `{"jti":""}`},
		{"POST", "/v1/users/patient-1/revocations", `{"issuedBefore":0}`},
		{"GET", "/v1/users/patient-1/export", ""},
		{"PUT", "/v1/groups/ward-3/members/patient-1", ""},
		{"GET", "/v1/groups/ward-3/members", ""},
		{"DELETE", "/v1/groups/ward-3/members/patient-1", ""},
		{"DELETE", "/v1/users/patient-1", ""},
	}
	told := 0
	for _, c := range calls {
		a := w.call(c.method, c.path, c.body)
		var last auditLine
		expect.Eventually(t, fmt.Sprintf("the line of %s %s %s", c.method, c.path, c.body), func() bool {
			n := 0
			for _, l := range auditLines(t, path) {
				if l.User == "operator" && l.TokenID == "jti-operator" {
					n, last = n+1, l
				}
			}
			return n > told
		})
		told++
		if good := a.HTTP < 300; good != (last.Msg == "operated" && last.Outcome == "done") {
			t.Errorf("%s %s %s: %d, audited as %s", c.method, c.path, c.body, a.HTTP, last.raw)
		}
	}
}

func presenceTells(t *testing.T) {
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

// Sessions of one user come and go while events arrive: what was answered with
// sent or queued is read in the end by the one who stays, once and in order.
func presenceComesAndGoes(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	stays := w.connect("patient-1", "")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := w.connect("patient-1", "")
				expect.NoError(t, s.ws.Close())
			}
		})
	}
	const n = 300
	for i := range n {
		if a := w.fireTo("patient-1", i); a.Status != "sent" || a.Sessions < 1 {
			t.Errorf("event %d: %s", i, a.Raw)
		}
	}
	for i := range n {
		if f := stays.want("event"); f.n() != i {
			t.Fatalf("%d: %s", i, f.Raw)
		}
	}
	close(stop)
	wg.Wait()
	w.sessions(1)
}

func disconnectEnds(t *testing.T) {
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
