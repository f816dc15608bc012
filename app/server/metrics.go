package server

import (
	"context"
	"errors"
	"fmt"
	"net"

	"hookbridge/handlers"
)

// startMetrics serves /metrics on its own address, where one is set. It is there
// until everything else has stopped.
func (p *Program) startMetrics() error {
	if p.settings.MetricsListen == "" {
		return nil
	}
	ln, err := net.Listen("tcp", p.settings.MetricsListen)
	if err != nil {
		return fmt.Errorf("cannot listen on BRIDGE_METRICS_LISTEN=%s: %w", p.settings.MetricsListen, err)
	}
	m := handlers.NewMetrics(p.registry)
	served := make(chan error, 1)
	go func() {
		defer close(served)
		p.guard.Run("metrics", func() { served <- m.Serve(ln) })
	}()
	p.undo = append(p.undo, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), ShutdownTimeout)
		defer cancel()
		return errors.Join(m.Shutdown(ctx), <-served)
	})
	p.log.Info("metrics", "address", ln.Addr().String())
	return nil
}
