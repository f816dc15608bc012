package callback

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
)

func TestBackendDown(t *testing.T) {
	for name, down := range map[string]posts{
		"cannot be reached": func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") },
		"answers with 503":  func(*http.Request) (*http.Response, error) { return answer(503), nil },
		"answers with 429":  func(*http.Request) (*http.Response, error) { return answer(429), nil },
		"never answers":     func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
	} {
		t.Run("is probed by one try at a time, and its backlog drains once it is back, where it "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const waiting = 10_000
				var c, back calls
				up := false
				s, l := answered(t, func(r *http.Request) (*http.Response, error) {
					if up {
						defer back.begin()()
						time.Sleep(20 * time.Millisecond)
						return answer(200), nil
					}
					defer c.begin()()
					return down(r)
				})
				o := newOutbox()
				for i := range waiting {
					o.post("default", fmt.Sprint("msg_", i))
				}
				s.Start(o)
				defer stop(s)
				time.Sleep(20 * time.Second) // the first failures have come
				if st := s.State("default"); !st.Failing || l.metric(t, "hookbridge_callbacks_failing", "default") != 1 {
					t.Errorf("%+v", st)
				}
				first := c.n.Load()
				c.most.Store(0)
				time.Sleep(10 * time.Minute)
				probes := c.n.Load() - first
				if first > maxInFlight+6 || probes < 10 || probes > 40 || c.most.Load() != 1 {
					t.Errorf("%d tries at first, then %d in ten minutes, %d at once", first, probes, c.most.Load())
				}
				up = true
				began := time.Now()
				for o.counts() != fmt.Sprintf("0 waiting, %d done, 0 dead", waiting) {
					if time.Since(began) > 8*time.Hour {
						t.Fatal(o.counts())
					}
					time.Sleep(time.Second)
					// A probe that hangs for 15 s, a pause of at most 37.5 s, and 16 at once from then on.
					if time.Since(began) > 65*time.Second && back.n.Load() < waiting/2 {
						t.Fatalf("%d after %s", back.n.Load(), time.Since(began))
					}
				}
				if back.most.Load() > maxInFlight || s.State("default").Failing {
					t.Errorf("%d at once; %+v", back.most.Load(), s.State("default"))
				}
				if strings.Count(l.String(), "does not take its callbacks") != 1 || strings.Count(l.String(), "takes its callbacks again") != 1 {
					t.Errorf("said %s", l)
				}
			})
		})
	}
	t.Run("is not asked again before its Retry-After, within an hour", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Duration
			began := time.Now()
			s, _ := answered(t, func(*http.Request) (*http.Response, error) {
				at = append(at, time.Since(began))
				if len(at) == 1 {
					return answer(429, "Retry-After: 600"), nil
				}
				return answer(429, "Retry-After: 86400"), nil
			})
			o := newOutbox()
			o.post("default", "msg_1")
			s.Start(o)
			time.Sleep(time.Second)
			o.post("default", "msg_2")
			o.post("default", "msg_3")
			time.Sleep(2 * time.Hour)
			stop(s)
			if len(at) != 3 || at[1] < 10*time.Minute || at[1] > 11*time.Minute || at[2]-at[1] < time.Hour || at[2]-at[1] > 61*time.Minute {
				t.Error(at)
			}
		})
	})
	t.Run("is probed by one try at a time from the first failure on, in the midst of its backlog", downInTheMidst)
	t.Run("is not asked again before the longest Retry-After of those that were under way", downWithManyUnderWay)
	t.Run("is probed soon again in each outage", downTwice)
	t.Run("holds up no other backend", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, _ := sender(t, backend("slow", "https://slow.example"), backend("fast", "https://fast.example"))
			s.byName["slow"].endpoint.http = posts(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
			var c calls
			s.byName["fast"].endpoint.http = posts(func(*http.Request) (*http.Response, error) { defer c.begin()(); return answer(200), nil })
			o := newOutbox()
			for i := range 100 {
				o.post("slow", fmt.Sprint("msg_s", i))
				o.post("fast", fmt.Sprint("msg_f", i))
			}
			s.Start(o)
			time.Sleep(time.Second)
			if o.counts() != "100 waiting, 100 done, 0 dead" {
				t.Error(o.counts())
			}
			if s.State("fast").Failing {
				t.Error("the fast one fails")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			s.Stop(ctx)
		})
	})
	t.Run("does not count as down where it refuses one callback of many", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
				time.Sleep(time.Millisecond)
				if r.Header.Get("webhook-id") == "msg_3" {
					return answer(422), nil
				}
				return answer(200), nil
			})
			o := newOutbox()
			for i := range 1000 {
				o.post("default", fmt.Sprint("msg_", i))
			}
			s.Start(o)
			time.Sleep(time.Second)
			if o.counts() != "1 waiting, 999 done, 0 dead" || s.State("default").Failing {
				t.Error(o.counts(), s.State("default"))
			}
			stop(s)
		})
	})
}

// fill posts n callbacks at once, each about a user of its own.
func (o *outbox) fill(n int) {
	var cs []bridge.Callback
	for i := range n {
		cs = append(cs, bridge.Callback{ID: fmt.Sprint("msg_", i), Backend: "default", Type: bridge.CallbackAcked, User: fmt.Sprint("u", i), At: time.Now(), Body: []byte("{}")})
	}
	_ = o.Post(context.Background(), cs...)
}

func downInTheMidst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c calls
		var took atomic.Int64
		s, _ := answered(t, func(*http.Request) (*http.Response, error) {
			if took.Add(1) <= 200 {
				time.Sleep(10 * time.Millisecond)
				return answer(200), nil
			}
			defer c.begin()()
			time.Sleep(10 * time.Millisecond)
			return answer(503), nil
		})
		o := newOutbox()
		o.fill(1000)
		s.Start(o)
		rest(time.Second) // within which the failures come
		first := c.n.Load()
		c.most.Store(0)
		rest(10 * time.Minute)
		if probes := c.n.Load() - first; first > maxInFlight+2 || probes < 10 || probes > 40 || c.most.Load() != 1 {
			t.Errorf("%d tries at first, then %d in ten minutes, %d at once", first, probes, c.most.Load())
		}
		stop(s)
	})
}

func downWithManyUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var tries, down, again atomic.Int64
		s, _ := answered(t, func(*http.Request) (*http.Response, error) {
			n := tries.Add(1)
			switch {
			case n == 65:
				down.Store(int64(time.Since(began)))
				return answer(503), nil
			case n > 65 && n <= 64+maxInFlight:
				time.Sleep(time.Duration(n) * time.Millisecond)
				return answer(503, fmt.Sprint("Retry-After: ", 10*n)), nil
			case n == 65+maxInFlight:
				again.Store(int64(time.Since(began)))
			}
			return answer(200), nil
		})
		o := newOutbox()
		s.Start(o)
		o.fill(64)
		rest(time.Second)
		o.fill(200)
		rest(time.Hour)
		asked := 10 * time.Duration(64+maxInFlight) * time.Second
		if waited := time.Duration(again.Load() - down.Load()); waited < asked || waited > asked+time.Minute {
			t.Errorf("it is asked again after %s", waited)
		}
		stop(s)
	})
}

func downTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		s, _ := answered(t, func(*http.Request) (*http.Response, error) {
			if down.Load() {
				return answer(503), nil
			}
			return answer(200), nil
		})
		o := newOutbox()
		s.Start(o)
		for _, outage := range []time.Duration{10 * time.Minute, time.Second} {
			down.Store(true)
			o.fill(1000)
			rest(outage)
			down.Store(false)
			rest(time.Minute)
			o.fill(1)
			rest(time.Minute)
			if s.State("default").Failing {
				t.Fatal("it is back")
			}
		}
		down.Store(true)
		o.fill(100)
		rest(100 * time.Millisecond)
		down.Store(false)
		rest(probeFirst * 5 / 4)
		if s.State("default").Failing {
			t.Error("it is not asked again after a second")
		}
		stop(s)
	})
}
