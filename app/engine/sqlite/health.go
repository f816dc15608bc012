package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

const (
	// provenFor is how long a commit proves that the store works. A check
	// after that writes something itself: an idle disk can fail too.
	provenFor = 1500 * time.Millisecond
	// checkPatience is how long a check waits for its write.
	checkPatience = 2 * time.Second
)

// health remembers how the last commit went.
type health struct {
	logger *slog.Logger

	mu     sync.Mutex
	proven time.Time // of the last commit that succeeded
	err    error     // of the last commit, if it failed
}

func (h *health) good() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		h.logger.Info("the store takes messages again")
	}
	h.proven, h.err = time.Now(), nil
}

func (h *health) bad(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.logger.Error("the store cannot take messages", "error", err)
	}
	h.err = err
}

// sound reports whether a commit succeeded a moment ago, and none failed since.
func (h *health) sound() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err == nil && time.Since(h.proven) < provenFor
}

// Check implements bridge.Engine. It is free while messages are being stored;
// on an idle or failing store it writes and fsyncs a few bytes. Errors:
// ErrUnavailable, ErrClosed, the context's.
func (e *Engine) Check(ctx context.Context) error {
	if e.closed.Load() {
		return bridge.ErrClosed
	}
	if e.health.sound() {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	r := newRequest(kindProbe)
	err := e.ask(limited, r)
	if err == nil {
		r.release()
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%w: it has not answered for %v", bridge.ErrUnavailable, checkPatience)
	}
	return err
}
