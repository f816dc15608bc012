package handlers

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"
	"github.com/oklog/ulid/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// retryAfterSeconds is what a caller is asked to wait when nothing is wrong
// with its request: long enough for a restart or a full disk to be mended by
// the next try but one, short enough not to be late.
const retryAfterSeconds = 5

// problem replies with an RFC 9457 problem and gives it an id that our log has
// too; of refusals of callers who have proven nothing, the log has a few a second.
func (s *Server) problem(c *fiber.Ctx, p wire.Problem) error {
	p.Instance = "urn:ulid:" + ulid.Make().String()
	switch p.Status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		if len(c.Response().Header.Peek(fiber.HeaderRetryAfter)) == 0 {
			c.Set(fiber.HeaderRetryAfter, strconv.Itoa(retryAfterSeconds))
		}
	case http.StatusUnauthorized:
		if p.Code == wire.CodeUnauthorized {
			c.Set(fiber.HeaderWWWAuthenticate, "Bearer")
		}
	case http.StatusUpgradeRequired:
		c.Set(fiber.HeaderUpgrade, "websocket")
	}
	if c.Locals(hungUpKey) != nil {
		return nil
	}
	if known(c) || s.o.Bridge.Refusals().Write(p.Code) {
		if (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) && c.Locals(auditedKey) == nil {
			s.o.Bridge.Audit().Refused(p.Code, route(c), slog.String("remote", s.clientAddress(c)))
		}
		level := s.log.Info
		if p.Status >= 500 && p.Code != wire.CodeDraining {
			level = s.log.Warn
		}
		level("refused", "code", p.Code, "status", p.Status, "instance", p.Instance)
	}
	s.refused.WithLabelValues(p.Code).Inc()
	c.Status(p.Status)
	c.Set(fiber.HeaderContentType, wire.ProblemMediaType)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Send(p.JSON())
}

// fromSignature tells a caller what is wrong with a signature.
func fromSignature(err error) wire.Problem {
	var s *auth.SignatureError
	if !errors.As(err, &s) {
		return wire.NewProblem(wire.CodeInternal, "")
	}
	code := wire.CodeSignatureMismatch
	switch s.Reason {
	case auth.ReasonMissing:
		code = wire.CodeSignatureMissing
	case auth.ReasonMalformed:
		code = wire.CodeMalformed
	case auth.ReasonWindow:
		code = wire.CodeTimestampWindow
	}
	return wire.NewProblem(code, s.Detail)
}

// onError answers what Fiber and fasthttp refuse by themselves. Their texts may
// repeat the raw header, with a token in it, so they are neither sent nor logged.
func (s *Server) onError(c *fiber.Ctx, err error) error {
	status := http.StatusInternalServerError
	var f *fiber.Error
	if errors.As(err, &f) {
		status = f.Code
	}
	switch status {
	case http.StatusNotFound:
		return s.problem(c, wire.NewProblem(wire.CodeNotFound, "no such path; see the README for those there are"))
	case http.StatusMethodNotAllowed:
		return s.problem(c, wire.NewProblem(wire.CodeMethodNotAllowed, "see the Allow header"))
	case http.StatusRequestEntityTooLarge:
		return s.problem(c, tooLarge(s.limitOf(c.Path(), c.Get(fiber.HeaderContentType))))
	case http.StatusRequestHeaderFieldsTooLarge:
		return s.problem(c, wire.NewProblem(wire.CodeHeaderFieldsTooLong, "request line and headers must fit 16 KiB"))
	case http.StatusRequestTimeout:
		return s.problem(c, wire.NewProblem(wire.CodeTimeout, lateRequest))
	case http.StatusUpgradeRequired:
		return s.problem(c, wire.NewProblem(wire.CodeUpgradeRequired, "send a WebSocket handshake of version 13 (RFC 6455)"))
	case http.StatusBadRequest:
		return s.problem(c, wire.NewProblem(wire.CodeMalformed, "the request is not HTTP/1.1 as it should be"))
	}
	s.log.Error("a handler failed", "status", status)
	return s.problem(c, wire.NewProblem(wire.CodeInternal, ""))
}

// lateRequest tells a caller why requestTimeout ended its request.
const lateRequest = "a request must be here whole within 10 s"

// errMedia: a body that is not said to be JSON.
var errMedia = errors.New("not application/json")

// auditedKey marks a request whose refusal stands in the audit log already.
const auditedKey = "audited"

// hungUpKey marks a request whose sender has hung up before its end: nobody was
// refused.
const hungUpKey = "hung up"

// route names a request by its pattern: a path may hold a name.
func route(c *fiber.Ctx) string { return c.Method() + " " + c.Route().Path }

// auditRefusal notes an attempt of somebody who is known.
func (s *Server) auditRefusal(code string, c *fiber.Ctx, id bridge.Identity) {
	c.Locals(auditedKey, true)
	s.o.Bridge.Audit().Refused(code, route(c), slog.String("user", id.User), slog.String("token_id", id.TokenID))
}

// auditWebhook counts and notes what a known sender was refused.
func (s *Server) auditWebhook(d *webhookRequest, code, id string) {
	s.countWebhook(d, code, 1)
	s.o.Bridge.Audit().Refused(code, "webhook", slog.String("sender", d.sender.Name), slog.String("id", id))
}

// fromDomain tells a caller what the bridge said.
func (s *Server) fromDomain(c *fiber.Ctx, err error) error { return s.problem(c, problemOf(err)) }

func problemOf(err error) wire.Problem {
	if b := (*bodyError)(nil); errors.As(err, &b) {
		return b.problem()
	}
	switch {
	case errors.Is(err, errMedia):
		return wire.NewProblem(wire.CodeUnsupportedMedia, "set Content-Type: application/json")
	case errors.Is(err, errSeveralTokens):
		return severalTokens
	}
	if errors.Is(err, errExportBroke) {
		return wire.NewProblem(wire.CodeInternal, "")
	}
	return bridge.ProblemOf(err)
}
