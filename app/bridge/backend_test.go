package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// send is a send frame to the backend.
func sendFrame(ref, typ, data string) string {
	return fmt.Sprintf(`{"type":"send","ref":%q,"to":{"backend":true},"event":{"type":%q,"data":%s}}`, ref, typ, data)
}

func TestBackendSend(t *testing.T) {
	bubble := func(name string, f func(t *testing.T, c *clinic)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, newClinic(t)) }) })
	}
	// after opens a session, sends frames, and returns what it got for them.
	after := func(b *bridge.Bridge, user string, frames ...string) []string {
		p := join(b, user)
		synctest.Wait()
		p.got()
		for _, f := range frames {
			p.in <- f
			synctest.Wait()
		}
		defer p.Abort()
		return p.got()
	}
	quiet := func(cfg *bridge.Config) { // presence is for other tests
		cfg.Backends = slices.Clone(clinicBackends)
		for i := range cfg.Backends {
			cfg.Backends[i].Types = slices.DeleteFunc(slices.Clone(cfg.Backends[i].Types), func(p string) bool { return strings.HasPrefix(p, "user.") })
		}
	}
	bubble("is stored before it is answered, byte for byte, and a user's in their order", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet)
		defer stop()
		got := after(b, "patient-1", sendFrame("c1", "visit.confirmed", `{"a": 1.0,"a":2}`), sendFrame("c2", "visit.moved", `null`), sendFrame("", "visit.left", `[]`))
		if fmt.Sprint(codes(got)) != "[result c1 result c2 result ]" || !strings.Contains(got[0], `"status":"queued","sessions":0}`) {
			t.Error(got)
		}
		all := c.outbox.all()
		var order []string
		for i, cb := range all {
			body := string(cb.Body)
			order = append(order, body[strings.Index(body, `"event":`):])
			if cb.Backend != "clinic" || cb.Type != bridge.CallbackSent || cb.User != "patient-1" || !strings.Contains(body, `"from":"patient-1","session":"ses_`) {
				t.Errorf("%+v %s", cb, body)
			}
			var id string
			if _, rest, ok := strings.Cut(got[i], `"id":"`); ok {
				id, _, _ = strings.Cut(rest, `"`)
			}
			if id == "" || !strings.Contains(body, `"id":"`+id+`"`) {
				t.Errorf("the result's id %q is not in %s", id, body)
			}
		}
		want := []string{`"event":{"type":"visit.confirmed","data":{"a": 1.0,"a":2}}}}`, `"event":{"type":"visit.moved","data":null}}}`, `"event":{"type":"visit.left","data":[]}}}`}
		if !slices.Equal(order, want) {
			t.Errorf("%q", order)
		}
		if log := c.logs.String(); strings.Count(log, "msg=accepted") != 3 || !strings.Contains(log, "to=backend:clinic") || strings.Contains(log, "1.0") {
			t.Error(log)
		}
	})
	bubble("needs a right for its type, and a backend that takes it from this user", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet)
		defer stop()
		named := func(name string) string {
			return fmt.Sprintf(`{"type":"send","ref":"r","to":{"backend":%q},"event":{"type":"visit.confirmed"}}`, name)
		}
		got := after(b, "patient-1", sendFrame("1", "doctor.chat", `1`), sendFrame("2", "other.thing", `1`), named("lab"), named("nobody"), named("clinic"),
			`{"type":"send","ref":"t","to":{"backend":true},"event":{"type":"visit.x","topic":"x"}}`)
		if fmt.Sprint(codes(got)) != "[error 1 forbidden_target error 2 forbidden_target error r forbidden_target error r forbidden_target result r error t invalid_frame]" {
			t.Error(codes(got))
		}
		if got := codes(after(b, "doctor-7", sendFrame("3", "visit.confirmed", `1`), sendFrame("4", "result.ready", `1`))); fmt.Sprint(got) != "[error 3 forbidden_target result 4]" {
			t.Error(got)
		}
		c.want("of all", "clinic message.sent patient-1", "lab message.sent doctor-7")
	})
	bubble("without any backend is refused", func(t *testing.T, c *clinic) {
		b, stop := c.machine(func(cfg *bridge.Config) { cfg.Backends, cfg.Outbox, cfg.Requester = nil, nil, nil })
		defer stop()
		if got := codes(after(b, "patient-1", sendFrame("1", "visit.confirmed", `1`), `{"type":"request","ref":"2","event":{"type":"slots.list"}}`)); fmt.Sprint(got) != "[error 1 forbidden_target error 2 forbidden_target]" {
			t.Error(got)
		}
	})
	bubble("with a ref is stored once, also when it was sent on long ago, and with other content is a conflict", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet)
		defer stop()
		confirmed := sendFrame("c1", "visit.confirmed", `{"visit":7}`)
		first := after(b, "patient-1", confirmed)
		if got := codes(after(b, "patient-1", confirmed)); fmt.Sprint(got) != "[result c1 duplicate]" {
			t.Error(got)
		}
		c.want("of two", "clinic message.sent patient-1")
		c.outbox.take()
		again := after(b, "patient-1", confirmed, sendFrame("c1", "visit.confirmed", `{"visit":8}`), sendFrame("c1", "visit.moved", `{"visit":7}`),
			strings.Replace(confirmed, "true", `"clinic"`, 1))
		if fmt.Sprint(codes(again)) != "[result c1 duplicate error c1 id_conflict error c1 id_conflict error c1 id_conflict]" {
			t.Error(codes(again))
		}
		c.want("afterwards")
		if id := first[0][:60]; !strings.HasPrefix(again[0], id) {
			t.Errorf("another id: %s, %s", first, again)
		}
		if got := codes(after(b, "patient-2", confirmed)); fmt.Sprint(got) != "[result c1]" {
			t.Error("somebody else's ref:", got)
		}
	})
	bubble("that broke off before or after it was stored is completed by its retry", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet)
		defer stop()
		for i, method := range []string{"Claim", "Lookup", "Post", "Claim stored"} {
			send := sendFrame(method, "visit.confirmed", fmt.Sprint(i))
			c.fail(method, bridge.ErrUnavailable)
			if got := codes(after(b, "patient-1", send)); fmt.Sprint(got) != "[error "+method+" unavailable]" {
				t.Error(method, got)
			}
			c.fail(method, nil)
			if got := codes(after(b, "patient-1", send, send)); fmt.Sprint(got) != "[result "+method+" result "+method+" duplicate]" {
				t.Error(method, got)
			}
			c.want("of three: "+method, "clinic message.sent patient-1")
			c.outbox.take()
		}
	})
	bubble("with a ref that another is using at the same moment is refused, and not told", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet)
		defer stop()
		p, q := join(b, "patient-1"), join(b, "patient-1")
		synctest.Wait()
		p.got()
		q.got()
		release := c.hold("Post")
		p.in <- sendFrame("c1", "visit.confirmed", `7`)
		synctest.Wait()
		q.in <- sendFrame("c1", "visit.confirmed", `8`)
		synctest.Wait()
		release()
		synctest.Wait()
		if got := fmt.Sprint(codes(p.got()), codes(q.got())); got != "[result c1] [error c1 id_conflict]" {
			t.Error(got)
		}
		if all := c.outbox.all(); len(all) != 1 || !strings.HasSuffix(string(all[0].Body), `"data":7}}}`) {
			t.Errorf("%q", all)
		}
	})
	bubble("that cannot be stored is told so, and stands in no audit line as accepted", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet)
		for _, err := range []error{bridge.ErrOutboxFull, bridge.ErrUnavailable, errors.New("disk")} {
			c.fail("Post", err)
			if got := codes(after(b, "patient-1", sendFrame("c1", "visit.confirmed", `1`))); fmt.Sprint(got) != "[error c1 unavailable]" {
				t.Error(err, got)
			}
		}
		c.fail("Post", nil)
		if strings.Contains(c.logs.String(), "accepted") {
			t.Error(c.logs.String())
		}
		stop()
		back := ""
		if _, err := b.SendToBackend(context.Background(), *patientOf("patient-1"), "", "", wire.Event{Type: "visit.x", To: wire.Target{Backend: &back}}); !errors.Is(err, bridge.ErrDraining) {
			t.Error(err)
		}
	})
	bubble("beyond the user's rate is refused, and the connection stays", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet, func(cfg *bridge.Config) { cfg.UserRate, cfg.UserBytes = 1, 1000 })
		defer stop()
		frames := []string{}
		for i := range 7 {
			frames = append(frames, sendFrame(fmt.Sprint(i), "visit.confirmed", `1`))
		}
		frames = append(frames, `{"type":"ping"}`)
		if got := fmt.Sprint(codes(after(b, "patient-1", frames...))); got != "[result 0 result 1 result 2 result 3 result 4 error 5 rate_limited error 6 rate_limited pong ]" {
			t.Error(got)
		}
		time.Sleep(time.Minute)
		large := `"` + strings.Repeat("x", 3000) + `"`
		if got := fmt.Sprint(codes(after(b, "patient-1", sendFrame("a", "visit.x", large), sendFrame("b", "visit.x", large)))); got != "[result a error b rate_limited]" {
			t.Error(got)
		}
	})
	bubble("is what a plain client's message without an address is", func(t *testing.T, c *clinic) {
		b, stop := c.machine(quiet)
		defer stop()
		p := join(b, "patient-1", bridge.Handshake{Plain: true})
		p.in <- `{"message":{"here": true}}`
		synctest.Wait()
		if got := p.got(); len(got) != 0 {
			t.Error(got)
		}
		if all := c.outbox.all(); len(all) != 1 || !strings.HasSuffix(string(all[0].Body), `"event":{"type":"message","data":{"message":{"here": true}}}}}`) {
			t.Errorf("%q", all)
		}
		q := join(b, "nurse-1", bridge.Handshake{Plain: true})
		q.in <- `{"message":"x"}`
		synctest.Wait()
		if got := fmt.Sprint(codes(q.got())); got != "[error  forbidden_target]" {
			t.Error(got)
		}
	})
}

func TestEscalate(t *testing.T) {
	b := newBridge(t, func(string) bool { return false })
	for _, c := range []struct {
		e    wire.Event
		want string
	}{
		{wire.Event{To: wire.Target{User: "u"}, TTL: 2 * time.Minute, Escalate: 2 * time.Minute}, ""},
		{wire.Event{To: wire.Target{User: "u"}, TTL: -1, Escalate: 72 * time.Hour}, ""},
		{wire.Event{To: wire.Target{Users: []string{"u", "v"}}, TTL: -1, Escalate: time.Second}, ""},
		{wire.Event{To: wire.Target{User: "u"}, TTL: -1, Escalate: 72*time.Hour + time.Second}, "/escalate must be at most the ttl, which is 259200 seconds"},
		{wire.Event{To: wire.Target{User: "u"}, TTL: time.Minute, Escalate: 2 * time.Minute}, "/escalate must be at most the ttl, which is 60 seconds"},
		{wire.Event{To: wire.Target{User: "u"}, TTL: 0, Escalate: time.Minute}, "/escalate needs a ttl"},
		{wire.Event{To: wire.Target{All: true}, TTL: -1, Escalate: time.Minute}, "/escalate is not for a message to all"},
	} {
		c.e.Type = "t"
		_, err := b.Publish(t.Context(), bridge.PublishRequest{ID: fmt.Sprint("m", c.e.TTL, c.e.Escalate), Timestamp: time.Now(), Event: c.e}, bridge.Wait{})
		_, sent := b.Send(t.Context(), *identity("d"), fmt.Sprint(c.e.TTL, c.e.Escalate), c.e)
		for place, err := range map[string]error{"": err, "/event": sent} {
			p := bridge.ProblemOf(err)
			if c.want == "" && err != nil || c.want != "" && (err == nil || p.Status != 422 || !strings.HasPrefix(p.Detail, place+c.want)) {
				t.Errorf("%+v: %v", c.e, err)
			}
		}
	}
}
