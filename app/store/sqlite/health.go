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

// health remembers how the last commit went, and what keeps the store from taking
// messages for longer than that.
type health struct {
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	proven  time.Time  // of the last commit that succeeded
	err     error      // of the last commit, if it failed
	damaged error      // until the program is started again
	full    bool       // the disk is
}

// blocked returns why no message can be taken until something has changed; nil
// where one may be tried.
func (h *health) blocked() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.damaged != nil:
		return h.damaged
	case h.full:
		return errDiskFull
	}
	return nil
}

func (h *health) isDamaged() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.damaged
}

// damage notes that the files are damaged, which stays so until the next start.
func (h *health) damage(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.damaged == nil {
		h.damaged = err
		h.logger.Error("the store takes no messages any more", "error", err)
	}
}

func (h *health) isFull() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.full
}

func (h *health) setFull(full bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if full == h.full {
		return
	}
	h.full = full
	if full {
		h.logger.Error("the store takes no messages", "error", errDiskFull)
		return
	}
	h.err, h.proven = nil, time.Time{}
	h.logger.Info("the disk has room again: the store takes messages")
}

// looked notes damage where err says that a page is not what it should be, and
// returns err.
func (h *health) looked(err error) error {
	if corrupt(err) {
		h.damage(fmt.Errorf("%w: %w", errDamaged, err))
	}
	return err
}

func (h *health) good() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full || h.damaged != nil {
		return // the commit only made room, or began before the damage was found
	}
	if h.err != nil {
		h.logger.Info("the store takes messages again")
	}
	h.proven, h.err = time.Now(), nil
}

func (h *health) bad(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && !h.full && h.damaged == nil {
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

// Check implements bridge.Store. It is free while messages are being stored;
// on an idle or failing store it writes and fsyncs a few bytes. Errors:
// ErrUnavailable, ErrClosed, the context's.
func (s *Store) Check(ctx context.Context) error {
	if s.closed.Load() {
		return bridge.ErrClosed
	}
	if err := s.health.blocked(); err != nil {
		return err
	}
	if s.health.sound() {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	err := s.ask(limited, &request{needsRoom: true, write: (*writer).writeProbe})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%w: it has not answered for %v", bridge.ErrUnavailable, checkPatience)
	}
	return err
}

// writeProbe writes something that nobody needs.
func (w *writer) writeProbe() error {
	if err := w.begin(); err != nil {
		return err
	}
	w.probe++
	return with(w.sql.probe).int(w.probe).exec()
}
