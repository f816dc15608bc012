package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/engine/redis"
	"hookbridge/app/engine/sqlite"
	"hookbridge/app/guard"
	"hookbridge/auth"
	"hookbridge/handlers"
)

// Store is the settings of where messages are kept, the same for every command
// that opens a store.
type Store struct {
	DataDir string `default:"data" env:"BRIDGE_DATA_DIR" help:"Folder of bridge.db; one process at a time."`

	RedisURL    Secret `name:"redis-url" env:"BRIDGE_REDIS_URL" help:"Keep everything in Redis 7 or later, for many machines, instead of bridge.db: redis://[user:password@]host:port, rediss:// for TLS; more addresses follow as ?addr=host:port."`
	RedisPrefix string `name:"redis-prefix" default:"hookbridge" env:"BRIDGE_REDIS_PREFIX" help:"Begins every key in Redis; one prefix is one store."`
	RedisWait   int    `name:"redis-wait" default:"0" env:"BRIDGE_REDIS_WAIT" help:"Replicas that must have an event before it is answered with 202."`

	IDRetention  time.Duration `name:"id-retention" default:"168h" env:"BRIDGE_ID_RETENTION" help:"How long a webhook-id is remembered."`
	MailboxBytes int           `default:"16777216" env:"BRIDGE_MAILBOX_BYTES" help:"Bytes of payload that a mailbox holds; past that the oldest messages go. One message always fits."`
	MailboxLimit int           `default:"10000" env:"BRIDGE_MAILBOX_LIMIT" help:"Messages a mailbox holds; past that the oldest go."`
}

// checkStore finds numbers that cannot be meant.
func (s *Store) checkStore() error {
	switch {
	case s.MailboxLimit < 1:
		return errors.New("BRIDGE_MAILBOX_LIMIT must be 1 or more")
	case s.MailboxBytes < 1<<16 || s.MailboxBytes > 1<<30:
		return errors.New("BRIDGE_MAILBOX_BYTES must be from 65536 to 1073741824")
	case s.RedisWait < 0:
		return errors.New("BRIDGE_REDIS_WAIT must be 0 or more")
	case s.IDRetention < time.Second:
		return errors.New("BRIDGE_ID_RETENTION must be 1s or more")
	}
	return nil
}

// engine opens where messages are kept: one file, or a Redis that many machines
// share. Tickets are kept there too, so that any machine redeems them.
func (s *Store) engine(ctx context.Context, log *slog.Logger, registry prometheus.Registerer, g *guard.Guard) (bridge.Engine, handlers.Tickets, error) {
	if s.RedisURL == "" {
		o := s.sqliteOptions(log)
		o.Registerer, o.Guard = registry, g
		e, err := sqlite.Open(ctx, o)
		if err != nil {
			return nil, nil, err
		}
		return e, auth.NewTickets(ticketLife, maxTickets, time.Now), nil
	}
	o := s.redisOptions(log)
	o.Registerer, o.Guard = registry, g
	e, err := redis.Open(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("BRIDGE_REDIS_URL: %w", err)
	}
	return e, auth.NewSharedTickets(ticketLife, e, time.Now), nil
}

// archive opens the same store as a whole, to be carried from or to another
// engine.
func (s *Store) archive(ctx context.Context, log *slog.Logger) (bridge.Archive, error) {
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

// place names the store for an operator, without what is secret.
func (s *Store) place() string {
	if s.RedisURL == "" {
		return "BRIDGE_DATA_DIR=" + s.DataDir
	}
	return "BRIDGE_REDIS_URL with BRIDGE_REDIS_PREFIX=" + s.RedisPrefix
}

func (s *Store) sqliteOptions(log *slog.Logger) sqlite.Options {
	return sqlite.Options{Dir: s.DataDir, MailboxLimit: s.MailboxLimit, MailboxBytes: s.MailboxBytes, IDRetention: s.IDRetention, Logger: log}
}

func (s *Store) redisOptions(log *slog.Logger) redis.Options {
	return redis.Options{
		URL: string(s.RedisURL), Prefix: s.RedisPrefix, WaitReplicas: s.RedisWait,
		MailboxLimit: s.MailboxLimit, MailboxBytes: s.MailboxBytes, IDRetention: s.IDRetention, Logger: log,
	}
}
