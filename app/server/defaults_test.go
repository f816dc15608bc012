package server

import (
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	t.Run("are those of the protocol", defaultsOfProtocol)
}

func defaultsOfProtocol(t *testing.T) {
	s := Defaults()
	for name, is := range map[string]bool{
		"a session is pinged every 25 s":        s.PingInterval == 25*time.Second,
		"an event without ttl is kept for 72 h": s.DefaultTTL == 72*time.Hour,
		"an event has at most 64 KiB":           s.MaxBytes == 64<<10,
		"a user has at most 16 sessions":        s.SessionsByUser == 16,
		"a drain takes 15 s":                    s.DrainTimeout == 15*time.Second,
	} {
		if !is {
			t.Errorf("not so: %s", name)
		}
	}
}
