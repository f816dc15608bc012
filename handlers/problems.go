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

// What an error means to the caller is decided once: by the error itself where it
// has a method Problem (wire.Problem is such an error), by the tables below for what
// Fiber and auth refuse, and by bridge.ProblemOf for the domain's errors. Handlers
// return errors; onError replies.

// What the edge refuses by itself, where the text is always the same.
var (
	errInternal      = wire.NewProblem(wire.CodeInternal, "") // a defect; the log says more
	errNotJSON       = wire.NewProblem(wire.CodeUnsupportedMedia, "set Content-Type: application/json")
	errEncoded       = wire.NewProblem(wire.CodeUnsupportedMedia, "send the body without a Content-Encoding")
	errSeveralTokens = wire.NewProblem(wire.CodeSeveralTokens, "bring one token, in one way")
	errOrigin        = wire.NewProblem(wire.CodeOriginRefused, "add this page's origin to BRIDGE_ALLOWED_ORIGINS, as the browser sends it")
	errLateRequest   = wire.NewProblem(wire.CodeTimeout, "a request must be here whole within 10 s")
	errUpgrade       = wire.NewProblem(wire.CodeUpgradeRequired, "send a WebSocket handshake of version 13 (RFC 6455)")
)

// statusProblems are what Fiber and fasthttp refuse by themselves, by its status.
// Their own texts may repeat the raw header, with a token in it, so they are neither
// sent nor logged.
var statusProblems = map[int]wire.Problem{
	http.StatusNotFound:                    wire.NewProblem(wire.CodeNotFound, "no such path; see the README for those there are"),
	http.StatusMethodNotAllowed:            wire.NewProblem(wire.CodeMethodNotAllowed, "see the Allow header"),
	http.StatusRequestHeaderFieldsTooLarge: wire.NewProblem(wire.CodeHeaderFieldsTooLong, "request line and headers must fit 16 KiB"),
	http.StatusRequestTimeout:              errLateRequest,
	http.StatusUpgradeRequired:             errUpgrade,
	http.StatusBadRequest:                  wire.NewProblem(wire.CodeMalformed, "the request is not HTTP/1.1 as it should be"),
}

// signatureCodes are the codes of what is wrong with a signature.
var signatureCodes = map[auth.Reason]string{
	auth.ReasonMissing:   wire.CodeSignatureMissing,
	auth.ReasonMalformed: wire.CodeMalformed,
	auth.ReasonWindow:    wire.CodeTimestampWindow,
	auth.ReasonMismatch:  wire.CodeSignatureMismatch,
}

// onError replies to a request whose handler has returned an error, or which Fiber
// itself has refused.
func (s *Server) onError(c *fiber.Ctx, err error) error {
	f, ok := errors.AsType[*fiber.Error](err)
	switch {
	case !ok:
		return s.problem(c, bridge.ProblemOf(err))
	case f.Code == http.StatusRequestEntityTooLarge:
		return s.problem(c, tooLarge(s.limitOf(c.Path(), &c.Request().Header)))
	}
	p, ok := statusProblems[f.Code]
	if !ok {
		s.log.Error("a handler failed", "status", f.Code)
		p = errInternal
	}
	return s.problem(c, p)
}

// signatureProblem tells a caller what is wrong with a signature.
func signatureProblem(err error) error {
	if bad, ok := errors.AsType[*auth.SignatureError](err); ok {
		return wire.NewProblem(signatureCodes[bad.Reason], bad.Detail)
	}
	return errInternal
}

// tooLarge is the problem of a body or an event with more bytes than it may have.
func tooLarge(limit int) wire.Problem {
	return wire.NewProblem(wire.CodeTooLarge, "this may have "+strconv.Itoa(limit)+" bytes; send what is large by reference")
}

// retryAfterSeconds is what a caller is asked to wait when nothing is wrong
// with its request: long enough for a restart or a full disk to be mended by
// the next try but one, short enough not to be late.
const retryAfterSeconds = 5

// problem replies with an RFC 9457 problem and gives it an id that is in the log
// too. Of refusals of callers who have not authenticated, the log gets a few a second.
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
	if authenticated(c) || s.o.Bridge.Refusals().Write(p.Code) {
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

// auditedKey marks a request whose refusal is in the audit log already.
const auditedKey = "audited"

// hungUpKey marks a request whose sender hung up before its end: nobody is left
// who could be refused.
const hungUpKey = "hung up"

// route names a request by its pattern: a path may hold a user's name.
func route(c *fiber.Ctx) string { return c.Method() + " " + c.Route().Path }

// auditRefusal writes the refusal of an authenticated user to the audit log.
func (s *Server) auditRefusal(code string, c *fiber.Ctx, id bridge.Identity) {
	c.Locals(auditedKey, true)
	s.o.Bridge.Audit().Refused(code, route(c), slog.String("user", id.User), slog.String("token_id", id.TokenID))
}
