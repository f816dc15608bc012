package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
	"unicode"

	"hookbridge/app/wire"
)

// SubscriberOptions are the settings of a Subscriber. URL, OnEvent and one of Token
// and TokenSource are required. The functions are called one at a time, by the
// goroutine that called Run, and should return soon: meanwhile nothing is acked, and a
// bridge disconnects a client that falls behind (which then resumes where it was).
type SubscriberOptions struct {
	// URL is the address of the bridge: http, https, ws or wss. The path "/ws" is
	// added unless it is there.
	URL string
	// Token is the user's token. Run ends with a *CloseError when it has expired.
	Token string
	// TokenSource gives a token for each connection, and a new one when that is
	// about to expire, all of one user: over another user's Run ends with a *CloseError.
	// If it fails, Run ends with its error.
	TokenSource func(ctx context.Context) (string, error)

	// OnEvent handles an event; repeats are left out. After nil the event is acked.
	// After an error it is not: Run ends with that error, and the next Run gets the
	// event again.
	OnEvent func(ctx context.Context, e Event) error
	// OnNotice is told of everything else that happens, such as a Gap. May be nil.
	OnNotice func(n Notice)

	// Cursor is the one to resume after. Without one the session begins with all
	// events that no session of the user has acked.
	Cursor string
	// SaveCursor stores the cursor to resume after. It is called before events are
	// acked, and when a connection has ended. It is called with "" when the user
	// was erased: what the app has stored of the user should then be erased, too. If it fails, Run
	// ends with its error. May be nil.
	SaveCursor func(cursor string) error

	// NoAck sends no acks: the events stay waiting for the user's other sessions.
	NoAck bool
	// AckEvery is how long acks are gathered; default 200 ms.
	AckEvery time.Duration
	// Plain chooses the plain mode. It has no cursors and no acks by the client: the
	// bridge counts an event as acked once it has arrived.
	Plain bool
	// MaxFrameBytes is the largest frame that is read; default 16 MiB, four times
	// the largest event that a bridge can be set to take.
	MaxFrameBytes int64
	// HTTPClient makes the handshakes, with its own proxies and TLS settings; default
	// http.DefaultClient. Redirects are not followed.
	HTTPClient *http.Client
}

// Subscriber receives one user's events. It is made by NewSubscriber.
type Subscriber struct {
	o       SubscriberOptions
	url     string
	http    http.Client
	backoff backoff
	sleep   func(ctx context.Context, d time.Duration) error
	seen    *recent
	user    string // whose events they are; empty until the bridge has told
	cursor  string // all up to here was handled
	saved   string // what SaveCursor was called with last
}

// NewSubscriber checks the options; Run connects.
func NewSubscriber(o SubscriberOptions) (*Subscriber, error) {
	switch {
	case o.OnEvent == nil:
		return nil, errors.New("OnEvent is missing")
	case (o.Token == "") == (o.TokenSource == nil):
		return nil, errors.New("give one of Token and TokenSource")
	case o.Plain && (o.Cursor != "" || o.SaveCursor != nil || o.NoAck):
		return nil, errors.New("the plain mode has no cursors and no acks: leave out Cursor, SaveCursor and NoAck")
	}
	url, err := endpoint(o.URL, "/ws")
	if err != nil {
		return nil, err
	}
	renews := o.TokenSource != nil
	if !renews {
		o.TokenSource = func(context.Context) (string, error) { return o.Token, nil }
	}
	if o.OnNotice == nil {
		o.OnNotice = func(Notice) {}
	}
	if o.SaveCursor == nil {
		o.SaveCursor = func(string) error { return nil }
	}
	if o.AckEvery <= 0 {
		o.AckEvery = 200 * time.Millisecond
	}
	if o.MaxFrameBytes <= 0 {
		o.MaxFrameBytes = 16 << 20
	}
	s := &Subscriber{
		o: o, url: url, http: httpClient(o.HTTPClient), sleep: sleep, seen: newRecent(recentEvents),
		backoff: backoff{renews: renews, jitter: rand.N[time.Duration]}, cursor: o.Cursor,
	}
	s.http.Timeout = 0 // it would bound the life of a connection
	return s, nil
}

// Run receives events until ctx ends or the bridge signs the user out (close code
// 1000), and then returns nil. Otherwise it returns an error: that of one of the options'
// functions, a *CloseError after a close code that forbids to reconnect, a
// *ProblemError when the handshake was refused, or one that says that the other
// side is no bridge. Run may be called again after it has returned, and resumes
// where it was.
func (s *Subscriber) Run(ctx context.Context) error {
	for {
		e := s.connect(ctx)
		if e.code == wire.CloseErased {
			s.cursor, s.saved = "", ""
			if err := s.o.SaveCursor(""); err != nil {
				return err
			}
		}
		if err := s.save(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil && (e.fatal == nil || errors.Is(e.fatal, err)) {
			return nil // one of the options' functions may have been the first to see it
		}
		wait, again, err := s.backoff.next(e)
		if !again {
			return err
		}
		s.o.OnNotice(Disconnected{Code: e.code, Reason: e.reason, RetryIn: wait})
		if s.sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// connect makes one connection and serves it until it ends.
func (s *Subscriber) connect(ctx context.Context) ending {
	token, err := s.token(ctx)
	if err != nil {
		return ending{fatal: err}
	}
	patience := greetTimeout
	if s.o.Plain { // a plain session is not greeted, and not told about pings
		patience = silenceTimeout
	}
	conn, err := dial(ctx, &s.http, s.url, token, s.o.Plain, s.o.MaxFrameBytes, patience)
	if err != nil {
		return refusedHandshake(err)
	}
	defer conn.close()
	return newSession(s, conn).serve(ctx)
}

func (s *Subscriber) token(ctx context.Context) (string, error) {
	return checkedToken(s.o.TokenSource(ctx))
}

func checkedToken(token string, err error) (string, error) {
	if err == nil && (token == "" || strings.ContainsFunc(token, unicode.IsControl)) {
		err = errors.New("the token is empty, or has a line break or another control character in it")
	}
	return token, err
}

// save hands the cursor to the caller if it has changed.
func (s *Subscriber) save() error {
	if s.cursor == s.saved {
		return nil
	}
	if err := s.o.SaveCursor(s.cursor); err != nil {
		return err
	}
	s.saved = s.cursor
	return nil
}

// handle calls OnEvent, unless it has handled this event before: after a reconnect
// some events come twice. Then it moves the cursor.
func (s *Subscriber) handle(ctx context.Context, e Event) error {
	if e.ID == "" || !s.seen.has(e.ID) {
		if err := s.o.OnEvent(ctx, e); err != nil {
			return err
		}
		if e.ID != "" {
			s.seen.add(e.ID)
		}
	}
	if e.Cursor != "" {
		s.cursor = e.Cursor
	}
	return nil
}

// refusedHandshake maps the error of a handshake to the ending with the close code
// that means the same.
func refusedHandshake(err error) ending {
	e := ending{code: closeLost, reason: err.Error(), after: -1}
	var problem *ProblemError
	switch {
	case errors.Is(err, errNotBridge):
		e.fatal = err
	case !errors.As(err, &problem):
	case problem.Status == http.StatusUnauthorized:
		e.code = wire.CloseUnauthorized
	case problem.Status == http.StatusServiceUnavailable || problem.Status == http.StatusTooManyRequests:
		e.code, e.after = wire.CloseOverloaded, problem.RetryAfter
	case problem.Status >= 500:
		e.code = wire.CloseInternal
	default:
		e.fatal = err
	}
	return e
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
