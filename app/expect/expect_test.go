package expect_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/expect"
)

// failing is a test whose failure does not count.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatal(args ...any) {
	f.said = fmt.Sprint(args...)
	runtime.Goexit()
}

func (f *failing) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// said is what a test says when it fails, empty when it does not.
func said(body func(t testing.TB)) string {
	f := &failing{}
	var ended sync.WaitGroup
	ended.Go(func() { body(f) })
	ended.Wait()
	return f.said
}

func TestAnExpectation(t *testing.T) {
	t.Parallel()
	t.Run("fails with the error that came", func(t *testing.T) {
		if got := said(func(t testing.TB) { expect.NoError(t, errors.New("no room")) }); got != "no room" {
			t.Errorf("it said %q", got)
		}
		if got := said(func(t testing.TB) { expect.NoError(t, nil) }); got != "" {
			t.Errorf("without an error it said %q", got)
		}
	})
	t.Run("waits for a condition, and not for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			if got := said(func(t testing.TB) {
				expect.Eventually(t, "a second", func() bool { return time.Since(began) > time.Second })
			}); got != "" {
				t.Errorf("of what came it said %q", got)
			}
			if got := said(func(t testing.TB) { expect.Eventually(t, "the moon", func() bool { return false }) }); !strings.Contains(got, "the moon") {
				t.Errorf("of what never came it said %q", got)
			}
		})
	})
	t.Run("reads output while it is written", func(t *testing.T) {
		var out expect.Output
		var writing sync.WaitGroup
		writing.Go(func() { fmt.Fprint(&out, "ready") })
		expect.Eventually(t, "the word", func() bool { return out.String() == "ready" })
		writing.Wait()
	})
}
