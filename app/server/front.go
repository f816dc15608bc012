package server

import (
	"hookbridge/handlers"
)

// front is FrontSettings as the edge understands it.
type front struct {
	proxies handlers.Proxies
	origins handlers.Origins
}

func (s *FrontSettings) usesProxyProtocol() bool { return s.ProxyProtocol == "on" }

// parse finds all that cannot be meant; each fault names the variable and the entry.
func (s *FrontSettings) parse(origins []string) (f front, err error) {
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
