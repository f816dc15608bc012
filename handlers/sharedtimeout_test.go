package handlers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSharedTimeout(t *testing.T) {
	t.Run("gives each request its time, and little more", sharedTimeoutGives)
	t.Run("is shared by requests that come together", sharedTimeoutIsShared)
}

func sharedTimeoutGives(t *testing.T) {
	for _, c := range []struct{ d, more time.Duration }{{10 * time.Second, time.Second}, {time.Second, 100 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) { // which ends only when nothing is left behind
			s := newSharedTimeout(c.d)
			for range 30 {
				ctx, came := s.context(), time.Now()
				ended := func() {
					if took := time.Since(came); took < c.d || took > c.d+c.more || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
						t.Errorf("ended after %v with %v", took, ctx.Err())
					}
				}
				context.AfterFunc(ctx, ended)
				time.Sleep(c.more / 7)
			}
			time.Sleep(c.d + c.more)
		})
	}
}

func sharedTimeoutIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharedTimeout(10 * time.Second)
		first := s.context()
		time.Sleep(999 * time.Millisecond)
		if s.context() != first {
			t.Error("two contexts within a second")
		}
		time.Sleep(time.Millisecond)
		if s.context() == first {
			t.Error("a context of a second ago")
		}
		if n := testing.AllocsPerRun(100, func() { s.context() }); n > 0 {
			t.Errorf("%v allocations", n)
		}
		<-s.context().Done()
	})
}
