package cli

import (
	"strings"
	"testing"
	"time"

	"hookbridge/app/move"
)

// clock is a time that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) forward(d time.Duration) { c.at = c.at.Add(d) }

func TestAMeterSpeaksNowAndThenAndOnceInTheEnd(t *testing.T) {
	var out syncBuffer
	c := &clock{at: time.Unix(1, 0)}
	m := newMeter(&out, "exported", 3000, false, c.now)
	at := move.Moved{Before: 1000}
	for range 30 {
		c.forward(time.Second)
		at.Entries += 150
		at.Bytes += 1_000_000
		m.moved(at)
	}
	m.sum(at)
	want := `exported 750 entries, 5.0 MB, 25 %
exported 1500 entries, 10.0 MB, 50 %
exported 2250 entries, 15.0 MB, 75 %
exported 3000 entries, 20.0 MB, 99 %
exported 3750 entries, 25.0 MB, 99 %
exported 4500 entries, 30.0 MB, 99 %
exported 4500 entries (1000 of them before), 30.0 MB, in 30s
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}

// An estimate may be too low: the bar goes on, and is gone before the last line.
func TestABarOutlivesItsEstimate(t *testing.T) {
	for _, total := range []int64{0, 1000} {
		var out syncBuffer
		m := newMeter(&out, "imported", total, true, time.Now).drawn()
		for n := range int64(30) {
			m.moved(move.Moved{Bytes: 100 * n, Entries: n})
			if total > 0 && m.bar.IsFinished() {
				t.Fatalf("it ended at %d", 100*n)
			}
		}
		m.sum(move.Moved{Bytes: 3000, Entries: 30})
		lines := strings.Split(out.String(), "\r")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "imported 30 entries, 3.0 kB, in ") || !strings.HasSuffix(last, "\n") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%q", out.String())
		}
		if !strings.Contains(out.String(), "\rimported ") {
			t.Errorf("no bar was drawn: %q", out.String())
		}
	}
}

func TestSizesAreReadable(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 2_340_000: "2.3 MB", 7_000_000_000: "7.0 GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}
