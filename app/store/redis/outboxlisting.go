package redis

import (
	"context"
	"strings"
	"time"
)

// listingTimeout bounds one go through all keys.
const listingTimeout = 10 * time.Minute

// listDueLater lists again which users have something due, beside everything else. A new
// life of a Cluster may have begun because one server has lost a part of what it had, and
// that may be an index, while the users' keys are on others.
func (s *Store) listDueLater() {
	if !s.cluster || len(s.opts.Backends) == 0 {
		return
	}
	s.loops.Go(func() {
		s.opts.Guard.Run("redis callbacks", func() {
			s.outbox.listings.Lock()
			defer s.outbox.listings.Unlock()
			ctx, cancel := context.WithTimeout(s.ctx, listingTimeout)
			defer cancel()
			for turns := 0; ctx.Err() == nil; turns++ {
				err := s.listDue(ctx)
				if err == nil {
					return
				}
				if s.ctx.Err() == nil {
					s.opts.Logger.Warn("callbacks that are due could not all be listed again", "error", err)
				}
				if backoff(ctx, turns+2) != nil {
					return
				}
			}
		})
	})
}

// listDue has the indexes know of all users who have callbacks or timers.
func (s *Store) listDue(ctx context.Context) error {
	list := func(keys []string) error {
		var calls []call
		for _, key := range keys {
			tag, rest, _ := strings.Cut(strings.TrimPrefix(key, s.opts.Prefix+":{"), "}:")
			index := s.timerIndex()
			if backend, ok := strings.CutPrefix(rest, "o:"); ok {
				index = s.callbackIndex(backend).due
			}
			calls = append(calls, call{&s.scripts.outbox.arm, []string{index}, []string{tag, "", s.clockArg()}})
		}
		for _, r := range s.runMany(ctx, calls) {
			if r.err != nil {
				return r.err
			}
		}
		return nil
	}
	if err := s.scanKeys(ctx, "u*}:o:*", list); err != nil {
		return err
	}
	return s.scanKeys(ctx, "u*}:w", list)
}
