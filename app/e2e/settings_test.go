package e2e

import (
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	t.Run("default to what the protocol says", settingsDefaults)
}

func settingsDefaults(t *testing.T) {
	t.Parallel()
	var s server.Settings
	parser, err := kong.New(&s)
	expect.NoError(t, err)
	_, err = parser.Parse(nil)
	expect.NoError(t, err)
	for name, is := range map[string]bool{
		"BRIDGE_LISTEN is :8080":                 s.Listen == ":8080",
		"BRIDGE_DATA_DIR is data":                s.DataDir == "data",
		"BRIDGE_DEFAULT_TTL is 72 h":             s.DefaultTTL == 72*time.Hour,
		"an id is remembered for 7 days":         s.IDRetention == 7*24*time.Hour,
		"a mailbox holds 10,000":                 s.MailboxLimit == 10_000,
		"BRIDGE_MAX_BYTES is 64 KiB":             s.MaxBytes == 64<<10,
		"BRIDGE_JWT_LEEWAY is 60 s":              s.JWTLeeway == time.Minute,
		"BRIDGE_MAX_BATCH_BYTES is 8 MiB":        s.MaxBatchBytes == 8<<20,
		"BRIDGE_MAX_SESSIONS_PER_USER is 16":     s.SessionsByUser == 16,
		"BRIDGE_DRAIN_TIMEOUT is 15 s":           s.DrainTimeout == 15*time.Second,
		"a session is pinged every 25 s":         s.PingInterval == 25*time.Second,
		"the user is sub, the rights are bridge": s.JWTUserClaim == "sub" && s.JWTRightsClaim == "bridge",
		"tokens of any issuer and audience":      s.JWTIssuer == "" && s.JWTAudience == "",
		"no browser's page may connect":          len(s.AllowedOrigins) == 0,
	} {
		if !is {
			t.Errorf("not so: %s", name)
		}
	}
}
