package server

import (
	"strings"
	"testing"
)

func TestConnectionLimits(t *testing.T) {
	t.Run("fit the limit of open files", connectionLimitsFit)
	t.Run("have as many files as the hard limit allows", connectionLimitsRaised)
}

func connectionLimitsFit(t *testing.T) {
	for name, c := range map[string]struct {
		files                 int // 0: no limit
		connections, sessions int
		backends              int
		wantC, wantS          int
		says                  []string
	}{
		"room for all":         {100_000, 0, 20_000, 0, 99_744, 20_000, nil},
		"no limit":             {0, 0, 20_000, 0, defaultConnections, 20_000, nil},
		"no limit, and a wish": {0, 200_000, 150_000, 0, 200_000, 150_000, nil},
		"a wish that fits":     {100_000, 30_000, 20_000, 0, 30_000, 20_000, nil},
		"as many as there are": {20_000, 0, 20_000, 0, 19_744, 19_680, []string{"BRIDGE_MAX_SESSIONS=20000 is taken as 19680", "19744", "20000; raise it"}},
		"too many wished":      {1024, 5000, 700, 0, 768, 700, []string{"BRIDGE_MAX_CONNECTIONS=5000 is taken as 768", "1024"}},
		"both":                 {1024, 5000, 5000, 0, 768, 704, []string{"BRIDGE_MAX_CONNECTIONS=5000", "BRIDGE_MAX_SESSIONS=5000 is taken as 704"}},
		"more sessions":        {100_000, 100, 5000, 0, 100, 50, []string{"BRIDGE_MAX_SESSIONS=5000 is taken as 50"}},
		"one backend":          {100_000, 0, 20_000, 1, 99_744, 20_000, nil},
		"three backends":       {100_000, 0, 20_000, 3, 99_456, 20_000, nil},
		"too many backends":    {1024, 0, 300, 64, 512, 300, nil},
		"hardly any":           {64, 0, 20_000, 0, 32, 16, []string{"BRIDGE_MAX_SESSIONS"}},
	} {
		s := Settings{MaxConnections: c.connections, MaxSessions: c.sessions}
		said := s.fit(c.files, c.files > 0, c.backends)
		if s.MaxConnections != c.wantC || s.MaxSessions != c.wantS || s.MaxUnauthenticated != Defaults().MaxUnauthenticated {
			t.Errorf("%s: %d connections, %d sessions", name, s.MaxConnections, s.MaxSessions)
		}
		if (said == "") != (c.says == nil) || strings.Contains(said, "\n") {
			t.Errorf("%s: it says %q", name, said)
		}
		for _, want := range c.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: it says %q", name, said)
			}
		}
	}
}

func connectionLimitsRaised(t *testing.T) {
	files, limited := openFiles()
	again, _ := openFiles()
	if limited && (files < 1 || again != files) {
		t.Errorf("%d, then %d", files, again)
	}
}
