package handlers

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestListener(t *testing.T) {
	t.Run("goes on after errors that pass", listenerAfterErrors)
	t.Run("without descriptors ends the oldest connection that has not authenticated", listenerWithoutDescriptors)
	t.Run("ends the oldest connection that has not authenticated to make room", listenerMakesRoom)
	t.Run("has a limit of its own for those that have not authenticated", listenerUnauthenticated)
	t.Run("counts a connection once, until it is closed", listenerCounts)
	t.Run("gives back the memory of a burst once", listenerGivesBack)
	t.Run("gives the memory of handshakes back once a burst of sessions has come", listenerGivesBackAfterArrivals)
}

// accepted is one answer of a listener.
type accepted struct {
	nc  net.Conn
	err error
}

// scripted is a listener that accepts what a test gives it.
type scripted struct {
	net.Listener // nil: whatever is not overridden must not be called
	next         chan accepted
}

func (s *scripted) Accept() (net.Conn, error) {
	a, ok := <-s.next
	if !ok {
		return nil, net.ErrClosed
	}
	return a.nc, a.err
}

func (s *scripted) Close() error { return nil }

func dropCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"reason"})
}

// listener is one whose connections a test makes.
type testListener struct {
	*listener
	t    *testing.T
	next chan accepted
}

func listen(t *testing.T, limit, maxUnauthenticated int) *testListener {
	next := make(chan accepted, 10)
	return &testListener{newListener(&scripted{next: next}, limit, maxUnauthenticated, slog.New(slog.DiscardHandler), dropCounter()), t, next}
}

// come has a client connect, whom the listener takes in.
func (l *testListener) come() (client net.Conn, c *connection) {
	l.t.Helper()
	client, server := net.Pipe()
	l.next <- accepted{nc: server}
	nc, err := l.Accept()
	if err != nil {
		l.t.Fatal(err)
	}
	return client, nc.(*connection)
}

// gone reports whether the server has ended a connection; the pipe's other end
// is never silent about it.
func gone(client net.Conn) bool {
	if err := client.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return true
	}
	_, err := client.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// unhurried is a server's end of a connection that takes what is written, however long
// that needs. A kernel's buffer does so at once.
type unhurried struct{ net.Conn }

func (unhurried) SetWriteDeadline(time.Time) error { return nil }

func opErr(err error) error {
	return &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
}

func listenerAfterErrors(t *testing.T) {
	l := listen(t, 10, 10)
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM, syscall.EMFILE} {
		l.next <- accepted{err: opErr(err)}
	}
	client, _ := l.come()
	defer client.Close()
	l.next <- accepted{err: opErr(syscall.EINVAL)}
	if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("an error that stays: %v", err)
	}
	close(l.next)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after its end: %v", err)
	}
}

func listenerWithoutDescriptors(t *testing.T) {
	l := listen(t, 10, 10)
	session, c := l.come()
	c.markAuthenticated()
	c.becomeSession()
	oldest, _ := l.come()
	younger, _ := l.come()
	l.next <- accepted{err: opErr(syscall.EMFILE)}
	l.come()
	if gone(session) || !gone(oldest) || gone(younger) {
		t.Errorf("gone: the session %v, the oldest %v, a younger one %v", gone(session), gone(oldest), gone(younger))
	}
}

func listenerMakesRoom(t *testing.T) {
	l := listen(t, 5, 5)
	var clients []net.Conn
	var conns []*connection
	for range 5 {
		client, c := l.come()
		clients, conns = append(clients, client), append(conns, c)
	}
	conns[0].markAuthenticated() // a backend that waits with its connection kept
	conns[1].answering.Store(true)
	conns[2].becomeWebSocket()
	next := func(want int, why string) {
		t.Helper()
		client, c := l.come()
		c.becomeSession() // a session: it is in nobody's way
		clients, conns = append(clients, client), append(conns, c)
		if !gone(clients[want]) {
			t.Errorf("%d stayed: %s", want, why)
		}
		for i, client := range clients {
			if i != want && !conns[i].dropped && gone(client) {
				t.Errorf("%d was ended instead of %d", i, want)
			}
		}
		_ = conns[want].Close() // as its owner does
	}
	next(3, "the oldest that is silent")
	next(4, "the oldest that is silent now")
	next(2, "a socket without a token")
	next(0, "who waits for another request")
	if n := l.count(); n != 5 {
		t.Errorf("%d are open", n)
	}
	conns[1].becomeSession()
	// All are sessions now. A probe still gets in, as long as there is room.
	for range spareConnections {
		_, c := l.come()
		c.becomeSession()
	}
	late, server := net.Pipe()
	answer := make(chan string)
	go func() {
		b, _ := io.ReadAll(late) // what there is
		answer <- string(b)
	}()
	l.next <- accepted{nc: unhurried{server}}
	close(l.next)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("one too many was accepted: %v", err)
	}
	if got := <-answer; !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "Retry-After: ") || !strings.Contains(got, `"too_many_connections"`) {
		t.Errorf("it read %q", got)
	}
}

func listenerUnauthenticated(t *testing.T) {
	l := listen(t, 100, 2)
	first, _ := l.come()
	_, authenticated := l.come()
	authenticated.markAuthenticated()
	second, _ := l.come()
	if gone(first) {
		t.Fatal("one that authenticated counts among those that did not")
	}
	l.come()
	if !gone(first) || gone(second) {
		t.Error("the third did not end the first")
	}
}

func listenerCounts(t *testing.T) {
	l := listen(t, 3, 3)
	_, a := l.come()
	_, b := l.come()
	for range 3 {
		_ = a.Close() // from the second on it says that it is closed
	}
	if n := l.count(); n != 1 {
		t.Fatalf("%d are open", n)
	}
	b.markAuthenticated()
	b.becomeSession()
	_ = b.Close()
	b.markAuthenticated()
	b.becomeSession()
	if n := l.count(); n != 0 || l.unauthenticated.Len()+l.upgraded.Len()+l.authenticated.Len() != 0 {
		t.Errorf("%d are open, and lists hold some", n)
	}
}

func listenerGivesBack(t *testing.T) {
	collections := 0
	s := burstGC{least: burstConnections, after: func(_ time.Duration, f func()) { collections++ }}
	run := func(n int) {
		for i := range n {
			s.grew(i + 1)
		}
		for i := range n {
			s.shrank(n - i - 1)
		}
	}
	run(burstConnections - 1)
	if collections != 0 {
		t.Error("everyday traffic is no burst")
	}
	run(1000)
	run(10)
	run(1000) // too soon
	if collections != 1 {
		t.Errorf("%d collections", collections)
	}
	s.at = time.Time{}
	run(300)
	if collections != 2 {
		t.Errorf("%d collections after one more burst", collections)
	}
}

func listenerGivesBackAfterArrivals(t *testing.T) {
	collections := 0
	var planned []time.Duration
	var check func()
	a := arrivals{mu: new(sync.Mutex), gc: &burstGC{after: func(time.Duration, func()) { collections++ }},
		after: func(d time.Duration, f func()) { planned, check = append(planned, d), f }}
	come := func(n int) {
		for range n {
			a.came()
		}
	}
	come(burstConnections - 1)
	if check != nil {
		t.Fatal("everyday traffic is no burst")
	}
	come(1000)
	if len(planned) != 1 || planned[0] != arrivalPause {
		t.Fatalf("a burst is looked at after %v", planned)
	}
	check()
	if collections != 0 || len(planned) != 2 || planned[1] > arrivalPause {
		t.Fatalf("while they come: %d collections, looked at after %v", collections, planned)
	}
	a.last = a.last.Add(-arrivalPause)
	check()
	if collections != 1 || len(planned) != 2 {
		t.Fatalf("once they have come: %d collections, looked at after %v", collections, planned)
	}
	come(burstConnections)
	if len(planned) != 3 {
		t.Fatal("the next burst is not noticed")
	}
}
