package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"hookbridge/app/expect"
)

func TestSendToBackend(t *testing.T) {
	t.Parallel()
	withBackend(t, []backendPromise{
		{"arrives byte for byte, in order, once for each ref", backendSendArrives},
		{"may be made over HTTP", backendSendOverHTTP},
		{"of a plain client has no address and the type message", backendSendPlain},
	})
}

func backendSendArrives(t *testing.T, w *world, b *clinicBackend) {
	s := w.connectAs(backendUser(t, "sender"), "")
	data := `{"at" : 1.0, "` + callbackCanary + `":1,"at":2}`
	for i := range 20 {
		s.sendRaw(fmt.Sprintf(`{"type":"send","ref":"r%d","to":{"backend":true},"event":{"type":"visit.confirmed","data":%s}}`, i, data))
		if r := s.want("result"); r.Status != "queued" || r.Sessions != 0 || r.Ref != fmt.Sprintf("r%d", i) || r.ID == "" {
			t.Fatal(r.Raw)
		}
	}
	var sent []heardCallback
	expect.Eventually(t, "20 messages", func() bool {
		sent = slices.DeleteFunc(b.of("sender"), func(c heardCallback) bool { return c.Type != "message.sent" })
		return len(sent) == 20
	})
	if !strings.Contains(sent[0].raw, `"event":{"type":"visit.confirmed","data":`+data+`}`) || sent[0].Data.Session != s.id {
		t.Error(sent[0].raw)
	}
	if !slices.IsSortedFunc(sent, func(a, b heardCallback) int { return a.Timestamp.Compare(b.Timestamp) }) {
		t.Error("out of order")
	}
	s.sendRaw(`{"type":"send","ref":"r0","to":{"backend":true},"event":{"type":"visit.confirmed","data":` + data + `}}`)
	if r := s.want("result"); !r.Duplicate || r.ID != sent[0].Data.ID {
		t.Error(r.Raw)
	}
	s.sendRaw(`{"type":"send","ref":"r0","to":{"backend":true},"event":{"type":"visit.confirmed","data":1}}`)
	if f := s.want("error"); f.Problem.Code != "id_conflict" {
		t.Error(f.Raw)
	}
}

func backendSendOverHTTP(t *testing.T, w *world, b *clinicBackend) {
	tok := backendUser(t, "caller")
	a := w.callAs(tok, http.MethodPost, "/v1/sends", `{"ref":"c1","to":{"backend":"default"},"event":{"type":"visit.confirmed","data":[1.0]}}`)
	if a.HTTP != 202 || a.Status != "queued" || a.Raw != fmt.Sprintf(`{"ref":"c1","id":%q,"status":"queued"}`, a.ID) {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	c := b.hears("caller", "message.sent")
	if c.Data.ID != a.ID || strings.Contains(c.raw, "session") || string(c.Data.Event.Data) != "[1.0]" {
		t.Error(c.raw)
	}
	for body, want := range map[string]string{
		`{"to":{"backend":true},"event":{"type":"doctor.x"}}`:                                             "403 forbidden_target",
		`{"to":{"backend":"nobody"},"event":{"type":"visit.x"}}`:                                          "403 forbidden_target",
		`{"to":{"user":"u"},"event":{"type":"visit.x"}}`:                                                  "422 invalid_request",
		`{"event":{"type":"visit.x"}}`:                                                                    "422 invalid_request",
		`{"to":{"backend":true},"event":{"type":"visit.x","ttl":5}}`:                                      "422 invalid_request",
		`{"ref":"c1","to":{"backend":"default"},"event":{"type":"visit.confirmed","data":[2]}}`:           "409 id_conflict",
		`{"to":{"backend":true},"event":{"type":"visit.x","data":"` + strings.Repeat("x", 70_000) + `"}}`: "413 too_large",
		`{`: "400 malformed",
	} {
		if a := w.callAs(tok, http.MethodPost, "/v1/sends", body); fmt.Sprint(a.HTTP, " ", a.Code) != want {
			t.Errorf("%.80s: %d %s, want %s", body, a.HTTP, a.Raw, want)
		}
	}
	for _, path := range []string{"/v1/sends", "/v1/requests"} {
		if a := w.callAs("", http.MethodPost, path, `{}`); a.HTTP != 401 {
			t.Errorf("%s without a token: %d", path, a.HTTP)
		}
	}
}

func backendSendPlain(t *testing.T, w *world, b *clinicBackend) {
	s := w.plain(backendUser(t, "plain"))
	s.sendRaw(`{"message":"I am here"}`)
	if c := b.hears("plain", "message.sent"); c.Data.Event.Type != "message" || string(c.Data.Event.Data) != `{"message":"I am here"}` {
		t.Error(c.raw)
	}
}
