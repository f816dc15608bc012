package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"hookbridge/app/move"
)

// How often progress is shown: on a terminal, and in a log.
const (
	redrawEvery  = 100 * time.Millisecond
	progressLine = 5 * time.Second
)

// progress shows how far an export or import is: one line that is written anew on a
// terminal, else a line now and then.
type progress struct {
	out      io.Writer
	terminal bool
	done     string // "exported", "imported"
	total    int64  // 0: not known
	inBytes  bool   // whether total counts bytes, or entries
	now      func() time.Time
	began    time.Time
	shown    time.Time
	width    int // of what stands on the terminal's line
}

func newProgress(out io.Writer, terminal bool, done string, total int64, inBytes bool, now func() time.Time) *progress {
	return &progress{out: out, terminal: terminal, done: done, total: total, inBytes: inBytes, now: now, began: now(), shown: now()}
}

// moved is told after each section.
func (p *progress) moved(at move.Moved) {
	every := progressLine
	if p.terminal {
		every = redrawEvery
	}
	if p.now().Sub(p.shown) < every {
		return
	}
	p.shown = p.now()
	n, of := at.Entries, ""
	if p.inBytes {
		n = at.Bytes
	}
	if p.total > 0 { // which may be an estimate, and too low
		of = fmt.Sprintf(", %d %%", min(99, 100*n/p.total))
	}
	p.show(fmt.Sprintf("%s %d entries, %s%s", p.done, at.Entries, bytesText(at.Bytes), of), !p.terminal)
}

// sum is the last line.
func (p *progress) sum(at move.Moved) {
	p.show(fmt.Sprintf("%s %d entries, %s, in %s", p.done, at.Entries, bytesText(at.Bytes), p.now().Sub(p.began).Round(10*time.Millisecond)), true)
}

// show writes a line over the one before, and ends it where it is the last.
func (p *progress) show(text string, end bool) {
	if p.terminal {
		text = fmt.Sprintf("\r%-*s", p.width, text) // covers what is longer
		p.width = len(text) - 1
	}
	if end {
		text += "\n"
	}
	fmt.Fprint(p.out, text)
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
