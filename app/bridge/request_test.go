package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

func TestRequest(t *testing.T) {
	bubble := func(name string, f func(t *testing.T, c *clinic)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClinic(t)
				c.asked.set(func(context.Context, []byte) (int, []byte, error) { return 200, []byte(`{"slots": [1.0]}`), nil })
				f(t, c)
			})
		})
	}
	request := func(ref string) string {
		return fmt.Sprintf(`{"type":"request","ref":%q,"event":{"type":"slots.list","data":{"doctor": "d-7"}},"timeoutMs":2500}`, ref)
	}
	open := func(b *bridge.Bridge, user string) *patient {
		p := join(b, user)
		synctest.Wait()
		p.got()
		return p
	}
	// never answers until whoever asks gives up.
	never := func(ctx context.Context, _ []byte) (int, []byte, error) {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
	bubble("is posted once, and answered with the backend's bytes", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		p := open(b, "patient-1")
		p.in <- request("q1")
		p.in <- `{"type":"request","event":{"type":"slots.list"},"to":{"backend":"clinic"}}`
		synctest.Wait()
		got := p.got()
		if len(got) != 2 || got[0] != `{"type":"response","ref":"q1","status":200,"data":{"slots": [1.0]}}` && got[1] != `{"type":"response","ref":"q1","status":200,"data":{"slots": [1.0]}}` {
			t.Error(got)
		}
		c.asked.mu.Lock()
		defer c.asked.mu.Unlock()
		body := strings.Join(c.asked.bodies, "\n")
		if len(c.asked.bodies) != 2 || !strings.Contains(body, `{"type":"request","timestamp":"`) || !strings.Contains(body, `"data":{"from":"patient-1","session":"ses_`) ||
			!strings.Contains(body, `"event":{"type":"slots.list","data":{"doctor": "d-7"}}}}`) {
			t.Error(body)
		}
		if asked := fmt.Sprint(c.asked.asked); !strings.Contains(asked, "clinic 2.5s") || !strings.Contains(asked, "clinic 5s") {
			t.Error(asked)
		}
		if log := c.logs.String(); strings.Count(log, "msg=requested") != 2 || strings.Contains(log, "d-7") {
			t.Error(log)
		}
	})
	bubble("that fails says why, with the backend's status", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		p := open(b, "patient-1")
		for _, f := range []struct {
			err  error
			want string
		}{
			{bridge.ErrBackendTimeout, `"status":504,"code":"backend_timeout"`},
			{&bridge.BackendError{Status: 500, Why: "not a 2xx status"}, `"status":502,"code":"backend_failed","detail":"the backend answered 500: not a 2xx status","backendStatus":500}`},
			{&bridge.BackendError{Why: "no answer came"}, `"code":"backend_failed","detail":"the backend could not be reached: no answer came"}`},
			{bridge.ErrUnavailable, `"status":503,"code":"unavailable"`},
			{bridge.ErrBackendBusy, `"status":503,"code":"unavailable","detail":"too many requests to the backend are under way; ask again`},
		} {
			c.asked.set(func(context.Context, []byte) (int, []byte, error) { return 0, nil, f.err })
			p.in <- request("q")
			synctest.Wait()
			if got := p.got(); len(got) != 1 || !strings.HasPrefix(got[0], `{"type":"error","ref":"q",`) || !strings.Contains(got[0], f.want) {
				t.Error(f.err, got)
			}
		}
	})
	bubble("needs the same rights as a send, and right members", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		p := open(b, "patient-1")
		for _, f := range []string{`{"type":"request","ref":"1","event":{"type":"doctor.x"}}`, `{"type":"request","ref":"2","event":{"type":"slots.x"},"to":{"backend":"lab"}}`,
			`{"type":"request","ref":"3","event":{"type":"slots.x"},"to":{"user":"u"}}`, `{"type":"request","ref":"4"}`, `{"type":"request","ref":"5","event":{"type":"slots.x"},"timeoutMs":0}`,
			`{"type":"request","ref":"` + strings.Repeat("x", 129) + `","event":{"type":"slots.x"}}`} {
			p.in <- f
			synctest.Wait()
		}
		if got := fmt.Sprint(codes(p.got())); got != "[error 1 forbidden_target error 2 forbidden_target error 3 invalid_frame error 4 invalid_frame error 5 invalid_frame error  invalid_frame]" {
			t.Error(got)
		}
		for range 4 { // those that were refused are not under way
			p.in <- `{"type":"request","ref":"1","event":{"type":"doctor.x"}}`
			synctest.Wait()
		}
		p.got()
		p.in <- request("q")
		synctest.Wait()
		if got := fmt.Sprint(codes(p.got())); got != "[response q]" {
			t.Error(got)
		}
	})
	bubble("holds up no other frame, and a session has four at most", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		release := make(chan struct{})
		c.asked.set(func(context.Context, []byte) (int, []byte, error) { <-release; return 201, []byte(`7`), nil })
		p, other := open(b, "patient-1"), open(b, "patient-1")
		for i := range 5 {
			p.in <- request(fmt.Sprint(i))
		}
		p.in <- `{"type":"ping"}`
		synctest.Wait()
		if got := fmt.Sprint(codes(p.got())); got != "[error 4 rate_limited pong ]" {
			t.Error(got)
		}
		other.in <- request("o")
		close(release)
		synctest.Wait()
		if got := len(p.got()); got != 4 {
			t.Error(got)
		}
		if got := other.got(); len(got) != 1 || got[0] != `{"type":"response","ref":"o","status":201,"data":7}` {
			t.Error("another session:", got)
		}
		p.in <- request("again")
		synctest.Wait()
		if got := fmt.Sprint(codes(p.got())); got != "[response again]" {
			t.Error(got)
		}
	})
	bubble("makes room for another before it is answered", func(t *testing.T, c *clinic) {
		b, stop := c.machine(func(cfg *bridge.Config) { cfg.Audit = bridge.Audit{} }) // whoever has the answer writes it then
		defer stop()
		release := make(chan struct{})
		c.asked.set(func(context.Context, []byte) (int, []byte, error) { <-release; return 200, []byte(`7`), nil })
		p := &slowWrites{patient: &patient{line: newLine()}}
		p.in <- `{"type":"connect"}`
		b.Accept(p, bridge.Handshake{Identity: patientOf("patient-1")})
		for i := range 4 {
			p.in <- request(fmt.Sprint(i))
		}
		synctest.Wait()
		p.got()
		p.wrote = make(chan struct{})
		release <- struct{}{}
		synctest.Wait() // the answer is on the line, and the one who has written it does not know yet
		p.in <- request("again")
		synctest.Wait()
		close(p.wrote)
		close(release)
		synctest.Wait()
		if got := fmt.Sprint(codes(p.got())); strings.Count(got, "response") != 5 || !strings.Contains(got, "response again") {
			t.Error(got)
		}
	})
	bubble("counts in the user's rate", func(t *testing.T, c *clinic) {
		b, stop := c.machine(func(cfg *bridge.Config) { cfg.UserRate = 1 })
		defer stop()
		p := open(b, "patient-1")
		for range 7 {
			p.in <- request("q")
			synctest.Wait()
		}
		if got := strings.Count(fmt.Sprint(codes(p.got())), "rate_limited"); got != 2 {
			t.Error(got)
		}
		if _, err := b.Request(t.Context(), *patientOf("patient-1"), wire.Event{Type: "slots.list"}, time.Second); bridge.ProblemOf(err).Code != wire.CodeRateLimited {
			t.Error(err)
		}
	})
	bubble("ends with its session", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		ended := make(chan struct{}, 8)
		c.asked.set(func(ctx context.Context, body []byte) (int, []byte, error) {
			defer func() { ended <- struct{}{} }()
			return never(ctx, body)
		})
		p := open(b, "patient-1")
		p.in <- request("1")
		synctest.Wait()
		p.Abort()
		synctest.Wait()
		if len(ended) != 1 {
			t.Error("it goes on when the session is lost")
		}
		p = open(b, "patient-1")
		p.in <- request("2")
		synctest.Wait()
		began := time.Now()
		stop()
		if len(ended) != 2 || time.Since(began) > time.Second {
			t.Error("it holds up the drain", time.Since(began))
		}
	})
	bubble("over HTTP is of no session, and a user has four at most", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		ask := func(ctx context.Context, user string) (bridge.Response, error) {
			return b.Request(ctx, *patientOf(user), wire.Event{Type: "slots.list", Data: []byte(`{}`)}, time.Second)
		}
		r, err := ask(t.Context(), "patient-1")
		if err != nil || r.Status != 200 || string(r.Data) != `{"slots": [1.0]}` {
			t.Errorf("%+v %v", r, err)
		}
		if !strings.Contains(c.asked.bodies[0], `"data":{"from":"patient-1","event":{"type":"slots.list","data":{}}}}`) {
			t.Error(c.asked.bodies)
		}
		c.asked.set(never)
		life, end := context.WithCancel(t.Context())
		errs := make(chan error, 8)
		wait := func(ctx context.Context, n int) {
			for range n {
				go func() {
					_, err := ask(ctx, "patient-1")
					errs <- err
				}()
			}
			synctest.Wait()
		}
		one, endOne := context.WithCancel(t.Context())
		wait(life, 3)
		wait(one, 1)
		endOne()
		<-errs
		wait(life, 1)
		if _, err := ask(t.Context(), "patient-1"); bridge.ProblemOf(err).Code != wire.CodeRateLimited {
			t.Error(err)
		}
		c.asked.set(func(context.Context, []byte) (int, []byte, error) { return 200, []byte(`1`), nil })
		if _, err := ask(t.Context(), "patient-2"); err != nil {
			t.Error("somebody else:", err)
		}
		end()
		for range 4 {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if _, err := ask(t.Context(), "patient-1"); err != nil {
			t.Error("afterwards:", err)
		}
	})
}

// slowWrites is a patient whose frames arrive before the writer is told so.
type slowWrites struct {
	*patient
	wrote chan struct{} // closed when the writer may go on; nil: it does not wait
}

func (p *slowWrites) TryWrite(frames []byte) (int, error) {
	n, err := p.patient.TryWrite(frames)
	if p.wrote != nil {
		<-p.wrote
	}
	return n, err
}
