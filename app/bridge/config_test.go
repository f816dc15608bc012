package bridge

import (
	"log/slog"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	t.Run("has the times that the protocol gives", configTimes)
	t.Run("without a limit is refused", configWithoutLimit)
}

// QuietConfig has limits that a test does not reach unless it changes them, and logs
// nothing.
func QuietConfig(change ...func(*Config)) Config {
	c := Config{DefaultTTL: 72 * time.Hour, MaxBytes: 64 << 10, MaxSessions: 20_000, SessionsPerUser: 16,
		PingEvery: 25 * time.Second, DrainTimeout: 15 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&c)
	}
	return c
}

// FireTimers fires the timers of a user's sessions, as time would.
func FireTimers(b *Bridge, user string) {
	for _, s := range b.hub.of(user) {
		go s.tick()
	}
}

func configTimes(t *testing.T) {
	c := QuietConfig()
	c.fill()
	for name, is := range map[string]bool{
		"the first frame has 5 s":                    c.ConnectTimeout == 5*time.Second,
		"a token's end is announced a minute before": expiryWarningTime == time.Minute,
		"a client may send 1000 frames at once":      frameBurst == 1000,
		"a drain spreads its advice on 5 s":          drainSpread == 5*time.Second,
	} {
		if !is {
			t.Errorf("not so: %s", name)
		}
	}
}

func configWithoutLimit(t *testing.T) {
	for name, forget := range map[string]func(*Config){
		"DefaultTTL": func(c *Config) { c.DefaultTTL = 0 }, "MaxBytes": func(c *Config) { c.MaxBytes = 0 },
		"MaxSessions": func(c *Config) { c.MaxSessions = 0 }, "SessionsPerUser": func(c *Config) { c.SessionsPerUser = 0 },
		"PingEvery": func(c *Config) { c.PingEvery = 0 }, "DrainTimeout": func(c *Config) { c.DrainTimeout = 0 },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("it was taken without %s", name)
				}
			}()
			New(QuietConfig(forget), noStore{}, noStore{}, nil)
		}()
	}
}
