package handlers

import (
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// states of a backend.
const (
	stateOK      = "ok"
	stateFailing = "failing"
)

// callbacks replies with what waits for the backends.
func (s *Server) callbacks(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	list, err := o.Callbacks(ctx)
	if err != nil {
		return err
	}
	type backend struct {
		Name    string `json:"name"`
		State   string `json:"state"`
		Since   string `json:"since"`
		Waiting int    `json:"waiting"`
		Oldest  string `json:"oldest,omitempty"`
		Dead    int    `json:"dead"`
	}
	out := make([]backend, len(list))
	for i, b := range list {
		out[i] = backend{Name: b.Name, State: stateOK, Since: wire.Time(b.Since), Waiting: b.Waiting, Dead: b.Dead}
		if b.Failing {
			out[i].State = stateFailing
		}
		if !b.Oldest.IsZero() {
			out[i].Oldest = wire.Time(b.Oldest)
		}
	}
	return s.json(c, struct {
		Backends []backend `json:"backends"`
	}{out})
}

// deadCallbacks replies with a page of callbacks that were given up.
func (s *Server) deadCallbacks(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	list, next, err := o.DeadCallbacks(ctx, named(c, "name"), strings.Clone(c.Query("after")))
	if err != nil {
		return err
	}
	type dead struct {
		ID    string `json:"id"`
		Type  string `json:"type"`
		User  string `json:"user"`
		Since string `json:"since"`
		Tries int    `json:"tries"`
		Last  string `json:"last"`
	}
	out := make([]dead, len(list))
	for i, d := range list {
		out[i] = dead{d.ID, d.Type, d.User, wire.Time(d.Since), d.Tries, d.Last}
	}
	return s.json(c, struct {
		Dead []dead `json:"dead"`
		Next string `json:"next,omitempty"`
	}{out, next})
}

// redrive makes callbacks due again that were given up, and replies how many: fewer than
// were asked for where the outbox has no room for all.
func (s *Server) redrive(ctx context.Context, c *fiber.Ctx, o bridge.Operator) error {
	var body struct {
		IDs []string `json:"ids"`
		All *bool    `json:"all"`
	}
	if err := s.readJSON(c, &body); err != nil {
		return &unaudited{err}
	}
	if body.All != nil && !*body.All {
		return &unaudited{&bridge.RequestError{Detail: "/all must be true"}}
	}
	n, err := o.Redrive(ctx, named(c, "name"), body.IDs, body.All != nil)
	if err != nil {
		return err
	}
	c.Status(fiber.StatusAccepted)
	return s.json(c, struct {
		Redriven int `json:"redriven"`
	}{n})
}
