package handlers

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
)

// pollEvents is how many connections one call of epoll_wait may name.
const pollEvents = 128

// poller watches the connections that wait for their peer, so that none of them needs
// a goroutine that blocks in Read. It has an epoll instance of its own, which the Go
// runtime's poller watches in turn: while nothing comes, its goroutine is parked and
// takes no thread.
//
// Events are edge-triggered and say no more than that a connection is worth reading.
// One that comes late, twice, or for a descriptor that was closed and used again makes
// its connection read once in vain.
type poller struct {
	guard  *guard.Guard
	closed atomic.Bool

	mu    sync.Mutex // guards what follows
	epoll *os.File   // nil before the first connection
	conns []*wsConn  // by descriptor; nil where the descriptor is not watched
}

func newPoller(g *guard.Guard) *poller { return &poller{guard: g} }

// add watches a connection. From here on signal is called when there is something to
// read, at once where there is already.
func (p *poller) add(c *wsConn) error {
	raw, err := descriptorOf(c)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.start(); err != nil {
		return err
	}
	var added error
	err = raw.Control(func(fd uintptr) { // which keeps the descriptor open meanwhile
		if added = p.control(unix.EPOLL_CTL_ADD, int(fd)); added != nil {
			return
		}
		if more := int(fd) + 1 - len(p.conns); more > 0 {
			p.conns = append(p.conns, make([]*wsConn, more)...)
		}
		p.conns[fd], c.fd = c, int32(fd)
	})
	return errors.Join(err, added)
}

// remove ends what add began. It is called before the connection is closed.
func (p *poller) remove(c *wsConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(c.fd) < len(p.conns) && p.conns[c.fd] == c {
		p.conns[c.fd] = nil
		// Closing the descriptor would do the same, so a failure means nothing.
		_ = p.control(unix.EPOLL_CTL_DEL, int(c.fd))
	}
}

// control changes what the epoll instance watches; mu is held.
func (p *poller) control(op, fd int) (err error) {
	raw, err := p.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(epfd uintptr) {
		failed = unix.EpollCtl(int(epfd), op, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)})
	})
	return errors.Join(err, failed)
}

// start makes the epoll instance and its goroutine, unless they are there; mu is held.
func (p *poller) start() error {
	switch {
	case p.closed.Load():
		return os.ErrClosed
	case p.epoll != nil:
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os.NewFile gives it to the runtime's poller
		return errors.Join(err, unix.Close(fd))
	}
	p.epoll = os.NewFile(uintptr(fd), "epoll")
	go func() {
		p.guard.Run("poller", p.run)
		p.close()
	}()
	return nil
}

// run signals connections until the poller is closed.
func (p *poller) run() {
	raw, err := p.epoll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, pollEvents)
	conns := make([]*wsConn, pollEvents)
	for {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, failed = unix.EpollWait(int(fd), events, 0)
			return n != 0 // -1 is an error
		})
		if errors.Join(err, failed) != nil { // it was closed
			return
		}
		p.mu.Lock()
		for i := range events[:n] {
			conns[i] = p.conns[events[i].Fd]
		}
		p.mu.Unlock()
		for i, c := range conns[:n] {
			if c != nil {
				c.signal(events[i].Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
			}
		}
		clear(conns[:n])
	}
}

// close gives every connection its goroutine back, which from then on blocks in Read.
func (p *poller) close() {
	p.closed.Store(true)
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	if p.epoll != nil {
		// Its goroutine sees the end; closing it twice is an error that means nothing.
		_ = p.epoll.Close()
	}
	p.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			c.signal(true)
		}
	}
}

// descriptorOf is how the descriptor of a connection is used; an error where it has none.
func descriptorOf(c *wsConn) (syscall.RawConn, error) {
	if sc, ok := c.rw.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// What is known of a connection beside what its reader knows: bits of wsConn.state.
const (
	parked   = 1 << iota // no goroutine reads: the next signal starts one
	signaled             // there was a signal since the reader last looked
	hungUp               // the peer sends no more
)

// Park implements bridge.Conn.
func (c *wsConn) Park(r bridge.Resumer) bool {
	if c.over || c.alone || c.in != nil && c.in.busy() {
		return false
	}
	if c.resumer == nil {
		c.resumer = r
		// Where it fails, Read waits, and finds what is wrong with the connection.
		c.alone = c.sockets.poller.add(c) != nil
	}
	for !c.alone {
		state := c.state.And(^uint32(signaled))
		if state&signaled != 0 {
			c.drained = false
		}
		if !c.drained && c.input().arrived() {
			return false
		}
		if c.alone = c.sockets.poller.closed.Load(); c.alone {
			break
		}
		c.releaseInput()
		state &^= signaled
		if c.state.CompareAndSwap(state, state|parked) {
			return true // c may be another goroutine's already
		}
	}
	return false
}

// signal tells a connection that there may be something to read, or that it has ended.
// Where it is parked, a goroutine resumes its reader.
func (c *wsConn) signal(end bool) {
	for {
		old := c.state.Load()
		state := old&^parked | signaled
		if end {
			state |= hungUp
		}
		if c.state.CompareAndSwap(old, state) {
			if old&parked != 0 {
				go c.resumer.Resume()
			}
			return
		}
	}
}

// unwatch is called before the connection is closed, and signal after it.
func (c *wsConn) unwatch() { c.sockets.poller.remove(c) }

// tookAll notes whether a read has taken all there was, so that the poller signals what
// comes next. After the peer's last byte there is its end to be read, too.
func (c *wsConn) tookAll(all bool) { c.drained = all && c.state.Load()&hungUp == 0 }

// readNow reads what is there without waiting for more, or returns errNothing.
func (r *frameReader) readNow(b []byte) (int, error) {
	raw, err := descriptorOf(r.c)
	if err != nil {
		return 0, err
	}
	r.into = b
	err = raw.Read(r.attempt)
	r.into = nil
	switch {
	case err != nil:
		return 0, err
	case r.failed == unix.EAGAIN:
		return 0, errNothing
	case r.failed != nil:
		return 0, r.failed
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// nonblocking is the state of readNow: kept here, it is not allocated each time.
type nonblocking struct {
	attempt func(fd uintptr) bool // read
	into    []byte
	n       int
	failed  error
}

func (r *nonblocking) read(fd uintptr) (done bool) {
	for {
		if r.n, r.failed = unix.Read(int(fd), r.into); r.failed != unix.EINTR {
			return true
		}
	}
}
