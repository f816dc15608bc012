package handlers

import (
	"bufio"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// operatorTimeout bounds one call; erasing may have to wait for a disk.
const operatorTimeout = 2 * time.Minute

// operation is the handler of an operator's call.
type operation func(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error

// operators lets callers in whose token names the area. Their calls take nothing of the
// address's allowance; calls with a bad token do.
func (s *Server) operators(area string, do operation) fiber.Handler {
	return s.limitCalls(0, func(c *fiber.Ctx) error {
		id, _, err := s.bearer(c)
		if err != nil {
			return err
		}
		if !id.Policy.Operates(area) {
			s.auditRefusal(wire.CodeForbidden, c, id)
			return wire.NewProblem(wire.CodeForbidden, `the token's bridge.admin must name "`+area+`"`)
		}
		ctx, cancel := context.WithTimeout(context.Background(), operatorTimeout)
		defer cancel()
		err = do(ctx, c, s.o.Bridge.Operate(id))
		if err == nil {
			return nil
		}
		if u := (*unaudited)(nil); errors.As(err, &u) {
			s.auditRefusal(bridge.ProblemOf(err).Code, c, id)
		}
		return err
	})
}

// unaudited is the error of a call that was refused before it reached the domain, which
// audits the calls that it gets.
type unaudited struct{ error }

func (u *unaudited) Unwrap() error { return u.error }

// named is a name from the path, decoded and copied. One that cannot be decoded comes
// out empty, which the domain refuses.
func named(c *fiber.Ctx, param string) string {
	name, err := url.PathUnescape(c.Params(param))
	if err != nil {
		return ""
	}
	return strings.Clone(name)
}

type presence struct {
	User     string `json:"user"`
	Online   bool   `json:"online"`
	Sessions int    `json:"sessions"`
	LastSeen string `json:"lastSeen,omitempty"`
}

func presenceJSON(p bridge.Presence) presence {
	out := presence{User: p.User, Online: p.Sessions > 0, Sessions: p.Sessions}
	if !p.LastSeen.IsZero() {
		out.LastSeen = wire.Time(p.LastSeen)
	}
	return out
}

// onlyUser is the presence of the user in the path.
func onlyUser(ctx context.Context, c *fiber.Ctx, o bridge.Operator) (bridge.Presence, error) {
	list, err := o.Presence(ctx, []string{named(c, "id")})
	if err != nil {
		return bridge.Presence{}, err
	}
	return list[0], nil
}

func (s *Server) presenceOf(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	p, err := onlyUser(ctx, c, o)
	if err != nil {
		return err
	}
	return s.json(c, presenceJSON(p))
}

func (s *Server) isPresent(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	p, err := onlyUser(ctx, c, o)
	if err != nil {
		return err
	}
	if p.Sessions == 0 {
		c.Status(fiber.StatusNotFound)
	}
	return nil
}

func (s *Server) presenceOfMany(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	var body struct {
		Users []string `json:"users"`
	}
	if err := s.readJSON(c, &body); err != nil {
		return &unaudited{err}
	}
	list, err := o.Presence(ctx, body.Users)
	if err != nil {
		return err
	}
	out := make([]presence, len(list))
	for i, p := range list {
		out[i] = presenceJSON(p)
	}
	return s.json(c, struct {
		Users []presence `json:"users"`
	}{out})
}

func (s *Server) listSessions(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	list, err := o.Sessions(ctx, named(c, "id"))
	if err != nil {
		return err
	}
	type session struct {
		Session   string `json:"session"`
		Since     string `json:"since"`
		Transport string `json:"transport"`
	}
	out := make([]session, len(list))
	for i, m := range list {
		out[i] = session{m.Session, wire.Time(m.Since), m.Transport}
	}
	return s.json(c, struct {
		Sessions []session `json:"sessions"`
	}{out})
}

func (s *Server) disconnect(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	return done(c, o.Disconnect(ctx, named(c, "id"), named(c, "session")))
}

func (s *Server) revoke(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	var body struct {
		IssuedBefore *wire.Whole `json:"issuedBefore"`
		TokenID      *string     `json:"jti"`
	}
	if err := s.readJSON(c, &body); err != nil {
		return &unaudited{err}
	}
	var r bridge.Revocation
	switch {
	case (body.IssuedBefore == nil) == (body.TokenID == nil):
		return &unaudited{&bridge.RequestError{Detail: "give exactly one of issuedBefore and jti"}}
	case body.TokenID != nil:
		if *body.TokenID == "" || len(*body.TokenID) > 4*bridge.MaxUserChars {
			return &unaudited{&bridge.RequestError{Detail: "/jti must be a token's id, 1 to 512 bytes"}}
		}
		r.TokenID = *body.TokenID
	case *body.IssuedBefore < 1 || *body.IssuedBefore > auth.LastSecond:
		return &unaudited{&bridge.RequestError{Detail: "/issuedBefore must be Unix seconds, like 1795380000"}}
	default:
		r.IssuedBefore = time.Unix(int64(*body.IssuedBefore), 0).UTC()
	}
	return done(c, o.Revoke(ctx, named(c, "id"), r))
}

func (s *Server) erase(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	return done(c, o.Erase(ctx, named(c, "id")))
}

func (s *Server) recall(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	return done(c, o.Recall(ctx, named(c, "id")))
}

func (s *Server) members(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	list, err := o.Members(ctx, named(c, "group"))
	if err != nil {
		return err
	}
	if list == nil {
		list = []string{}
	}
	return s.json(c, struct {
		Members []string `json:"members"`
	}{list})
}

func (s *Server) setMember(member bool) operation {
	return func(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
		return done(c, o.SetMember(ctx, named(c, "group"), named(c, "id"), member))
	}
}

func done(c *fiber.Ctx, err error) error {
	if err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// event replies with what became of an event.
func (s *Server) event(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	st, err := o.Event(ctx, named(c, "id"))
	if err != nil {
		return err
	}
	return s.json(c, eventJSON(st))
}

type eventState struct {
	ID         string           `json:"id"`
	Type       string           `json:"type"`
	Timestamp  string           `json:"timestamp"`
	Expires    string           `json:"expires,omitempty"`  // absent where it was never stored
	Recalled   string           `json:"recalled,omitempty"` // when it was
	Recipients []recipientState `json:"recipients"`
	More       bool             `json:"more,omitzero"`
}

type recipientState struct {
	User     string         `json:"user"`
	Status   string         `json:"status"`
	Sessions []sessionState `json:"sessions"`
}

type sessionState struct {
	Session    string `json:"session"`
	SentAt     string `json:"sentAt,omitempty"`
	ReceivedAt string `json:"receivedAt,omitempty"`
	AckedAt    string `json:"ackedAt,omitempty"`
	SeenAt     string `json:"seenAt,omitempty"`
}

func eventJSON(st bridge.EventState) eventState {
	instant := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return wire.Time(t)
	}
	r := &st.Record
	out := eventState{ID: r.ID, Type: r.Type, Timestamp: wire.Time(r.Timestamp), Expires: instant(r.Expires),
		Recalled: instant(r.Recalled), Recipients: make([]recipientState, len(st.Recipients)), More: r.More}
	for i, rc := range st.Recipients {
		to := recipientState{User: rc.User, Status: string(rc.Status), Sessions: make([]sessionState, len(rc.Sessions))}
		for j, s := range rc.Sessions {
			to.Sessions[j] = sessionState{Session: s.Session, SentAt: instant(s.Sent), ReceivedAt: instant(s.Received),
				AckedAt: instant(s.Acked), SeenAt: instant(s.Seen)}
		}
		out.Recipients[i] = to
	}
	return out
}

// export streams what is kept of a user, one JSON value a line. An error before the
// first line is a problem reply; a later one is the last line.
func (s *Server) export(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	lines := make(chan []byte)
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	user := named(c, "id")
	go func() {
		defer close(lines)
		var err error
		if s.o.Guard.Run("export", func() {
			err = o.Export(ctx, user, func(line []byte) error {
				select {
				case lines <- line:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}) {
			err = errInternal
		}
		failed <- err
	}()
	first, ok := <-lines
	if !ok {
		cancel()
		return <-failed
	}
	c.Set(fiber.HeaderContentType, "application/x-ndjson")
	c.Set(fiber.HeaderCacheControl, "no-store")
	// fasthttp runs a body's writer on a goroutine of its own, where it catches no panic.
	write := func(w *bufio.Writer) {
		for line := first; line != nil; line = <-lines {
			if _, err := w.Write(append(line, '\n')); err != nil {
				return
			}
			if err := w.Flush(); err != nil {
				return
			}
		}
		if err := <-failed; err != nil {
			// The status is sent already, so that the last line has to say it.
			p := bridge.ProblemOf(err)
			s.log.Warn("an export ended early", "code", p.Code)
			_, _ = w.Write(append(wire.Encode(map[string]any{"problem": p}), '\n')) // the client may be gone too
		}
	}
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer cancel()
		s.o.Guard.Run("export", func() { write(w) })
	})
	return nil
}
