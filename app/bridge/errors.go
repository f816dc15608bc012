package bridge

import (
	"errors"
	"fmt"

	"hookbridge/app/wire"
)

// Errors of Publish, Send and Accept beside the engine's.
var (
	// ErrDraining: the machine is about to stop and takes no new work.
	ErrDraining = errors.New("this machine is about to stop")
	// ErrForbiddenTarget: the sender may not reach this target.
	ErrForbiddenTarget = errors.New("the sender may not reach this target")
	// ErrRevoked: the token was revoked by an operator.
	ErrRevoked = errors.New("the token was revoked")
	// ErrErased: the user was erased after the session had begun.
	ErrErased = errors.New("the user was erased")
	// ErrNoSession: the user has no such live session.
	ErrNoSession = errors.New("no such session")
	// ErrFull: this machine has all the sessions it may have.
	ErrFull = errors.New("too many connections on this machine")
	// ErrUnauthorized: Authenticators wrap it around what is wrong with a token.
	ErrUnauthorized = errors.New("the token is not valid")
)

// InvalidError is an event that breaks a rule of the domain; its text names the
// member by JSON pointer and says what belongs there.
type InvalidError struct{ Detail string }

func (e *InvalidError) Error() string { return e.Detail }

// RequestError is a request other than an event that cannot be carried out; its
// text says what belongs there.
type RequestError struct{ Detail string }

func (e *RequestError) Error() string { return e.Detail }

// EndedError is a poll whose session was ended by the server.
type EndedError struct {
	Code   wire.CloseCode
	Reason string
}

func (e *EndedError) Error() string { return e.Reason }

// problem says to a poll what a close code says to a socket.
func (e *EndedError) problem() wire.Problem {
	switch e.Code {
	case wire.CloseRestart, wire.CloseGoingAway:
		return ProblemOf(ErrDraining)
	case wire.CloseForbidden, wire.CloseErased:
		return wire.NewProblem(wire.CodeForbidden, e.Reason)
	case wire.CloseUnauthorized:
		return wire.NewProblem(wire.CodeUnauthorized, e.Reason)
	case wire.CloseReplaced:
		return wire.NewProblem(wire.CodeRateLimited, e.Reason)
	}
	return ProblemOf(ErrUnavailable)
}

func invalid(format string, args ...any) error {
	return &InvalidError{Detail: fmt.Sprintf(format, args...)}
}

// ProblemOf decides what an error means to the one who caused it. It is the one
// table of it, for replies and error frames alike.
func ProblemOf(err error) wire.Problem {
	var bad *wire.DecodeError
	var inv *InvalidError
	var req *RequestError
	var ended *EndedError
	var fast *RateError
	switch {
	case errors.As(err, &bad):
		if bad.Syntax {
			return wire.NewProblem(wire.CodeMalformed, bad.Detail)
		}
		return wire.NewProblem(wire.CodeInvalidEvent, bad.Detail)
	case errors.As(err, &inv):
		return wire.NewProblem(wire.CodeInvalidEvent, inv.Detail)
	case errors.Is(err, ErrConflict):
		return wire.NewProblem(wire.CodeIDConflict, "this id was used for an event with other bytes or another target; give the new event an id of its own")
	case errors.Is(err, ErrForbiddenTarget):
		return wire.NewProblem(wire.CodeForbiddenTarget, "the token's or key's rights do not cover this target and type of event")
	case errors.Is(err, ErrDraining), errors.Is(err, ErrClosed):
		return wire.NewProblem(wire.CodeDraining, "send it again with the same id after Retry-After seconds")
	case errors.Is(err, ErrRevoked):
		return wire.NewProblem(wire.CodeTokenRevoked, "sign in again for a new token")
	case errors.Is(err, ErrErased):
		return wire.NewProblem(wire.CodeForbidden, ErrErased.Error())
	case errors.Is(err, ErrUnknown):
		return wire.NewProblem(wire.CodeNotFound, "no such event, or it is forgotten by now")
	case errors.Is(err, ErrNoSession):
		return wire.NewProblem(wire.CodeNotFound, "this user has no such live session")
	case errors.Is(err, ErrGroupFull):
		return wire.NewProblem(wire.CodeInvalidRequest, fmt.Sprintf("a group has at most %d members", MaxGroupMembers))
	case errors.Is(err, ErrFull):
		return wire.NewProblem(wire.CodeTooManyConnections, ErrFull.Error())
	case errors.As(err, &fast):
		return wire.NewProblem(wire.CodeRateLimited, fast.Error())
	case errors.As(err, &req):
		return wire.NewProblem(wire.CodeInvalidRequest, req.Detail)
	case errors.As(err, &ended):
		return ended.problem()
	case errors.Is(err, ErrUnauthorized):
		return wire.NewProblem(wire.CodeUnauthorized, err.Error())
	}
	return wire.NewProblem(wire.CodeUnavailable, "nothing is lost that was answered with 202; send this one again with the same id after Retry-After seconds")
}
