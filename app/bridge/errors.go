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
	// ErrUnauthorized: Authenticators wrap it around what is wrong with a token.
	ErrUnauthorized = errors.New("the token is not valid")
)

// InvalidError is an event that breaks a rule of the domain; its text names the
// member by JSON pointer and says what belongs there.
type InvalidError struct{ Detail string }

func (e *InvalidError) Error() string { return e.Detail }

func invalid(format string, args ...any) error {
	return &InvalidError{Detail: fmt.Sprintf(format, args...)}
}

// ProblemOf decides what an error means to the one who caused it. It is the one
// table of it, for replies and error frames alike.
func ProblemOf(err error) wire.Problem {
	var bad *wire.DecodeError
	var inv *InvalidError
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
		return wire.NewProblem(wire.CodeForbiddenTarget, "the token's send rights do not cover this target")
	case errors.Is(err, ErrDraining), errors.Is(err, ErrClosed):
		return wire.NewProblem(wire.CodeDraining, "send it again with the same id after Retry-After seconds")
	case errors.Is(err, ErrUnauthorized):
		return wire.NewProblem(wire.CodeUnauthorized, err.Error())
	}
	return wire.NewProblem(wire.CodeUnavailable, "nothing is lost that was answered with 202; send this one again with the same id after Retry-After seconds")
}
