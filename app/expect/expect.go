// Package expect is what tests of every package say of what they expect.
package expect

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come. It is long, because a test that
// runs with the race detector beside others on a small machine is slow, and it is spent
// only by a test that fails.
const Patience = 2 * time.Minute

// NoError ends the test when there is an error.
func NoError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually polls a condition until it holds, and ends the test when it does not hold
// within Patience; what names it.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came within %s: %s", Patience, what)
		}
		<-tick.C
	}
}

// Output collects what a program or a logger writes while a test reads it. The zero
// value is empty and ready to be used.
type Output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String is all that has been written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
