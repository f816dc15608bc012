package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"hookbridge/handlers"
)

// Front is the settings of what stands in front of the program: proxies,
// balancers, and who scrapes it.
type Front struct {
	TrustedProxies string `name:"trusted-proxies" env:"BRIDGE_TRUSTED_PROXIES" placeholder:"N|CIDR,…" help:"Proxies in front that are believed when they name the client in X-Forwarded-For: how many there are, or their networks and addresses, comma-separated."`
	ClientIPHeader string `name:"client-ip-header" env:"BRIDGE_CLIENT_IP_HEADER" placeholder:"NAME" help:"Another header in which they name it, such as Forwarded or CF-Connecting-IP; alone it means one proxy. Set it only where nobody gets past that proxy. On Fly.io: Fly-Client-IP."`
	ProxyProtocol  string `name:"proxy-protocol" default:"off" enum:"off,on" env:"BRIDGE_PROXY_PROTOCOL" help:"on: connections begin with a header of the PROXY protocol (HAProxy's, versions 1 and 2): those of the networks in BRIDGE_TRUSTED_PROXIES, or all where it is empty."`
	PathPrefix     string `name:"path-prefix" env:"BRIDGE_PATH_PREFIX" placeholder:"/PATH" help:"What every path begins with, where a balancer in front does not take it off; /livez, /readyz and /metrics are served without it, too."`
	MetricsListen  string `name:"metrics-listen" env:"BRIDGE_METRICS_LISTEN" placeholder:"ADDRESS" help:"Address of its own for /metrics, which is not served on the public one then."`
}

// front is Front as the edge understands it.
type front struct {
	proxies handlers.Proxies
	origins handlers.Origins
}

func (s *Front) usesProxyProtocol() bool { return s.ProxyProtocol == "on" }

// parse finds settings that cannot be meant; the error names the variable and the
// entry.
func (s *Front) parse(origins []string) (f front, err error) {
	if f.origins, err = handlers.ParseOrigins(origins); err != nil {
		return f, fmt.Errorf("BRIDGE_ALLOWED_ORIGINS, entry %w", err)
	}
	header := s.ClientIPHeader
	if header == "" && s.TrustedProxies == "" && !s.usesProxyProtocol() {
		header = flyClientIPHeader()
	}
	if _, err := handlers.ParseProxies("", header); err != nil {
		return f, fmt.Errorf("BRIDGE_CLIENT_IP_HEADER: %w", err)
	}
	if f.proxies, err = handlers.ParseProxies(s.TrustedProxies, header); err != nil {
		return f, fmt.Errorf("BRIDGE_TRUSTED_PROXIES: %w", err)
	}
	if s.usesProxyProtocol() && f.proxies.Hops() > 0 {
		return f, errors.New("BRIDGE_PROXY_PROTOCOL names the client already: with it BRIDGE_TRUSTED_PROXIES may only list networks, and BRIDGE_CLIENT_IP_HEADER needs them")
	}
	if err := handlers.CheckPathPrefix(s.PathPrefix); err != nil {
		return f, fmt.Errorf("BRIDGE_PATH_PREFIX: %w", err)
	}
	if s.MetricsListen != "" {
		if _, port, err := net.SplitHostPort(s.MetricsListen); err != nil || strings.TrimSpace(port) == "" {
			return f, errors.New("BRIDGE_METRICS_LISTEN must be an address with a port, like :9091")
		}
	}
	return f, nil
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
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		return errors.Join(m.Shutdown(ctx), <-served)
	})
	p.log.Info("metrics", "address", p.metricsAddr)
	return nil
}

// MetricsAddr is where /metrics is served by itself; empty where it is not.
func (p *Program) MetricsAddr() string { return p.metricsAddr }
