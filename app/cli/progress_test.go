package cli

import (
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/move"
)

func TestProgress(t *testing.T) {
	t.Run("in a log is a line now and then, and one in the end", progressInLog)
	t.Run("on a terminal is one line that is written anew", progressOnTerminal)
	t.Run("has readable sizes", progressSizes)
}

// clock is a time that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func (c *clock) forward(d time.Duration) { c.at = c.at.Add(d) }

func progressInLog(t *testing.T) {
	var out expect.Output
	c := &clock{at: time.Unix(1, 0)}
	p := newProgress(&out, false, "exported", 3000, false, c.now)
	var at move.Moved
	for range 30 {
		c.forward(time.Second)
		at.Entries += 150
		at.Bytes += 1_000_000
		p.moved(at)
	}
	p.sum(at)
	want := `exported 750 entries, 5.0 MB, 25 %
exported 1500 entries, 10.0 MB, 50 %
exported 2250 entries, 15.0 MB, 75 %
exported 3000 entries, 20.0 MB, 99 %
exported 3750 entries, 25.0 MB, 99 %
exported 4500 entries, 30.0 MB, 99 %
exported 4500 entries, 30.0 MB, in 30s
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}

func progressOnTerminal(t *testing.T) {
	for total, want := range map[int64]string{
		0:    "\rimported 1 entries, 100 B\rimported 99 entries, 9.9 kB\rimported 99 entries, 9.9 kB, in 1.05s\n",
		1000: "\rimported 1 entries, 100 B, 10 %\rimported 99 entries, 9.9 kB, 99 %\rimported 99 entries, 9.9 kB, in 1.05s\n",
	} {
		var out expect.Output
		c := &clock{at: time.Unix(1, 0)}
		p := newProgress(&out, true, "imported", total, true, c.now)
		for _, n := range []int64{1, 99} {
			c.forward(500 * time.Millisecond)
			p.moved(move.Moved{Bytes: 100 * n, Entries: n})
			c.forward(25 * time.Millisecond)
			p.moved(move.Moved{Bytes: 100 * n, Entries: n}) // too soon to be seen
		}
		p.sum(move.Moved{Bytes: 9900, Entries: 99})
		if out.String() != want {
			t.Errorf("%d: %q", total, out.String())
		}
	}
	// A line covers a longer one.
	var out expect.Output
	p := newProgress(&out, true, "exported", 0, false, time.Now)
	p.show("long", false)
	p.show("it", false)
	p.show("in the end", true)
	if out.String() != "\rlong\rit  \rin the end\n" {
		t.Errorf("%q", out.String())
	}
}

func progressSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 2_340_000: "2.3 MB", 7_000_000_000: "7.0 GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}
