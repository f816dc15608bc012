package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// checkPatience is how long a check waits for its write.
const checkPatience = 2 * time.Second

// health remembers how it went last, so that a change is logged once.
type health struct {
	logger *slog.Logger

	mu  sync.Mutex
	err error // of the last attempt, if it failed
}

func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil && h.err != nil:
		h.logger.Info("Redis takes messages again")
	case err != nil && h.err == nil:
		h.logger.Error("Redis cannot take messages", "error", err)
	}
	h.err = err
}

// Check implements bridge.Engine: it writes a few bytes, and wants this machine
// to hear the others. Errors: ErrUnavailable, ErrClosed, the context's.
func (e *Engine) Check(ctx context.Context) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if !e.listening.Load() {
		return fmt.Errorf("%w: other machines are not heard", bridge.ErrUnavailable)
	}
	limited, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	key := e.opts.Prefix + ":{machines}:check"
	err = e.fault(limited, e.client.Do(limited, e.client.B().Set().Key(key).Value(e.self).ExSeconds(60).Build()).Error())
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("%w: it has not answered for %v", bridge.ErrUnavailable, checkPatience)
	}
	if ctx.Err() == nil {
		e.health.note(err)
	}
	return err
}
