package bridge

import (
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	t.Run("defaults to what the protocol says", configDefaults)
}

func configDefaults(t *testing.T) {
	var c Config
	c.fill()
	for name, is := range map[string]bool{
		"the first frame has 5 s":                        c.ConnectTimeout == 5*time.Second,
		"a session is pinged every 25 s":                 c.PingEvery == 25*time.Second,
		"a token's end is announced a minute before":     expiryWarningTime == time.Minute,
		"a client may send 1000 frames at once":          frameBurst == 1000,
		"an event without ttl is kept for 72 h":          c.DefaultTTL == 72*time.Hour,
		"an event has at most 64 KiB":                    c.MaxBytes == 64<<10,
		"a user has at most 16 sessions":                 c.SessionsPerUser == 16,
		"a drain takes 15 s and spreads its advice on 5": c.DrainTimeout == 15*time.Second && drainSpread == 5*time.Second,
	} {
		if !is {
			t.Errorf("not so: %s", name)
		}
	}
}
