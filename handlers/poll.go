package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// defaultPollWait is how long a poll without waitMs waits.
const defaultPollWait = 25 * time.Second

// poll answers as soon as there is something after a cursor.
func (s *Server) poll(c *fiber.Ctx) error {
	if err := s.listens(); err != nil {
		return err
	}
	id, _, err := s.verified(c)
	if err != nil {
		return err
	}
	wait := defaultPollWait
	if q := c.Query("waitMs"); q != "" {
		ms, err := strconv.Atoi(q)
		if err != nil || ms < 0 || ms > int(bridge.MaxPollWait.Milliseconds()) {
			return wire.NewProblem(wire.CodeMalformed, fmt.Sprintf("waitMs must be a whole number from 0 to %d", bridge.MaxPollWait.Milliseconds()))
		}
		wait = time.Duration(ms) * time.Millisecond
	}
	ctx, stop := s.caller(c)
	defer stop()
	polled, err := s.o.Bridge.Poll(ctx, id, after(c), wait)
	if errors.Is(err, bridge.ErrRevoked) {
		s.auditRefusal(wire.CodeTokenRevoked, c, id)
	}
	if err != nil {
		return err
	}
	return s.jsonBytes(c, pollReply(&polled))
}

// pollReply writes {"cursor":…,"frames":[…]}. The frames are copied as they are, so
// that data goes out as it came.
func pollReply(p *bridge.Polled) []byte {
	b := append([]byte(`{"cursor":`), wire.Encode(p.Cursor)...)
	b = append(b, `,"frames":[`...)
	b = append(b, bytes.Join(p.Frames, []byte(","))...)
	return append(b, "]}"...)
}

// acks takes an ack of a client without WebSocket.
func (s *Server) acks(c *fiber.Ctx) error {
	id, _, err := s.bearer(c)
	if err != nil {
		return err
	}
	var body struct {
		Cursor string `json:"cursor"`
	}
	if err := s.readJSON(c, &body); err != nil {
		return err
	}
	if body.Cursor == "" {
		return &bridge.RequestError{Detail: "/cursor is missing"}
	}
	if err := s.o.Bridge.Ack(c.UserContext(), id, body.Cursor); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
