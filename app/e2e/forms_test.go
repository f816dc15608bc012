package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestAMessageToAGroupReachesItsMembersThoseAwayToo(t *testing.T) {
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

func TestAUserMaySendToTheGroupsTheTokenCovers(t *testing.T) {
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

func TestANewerMessageOfATopicTakesThePlaceOfTheOlderUnackedOne(t *testing.T) {
	t.Parallel()
	w := start(t)
	topical := func(n int, topic string) answer {
		return w.fire(w.nextID(), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"topic":%q,"data":{"n":%d}}`, topic, n))
	}
	topical(1, "care-team")
	topical(2, "other")
	topical(3, "care-team")
	s := w.connect("patient-1", "")
	first := s.want("event")
	last := s.want("event")
	if first.n() != 2 || last.n() != 3 || s.hello.Pending != 2 {
		t.Fatalf("%d %d %s", first.n(), last.n(), s.hello.Raw)
	}
	s.settle() // and no gap: what was replaced is not lost
	s.ack(last.Cursor)
	s.settle()
	topical(4, "care-team") // the acked one stays
	s.want("event")
	all := w.connect("patient-1", first.Cursor)
	if a, b := all.want("event").n(), all.want("event").n(); a != 3 || b != 4 {
		t.Errorf("%d %d", a, b)
	}
}

func TestABatchHasOneSignatureOneResultEachAndABadItemSinksNoOther(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	batch := func(id, items string) answer {
		return w.do(w.signFor("/webhooks/events/batch", "application/json", id, `{"events":[`+items+`]}`, time.Now()))
	}
	type results struct {
		Results []struct {
			ID, Status string
			Sessions   int
			Duplicate  bool
			Expires    string
			Recipients *int
			Problem    *struct {
				Status       int
				Code, Detail string
			}
		}
	}
	read := func(a answer) results {
		t.Helper()
		var r results
		if err := json.Unmarshal([]byte(a.Raw), &r); err != nil || a.HTTP != 202 {
			t.Fatalf("%d %s", a.HTTP, a.Raw)
		}
		return r
	}
	const items = `{"id":"b_1","type":"t","to":{"user":"patient-1"},"data":{"n":1}},
		{"id":"b_2","type":"t"},
		{"id":"no id!","type":"t","to":{"user":"u"}},
		{"id":"b_3","type":"t","to":{"users":["patient-1","patient-2"]},"data":{"n":2}},
		{"id":"b_1","type":"t","to":{"user":"patient-1"},"data":{"n":9}},
		{"id":"b_4","type":"t","to":{"user":"patient-1"},"data":{"n":3}}, 7`
	for round := range 2 {
		r := read(batch(fmt.Sprintf("batch_%d", round), items)).Results
		if len(r) != 7 {
			t.Fatalf("%+v", r)
		}
		for i, want := range map[int]string{0: "b_1", 3: "b_3", 5: "b_4"} {
			if r[i].ID != want || r[i].Problem != nil || r[i].Duplicate != (round == 1) || r[i].Expires == "" || r[i].Status != "sent" {
				t.Errorf("round %d: %d: %+v", round, i, r[i])
			}
		}
		if r[3].Recipients == nil || *r[3].Recipients != 2 || r[0].Recipients != nil {
			t.Errorf("recipients: %+v", r)
		}
		for i, want := range map[int]string{1: "invalid_event /events/1/to", 2: "invalid_event /events/2/id", 4: "id_conflict", 6: "invalid_event /events/6"} {
			if p := r[i].Problem; p == nil || !strings.HasPrefix(p.Code+" "+p.Detail, want) {
				t.Errorf("round %d: %d: %+v", round, i, r[i].Problem)
			}
		}
		if r[1].ID != "b_2" || r[2].ID != "" {
			t.Errorf("ids of refused items: %+v", r)
		}
	}
	for n := 1; n <= 3; n++ {
		if f := s.want("event"); f.n() != n {
			t.Errorf("%s", f.Raw)
		}
	}
	s.settle()
	// The largest batch, in order.
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprintf(`{"id":"big_%d","type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, i, i))
	}
	if r := read(batch("batch_big", strings.Join(all, ","))).Results; len(r) != 1000 || r[999].Status != "sent" {
		t.Errorf("%d results, the last %+v", len(r), r[len(r)-1])
	}
	for n := range 1000 {
		if f := s.want("event"); f.n() != n {
			t.Fatalf("%d: %s", n, f.Raw)
		}
	}
	if a := batch("batch_more", strings.Join(append(all, all[0]), ",")); a.HTTP != 422 || !strings.Contains(a.Detail, "1000") {
		t.Errorf("one more: %d %s", a.HTTP, a.Raw)
	}
}

func TestBadBatchesAreRefusedWhole(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MaxBatchBytes = 100_000 })
	one := `{"id":"x","type":"t","to":{"user":"u"},"data":"%s"}`
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
		detail string
	}{
		"no JSON":       {`hello`, 400, "malformed", "JSON"},
		"a list":        {`[]`, 422, "invalid_event", "object"},
		"no events":     {`{}`, 422, "invalid_event", "/events"},
		"events twice":  {`{"events":[],"events":[]}`, 422, "invalid_event", "twice"},
		"none":          {`{"events":[]}`, 422, "invalid_event", "empty"},
		"no list":       {`{"events":{}}`, 422, "invalid_event", "list"},
		"more after it": {`{"events":[]} {}`, 400, "malformed", "goes on"},
		"cut off":       {`{"events":[{"id":"x"`, 400, "malformed", "JSON"},
		"too large":     {`{"events":[` + fmt.Sprintf(one, strings.Repeat("a", 100_000)) + `]}`, 413, "too_large", "100000"},
	} {
		a := w.do(w.signFor("/webhooks/events/batch", "application/json", w.nextID(), c.body, time.Now()))
		if a.HTTP != c.status || a.Code != c.code || !strings.Contains(a.Detail, c.detail) {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
	// An event of a batch may be no larger than one alone.
	a := w.do(w.signFor("/webhooks/events/batch", "application/json", "ok", `{"events":[`+fmt.Sprintf(one, strings.Repeat("a", 70_000))+`]}`, time.Now()))
	if a.HTTP != 202 || !strings.Contains(a.Raw, `"too_large"`) {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	req := w.signFor("/webhooks/events/batch", "application/json", "unsigned", `{"events":[]}`, time.Now())
	req.Header.Set("webhook-signature", "v1,AAAA")
	if a := w.do(req); a.HTTP != 401 {
		t.Errorf("unsigned: %d %s", a.HTTP, a.Raw)
	}
}

func TestCloudEventsComeInAllThreeModesOnBothPaths(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	const event = `"specversion":"1.0","source":"/clinic","type":"patient.added","time":"2026-11-22T20:36:00Z","touser":"patient-1","datacontenttype":"application/json"`
	seen := make(map[string]bool)
	for i, c := range []struct{ path, media, body string }{
		{"/webhooks/events", "application/cloudevents+json", `{"id":"ce 1",` + event + `,"data":{"n":0}}`},
		{"/webhooks/events/batch", "application/cloudevents+json; charset=utf-8", `{"id":"ce 2",` + event + `,"data":{"n":1}}`},
		{"/webhooks/events/batch", "application/cloudevents-batch+json", `[{"id":"ce 3",` + event + `,"data":{"n":2}}]`},
		{"/webhooks/events", "application/cloudevents-batch+json", `[{"id":"ce 4",` + event + `,"data":{"n":3}}]`},
		{"/webhooks/events", "application/json", `{"n":4}`},
	} {
		for round := range 2 {
			req := w.signFor(c.path, c.media, w.nextID(), c.body, time.Now())
			if c.media == "application/json" {
				for k, v := range map[string]string{"specversion": "1.0", "id": "ce 5", "source": "/clinic", "type": "patient.added", "time": "2026-11-22T20:36:00Z", "touser": "patient-1"} {
					req.Header.Set("ce-"+k, v)
				}
			}
			a := w.do(req)
			if a.HTTP != 202 || !strings.Contains(a.Raw, fmt.Sprintf(`"duplicate":%t`, round == 1)) {
				t.Fatalf("%d: %d %s", i, a.HTTP, a.Raw)
			}
			if round == 1 {
				continue
			}
			f := s.want("event")
			if f.n() != i || f.Event.Type != "patient.added" || f.Event.Timestamp != "2026-11-22T20:36:00Z" || seen[f.Event.ID] || !strings.Contains(a.Raw, f.Event.ID) {
				t.Errorf("%d: %s, answered %s", i, f.Raw, a.Raw)
			}
			seen[f.Event.ID] = true
		}
	}
	s.settle()
}

func TestBadCloudEventsAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	const ok = `"specversion":"1.0","source":"/s","type":"t","touser":"u"`
	for name, c := range map[string]struct {
		media, body  string
		status       int
		code, detail string
	}{
		"no JSON":      {"application/cloudevents+json", `x`, 400, "malformed", "JSON"},
		"no id":        {"application/cloudevents+json", `{` + ok + `}`, 422, "invalid_event", "/id"},
		"no source":    {"application/cloudevents+json", `{"id":"1","specversion":"1.0","type":"t","touser":"u"}`, 422, "invalid_event", "/source"},
		"another spec": {"application/cloudevents+json", `{"id":"1","specversion":"0.3","source":"/s","type":"t","touser":"u"}`, 422, "invalid_event", "/specversion"},
		"nobody":       {"application/cloudevents+json", `{"id":"1","specversion":"1.0","source":"/s","type":"t"}`, 422, "invalid_event", "touser"},
		"two targets":  {"application/cloudevents+json", `{"id":"1",` + ok + `,"togroup":"g"}`, 422, "invalid_event", "touser"},
		"no batch":     {"application/cloudevents-batch+json", `{}`, 400, "malformed", "array"},
		"XML":          {"application/cloudevents+xml", `<event/>`, 415, "unsupported_media_type", "application/json"},
	} {
		a := w.do(w.signFor("/webhooks/events", c.media, w.nextID(), c.body, time.Now()))
		if a.HTTP != c.status || a.Code != c.code || !strings.Contains(a.Detail, c.detail) {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
	// The standard allows a batch of none.
	if a := w.do(w.signFor("/webhooks/events/batch", "application/cloudevents-batch+json", w.nextID(), `[]`, time.Now())); a.HTTP != 202 || a.Raw != `{"results":[]}` {
		t.Errorf("an empty batch: %d %s", a.HTTP, a.Raw)
	}
	// The attributes of the binary mode stand in headers: what is wrong there is said by the header's name.
	req := w.signFor("/webhooks/events", "application/json", w.nextID(), `{}`, time.Now())
	req.Header.Set("ce-specversion", "1.0")
	req.Header.Set("ce-id", "1")
	if a := w.do(req); a.HTTP != 422 || !strings.Contains(a.Detail, "ce-") {
		t.Errorf("binary: %d %s", a.HTTP, a.Raw)
	}
	if a := w.do(w.signFor("/webhooks/events", "application/cloudevents-batch+json", w.nextID(), `[{"id":"1",`+ok+`},{"id":"2","specversion":"1.0"}]`, time.Now())); a.HTTP != http.StatusAccepted || !strings.Contains(a.Raw, `"queued"`) || !strings.Contains(a.Raw, `"invalid_event"`) {
		t.Errorf("one bad of two: %d %s", a.HTTP, a.Raw)
	}
}
