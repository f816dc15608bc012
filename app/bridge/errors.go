package bridge

import (
	"errors"
	"fmt"

	"hookbridge/app/wire"
)

// Errors of the Bridge's methods, beside the store's.
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
	// ErrNoBackend: the settings name no such backend.
	ErrNoBackend = errors.New("no such backend")
	// ErrFull: this machine has all the sessions it may have.
	ErrFull = errors.New("too many connections on this machine")
	// ErrUnauthorized: Authenticators wrap it around what is wrong with a token.
	ErrUnauthorized = errors.New("the token is not valid")
)

// InvalidError is an event that breaks a rule of the domain; its text names the
// member by JSON pointer and says what belongs there.
type InvalidError struct{ Detail string }

func (e *InvalidError) Error() string { return e.Detail }

// Problem is what the sender of the event is told.
func (e *InvalidError) Problem() wire.Problem {
	return wire.NewProblem(wire.CodeInvalidEvent, e.Detail)
}

// RequestError is a request other than an event that cannot be carried out; its
// text says what belongs there.
type RequestError struct{ Detail string }

func (e *RequestError) Error() string { return e.Detail }

// Problem is what the caller is told.
func (e *RequestError) Problem() wire.Problem {
	return wire.NewProblem(wire.CodeInvalidRequest, e.Detail)
}

// EndedError is a poll whose session was ended by the server.
type EndedError struct {
	Code   wire.CloseCode
	Reason string
}

func (e *EndedError) Error() string { return e.Reason }

// Problem says to a poll what a close code says to a socket.
func (e *EndedError) Problem() wire.Problem {
	switch e.Code {
	case wire.CloseRestart, wire.CloseGoingAway:
		return draining
	case wire.CloseForbidden, wire.CloseErased:
		return wire.NewProblem(wire.CodeForbidden, e.Reason)
	case wire.CloseUnauthorized:
		return wire.NewProblem(wire.CodeUnauthorized, e.Reason)
	case wire.CloseReplaced:
		return wire.NewProblem(wire.CodeRateLimited, e.Reason)
	}
	return unavailable
}

func invalid(format string, args ...any) error {
	return &InvalidError{Detail: fmt.Sprintf(format, args...)}
}

// problems tells what each error means to the one who caused it. An error with more
// to say than a sentinel has a method Problem of its own.
var problems = []struct {
	err     error
	problem wire.Problem
}{
	{ErrConflict, wire.NewProblem(wire.CodeIDConflict, "this id or ref was used for an event with other bytes or another target; give the new event one of its own")},
	{ErrForbiddenTarget, wire.NewProblem(wire.CodeForbiddenTarget, "the token's or key's rights do not cover this target and type of event")},
	{ErrDraining, draining},
	{ErrClosed, draining},
	{ErrRevoked, wire.NewProblem(wire.CodeTokenRevoked, "sign in again for a new token")},
	{ErrErased, wire.NewProblem(wire.CodeForbidden, ErrErased.Error())},
	{ErrUnknown, wire.NewProblem(wire.CodeNotFound, "no such event, or it is forgotten by now")},
	{ErrNoSession, wire.NewProblem(wire.CodeNotFound, "this user has no such live session")},
	{ErrNoBackend, wire.NewProblem(wire.CodeNotFound, "the settings name no such backend")},
	{ErrGroupFull, wire.NewProblem(wire.CodeInvalidRequest, fmt.Sprintf("a group has at most %d members", MaxGroupMembers))},
	{ErrBackendTimeout, wire.NewProblem(wire.CodeBackendTimeout, "it may have got the request all the same, which is not sent again")},
	{ErrBackendBusy, wire.NewProblem(wire.CodeUnavailable, ErrBackendBusy.Error()+"; ask again in some seconds")},
	{ErrOutboxFull, wire.NewProblem(wire.CodeUnavailable, ErrOutboxFull.Error()+"; try again in some seconds, a send with the same ref")},
	{ErrFull, wire.NewProblem(wire.CodeTooManyConnections, ErrFull.Error())},
}

var (
	draining    = wire.NewProblem(wire.CodeDraining, "send it again in some seconds, with the same id or ref")
	unavailable = wire.NewProblem(wire.CodeUnavailable, "nothing is lost that was answered with 202 or a result; send this one again in some seconds, with the same id or ref")
)

// ProblemOf decides what an error means to the one who caused it, for replies and
// error frames alike. An error that is not known here is the store's: unavailable.
func ProblemOf(err error) wire.Problem {
	if own, ok := errors.AsType[interface {
		error
		Problem() wire.Problem
	}](err); ok {
		return own.Problem()
	}
	for i := range problems {
		if errors.Is(err, problems[i].err) {
			return problems[i].problem
		}
	}
	if errors.Is(err, ErrUnauthorized) {
		return wire.NewProblem(wire.CodeUnauthorized, err.Error())
	}
	return unavailable
}
