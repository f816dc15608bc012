package handlers

import (
	"context"
	"errors"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// toBackendWeight is what a send or a request takes of its address's allowance: as much
// as an ack. What a user sends is bounded by the user's own rate.
const toBackendWeight = ackWeight

// send takes what a client without WebSocket sends to a backend.
func (s *Server) send(c *fiber.Ctx) error {
	id, body, err := s.toBackend(c)
	if err != nil {
		return err
	}
	ref, e, err := wire.ParseSend(body)
	switch {
	case err != nil:
		return requestFault(err)
	case e.To.Backend == nil:
		return &bridge.RequestError{Detail: `/to must be {"backend":true} or {"backend":"<name>"}`}
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	o, err := s.o.Bridge.SendToBackend(ctx, id, "", ref, e)
	if err != nil {
		return s.audited(c, id, err)
	}
	c.Status(fiber.StatusAccepted)
	return s.json(c, struct {
		Ref    string `json:"ref,omitempty"`
		ID     string `json:"id"`
		Status string `json:"status"`
	}{ref, o.ID, string(o.Status)})
}

// request asks a backend for a client without WebSocket. The caller who hangs up ends it.
func (s *Server) request(c *fiber.Ctx) error {
	id, body, err := s.toBackend(c)
	if err != nil {
		return err
	}
	e, timeout, err := wire.ParseRequest(body)
	if err != nil {
		return requestFault(err)
	}
	ctx, stop := s.caller(c)
	defer stop()
	r, err := s.o.Bridge.Request(ctx, id, e, timeout)
	if err != nil {
		if ctx.Err() != nil {
			c.Locals(hungUpKey, true)
		}
		return s.audited(c, id, err)
	}
	return s.jsonBytes(c, r.Data)
}

// toBackend authenticates a request that is for a backend, and reads its body.
func (s *Server) toBackend(c *fiber.Ctx) (bridge.Identity, []byte, error) {
	id, _, err := s.bearer(c)
	if err != nil {
		return id, nil, err
	}
	if err := announcesJSON(c); err != nil {
		return id, nil, err
	}
	body, err := s.readBody(c, s.o.Bridge.MaxBytes())
	return id, body, err
}

// requestFault makes invalid_request of an event that cannot be taken.
func requestFault(err error) error {
	if bad, ok := errors.AsType[*wire.DecodeError](err); ok && !bad.Syntax {
		return &bridge.RequestError{Detail: bad.Detail}
	}
	return err
}

// audited notes the refusal of what a user sends to a backend. One who sends too much is
// told when to come back.
func (s *Server) audited(c *fiber.Ctx, id bridge.Identity, err error) error {
	if limit, ok := errors.AsType[*bridge.RateError](err); ok {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(limit.Seconds()))
	}
	if code := bridge.ProblemOf(err).Code; code == wire.CodeForbiddenTarget || code == wire.CodeRateLimited {
		s.auditRefusal(code, c, id)
	}
	return err
}
