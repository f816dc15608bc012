package client

import (
	"errors"
	"testing"
	"time"

	"hookbridge/app/wire"
)

func TestBackoff(t *testing.T) {
	t.Run("answers each close code as the table says", backoffAnswers)
	t.Run("grows to half a minute and starts anew after a session", backoffGrows)
	t.Run("ends the second time in a row what is allowed once", backoffEnds)
}

func backoffAnswers(t *testing.T) {
	const most = -1 // all that the jitter may add
	for _, c := range []struct {
		code  wire.CloseCode
		after time.Duration
		wait  time.Duration
		again bool
		fails bool
	}{
		{code: wire.CloseNormal, after: most},
		{code: wire.CloseGoingAway, after: 4210 * time.Millisecond, wait: 4210 * time.Millisecond, again: true},
		{code: wire.CloseRestart, after: 0, again: true},
		{code: wire.CloseRestart, after: most, wait: 5 * time.Second, again: true},
		{code: wire.CloseRestart, after: 24 * time.Hour, wait: 10 * time.Minute, again: true},
		{code: closeLost, after: most, wait: time.Second, again: true},
		{code: wire.CloseInternal, after: most, wait: time.Second, again: true},
		{code: wire.CloseOverloaded, after: most, wait: 6 * time.Second, again: true},
		{code: wire.CloseOverloaded, after: time.Minute, wait: 61 * time.Second, again: true},
		{code: wire.CloseTooMany, after: most, wait: 31 * time.Second, again: true},
		{code: wire.CloseSlow, after: most, again: true},
		{code: wire.CloseNoConnect, after: most, wait: time.Second, again: true},
		{code: 4999, after: most, wait: time.Second, again: true},
		{code: wire.CloseUnauthorized, after: most, wait: time.Second, again: true},
		{code: wire.CloseForbidden, fails: true},
		{code: wire.CloseReplaced, fails: true},
		{code: wire.CloseErased, fails: true},
		{code: wire.CloseProtocol, fails: true},
		{code: wire.CloseUnsupported, fails: true},
		{code: wire.CloseInvalidUTF8, fails: true},
		{code: wire.CloseTooBig, fails: true},
		{code: wire.CloseBadFrame, fails: true},
	} {
		r := backoff{renews: true, jitter: func(most time.Duration) time.Duration { return most }}
		wait, again, err := r.next(ending{code: c.code, after: c.after, reason: "x"})
		if wait != c.wait || again != c.again || (err != nil) != c.fails {
			t.Errorf("%d: wait %s, again %t, %v", c.code, wait, again, err)
		}
	}
}

func backoffGrows(t *testing.T) {
	r := backoff{jitter: func(most time.Duration) time.Duration { return most }}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		if wait, _, _ := r.next(ending{code: closeLost}); wait != want*time.Second {
			t.Errorf("waits %s, want %d s", wait, want)
		}
	}
	if wait, _, _ := r.next(ending{code: closeLost, connected: true}); wait != time.Second {
		t.Errorf("after a session it waits %s", wait)
	}
}

func backoffEnds(t *testing.T) {
	for _, code := range []wire.CloseCode{wire.CloseUnauthorized, wire.CloseNoConnect} {
		r := backoff{renews: true, jitter: func(time.Duration) time.Duration { return 0 }}
		for i, e := range []ending{{code: code}, {code: code, connected: true}, {code: code}} {
			_, again, err := r.next(e)
			if again != (i < 2) || (err == nil) != again {
				t.Errorf("%d, time %d: again %t, %v", code, i+1, again, err)
			}
		}
	}
	// Who has only the one token need not show it twice.
	r := backoff{jitter: func(time.Duration) time.Duration { return 0 }}
	if _, again, err := r.next(ending{code: wire.CloseUnauthorized}); again || err == nil {
		t.Errorf("again %t, %v", again, err)
	}
	fatal := errors.New("no use")
	if _, again, err := r.next(ending{fatal: fatal}); again || !errors.Is(err, fatal) {
		t.Errorf("again %t, %v", again, err)
	}
}
