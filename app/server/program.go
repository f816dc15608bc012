package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/auth"
	"hookbridge/handlers"
)

const (
	// ticketLife and maxTickets bound what POST /v1/tickets hands out.
	ticketLife = 30 * time.Second
	maxTickets = 100_000
	// ShutdownTimeout is for requests under way once the sessions are gone.
	ShutdownTimeout = 5 * time.Second
)

// Demo is the page that dev serves.
type Demo = handlers.Demo

// DemoCallbacks is what the page shows of callbacks.
type DemoCallbacks = handlers.DemoCallbacks

// Program is all that serve and dev run: the store, the bridge and the HTTP server.
type Program struct {
	settings Settings
	log      *slog.Logger
	guard    *guard.Guard
	bridge   *bridge.Bridge
	server   *handlers.Server
	lowered  string // settings that do not fit, to be said once it serves
	ln       net.Listener

	served   chan error
	front    front
	registry *prometheus.Registry
	undo     []func() error // in order of birth; Stop runs it backwards
}

// NewProgram builds the parts of the program. If one fails, those that were built
// before it are stopped again.
func NewProgram(ctx context.Context, s Settings, demo *Demo, log *slog.Logger) (p *Program, err error) {
	p = &Program{settings: s, log: log, served: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop())
			p = nil
		}
	}()
	if p.front, err = s.FrontSettings.parse(s.AllowedOrigins); err != nil {
		return p, err
	}
	webhooks, senders, err := s.webhooks()
	if err != nil {
		return p, err
	}
	audit, closer, err := s.openAudit()
	if err != nil {
		return p, err
	}
	if closer != nil {
		p.undo = append(p.undo, closer.Close)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.guard = guard.New(log, registry)
	tokenConfig, err := s.TokenConfig(log)
	if err != nil {
		return p, err
	}
	tokenConfig.Loop = func(done <-chan struct{}, f func()) { p.guard.Loop("JWKS", done, f) }
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // tokens are checked while draining, too
	p.undo = append(p.undo, func() error { end(); return nil })
	tokens, err := auth.NewTokens(life, tokenConfig)
	if err != nil {
		return p, fmt.Errorf("%s: %w", s.tokenSetting(), err)
	}
	p.registry = registry
	callbacks, err := s.callbacks(log, registry, p.guard)
	if err != nil {
		return p, err
	}
	backends := callbacks.Backends()
	files, limited := openFiles()
	p.lowered = s.fit(files, limited, len(backends))
	store, live, tickets, err := s.openStore(ctx, s.Times, backends, log, registry, p.guard)
	if err != nil {
		return p, err
	}
	p.undo = append(p.undo, store.Close)
	cfg := bridge.Config{
		DefaultTTL: s.DefaultTTL, MaxBytes: s.MaxBytes, MaxSessions: s.MaxSessions, SessionsPerUser: s.SessionsByUser,
		UserRate: s.UserRate, UserBytes: float64(s.UserBytes),
		DrainTimeout: s.DrainTimeout, PingEvery: s.PingInterval, ConnectTimeout: s.Times.FirstFrame, Logger: log, Audit: audit, Registerer: registry, Guard: p.guard,
	}
	outbox, ok := store.(bridge.Outbox)
	if !ok && len(backends) > 0 {
		return p, errors.New("callbacks are set, and this store cannot keep them")
	}
	if len(backends) > 0 {
		cfg.Backends, cfg.Outbox, cfg.Requester = backends, outbox, callbacks
	}
	if ok {
		callbacks.Start(outbox)
		p.undo = append(p.undo, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), ShutdownTimeout)
			defer cancel()
			callbacks.Stop(ctx)
			return nil
		})
	}
	p.bridge = bridge.New(cfg, store, live, handlers.Authenticator(tokens))
	if len(backends) > 0 {
		p.runTimers()
	}
	p.server = handlers.New(handlers.Options{
		Bridge: p.bridge, Webhooks: webhooks, Senders: senders, Tokens: tokens, Tickets: tickets,
		Registry: registry, Logger: log, Guard: p.guard, Origins: p.front.origins, Proxies: p.front.proxies,
		PathPrefix: s.PathPrefix, HideMetrics: s.MetricsListen != "",
		MaxConnections: s.MaxConnections, MaxUnauthenticated: s.MaxUnauthenticated,
		MaxUnauthenticatedPerAddress: s.MaxUnauthenticatedPerAddress, MaxBatchBytes: s.MaxBatchBytes, ConnectRate: s.ConnectRate, Demo: demo,
		RequestTimeout: s.Times.Request, PublishTimeout: s.Times.Publish, MessageTimeout: s.Times.Message,
	})
	return p, nil
}

// runTimers tells backends of what is due until the program stops.
func (p *Program) runTimers() {
	life, end := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { p.guard.Loop("timers", life.Done(), func() { p.bridge.RunTimers(life) }) })
	p.undo = append(p.undo, func() error {
		end()
		run.Wait()
		return nil
	})
}

// Start binds the address (":0" takes a free port) and begins to serve.
func (p *Program) Start() error {
	ln, err := net.Listen("tcp", p.settings.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on BRIDGE_LISTEN=%s: %w", p.settings.Listen, err)
	}
	if err := p.startMetrics(); err != nil {
		return errors.Join(err, ln.Close())
	}
	p.StartOn(ln)
	return nil
}

// StartOn serves on a listener that is bound already.
func (p *Program) StartOn(ln net.Listener) {
	if p.settings.usesProxyProtocol() {
		ln = handlers.ProxyProtocol(ln, p.front.proxies)
	}
	if p.lowered != "" {
		p.log.Warn("settings that do not fit", "lowered", p.lowered)
	}
	p.ln = ln
	p.undo = append(p.undo, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), ShutdownTimeout)
		defer cancel()
		_ = p.late(p.server.Shutdown(ctx)) // logged
		// Shutdown knows of no listener where Serve has not begun yet.
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}, func() error { return p.late(p.Drain(context.Background())) })
	go p.guard.Loop("server", nil, func() { p.served <- p.server.Serve(ln) })
}

// Drain takes no new sessions and lets those that there are go, each with a close
// frame that says when to come back. Requests are answered still. Stop does it first.
// Its error says that some did not go in the time that the settings give them.
func (p *Program) Drain(ctx context.Context) error { return p.bridge.Drain(ctx) }

// late logs that peers were too slow for an orderly end. It is no failure of
// ours: their messages are stored, and their retries and cursors find them.
func (p *Program) late(err error) error {
	if err != nil {
		p.log.Warn("stopped before everybody had left", "error", err)
	}
	return nil
}

// Addr is where it listens.
func (p *Program) Addr() string { return p.ln.Addr().String() }

// Wait serves until ctx ends or the listener fails, then stops in order.
func (p *Program) Wait(ctx context.Context) error {
	select {
	case err := <-p.served:
		return errors.Join(err, p.Stop())
	case <-ctx.Done():
	}
	err := p.Stop()
	if err == nil {
		p.log.Info("stopped")
	}
	return err
}

// Stop ends what was started, last first: sessions are drained, requests
// finished, the store closed. It is bounded by the drain's and the shutdown's
// time, and is done once.
func (p *Program) Stop() error {
	var errs []error
	for i := len(p.undo) - 1; i >= 0; i-- {
		errs = append(errs, p.undo[i]())
	}
	p.undo = nil
	return errors.Join(errs...)
}
