package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/engine/redis"
	"hookbridge/app/engine/sqlite"
	"hookbridge/auth"
	"hookbridge/handlers"
)

// engine opens where messages are kept: one file, or a Redis that many machines
// share. Tickets are kept there too, so that any machine redeems them.
func (s *Settings) engine(ctx context.Context, log *slog.Logger, registry prometheus.Registerer) (bridge.Engine, handlers.Tickets, error) {
	if s.RedisURL == "" {
		e, err := sqlite.Open(ctx, sqlite.Options{
			Dir: s.DataDir, MailboxLimit: s.MailboxLimit, IDRetention: s.IDRetention, Logger: log, Registerer: registry,
		})
		if err != nil {
			return nil, nil, err
		}
		return e, auth.NewTickets(ticketLife, maxTickets, time.Now), nil
	}
	e, err := redis.Open(ctx, redis.Options{
		URL: string(s.RedisURL), Prefix: s.RedisPrefix, WaitReplicas: s.RedisWait,
		MailboxLimit: s.MailboxLimit, IDRetention: s.IDRetention, Logger: log, Registerer: registry,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("BRIDGE_REDIS_URL: %w", err)
	}
	return e, auth.NewSharedTickets(ticketLife, e, time.Now), nil
}
