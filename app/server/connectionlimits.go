package server

import (
	"fmt"
	"strings"

	"hookbridge/app/callback"
)

const (
	// keptDescriptors are for the store, logs, Redis, keys that are fetched, probes, and
	// one backend of callbacks. For each further backend callback.MaxConnections are kept.
	keptDescriptors = 256
	// keptForRequests are connections that no session may take: webhooks, probes
	// and those who are about to connect come in through them.
	keptForRequests = 64
	// maxOpenFiles is where a limit of open files is none.
	maxOpenFiles = 1 << 30
	// defaultConnections is for systems without a limit of open files.
	defaultConnections = 100_000
)

// fit holds the limits of connections to what the system allows beside the connections to
// the backends of callbacks; limited is false where it has no limit of open files. It returns
// one line about all that had to be lowered, empty where nothing had to be.
func (s *Settings) fit(files int, limited bool, backends int) (changed string) {
	var lowered []string
	lower := func(name string, n *int, to int) {
		if *n > to {
			lowered = append(lowered, fmt.Sprintf("%s=%d is taken as %d", name, *n, to))
			*n = to
		}
	}
	most := defaultConnections
	if limited {
		most = files - min(keptDescriptors+max(0, backends-1)*callback.MaxConnections, files/2)
	}
	switch {
	case s.MaxConnections == 0:
		s.MaxConnections = most
	case limited:
		lower("BRIDGE_MAX_CONNECTIONS", &s.MaxConnections, most)
	}
	lower("BRIDGE_MAX_SESSIONS", &s.MaxSessions, s.MaxConnections-min(keptForRequests, s.MaxConnections/2))
	if s.MaxUnauthenticated == 0 {
		s.MaxUnauthenticated = Defaults().MaxUnauthenticated
	}
	if len(lowered) == 0 {
		return ""
	}
	why := fmt.Sprintf("there may be %d connections", s.MaxConnections)
	if limited {
		why += fmt.Sprintf(" (the limit of open files is %d; raise it with ulimit -n)", files)
	}
	return strings.Join(lowered, ", ") + ": " + why
}
