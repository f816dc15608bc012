package callback

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
)

func TestHurry(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"after a long outage a user's messages go at once, and in order":        hurryAfterAnOutage,
		"what an earlier run left goes when the first callback was taken":       hurryAfterAStart,
		"what is tried by a bridge that starts in an outage goes after it":      hurryAfterAStartInAnOutage,
		"what another machine left goes minutes after a callback was taken":     hurryOfAnotherMachine,
		"a callback that failed once waits its few seconds":                     hurryKeepsTheFirstPause,
		"each of two outages that follow each other":                            hurryAfterEachOutage,
		"a callback that is refused has its own schedule, as a probe too":       hurryAndRefusal,
		"while the store fails it is asked again, once a second":                hurryIsRepeated,
		"while the store fails it is asked again":                               hurryWithABrokenStore,
		"a callback that takes the backend down each time has its own schedule": hurryAndPoison,
		"what the backend asked to wait for by Retry-After keeps its time":      hurryAndRetryAfter,
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

// rest lets time go by, and everybody else do what is due by then.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// say posts the n-th message of a user to the backend.
func (o *outbox) say(user string, n int) {
	_ = o.Post(context.Background(), bridge.Callback{ID: fmt.Sprint("msg_", user, n), Backend: "default", Type: bridge.CallbackSent, User: user, At: time.Now(), Body: []byte("{}")})
}

func hurryAfterAnOutage(t *testing.T) {
	var got []string
	up := false
	s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
		if !up {
			return answer(503), nil
		}
		got = append(got, r.Header.Get("webhook-id"))
		return answer(204), nil
	})
	o := newOutbox()
	for i := range 5 {
		o.say("ada", i)
	}
	s.Start(o)
	rest(8 * time.Hour) // the next try of the first one is hours away
	up = true
	rest(time.Hour)
	if len(got) != 0 {
		t.Fatal("the test is no longer about a callback that waits:", got)
	}
	o.say("bob", 0)
	rest(2 * time.Second)
	if want := "[msg_bob0 msg_ada0 msg_ada1 msg_ada2 msg_ada3 msg_ada4]"; fmt.Sprint(got) != want || o.counts() != "0 waiting, 6 done, 0 dead" {
		t.Error(got, o.counts())
	}
	hurries := o.hurries
	for i := range 100 {
		o.say("bob", i+1)
		rest(time.Minute)
	}
	if n := o.hurries - hurries; n > int(100*time.Minute/hurryInterval) {
		t.Errorf("a backend that is well is hurried %d times", n)
	}
	stop(s)
}

func hurryAfterAStart(t *testing.T) {
	s, _ := answered(t, func(*http.Request) (*http.Response, error) { return answer(204), nil })
	o := newOutbox()
	o.say("ada", 0)
	o.set(func() { o.waiting[0].due, o.waiting[0].hurry = time.Now().Add(10*time.Hour), true })
	s.Start(o)
	rest(time.Minute)
	if o.counts() != "1 waiting, 0 done, 0 dead" {
		t.Error("before anybody knows how the backend is:", o.counts())
	}
	o.say("bob", 0)
	rest(2 * time.Second)
	if o.counts() != "0 waiting, 2 done, 0 dead" {
		t.Error(o.counts())
	}
	stop(s)
}

func hurryAfterAStartInAnOutage(t *testing.T) {
	var c calls
	up := false
	s, _ := answered(t, func(*http.Request) (*http.Response, error) {
		defer c.begin()()
		time.Sleep(10 * time.Millisecond)
		if up {
			return answer(204), nil
		}
		return answer(503), nil
	})
	o := newOutbox()
	for i := range 20 {
		o.post("default", fmt.Sprint("msg_", i))
	}
	o.set(func() {
		for _, e := range o.waiting {
			e.Tries = 6 // the next pause is of 12 hours
		}
	})
	s.Start(o)
	rest(500 * time.Millisecond)
	if c.n.Load() != 1 || !s.State("default").Failing {
		t.Errorf("%d tries at once, %+v", c.n.Load(), s.State("default"))
	}
	rest(30 * time.Minute)
	up = true
	rest(time.Hour)
	if c.n.Load() != 20 || c.most.Load() != 1 || o.counts() != "20 waiting, 0 done, 0 dead" {
		t.Fatal("the test is no longer about callbacks that wait:", c.n.Load(), c.most.Load(), o.counts())
	}
	o.say("bob", 0)
	rest(3 * time.Second)
	if o.counts() != "0 waiting, 21 done, 0 dead" {
		t.Error(o.counts())
	}
	stop(s)
}

func hurryOfAnotherMachine(t *testing.T) {
	s, _ := answered(t, func(*http.Request) (*http.Response, error) { return answer(204), nil })
	o := newOutbox()
	s.Start(o)
	o.say("bob", 0)
	rest(time.Minute)
	o.say("ada", 0)
	o.set(func() { o.waiting[0].due, o.waiting[0].hurry = time.Now().Add(10*time.Hour), true })
	rest(hurryInterval)
	o.say("bob", 1)
	rest(2 * time.Second)
	if o.counts() != "0 waiting, 3 done, 0 dead" {
		t.Error(o.counts())
	}
	stop(s)
}

func hurryKeepsTheFirstPause(t *testing.T) {
	began := time.Now()
	var at []time.Duration
	s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("webhook-id") != "msg_ada0" {
			return answer(204), nil
		}
		if at = append(at, time.Since(began)); len(at) == 1 {
			return answer(500), nil
		}
		return answer(204), nil
	})
	o := newOutbox()
	o.say("ada", 0)
	s.Start(o)
	rest(time.Millisecond)
	o.say("bob", 0)
	rest(10 * time.Second)
	if len(at) != 2 || at[1] < 3750*time.Millisecond || o.counts() != "0 waiting, 2 done, 0 dead" {
		t.Error(at, o.counts())
	}
	stop(s)
}

func hurryWithABrokenStore(t *testing.T) {
	o := newOutbox()
	s, _ := answered(t, func(*http.Request) (*http.Response, error) {
		o.set(func() { o.fail = bridge.ErrUnavailable })
		return answer(204), nil
	})
	o.say("ada", 0)
	o.set(func() { o.waiting[0].due, o.waiting[0].hurry = time.Now().Add(10*time.Hour), true })
	s.Start(o)
	o.say("bob", 0)
	rest(20 * time.Second)
	s.byName["default"].endpoint.http = posts(func(*http.Request) (*http.Response, error) { return answer(204), nil })
	o.set(func() { o.fail = nil })
	rest(3 * time.Second)
	if o.counts() != "0 waiting, 2 done, 0 dead" {
		t.Error(o.counts())
	}
	stop(s)
}

func hurryAfterEachOutage(t *testing.T) {
	var down atomic.Bool
	s, _ := answered(t, func(*http.Request) (*http.Response, error) {
		if down.Load() {
			return answer(503), nil
		}
		return answer(204), nil
	})
	o := newOutbox()
	s.Start(o)
	for i := range 3 {
		o.say("bob", i)
		rest(6 * time.Second)
		if i > 0 && !slices.Contains(o.done, fmt.Sprint("msg_ada", i-1)) {
			t.Errorf("after %d outages: %v", i, o.done)
		}
		down.Store(true)
		o.say("ada", i)
		rest(10 * time.Second) // the next try is a minute away
		o.say("eve", i)        // who fails once, and waits for no end of the outage
		rest(time.Second)
		down.Store(false)
	}
	stop(s)
}

func hurryAndRefusal(t *testing.T) {
	tries := 0
	s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("webhook-id") == "msg_refused0" {
			tries++
			return answer(400), nil
		}
		return answer(204), nil
	})
	o := newOutbox()
	o.say("refused", 0)
	s.Start(o)
	rest(10 * time.Second)
	o.say("bob", 0)
	rest(10 * time.Second)
	if tries != 2 || o.counts() != "1 waiting, 1 done, 0 dead" {
		t.Errorf("it was tried %d times; %s", tries, o.counts())
	}
	stop(s)
}

func hurryIsRepeated(t *testing.T) {
	s, _ := answered(t, func(*http.Request) (*http.Response, error) { return answer(204), nil })
	o := newOutbox()
	o.unwell = 3
	o.say("ada", 0)
	o.set(func() { o.waiting[0].due, o.waiting[0].hurry = time.Now().Add(10*time.Hour), true })
	s.Start(o)
	o.say("bob", 0)
	rest(2*time.Second + storePause/2)
	if o.hurries != 3 || o.counts() != "1 waiting, 1 done, 0 dead" {
		t.Errorf("asked %d times; %s", o.hurries, o.counts())
	}
	rest(2 * time.Second)
	if o.hurries != 4 || o.counts() != "0 waiting, 2 done, 0 dead" {
		t.Errorf("asked %d times; %s", o.hurries, o.counts())
	}
	stop(s)
}

func hurryAndPoison(t *testing.T) {
	poison := 0
	s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("webhook-id") == "msg_poison0" {
			poison++
			return answer(500), nil
		}
		return answer(204), nil
	})
	o := newOutbox()
	o.say("poison", 0)
	s.Start(o)
	for i := range 6 * 60 * 2 {
		rest(30 * time.Second)
		o.say("bob", i)
	}
	// By its schedule it is tried 7 times in six hours; as a probe it may be hurried once each time.
	if poison < 6 || poison > 14 {
		t.Errorf("it was tried %d times", poison)
	}
	stop(s)
}

func hurryAndRetryAfter(t *testing.T) {
	began, asked := time.Now(), time.Duration(0)
	var mu sync.Mutex // guards asked and at
	var at []time.Duration
	tries := func() ([]time.Duration, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(at), asked
	}
	s, _ := answered(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("webhook-id") != "msg_ada0" {
			return answer(204), nil
		}
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Since(began))
		if len(at) < 3 {
			return answer(503), nil
		}
		if asked == 0 {
			asked = time.Since(began)
			return answer(503, "Retry-After: 36000"), nil
		}
		return answer(204), nil
	})
	o := newOutbox()
	o.say("ada", 0)
	s.Start(o)
	rest(2 * time.Hour)
	o.say("bob", 0)
	rest(5 * time.Hour)
	if at, _ := tries(); len(at) != 3 {
		t.Error("before its time:", at)
	}
	rest(4 * time.Hour)
	if at, asked := tries(); len(at) != 4 || at[3] < asked+10*time.Hour || o.counts() != "0 waiting, 2 done, 0 dead" {
		t.Error(at, asked, o.counts())
	}
	stop(s)
}
