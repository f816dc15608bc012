package callback

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
)

func TestRetiredBackend(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"has its callbacks given up after three days, and counted":     retiredCallbacks,
		"has its callbacks sent if it is configured again before that": retiredTooSoon,
		"has its timers end without a callback":                        retiredTimers,
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

// retiredTo posts n callbacks about users of their own, and messages of one user.
func retiredTo(o *outbox, backend string, n int) {
	for i := range n {
		o.post(backend, fmt.Sprint("msg_", backend, i))
	}
	for i := range 3 {
		_ = o.Post(context.Background(), bridge.Callback{ID: fmt.Sprint("msg_said", i), Backend: backend, Type: bridge.CallbackSent, User: "ada", At: time.Now(), Body: []byte("{}")})
	}
}

func retiredCallbacks(t *testing.T) {
	s, l := answered(t, func(*http.Request) (*http.Response, error) { return answer(204), nil })
	o := newOutbox()
	retiredTo(o, "gone", 250)
	s.Start(o)
	rest(scheduleEnd - 2*time.Hour)
	o.post("gone", "msg_young")
	o.post("default", "msg_other")
	o.set(func() { // one that an operator has sent again
		o.add(bridge.Callback{ID: "msg_again", Backend: "default", Type: bridge.CallbackAcked, User: "bob", At: time.Now().Add(-100 * time.Hour)})
		o.waiting[len(o.waiting)-1].due = time.Now().Add(20 * time.Hour)
	})
	rest(90 * time.Minute)
	if o.counts() != "255 waiting, 1 done, 0 dead" {
		t.Error("before three days:", o.counts())
	}
	rest(3 * time.Hour)
	if o.counts() != "2 waiting, 1 done, 253 dead" || o.waiting[0].leased.After(time.Now()) {
		t.Error("after three days:", o.counts())
	}
	if d := o.dead["msg_said2"]; d.Last != retiredBecause || d.Tries != 0 {
		t.Errorf("%+v", d)
	}
	if n := l.metric(t, "hookbridge_callbacks_given_up_total", "gone"); n != 253 || !strings.Contains(l.String(), "backend=gone waiting=1 given_up=253") {
		t.Errorf("%v are counted, and logged is %s", n, l)
	}
	if strings.Contains(l.String(), "backend=default waiting") {
		t.Error("a backend that is configured is said not to be:", l)
	}
	if o.asked < 70 {
		t.Errorf("the store was asked %d times to forget what was given up", o.asked)
	}
	stop(s)
}

func retiredTooSoon(t *testing.T) {
	s, _ := answered(t, func(*http.Request) (*http.Response, error) { return answer(204), nil })
	o := newOutbox()
	retiredTo(o, "gone", 10)
	s.Start(o)
	rest(scheduleEnd - time.Minute)
	stop(s)
	s, _ = sender(t, backend("gone", "https://clinic.example/hook"))
	s.byName["gone"].endpoint.http = posts(func(*http.Request) (*http.Response, error) { return answer(204), nil })
	s.Start(o)
	rest(2 * time.Second)
	if o.counts() != "0 waiting, 13 done, 0 dead" {
		t.Error(o.counts())
	}
	stop(s)
}

func retiredTimers(t *testing.T) {
	s, _ := sender(t)
	o := newOutbox()
	for i := range 250 {
		o.timers = append(o.timers, bridge.Timer{Type: bridge.CallbackUnacked, User: fmt.Sprint("u", i), EventID: "m", Key: fmt.Sprint(i)})
	}
	retiredTo(o, "gone", 1)
	s.Start(o)
	rest(time.Second)
	left := 0
	o.set(func() { left = len(o.timers) })
	if left != 0 || o.counts() != "4 waiting, 0 done, 0 dead" {
		t.Error(left, o.counts())
	}
	rest(scheduleEnd + 2*time.Hour)
	if o.counts() != "0 waiting, 0 done, 4 dead" {
		t.Error(o.counts())
	}
	stop(s)
}
