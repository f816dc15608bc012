package handlers

import (
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/wire"
)

const (
	// spareConnections may be open beyond the limit, where nobody could be asked
	// to make room: a probe still gets its answer.
	spareConnections = 64
	// maxDropping is how many connections that were dropped may still hold their
	// memory, until what served them has noticed. While there are more, nothing
	// is accepted.
	maxDropping = 256
	// droppingTimeout bounds that pause.
	droppingTimeout = 100 * time.Millisecond
	// acceptPause is the longest pause after an Accept that failed for want of
	// descriptors or memory.
	acceptPause = time.Second
	// acceptLogEvery is how often that is said.
	acceptLogEvery = 10 * time.Second
	// dropScan bounds how many connections are looked at to find the one to drop.
	dropScan = 256
)

// listener is a listener that counts what it has accepted, whatever it
// becomes: request, session or stream. Where there are too many it drops the
// oldest connection that has proven nothing (no token, no signature): somebody
// who means to say something does so within a moment, while one who only holds a
// place is the oldest soon.
type listener struct {
	net.Listener
	max                int // in all
	maxUnauthenticated int // of those that serve requests and have proven nothing
	log                *slog.Logger
	dropped            *prometheus.CounterVec // by reason

	mu              sync.Mutex     // guards what follows, and the links of each connection
	open            int            // until the owner has closed it
	dropping        int            // dropped, and not yet closed by the owner
	unauthenticated connectionList // that serve requests, as those of the third list do
	upgraded        connectionList // sockets that have not shown a token; the port ends them after a few seconds
	authenticated   connectionList // sessions are in no list
	freed           chan struct{}  // has an element when a dying one has gone
	burst           burstGC

	closing   chan struct{}
	closeOnce sync.Once
	lastLog   time.Time // only Accept's
}

func newListener(ln net.Listener, limit, maxUnproven int, log *slog.Logger, dropped *prometheus.CounterVec) *listener {
	return &listener{Listener: ln, max: limit, maxUnauthenticated: maxUnproven, log: log, dropped: dropped,
		freed: make(chan struct{}, 1), burst: burstGC{least: burstConnections}, closing: make(chan struct{})}
}

// Close stops listening. It may be called again.
func (l *listener) Close() (err error) {
	l.closeOnce.Do(func() {
		close(l.closing)
		err = l.Listener.Close()
	})
	return err
}

// Accept returns the next connection. It goes on after errors that pass, as
// net/http does: fasthttp would end with the first of them.
func (l *listener) Accept() (net.Conn, error) {
	pause := time.Duration(0)
	for {
		nc, err := l.Listener.Accept()
		if err == nil {
			if c := l.admit(nc); c != nil {
				return c, nil
			}
			continue
		}
		if !passes(err) {
			return nil, err
		}
		if now := time.Now(); now.Sub(l.lastLog) >= acceptLogEvery {
			l.lastLog = now
			l.log.Warn("no connection can be accepted; trying again", "error", err, "open", l.count())
		}
		l.mu.Lock()
		l.dropOldest("descriptors", &l.unauthenticated, &l.upgraded, &l.authenticated)
		l.mu.Unlock()
		pause = min(max(2*pause, 5*time.Millisecond), acceptPause)
		l.wait(pause, l.closing)
	}
}

// passes reports whether an error of Accept is of this moment: no descriptors or
// memory, or a peer that has gone already (accept(2)).
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR,
		syscall.EPROTO, syscall.ENETDOWN, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP,
		syscall.ENETUNREACH, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *listener) wait(d time.Duration, until <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-until:
	}
}

// admit takes a connection in and drops another where there are too many; nil
// where there is no room.
func (l *listener) admit(nc net.Conn) *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropping >= maxDropping {
		l.mu.Unlock()
		l.wait(droppingTimeout, l.freed)
		l.mu.Lock()
	}
	switch {
	case l.dropping >= maxDropping:
		l.refuse(nc)
		return nil
	case l.open-l.dropping >= l.max:
		if !l.dropOldest("connections", &l.unauthenticated, &l.upgraded, &l.authenticated) && l.open >= l.max+spareConnections {
			l.refuse(nc)
			return nil
		}
	case l.unauthenticated.n >= l.maxUnauthenticated:
		l.dropOldest("unauthenticated", &l.unauthenticated)
	}
	c := &connection{Conn: nc, of: l}
	l.open++
	l.unauthenticated.push(c)
	l.burst.grew(l.unauthenticated.n + l.authenticated.n)
	return c
}

// refuse answers one for whom there is no place. The kernel has room for the
// answer, so that nothing is waited for. mu is held.
func (l *listener) refuse(nc net.Conn) {
	l.dropped.WithLabelValues("full").Inc()
	_ = nc.SetWriteDeadline(time.Now().Add(time.Millisecond)) // whoever reads no answer sees the end
	_, _ = nc.Write(noRoom)
	_ = nc.Close()
}

// noRoom is the answer to a connection beyond all limits.
var noRoom = func() []byte {
	body := wire.NewProblem(wire.CodeTooManyConnections, "this machine has all the connections it may have").JSON()
	return append([]byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: "+strconv.Itoa(retryAfterSeconds)+
		"\r\nContent-Type: "+wire.ProblemMediaType+"\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
}()

// dropOldest ends the oldest connection of the first list that has one which
// is not being answered; false where there is none. mu is held.
func (l *listener) dropOldest(reason string, lists ...*connectionList) bool {
	for _, list := range lists {
		c := list.first
		for n := 0; c != nil && c.answering.Load() && n < dropScan; n++ {
			c = c.next
		}
		if c == nil || c.answering.Load() {
			continue
		}
		list.remove(c)
		c.dropped = true
		l.dropping++
		l.dropped.WithLabelValues(reason).Inc()
		_ = c.Conn.Close() // its owner sees the end of it and closes it once more
		return true
	}
	return false
}

// count is how many connections are open.
func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// connection is one that was accepted. It is counted until Close.
type connection struct {
	net.Conn
	of *listener

	closed          atomic.Bool
	isAuthenticated atomic.Bool
	answering       atomic.Bool // a request is here as far as its answer needs it
	// linger is how many bytes Close reads away before it closes.
	linger atomic.Int64
	// Of the request under way, and its handler's: its body was read to its end,
	// and its token or signature was good.
	bodyRead, requestAuthenticated bool

	// ahead is what the peer has sent while its hang-up was watched for; it
	// belongs to whoever reads.
	ahead []byte

	in         *connectionList // guarded, with what follows, by of.mu
	prev, next *connection
	dropped    bool
}

// Read implements net.Conn.
func (c *connection) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// SetWriteBuffer bounds what the kernel keeps of what is written, bytes.
func (c *connection) SetWriteBuffer(n int) error {
	if t, ok := c.Conn.(interface{ SetWriteBuffer(int) error }); ok {
		return t.SetWriteBuffer(n)
	}
	return nil
}

// Close implements net.Conn. Only the first call does something.
func (c *connection) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if n := c.linger.Load(); n > 0 {
		c.discard(n)
	}
	err := c.Conn.Close()
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.in != nil {
		c.in.remove(c)
	}
	l.open--
	l.burst.shrank(l.unauthenticated.n + l.authenticated.n)
	if c.dropped {
		err = nil // it was closed when it was dropped
		l.dropping--
		select {
		case l.freed <- struct{}{}:
		default:
		}
	}
	return err
}

// lingerTimeout is how long a peer that was refused in the middle of its request
// may take to read the answer.
const lingerTimeout = 5 * time.Second

// discard ends our side of the connection and reads away what the peer still
// sends, n bytes at most. Closing at once would reset the connection, and the
// peer could lose the answer (RFC 9112 §9.6).
func (c *connection) discard(n int64) {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	var b [2048]byte
	for n > 0 {
		got, err := c.Conn.Read(b[:])
		if err != nil {
			return
		}
		n -= int64(got)
	}
}

// markAuthenticated notes that a token or a signature was good.
func (c *connection) markAuthenticated() {
	if c.isAuthenticated.Swap(true) {
		return
	}
	c.move(&c.of.authenticated)
}

// becomeWebSocket notes that a connection is a WebSocket, which needs far less memory
// than a request.
func (c *connection) becomeWebSocket() { c.move(&c.of.upgraded) }

// becomeSession takes a connection that has become a session out of those that can be
// dropped.
func (c *connection) becomeSession() { c.move(nil) }

func (c *connection) move(to *connectionList) {
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.in == nil {
		return // it was dropped a moment ago, or is a session
	}
	c.in.remove(c)
	if to != nil {
		to.push(c)
	}
}

// connectionList is a list of connections, oldest first.
type connectionList struct {
	first, last *connection
	n           int
}

func (l *connectionList) push(c *connection) {
	c.in, c.prev, c.next = l, l.last, nil
	if l.last != nil {
		l.last.next = c
	} else {
		l.first = c
	}
	l.last = c
	l.n++
}

func (l *connectionList) remove(c *connection) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.in, c.prev, c.next = nil, nil, nil
	l.n--
}
