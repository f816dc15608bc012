package server

import (
	"context"
	"errors"
	"fmt"
	"net"

	"hookbridge/handlers"
)

// front is Front as the edge understands it.
type front struct {
	proxies handlers.Proxies
	origins handlers.Origins
}

func (s *Front) usesProxyProtocol() bool { return s.ProxyProtocol == "on" }

// parse finds all that cannot be meant; each fault names the variable and the entry.
func (s *Front) parse(origins []string) (f front, err error) {
	var all Faults
	for _, o := range origins {
		if _, err := handlers.ParseOrigins([]string{o}); err != nil {
			all.Add("BRIDGE_ALLOWED_ORIGINS, entry %w", err)
		}
	}
	if len(all) == 0 {
		f.origins, err = handlers.ParseOrigins(origins)
		all.take("BRIDGE_ALLOWED_ORIGINS", err)
	}
	header := s.ClientIPHeader
	if header == "" && s.TrustedProxies == "" && !s.usesProxyProtocol() {
		header = flyClientIPHeader()
	}
	if _, err := handlers.ParseProxies("", header); err != nil {
		all.take("BRIDGE_CLIENT_IP_HEADER", err)
		header = ""
	}
	if f.proxies, err = handlers.ParseProxies(s.TrustedProxies, header); err != nil {
		all.take("BRIDGE_TRUSTED_PROXIES", err)
	} else if s.usesProxyProtocol() && f.proxies.Hops() > 0 {
		all.Add("BRIDGE_PROXY_PROTOCOL names the client already: with it BRIDGE_TRUSTED_PROXIES may only list networks, and BRIDGE_CLIENT_IP_HEADER needs them")
	}
	all.take("BRIDGE_PATH_PREFIX", handlers.CheckPathPrefix(s.PathPrefix))
	if s.MetricsListen != "" {
		all.take("BRIDGE_METRICS_LISTEN", checkListen(s.MetricsListen))
	}
	return f, all.orNil()
}

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
	p.metricsAddr = ln.Addr().String()
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
	p.log.Info("metrics", "address", p.metricsAddr)
	return nil
}

// MetricsAddr is where /metrics is served by itself; empty where it is not.
func (p *Program) MetricsAddr() string { return p.metricsAddr }
