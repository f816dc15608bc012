package callback

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/bridge"
)

func TestCallback(t *testing.T) {
	t.Run("is signed with each secret, and keeps its id over its tries", callbackIsSigned)
	t.Run("that always fails is tried for three days, and then given up", callbackIsGivenUp)
	t.Run("is given up at once where the backend answers with 410", callbackIsGone)
	t.Run("is tried again where the backend answers later than in 15 seconds", callbackIsLate)
	t.Run("waits as long as Retry-After asks, in seconds or as a date, and no longer than three days", callbackRetryAfter)
	t.Run("is tried again as soon as a busy backend asks for, and of no other", callbackRetrySoon)
	t.Run("waits for the one before it where it is sent in order", callbackInOrder)
	t.Run("whose try panics is tried again, and nothing else ends", callbackPanics)
	t.Run("is not asked for without end where the store's clock is behind", callbackClockBehind)
	t.Run("is sent once where the store fails to settle it", callbackStoreFails)
	t.Run("is not asked for once the store is closed", callbackStoreCloses)
	t.Run("that is refused is tried again in its time, where nothing else waits", callbackRefusedAlone)
	t.Run("that another machine has left is found, whatever waits for a later time", callbackOfAnotherMachine)
}

func TestStop(t *testing.T) {
	t.Run("waits for the tries under way", stopWaits)
	t.Run("cuts off tries that take too long, and does not count them", stopCutsOff)
}

func TestState(t *testing.T) {
	t.Run("is failing from the first failed try until one succeeds, and is logged once a minute", stateFails)
}

func TestMetrics(t *testing.T) {
	t.Run("tell what waits", metricsOfBacklog)
}

// calls counts posts and how many are under way at once. Its fields are read after
// synctest.Wait.
type calls struct {
	n, now, most atomic.Int64
}

func (c *calls) begin() (end func()) {
	c.n.Add(1)
	now := c.now.Add(1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	return func() { c.now.Add(-1) }
}

func callbackIsSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend("default", "https://user:pa%20ss@clinic.example/hook?token=t")
		b.Secrets = []string{secret('a'), secret('b')}
		s, l := sender(t, b)
		var ids, stamps []string
		s.byName["default"].endpoint.http = posts(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			if user, pass, _ := r.BasicAuth(); r.URL.String() != "https://clinic.example/hook?token=t" || user != "user" || pass != "pa ss" {
				t.Errorf("%s as %s %s", r.URL, user, pass)
			}
			if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || string(body) != `{"type":"event.acked"}` {
				t.Errorf("%s %v %s", r.Method, r.Header, body)
			}
			for _, secret := range b.Secrets {
				w, err := standardwebhooks.NewWebhook(strings.TrimPrefix(secret, "whsec_"))
				if err != nil {
					t.Fatal(err)
				}
				// The library reads the clock of the machine, which a bubble's is not.
				if err := w.VerifyIgnoringTimestamp(body, r.Header); err != nil {
					t.Error(err)
				}
			}
			ids, stamps = append(ids, r.Header.Get("webhook-id")), append(stamps, r.Header.Get("webhook-timestamp"))
			if len(ids) < 3 {
				return answer(500), nil
			}
			return answer(204), nil
		})
		o := newOutbox()
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(3 * time.Minute)
		stop(s)
		slices.Sort(stamps)
		if n := l.metric(t, "hookbridge_callbacks_given_up_total", "default"); n != 0 || strings.Contains(l.String(), "given up") {
			t.Errorf("%v were given up; said %s", n, l)
		}
		if fmt.Sprint(ids) != "[msg_1 msg_1 msg_1]" || len(slices.Compact(stamps)) != 3 || o.counts() != "0 waiting, 1 done, 0 dead" {
			t.Error(ids, stamps, o.counts())
		}
	})
}

func callbackIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		s, l := answered(t, func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(began))
			return answer(400), nil
		})
		o := newOutbox()
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(80 * time.Hour)
		stop(s)
		want := []time.Duration{0, 5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 6 * time.Hour, 18 * time.Hour, 30 * time.Hour, 42 * time.Hour, 54 * time.Hour}
		if len(at) < len(want) || at[len(at)-1] > 72*time.Hour {
			t.Fatal(at)
		}
		for i, d := range want {
			if at[i] < d*3/4 || at[i] > d*5/4+time.Second {
				t.Errorf("try %d at %s, not about %s", i+1, at[i], d)
			}
		}
		if d := o.dead["msg_1"]; d.Tries != len(at) || d.Last != "status 400" {
			t.Errorf("%+v", d)
		}
		if n := l.metric(t, "hookbridge_callbacks_given_up_total", "default"); n != 1 || !strings.Contains(l.String(), "a callback was given up") {
			t.Error(n, l)
		}
	})
}

func callbackIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c calls
		s, l := answered(t, func(*http.Request) (*http.Response, error) {
			defer c.begin()()
			if c.n.Load() == 1 {
				time.Sleep(15*time.Second + time.Millisecond)
			} else {
				time.Sleep(15*time.Second - time.Millisecond)
			}
			return answer(200), nil
		})
		o := newOutbox()
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(16 * time.Second)
		if st := s.State("default"); c.n.Load() != 1 || !st.Failing || o.counts() != "1 waiting, 0 done, 0 dead" || !strings.Contains(l.String(), "it took too long") {
			t.Errorf("%d tries, %+v, %s, said %s", c.n.Load(), st, o.counts(), l)
		}
		time.Sleep(time.Minute)
		stop(s)
		if c.n.Load() != 2 || o.counts() != "0 waiting, 1 done, 0 dead" {
			t.Errorf("%d tries, %s", c.n.Load(), o.counts())
		}
	})
}

func callbackIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c calls
		s, l := answered(t, func(*http.Request) (*http.Response, error) { defer c.begin()(); return answer(410), nil })
		o := newOutbox()
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(100 * time.Hour)
		stop(s)
		if c.n.Load() != 1 || o.counts() != "0 waiting, 0 done, 1 dead" || l.metric(t, "hookbridge_callbacks_tries_total", "default", "gone") != 1 {
			t.Error(c.n.Load(), o.counts())
		}
	})
}

func callbackRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"7200": 2 * time.Hour, "date": 3 * time.Hour, "999999999999999999999": 72 * time.Hour, "soon": 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var at []time.Duration
			s, _ := answered(t, func(*http.Request) (*http.Response, error) {
				at = append(at, time.Since(began))
				if len(at) > 1 {
					return answer(200), nil
				}
				if header == "date" {
					return answer(503, "Retry-After: "+began.Add(want).UTC().Format(http.TimeFormat)), nil
				}
				return answer(503, "Retry-After: "+header), nil
			})
			o := newOutbox()
			o.post("default", "msg_1")
			s.Start(o)
			time.Sleep(75 * time.Hour)
			stop(s)
			if len(at) != 2 || at[1] < want*3/4 || at[1] > want*5/4+time.Second || want > time.Minute && at[1] < want {
				t.Errorf("%s: tried at %s", header, at)
			}
		})
	}
}

func callbackRetrySoon(t *testing.T) {
	for status, soon := range map[int]bool{429: true, 503: true, 500: false, 404: false} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Time
			s, _ := answered(t, func(*http.Request) (*http.Response, error) {
				if at = append(at, time.Now()); len(at) == 1 {
					return answer(status, "Retry-After: 2"), nil
				}
				return answer(200), nil
			})
			o := newOutbox()
			o.post("default", "msg_1")
			s.Start(o)
			rest(10 * time.Second)
			if len(at) != 2 || at[1].Sub(at[0]) < 2*time.Second || at[1].Sub(at[0]) < 3*time.Second != soon {
				t.Errorf("%d: tried at %s", status, at)
			}
			stop(s)
		})
	}
}

func callbackInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		var c calls
		s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
			defer c.begin()()
			time.Sleep(10 * time.Millisecond)
			got = append(got, r.Header.Get("webhook-id"))
			if len(got) == 1 {
				return answer(400), nil
			}
			return answer(200), nil
		})
		o := newOutbox()
		for i := range 5 {
			_ = o.Post(t.Context(), bridge.Callback{ID: fmt.Sprint("msg_", i), Backend: "default", Type: bridge.CallbackSent, User: "u", At: time.Now().Add(time.Duration(i)), Body: []byte("{}")})
		}
		s.Start(o)
		time.Sleep(time.Minute)
		stop(s)
		if fmt.Sprint(got) != "[msg_0 msg_0 msg_1 msg_2 msg_3 msg_4]" || c.most.Load() != 1 {
			t.Error(got, c.most.Load())
		}
	})
}

func callbackPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s, l := answered(t, func(*http.Request) (*http.Response, error) {
			if n++; n == 1 {
				panic("a payload")
			}
			return answer(200), nil
		})
		o := newOutbox()
		o.panics = 2
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(time.Minute)
		stop(s)
		if o.counts() != "0 waiting, 1 done, 0 dead" || l.metric(t, "hookbridge_panics_total", "callback") != 1 || l.metric(t, "hookbridge_panics_total", "callbacks") != 2 {
			t.Error(o.counts(), l)
		}
		if strings.Contains(l.String(), "a payload") {
			t.Error("what the panic said is logged")
		}
	})
}

func callbackClockBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := answered(t, func(*http.Request) (*http.Response, error) { return answer(200), nil })
		o := newOutbox()
		o.behind = 2 * time.Second
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(3 * time.Second)
		stop(s)
		if o.counts() != "0 waiting, 1 done, 0 dead" || o.leases > 50 {
			t.Errorf("%s, asked %d times", o.counts(), o.leases)
		}
	})
}

func callbackStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		var c calls
		s, _ := answered(t, func(*http.Request) (*http.Response, error) {
			defer c.begin()()
			if c.n.Load() == 1 {
				o.set(func() { o.fail = bridge.ErrUnavailable })
			}
			return answer(200), nil
		})
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(20 * time.Second)
		o.set(func() { o.fail = nil })
		time.Sleep(2 * time.Minute)
		if o.counts() != "0 waiting, 1 done, 0 dead" || c.n.Load() != 1 {
			t.Error(o.counts(), c.n.Load())
		}
		o.set(func() { o.fail = bridge.ErrClosed })
		stop(s)
	})
}

func callbackStoreCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := answered(t, func(*http.Request) (*http.Response, error) { return answer(200), nil })
		o := newOutbox()
		s.Start(o)
		rest(time.Minute)
		before := o.leases
		o.set(func() { o.fail = bridge.ErrClosed })
		rest(time.Hour)
		if n := o.leases - before; n != 1 {
			t.Errorf("it was asked %d times", n)
		}
		stop(s)
	})
}

func callbackRefusedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("webhook-id") != "msg_refused" {
				return answer(200), nil
			}
			time.Sleep(time.Millisecond)
			if at = append(at, time.Now()); len(at) == 1 {
				return answer(422), nil
			}
			return answer(200), nil
		})
		o := newOutbox()
		s.Start(o)
		for i := range 4 { // more than one is tried at once from now on
			o.post("default", fmt.Sprint("msg_", i))
			rest(time.Second)
		}
		o.post("default", "msg_refused")
		rest(7 * time.Second)
		if len(at) != 2 || at[1].Sub(at[0]) < 3750*time.Millisecond || o.counts() != "0 waiting, 5 done, 0 dead" {
			t.Error(at, o.counts())
		}
		stop(s)
	})
}

func callbackOfAnotherMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := answered(t, func(*http.Request) (*http.Response, error) { return answer(200), nil })
		o := newOutbox()
		o.post("default", "msg_later")
		o.set(func() { o.waiting[0].due = time.Now().Add(12 * time.Hour) })
		s.Start(o)
		rest(time.Minute)
		o.set(func() {
			o.add(bridge.Callback{ID: "msg_left", Backend: "default", Type: bridge.CallbackAcked, User: "u", At: time.Now(), Body: []byte("{}")})
		})
		rest(lookInterval)
		if o.counts() != "1 waiting, 1 done, 0 dead" {
			t.Error(o.counts())
		}
		stop(s)
	})
}

func stopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := time.Duration(0)
		s, _ := answered(t, func(*http.Request) (*http.Response, error) { time.Sleep(took); return answer(200), nil })
		o := newOutbox()
		for i := range maxInFlight { // so many successes, and so many are tried at once
			o.post("default", fmt.Sprint("msg_", i))
		}
		s.Start(o)
		rest(time.Second)
		took = 3 * time.Second
		for i := range 40 {
			o.post("default", fmt.Sprint("msg_slow_", i))
		}
		rest(time.Second)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s.Stop(ctx)
		if took := time.Since(began); took != 2*time.Second || o.counts() != "24 waiting, 32 done, 0 dead" {
			t.Error(took, o.counts())
		}
	})
}

func stopCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := answered(t, func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
		o := newOutbox()
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		s.Stop(ctx)
		e := o.waiting[0]
		if took := time.Since(began); took != 2*time.Second || e.Tries != 0 || e.due.After(time.Now()) || e.leased.After(time.Now()) || s.State("default").Failing {
			t.Errorf("%s %+v %s", took, e, l)
		}
	})
}

func stateFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := 200
		s, l := answered(t, func(*http.Request) (*http.Response, error) { return answer(status), nil })
		o := newOutbox()
		began, n := time.Now(), 0
		s.Start(o)
		try := func(answer int) {
			status = answer
			n++
			o.post("default", fmt.Sprint("msg_", n))
			rest(time.Second)
		}
		since := map[bool]time.Time{false: began}
		for i, answer := range []int{200, 404, 404, 200, 200, 404, 200} {
			was := s.State("default")
			if fails := answer != 200; fails != was.Failing {
				since[fails] = time.Now()
			}
			try(answer)
			if got := s.State("default"); got.Failing != (answer != 200) || !got.Since.Equal(since[got.Failing]) {
				t.Errorf("after %d answers: %+v, and began %v", i+1, got, since)
			}
		}
		stop(s)
		for _, said := range []string{"does not take its callbacks", "takes its callbacks again"} {
			if n := strings.Count(l.String(), said); n != 1 {
				t.Errorf("%d times it says that a backend %s", n, said)
			}
		}
	})
}

func metricsOfBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := answered(t, func(*http.Request) (*http.Response, error) { return answer(404), nil })
		o := newOutbox()
		if l.metric(t, "hookbridge_callbacks_waiting", "default") != -1 {
			t.Error("a backlog is told of before there is an outbox")
		}
		o.post("default", "msg_1")
		s.Start(o)
		time.Sleep(3 * time.Second)
		for name, want := range map[string]float64{"waiting": 1, "waiting_bytes": 22, "oldest_seconds": 3, "dead": 0, "failing": 1, "try_seconds": 1} {
			if got := l.metric(t, "hookbridge_callbacks_"+name, "default"); got != want {
				t.Errorf("%s is %v", name, got)
			}
		}
		o.post("default", "msg_2")
		if got := l.metric(t, "hookbridge_callbacks_waiting", "default"); got != 1 {
			t.Errorf("the store was asked again at once: %v", got)
		}
		time.Sleep(backlogAge)
		if got := l.metric(t, "hookbridge_callbacks_waiting", "default"); got != 2 {
			t.Errorf("%v wait", got)
		}
		o.set(func() { o.fail = bridge.ErrUnavailable })
		time.Sleep(backlogAge)
		if got := l.metric(t, "hookbridge_callbacks_waiting", "default"); got != -1 {
			t.Errorf("without a store %v wait", got)
		}
		stop(s)
	})
}
