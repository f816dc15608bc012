package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"hookbridge/app/move"
)

// meterEvery is how often a meter that is no bar says something.
const meterEvery = 5 * time.Second

// meter shows how far a transfer is: a bar on a terminal, and else a line now
// and then.
type meter struct {
	out     io.Writer
	bar     *progressbar.ProgressBar // nil: lines
	done    string                   // "exported", "imported"
	total   int64                    // 0: not known
	inBytes bool                     // whether total counts bytes, or entries
	now     func() time.Time
	began   time.Time
	said    time.Time
}

func newMeter(out io.Writer, done string, total int64, inBytes bool, now func() time.Time) *meter {
	return &meter{out: out, done: done, total: total, inBytes: inBytes, now: now, began: now(), said: now()}
}

// drawn makes it a bar.
func (m *meter) drawn() *meter {
	most := m.total
	if most <= 0 {
		most = -1 // a spinner
	}
	o := []progressbar.Option{
		progressbar.OptionSetWriter(m.out), progressbar.OptionSetDescription(m.done), progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionShowBytes(m.inBytes), progressbar.OptionShowCount(), progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionSetSpinnerChangeInterval(0), // it moves when something has moved
	}
	if !m.inBytes {
		o = append(o, progressbar.OptionShowIts(), progressbar.OptionSetItsString("entries"))
	}
	m.bar = progressbar.NewOptions64(most, o...)
	return m
}

// moved is told after each section.
func (m *meter) moved(at move.Moved) {
	n := at.Entries
	if m.inBytes {
		n = at.Bytes
	}
	if m.bar != nil {
		if m.total > 0 && n >= m.total {
			// The total may be an estimate; a full bar would end too early.
			m.total = n + 1
			m.bar.ChangeMax64(m.total)
		}
		_ = m.bar.Set64(n) // a bar that cannot be drawn holds up nothing
		return
	}
	if m.now().Sub(m.said) < meterEvery {
		return
	}
	m.said = m.now()
	of := ""
	if m.total > 0 {
		of = fmt.Sprintf(", %d %%", min(99, 100*n/m.total))
	}
	fmt.Fprintf(m.out, "%s %d entries, %s%s\n", m.done, at.Entries, bytesText(at.Bytes), of)
}

// say prints a line of its own.
func (m *meter) say(text string) {
	m.clear()
	fmt.Fprintln(m.out, text)
}

// sum is the last line.
func (m *meter) sum(at move.Moved) {
	before := ""
	if at.Before > 0 {
		before = fmt.Sprintf(" (%d of them before)", at.Before)
	}
	m.say(fmt.Sprintf("%s %d entries%s, %s, in %s", m.done, at.Entries, before, bytesText(at.Bytes), m.now().Sub(m.began).Round(10*time.Millisecond)))
}

func (m *meter) clear() {
	if m.bar != nil {
		_ = m.bar.Clear() // as above
	}
}

// bytesText is a size as people read it.
func bytesText(n int64) string {
	switch {
	case n < 1e3:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// isTerminal tells whether somebody reads, or types, at the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
