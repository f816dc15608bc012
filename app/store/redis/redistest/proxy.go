package redistest

import (
	"cmp"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between a store and a server, and can stop forwarding: to both
// it is a network that has gone silent.
type Proxy struct {
	ln net.Listener

	mu     sync.Mutex // guards what follows
	target string
	stray  map[int]string // where the connections of these numbers lead instead
	opened int            // connections, and the number of the last one
	drops  int            // calls of Drop
	open   *sync.Cond     // broadcast when silent ends, or the proxy
	quiet  bool
	done   bool
	conns  map[net.Conn]struct{}
}

// NewProxy listens on a free port and forwards to target.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{ln: ln, target: target, conns: make(map[net.Conn]struct{}), stray: make(map[int]string)}
	p.open = sync.NewCond(&p.mu)
	go p.accept()
	t.Cleanup(p.close)
	return p
}

// URL is what a store is opened with.
func (p *Proxy) URL() string { return "redis://" + p.ln.Addr().String() }

// Cut stops forwarding: connections stay open, and nothing comes through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = true
}

// Addr is where the proxy listens, host and port.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Aim sends connections that are opened from now on to another server.
func (p *Proxy) Aim(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Mend forwards again, beginning with what was held back.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = false
	p.open.Broadcast()
}

// Stray sends one connection that will be opened elsewhere, after skip others.
func (p *Proxy) Stray(skip int, target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stray[p.opened+skip+1] = target
}

// Opened is how many connections have been opened.
func (p *Proxy) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// Drop ends every connection there is, those that are about to be opened too.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drops++
	for c := range p.conns {
		_ = c.Close() // its other end is told, which is all that is wanted
	}
}

func (p *Proxy) close() {
	_ = p.ln.Close() // nobody is left to hear of it
	p.mu.Lock()
	p.done = true
	p.open.Broadcast()
	p.mu.Unlock()
	p.Drop()
}

func (p *Proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

func (p *Proxy) serve(c net.Conn) {
	if !p.pass() {
		return
	}
	p.mu.Lock()
	p.opened++
	target, drops := cmp.Or(p.stray[p.opened], p.target), p.drops
	p.mu.Unlock()
	s, err := net.Dial("tcp", target)
	if err != nil {
		_ = c.Close() // refused, as the target would
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[s] = struct{}{}, struct{}{}
	if p.drops != drops { // the copies below end at once
		_, _ = c.Close(), s.Close()
	}
	p.mu.Unlock()
	go p.copy(s, c)
	p.copy(c, s)
}

func (p *Proxy) copy(to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && p.pass() {
			if _, werr := to.Write(b[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			if err != io.EOF {
				_ = from.Close() // it is broken already
			}
			_ = to.Close() // the end of one is the end of the other
			p.mu.Lock()
			delete(p.conns, to)
			delete(p.conns, from)
			p.mu.Unlock()
			return
		}
	}
}

// pass waits while nothing comes through; false when the proxy has ended.
func (p *Proxy) pass() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.quiet && !p.done {
		p.open.Wait()
	}
	return !p.done
}
