package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/app/store/local"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/sqlite"
	"hookbridge/auth"
	"hookbridge/handlers"
)

// openStore opens where messages are kept: one file, or a Redis that many machines
// share. Callbacks for backends are kept there, and tickets, so that any machine redeems
// them.
func (s *StoreSettings) openStore(ctx context.Context, t Times, backends bridge.Backends, log *slog.Logger, registry prometheus.Registerer, g *guard.Guard) (bridge.Store, bridge.Live, handlers.Tickets, error) {
	if s.RedisURL == "" {
		o := s.sqliteOptions(log)
		o.Registerer, o.Guard, o.Backends = registry, g, backends
		e, err := sqlite.Open(ctx, o)
		if err != nil {
			return nil, nil, nil, err
		}
		return e, local.New(e, nil), auth.NewTickets(ticketLife, maxTickets, time.Now), nil
	}
	o := s.redisOptions(log)
	o.Lease, o.Renew, o.Patience = t.RedisLease, t.RedisRenew, t.RedisPatience
	o.Registerer, o.Guard, o.Backends = registry, g, backends
	e, err := redis.Open(ctx, o)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("BRIDGE_REDIS_URL: %w", err)
	}
	return e, e, auth.NewSharedTickets(ticketLife, e, time.Now), nil
}

// OpenArchive opens the same store as a whole, to be exported to a
// file or imported from one.
func (s *StoreSettings) OpenArchive(ctx context.Context, log *slog.Logger) (bridge.Archive, error) {
	if s.RedisURL == "" {
		a, err := sqlite.OpenArchive(ctx, s.sqliteOptions(log))
		if err != nil {
			return nil, err
		}
		return a, nil
	}
	a, err := redis.OpenArchive(ctx, s.redisOptions(log))
	if err != nil {
		return nil, fmt.Errorf("BRIDGE_REDIS_URL: %w", err)
	}
	return a, nil
}

// Place names the store for an operator, without what is secret.
func (s *StoreSettings) Place() string {
	if s.RedisURL == "" {
		return "BRIDGE_DATA_DIR=" + s.DataDir
	}
	return "BRIDGE_REDIS_URL with BRIDGE_REDIS_PREFIX=" + s.RedisPrefix
}

func (s *StoreSettings) sqliteOptions(log *slog.Logger) sqlite.Options {
	return sqlite.Options{Dir: s.DataDir, MailboxLimit: s.MailboxLimit, MailboxBytes: s.MailboxBytes, IDRetention: s.IDRetention, Logger: log}
}

func (s *StoreSettings) redisOptions(log *slog.Logger) redis.Options {
	return redis.Options{
		URL: string(s.RedisURL), Prefix: s.RedisPrefix, WaitReplicas: s.RedisWait,
		MailboxLimit: s.MailboxLimit, MailboxBytes: s.MailboxBytes, IDRetention: s.IDRetention, Logger: log,
	}
}
