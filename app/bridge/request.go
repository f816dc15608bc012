package bridge

import (
	"context"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"hookbridge/app/wire"
)

// maxRequests is how many requests a session, or over HTTP a user, may have under way.
const maxRequests = 4

// errManyRequests: maxRequests are under way.
var errManyRequests = wire.NewProblem(wire.CodeRateLimited, "4 requests are under way already: wait for an answer")

// Response is a backend's answer to a request.
type Response struct {
	Status int    // a 2xx
	Data   []byte // JSON, byte for byte, with the white space around it
}

// Request asks a backend for a user who has no session, and waits for the answer.
// Nothing of it is stored, and nothing is tried again.
// Errors: ErrForbiddenTarget, *RateError, wire.Problem where the user has too many under
// way, ErrDraining, and those of Requester.Request.
func (b *Bridge) Request(ctx context.Context, from Identity, e wire.Event, timeout time.Duration) (Response, error) {
	if !b.requests.begin(from.User) {
		return Response{}, errManyRequests
	}
	defer b.requests.end(from.User)
	r, err := b.prepare(from, "", &e, timeout)
	if err != nil {
		return Response{}, err
	}
	return r.do(ctx)
}

// question is a request that may be posted.
type question struct {
	b           *Bridge
	backend, id string
	body        []byte
	timeout     time.Duration
}

// prepare checks what a user asks.
func (b *Bridge) prepare(from Identity, session string, e *wire.Event, timeout time.Duration) (*question, error) {
	backend, err := b.admitToBackend(from, e)
	if err != nil {
		return nil, err
	}
	id := "req_" + ulid.Make().String()
	b.audit.requested(from, session, backend, id, e.Type)
	body := callbackBody("request", b.cfg.Now(), struct {
		From    string `json:"from"`
		Session string `json:"session,omitempty"`
	}{from.User, session})
	return &question{b: b, backend: backend, id: id, body: withEvent(body, e.Type, e.Data), timeout: timeout}, nil
}

func (q *question) do(ctx context.Context) (Response, error) {
	status, data, err := q.b.cfg.Requester.Request(ctx, q.backend, q.id, q.body, q.timeout)
	return Response{Status: status, Data: data}, err
}

// userRequests counts the requests that users without a session have under way on this
// machine.
type userRequests struct {
	mu sync.Mutex // guards of
	of map[string]int
}

func (r *userRequests) begin(user string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[user] >= maxRequests {
		return false
	}
	if r.of == nil {
		r.of = make(map[string]int)
	}
	r.of[user]++
	return true
}

func (r *userRequests) end(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[user]--; r.of[user] == 0 {
		delete(r.of, user)
	}
}

// request carries out a request frame beside the reading of others. It ends with the
// session.
func (s *Session) request(f *wire.Request) {
	if len(f.Ref) > wire.MaxRefBytes {
		s.refuse("", longRef)
		return
	}
	e, err := wire.DecodeRequest(f)
	if err != nil {
		s.refuse(f.Ref, wire.NewProblem(wire.CodeInvalidFrame, err.Error()))
		return
	}
	ctx, ok := s.beginRequest()
	if !ok {
		s.refuse(f.Ref, errManyRequests)
		return
	}
	q, err := s.b.prepare(s.currentIdentity(), s.id, &e, f.Timeout())
	if err != nil {
		s.endRequest()
		s.refuse(f.Ref, frameProblem(err))
		return
	}
	ref := f.Ref
	s.b.running.Add(1)
	go func() {
		defer s.b.running.Done()
		defer s.recoverPanic()
		r, err := q.do(ctx)
		s.endRequest() // before the answer: whoever has read it may ask again at once
		switch {
		case ctx.Err() != nil: // nobody is there to be answered
		case err != nil:
			s.refuse(ref, frameProblem(err))
		default:
			s.reply(wire.Response{Ref: ref, Status: r.Status, Data: r.Data}.Frame())
		}
	}()
}

// beginRequest counts a request of the session; false where it has too many under way.
// The context ends when the session does. Only the reader calls it.
func (s *Session) beginRequest() (context.Context, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests >= maxRequests {
		return nil, false
	}
	s.requests++
	if s.requestLife == nil {
		s.requestLife, s.endRequests = context.WithCancel(context.Background())
	}
	return s.requestLife, true
}

func (s *Session) endRequest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests--
}
