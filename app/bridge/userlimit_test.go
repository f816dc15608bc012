package bridge

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestUserLimit(t *testing.T) {
	t.Run("counts events and bytes", userLimitCounts)
	t.Run("of zero is none", userLimitNone)
	t.Run("remembers a bounded number of users", userLimitMemory)
}

func TestEventID(t *testing.T) {
	t.Run("is a webhook's id, or that of a named sender", eventIDForms)
}

func userLimitCounts(t *testing.T) {
	l := newUserLimits(20, 1000)
	now := time.Now()
	for i := range 100 {
		if err := l.admit("a", 10, now); err != nil {
			t.Fatalf("event %d of the burst: %v", i, err)
		}
	}
	var fast *RateError
	if err := l.admit("a", 10, now); !errors.As(err, &fast) || fast.Wait != 50*time.Millisecond {
		t.Errorf("beyond the burst: %v", err)
	}
	if err := l.admit("b", 10, now); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	if err := l.admit("a", 10, now.Add(50*time.Millisecond)); err != nil {
		t.Errorf("a little later: %v", err)
	}
	if err := l.admit("c", 1_000_000, now); err != nil {
		t.Errorf("one event that is larger than the burst: %v", err)
	}
	if err := l.admit("c", 1, now); !errors.As(err, &fast) {
		t.Errorf("when the bytes are used up: %v", err)
	}
	later := now.Add(4 * time.Second)
	if err := l.admit("c", 4000, later); err != nil {
		t.Errorf("the bytes of four seconds: %v", err)
	}
	for i := range 99 { // what was refused for its bytes took no event
		if err := l.admit("c", 0, later); err != nil {
			t.Fatalf("event %d without bytes: %v", i, err)
		}
	}
}

func userLimitNone(t *testing.T) {
	l := newUserLimits(0, 0)
	for range 10_000 {
		if err := l.admit("a", 1<<20, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.of) != 0 {
		t.Errorf("%d users are remembered", len(l.of))
	}
}

func userLimitMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	l := newUserLimits(1, 0)
	now := time.Now()
	for i := range maxLimitedUsers + 10 {
		if err := l.admit(fmt.Sprint("u", i), 1, now); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.of); n > maxLimitedUsers {
		t.Errorf("%d users are remembered", n)
	}
}

func eventIDForms(t *testing.T) {
	long := "x123456789x123456789x123456789x123456789x123456789x123456789x123"
	for id, good := range map[string]bool{
		"msg_1": true, long: true, long + "." + long: true, "clinic.msg_1": true, "clinic.de.msg-1": true, "..a": true,
		"": false, long + "x": false, "clinic.": false, ".msg_1": false, long + "x.a": false, "a b.c": false, "claim:x": false, "a.claim:x": false, "a:b.c": false,
	} {
		if validID(id) != good {
			t.Errorf("%q: %v", id, !good)
		}
	}
}
