package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// How often progress is shown: on a terminal, and in a log.
const (
	redrawEvery = 200 * time.Millisecond
	lineEvery   = 5 * time.Second
)

// progress tells people how far the measuring is: one line that is redrawn on a terminal, plain lines
// elsewhere. What is shown is asked for by its own goroutine, so that the load does not wait for it.
type progress struct {
	out      io.Writer
	terminal bool
	ended    chan struct{}
	wg       sync.WaitGroup

	mu    sync.Mutex
	title string
	began time.Time
	state func() string // what is done now; nil: nothing to say
	width int           // of what stands on the terminal's line
}

func newProgress(out io.Writer, terminal bool) *progress {
	p := &progress{out: out, terminal: terminal, ended: make(chan struct{})}
	every := lineEvery
	if terminal {
		every = redrawEvery
	}
	p.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show()
			case <-p.ended:
				return
			}
		}
	})
	return p
}

// begin says what is done from now on, in a line that stays.
func (p *progress) begin(title string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.title, p.began, p.state = title, time.Now(), nil
	fmt.Fprintln(p.out, title)
}

// now sets what tells the state of the step under way; it is called by another goroutine.
func (p *progress) now(state func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
}

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil {
		return
	}
	text := fmt.Sprintf("  %3.0f s  %s", time.Since(p.began).Seconds(), p.state())
	if !p.terminal {
		fmt.Fprintln(p.out, text)
		return
	}
	fmt.Fprintf(p.out, "\r%-*s", p.width, text) // spaces cover what was longer
	p.width = len(text)
}

// clear takes away the line that is redrawn.
func (p *progress) clear() {
	if p.terminal && p.width > 0 {
		fmt.Fprintf(p.out, "\r%*s\r", p.width, "")
		p.width = 0
	}
}

// stop ends it; nothing is shown afterwards.
func (p *progress) stop() {
	close(p.ended)
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}
