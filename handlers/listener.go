package handlers

import (
	"container/list"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/wire"
)

const (
	// spareConnections may be open beyond the limit, where no connection could be
	// dropped to make room: a probe still gets its answer.
	spareConnections = 64
	// maxDropping is how many dropped connections may still hold their memory, until
	// their handlers have noticed. While there are more, none is accepted.
	maxDropping = 256
	// droppingTimeout bounds that pause.
	droppingTimeout = 100 * time.Millisecond
	// acceptPause is the longest pause after an Accept that failed for want of
	// descriptors or memory.
	acceptPause = time.Second
	// acceptLogEvery is how often such a failure is logged.
	acceptLogEvery = 10 * time.Second
	// dropScan bounds how many connections are looked at to find the one to drop.
	dropScan = 256
)

// listener counts the connections that it has accepted, whether they serve requests,
// sessions or streams. Where there are too many it drops the oldest that has not
// authenticated (no token, no signature): an honest client does so within a moment,
// while one that only holds a place is soon the oldest.
type listener struct {
	net.Listener
	max                int // connections
	maxUnauthenticated int // of those that serve requests and have not authenticated
	log                *slog.Logger
	dropped            *prometheus.CounterVec // by reason

	mu              sync.Mutex    // guards what follows, and the links of each connection
	open            int           // not yet closed by their handlers
	dropping        int           // of those, the dropped ones
	unauthenticated list.List     // of *connection, oldest first: serve requests
	upgraded        list.List     // WebSockets without a token yet; the bridge ends them after a few seconds
	authenticated   list.List     // serve requests; sessions are in no list
	freed           chan struct{} // has an element when a dropped one has closed
	burst           burstGC
	arrivals        arrivals

	closing   chan struct{}
	closeOnce sync.Once
	lastLog   time.Time // only Accept's
}

func newListener(ln net.Listener, limit, maxUnauthenticated int, log *slog.Logger, dropped *prometheus.CounterVec) *listener {
	l := &listener{Listener: ln, max: limit, maxUnauthenticated: maxUnauthenticated, log: log, dropped: dropped,
		freed: make(chan struct{}, 1), burst: burstGC{least: burstConnections}, closing: make(chan struct{})}
	l.arrivals = arrivals{mu: &l.mu, gc: &l.burst, after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
	return l
}

// Close stops listening. It may be called again.
func (l *listener) Close() (err error) {
	l.closeOnce.Do(func() {
		close(l.closing)
		err = l.Listener.Close()
	})
	return err
}

// Accept returns the next connection. After a passing error it tries again, as
// net/http does; fasthttp would stop serving at the first.
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

// passes reports whether an error of Accept is temporary: no descriptors or memory, or
// a peer that is gone already (accept(2)).
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
	select {
	case <-time.After(d):
	case <-until:
	}
}

// admit counts a new connection, and drops another where there are too many; nil where
// there is no room.
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
	case l.unauthenticated.Len() >= l.maxUnauthenticated:
		l.dropOldest("unauthenticated", &l.unauthenticated)
	}
	c := &connection{Conn: nc, of: l}
	l.open++
	c.putOn(&l.unauthenticated)
	l.burst.grew(l.unauthenticated.Len() + l.authenticated.Len())
	return c
}

// refuse answers 503 and closes. The kernel's buffer has room for the answer, so that
// this does not block. mu is held.
func (l *listener) refuse(nc net.Conn) {
	l.dropped.WithLabelValues("full").Inc()
	_ = nc.SetWriteDeadline(time.Now().Add(time.Millisecond)) // a client that gets no answer sees the end
	_, _ = nc.Write(noRoom)
	_ = nc.Close()
}

// noRoom is the answer to a connection beyond all limits.
var noRoom = func() []byte {
	body := wire.NewProblem(wire.CodeTooManyConnections, "this machine has all the connections it may have").JSON()
	return append([]byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: "+strconv.Itoa(retryAfterSeconds)+
		"\r\nContent-Type: "+wire.ProblemMediaType+"\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
}()

// dropOldest closes the oldest connection that is not being answered, of the first
// list that has one; false where none has. mu is held.
func (l *listener) dropOldest(reason string, lists ...*list.List) bool {
	for _, list := range lists {
		for n, place := 0, list.Front(); place != nil && n <= dropScan; n, place = n+1, place.Next() {
			c := place.Value.(*connection)
			if c.answering.Load() {
				continue
			}
			c.putOn(nil)
			c.dropped = true
			l.dropping++
			l.dropped.WithLabelValues(reason).Inc()
			_ = c.Conn.Close() // its handler sees the end and closes it once more
			return true
		}
	}
	return false
}

// count is how many connections are open.
func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}
