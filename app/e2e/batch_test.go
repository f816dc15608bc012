package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestBatch(t *testing.T) {
	t.Parallel()
	t.Run("has one signature, one result each, and survives a bad item", batchResults)
	t.Run("that is malformed is refused whole", batchRefused)
	t.Run("may be large in each form", batchLargeForms)
}

func batchResults(t *testing.T) {
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

func batchRefused(t *testing.T) {
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

// A batch is as large as it may be, however its request is written.
func batchLargeForms(t *testing.T) {
	t.Parallel()
	w := start(t)
	body := `[{"specversion":"1.0","id":"1","source":"s","type":"t","touser":"u","data":"` + strings.Repeat("a", 60_000) + `"}` + strings.Repeat(" ", 2<<20) + `]`
	for i, c := range []struct{ target, media string }{
		{"/webhooks/events", "application/cloudevents-batch+json"}, {"/webhooks/events", "Application/CloudEvents-Batch+JSON; charset=UTF-8"},
		{"http://x/webhooks/events/batch", "application/cloudevents-batch+json"}, {"/webhooks/events/batch#a", "application/cloudevents-batch+json"},
	} {
		req := w.signFor("/webhooks/events", c.media, w.nextID(), body, time.Now())
		head := "POST " + c.target + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
		for name, values := range req.Header {
			head += name + ": " + values[0] + "\r\n"
		}
		conn := w.raw(head + "\r\n")
		go func() { _, _ = io.WriteString(conn, body) }() // one that is refused may not be read to its end
		if status, answer, _ := replyOn(t, conn); status != 202 {
			t.Errorf("%d: %+v: %d %.200s", i, c, status, answer)
		}
		expect.NoError(t, conn.Close())
	}
}
