package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"hookbridge/app/wire"
)

// AreaCallbacks lets its holder see what backends do not take, and send it again.
const AreaCallbacks = "callbacks"

const (
	// DeadPage is how many dead callbacks are listed at a time.
	DeadPage = 100
	// MaxRedrive is how many may be named to be sent again.
	MaxRedrive = 1_000
)

// BackendStatus is what waits for a backend, and whether it takes it.
type BackendStatus struct {
	Name string
	BackendState
	Backlog
}

// Callbacks tells of all backends, in the order of the settings.
func (o Operator) Callbacks(ctx context.Context) (list []BackendStatus, err error) {
	defer func() { o.note("list callbacks", err) }()
	for _, be := range o.b.cfg.Backends {
		backlog, err := o.b.cfg.Outbox.Backlog(ctx, be.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, BackendStatus{be.Name, o.b.cfg.Requester.State(be.Name), backlog})
	}
	return list, nil
}

// DeadCallbacks lists callbacks of a backend that were given up, DeadPage at a time, by
// id; next is where the next page begins, empty on the last. ErrNoBackend.
func (o Operator) DeadCallbacks(ctx context.Context, backend, after string) (list []DeadCallback, next string, err error) {
	defer func() { o.note("list dead callbacks", err, slog.String("backend", o.known(backend))) }()
	if o.known(backend) == "" {
		return nil, "", ErrNoBackend
	}
	if list, err = o.b.cfg.Outbox.Dead(ctx, backend, after, DeadPage+1); err != nil {
		return nil, "", err
	}
	if len(list) > DeadPage {
		list = list[:DeadPage]
		next = list[DeadPage-1].ID
	}
	return list, next, nil
}

// Redrive makes dead callbacks of a backend due again, those named or all, and returns how
// many. Where some had no room in the outbox they stay dead; that is ErrOutboxFull only if
// none had. ErrNoBackend.
func (o Operator) Redrive(ctx context.Context, backend string, ids []string, all bool) (n int, err error) {
	defer func() {
		o.note("redrive", err, slog.String("backend", o.known(backend)), slog.Int("ids", len(ids)), slog.Bool("all", all), slog.Int("redriven", n))
	}()
	switch {
	case o.known(backend) == "":
		return 0, ErrNoBackend
	case all == (len(ids) > 0), len(ids) > MaxRedrive:
		return 0, &RequestError{fmt.Sprintf(`give {"ids":[…]} with 1 to %d ids, or {"all":true}`, MaxRedrive)}
	}
	n, err = o.b.cfg.Outbox.Redrive(ctx, backend, ids, all)
	if n > 0 && errors.Is(err, ErrOutboxFull) {
		err = nil
	}
	return n, err
}

// exportCallbacks gives a user's export what is kept for backends about the user.
func (o Operator) exportCallbacks(ctx context.Context, user string, line func(json []byte) error) error {
	if o.b.cfg.Outbox == nil {
		return nil
	}
	return o.b.cfg.Outbox.OfUser(ctx, user, func(c Callback, givenUp time.Time) error {
		e := wire.ExportCallback{ID: c.ID, Backend: c.Backend, Body: c.Body}
		if !givenUp.IsZero() {
			e.GivenUp = wire.Time(givenUp)
		}
		return line(e.Line())
	})
}

// known returns the name if a backend has it, and "" otherwise.
func (o Operator) known(name string) string {
	if i := slices.IndexFunc(o.b.cfg.Backends, func(b Backend) bool { return b.Name == name }); i < 0 {
		return ""
	}
	return name
}
