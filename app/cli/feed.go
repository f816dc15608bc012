package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hookbridge/app/wire"
)

const (
	dialTimeout = 10 * time.Second
	// greetTimeout ends a connection whose "connected" does not come.
	greetTimeout = 15 * time.Second
	// quietTimeout ends a connection on which nothing came, no ping either,
	// until the bridge has said how often it pings.
	quietTimeout = 90 * time.Second
	writeTimeout = 10 * time.Second
	// partTimeout is how long the bridge has to answer our close frame.
	partTimeout = time.Second
	// ackEvery is how long acks are gathered: they are cumulative.
	ackEvery = 200 * time.Millisecond
	// largestFrame bounds what one frame may take of memory, bytes; the largest
	// event a bridge can be set to is a quarter of it.
	largestFrame = 16 << 20
)

// feed holds one user's events flowing: it connects, prints, acks, and connects
// again. It is run by one goroutine.
type feed struct {
	url      string
	dial     *websocket.Dialer
	token    func() (string, error)
	out      printer
	say      func(format string, args ...any)
	place    *place
	plain    bool
	noAck    bool
	retreat  retreat
	sleep    func(ctx context.Context, d time.Duration) error
	ackEvery time.Duration
}

// run feeds until ctx ends, which is no error, or the retreat says to stop.
func (f *feed) run(ctx context.Context) error {
	for {
		e := f.connect(ctx)
		if err := f.place.save(); err != nil {
			return err
		}
		if ctx.Err() != nil && e.fatal == nil {
			return nil
		}
		if e.code == wire.CloseErased {
			if err := f.place.forget(); err != nil {
				return err
			}
		}
		wait, again, err := f.retreat.next(e)
		if !again {
			if err == nil {
				f.say("signed out")
			}
			return err
		}
		f.say("disconnected (%d %s), again in %s", e.code, visible(e.reason), wait.Round(time.Millisecond))
		if f.sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// connect makes one connection and serves it until it ends.
func (f *feed) connect(ctx context.Context) ending {
	token, err := f.token()
	if err != nil {
		return ending{fatal: err}
	}
	dial := *f.dial
	if !f.plain {
		dial.Subprotocols = []string{wire.Subprotocol}
	}
	conn, resp, err := dial.DialContext(ctx, f.url, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return refusedHandshake(resp, err)
	}
	defer conn.Close()
	if !f.plain && conn.Subprotocol() != wire.Subprotocol {
		return ending{fatal: fmt.Errorf("the other side does not speak %s; is the address right?", wire.Subprotocol)}
	}
	s := &feedSession{feed: f, conn: conn, frames: make(chan []byte), gone: make(chan struct{}), quiet: greetTimeout}
	if f.plain { // no greeting, no word about pings
		s.quiet = quietTimeout
	}
	return s.serve(ctx)
}

// refusedHandshake turns an HTTP answer into the close code that means the same.
func refusedHandshake(resp *http.Response, err error) ending {
	if resp == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		return ending{code: closeLost, reason: err.Error(), after: -1}
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil { // the library has read it already; this reads memory
		return ending{code: closeLost, reason: err.Error(), after: -1}
	}
	problem := problemError(resp.StatusCode, body)
	e := ending{reason: problem.Error(), after: -1}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		e.code = wire.CloseUnauthorized
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		e.code, e.after = wire.CloseOverloaded, retryAfter(resp.Header, time.Now())
	case resp.StatusCode >= 500:
		e.code = wire.CloseInternal
	default:
		e.fatal = problem
	}
	return e
}

// feedSession is one connection. serve's goroutine owns and writes it; another
// one reads.
type feedSession struct {
	*feed
	conn   *websocket.Conn
	frames chan []byte   // what was read
	gone   chan struct{} // closed when serve reads no more frames

	deadline sync.Mutex    // held while the read deadline is moved
	quiet    time.Duration // how long nothing may come

	connected bool
	unacked   bool          // the place has moved since the last ack
	advice    time.Duration // of a reconnect frame; negative without one
}

func (s *feedSession) serve(ctx context.Context) ending {
	s.advice = -1
	lost := make(chan error, 1)
	go func() { lost <- s.read() }()
	defer close(s.gone)

	if s.plain {
		s.connected = true
		s.say("connected")
	} else if err := s.write(clientFrame{Type: wire.TypeConnect, After: s.place.cursor}); err != nil {
		return s.broken(lost, err)
	}
	tick := time.NewTicker(s.ackEvery)
	defer tick.Stop()
	for {
		select {
		case b := <-s.frames:
			if err := s.take(b); err != nil {
				return s.leave(lost, ending{fatal: err})
			}
		case <-tick.C:
			if err := s.ack(); err != nil {
				return s.broken(lost, err)
			}
		case err := <-lost:
			return s.ended(err)
		case <-ctx.Done():
			if err := s.ack(); err != nil {
				return s.broken(lost, err)
			}
			return s.leave(lost, ending{code: wire.CloseNormal})
		}
	}
}

// read hands on each message until the connection ends, and says how it did. It
// answers pings, which tells the bridge that all before them has arrived.
func (s *feedSession) read() error {
	s.conn.SetReadLimit(largestFrame)
	s.conn.SetPingHandler(func(place string) error {
		err := s.conn.WriteControl(websocket.PongMessage, []byte(place), time.Now().Add(writeTimeout))
		if err != nil && !errors.Is(err, websocket.ErrCloseSent) {
			return err
		}
		return s.extend(0)
	})
	for {
		if err := s.extend(0); err != nil {
			return err
		}
		kind, b, err := s.conn.ReadMessage()
		if err != nil {
			return err
		}
		if kind != websocket.TextMessage {
			continue
		}
		select {
		case s.frames <- b:
		case <-s.gone:
			// serve has its reason already; what is left is the close handshake.
		}
	}
}

// extend puts the read deadline off, by a new length of time where one is given.
// Both goroutines do, so that the new one must not be undone with the old.
func (s *feedSession) extend(quiet time.Duration) error {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	if quiet > 0 {
		s.quiet = quiet
	}
	return s.conn.SetReadDeadline(time.Now().Add(s.quiet))
}

// take handles one frame. Its error is fatal: going on would lose or repeat.
func (s *feedSession) take(b []byte) error {
	if s.plain {
		return s.takePlain(b)
	}
	var f struct {
		Type    string         `json:"type"`
		Cursor  string         `json:"cursor"`
		From    string         `json:"from"`
		Event   jsontext.Value `json:"event"`
		User    string         `json:"user"`
		Session string         `json:"session"`
		Resumed bool           `json:"resumed"`
		Pending int            `json:"pending"`
		PingMs  int64          `json:"pingMs"`
		InMs    int64          `json:"inMs"`
		AfterMs int64          `json:"afterMs"`
		Reason  string         `json:"reason"`
		ID      string         `json:"id"`
		Problem wire.Problem   `json:"problem"`
	}
	if err := json.Unmarshal(b, &f, wire.Lenient); err != nil || f.Type == "" {
		return errors.New("the bridge sent what is not a frame of " + wire.Subprotocol)
	}
	switch f.Type {
	case wire.TypeConnected:
		s.connected = true
		quiet := quietTimeout
		if f.PingMs > 0 {
			quiet = 3 * time.Duration(f.PingMs) * time.Millisecond
		}
		if err := s.extend(quiet); err != nil {
			s.say("the connection is gone already") // the reader tells how
		}
		s.place.cursor = f.Cursor
		how := "from the start"
		if f.Resumed {
			how = "resumed"
		}
		s.say("connected as %s, %s, %d waiting, session %s", visible(f.User), how, f.Pending, visible(f.Session))
	case wire.TypeEvent:
		if err := s.out.event(f.From, f.Event); err != nil {
			return err
		}
		// Only now: what is not printed must come again.
		s.place.cursor = f.Cursor
		s.unacked = true
	case wire.TypeGap:
		s.place.cursor = f.Cursor
		s.say("gap: some events are gone (%s)", visible(f.Reason))
	case wire.TypeRecalled:
		s.say("recalled: %s", visible(f.ID))
	case wire.TypeTokenExpiring:
		return s.renew(time.Duration(f.InMs) * time.Millisecond)
	case wire.TypeReconnect:
		s.advice = max(0, time.Duration(f.AfterMs)*time.Millisecond)
	case wire.TypeError:
		s.say("the bridge refused a frame: %s %s", visible(f.Problem.Code), visible(f.Problem.Detail))
	}
	return nil // types we do not know are for newer clients
}

// takePlain prints what a plain client gets: events, and messages of users. An
// error has no id and names a problem.
func (s *feedSession) takePlain(b []byte) error {
	var f struct {
		Type    string        `json:"type"`
		ID      string        `json:"id"`
		Problem *wire.Problem `json:"problem"`
	}
	if err := json.Unmarshal(b, &f, wire.Lenient); err != nil {
		return errors.New("the bridge sent what is not JSON")
	}
	if f.Type == wire.TypeError && f.ID == "" && f.Problem != nil {
		s.say("the bridge refused: %s %s", visible(f.Problem.Code), visible(f.Problem.Detail))
		return nil
	}
	return s.out.event("", b)
}

// renew brings a new token before the old one expires, where one can be had.
func (s *feedSession) renew(left time.Duration) error {
	if !s.retreat.renews {
		s.say("the token expires in %s; start again with a new one", left)
		return nil
	}
	token, err := s.token()
	if err != nil {
		return err
	}
	// A connection that breaks here is noticed by the reader.
	if err := s.write(clientFrame{Type: wire.TypeRefresh, Token: token}); err != nil {
		s.say("the new token could not be sent")
	}
	return nil
}

// ack tells the bridge, and the file, what has been printed.
func (s *feedSession) ack() error {
	if !s.unacked || s.plain {
		return nil
	}
	s.unacked = false
	if err := s.place.save(); err != nil {
		return err
	}
	if s.noAck {
		return nil
	}
	return s.write(clientFrame{Type: wire.TypeAck, Cursor: s.place.cursor})
}

// clientFrame is a frame that this client sends.
type clientFrame struct {
	Type   string `json:"type"`
	After  string `json:"after,omitempty"`  // connect
	Cursor string `json:"cursor,omitempty"` // ack
	Token  string `json:"token,omitempty"`  // refresh
}

func (s *feedSession) write(f clientFrame) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return s.conn.WriteMessage(websocket.TextMessage, b)
}

// leave says goodbye and waits a moment for the answer.
func (s *feedSession) leave(lost <-chan error, e ending) ending {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if s.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(partTimeout)) == nil {
		s.await(lost)
	}
	return e
}

// broken tells how the connection ended on which a write failed. The reader
// knows best: what failed the write may have been the bridge's close frame.
func (s *feedSession) broken(lost <-chan error, err error) ending {
	if read := s.await(lost); read != nil {
		err = read
	}
	return s.ended(err)
}

// await waits a moment for the reader to end, and gives its error. Frames that
// come meanwhile are too late to be printed; they come again next time.
func (s *feedSession) await(lost <-chan error) error {
	timer := time.NewTimer(partTimeout)
	defer timer.Stop()
	for {
		select {
		case <-s.frames:
		case err := <-lost:
			return err
		case <-timer.C:
			return nil
		}
	}
}

// ended reads the close code out of an error of the connection's.
func (s *feedSession) ended(err error) ending {
	e := ending{code: closeLost, reason: "connection lost", after: s.advice, connected: s.connected}
	var ce *websocket.CloseError
	var ne net.Error
	switch {
	case errors.As(err, &ce) && ce.Code != websocket.CloseNoStatusReceived && ce.Code != websocket.CloseAbnormalClosure:
		e.code, e.reason = wire.CloseCode(ce.Code), ce.Text
	case errors.Is(err, websocket.ErrReadLimit):
		e.fatal = fmt.Errorf("the bridge sent a frame of more than %d bytes", largestFrame)
	case errors.As(err, &ne) && ne.Timeout():
		e.reason = "nothing came for too long"
	}
	return e
}
