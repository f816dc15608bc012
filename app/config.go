package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"hookbridge/auth"
)

// Secret is a setting that must not be seen: it prints as ***.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// LogValue hides the secret from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// Settings is every setting with its default and its unit. Each is a flag and
// an environment variable.
type Settings struct {
	Listen string `default:":8080" env:"BRIDGE_LISTEN" help:"Address to listen on."`

	Store
	Front

	WebhookSecrets []Secret `env:"BRIDGE_WEBHOOK_SECRETS" sep:"," help:"Who may send: whsec_… secrets or whpk_… ed25519 public keys, comma-separated; any may sign."`

	SecretsFile string `name:"webhook-secrets-file" env:"BRIDGE_WEBHOOK_SECRETS_FILE" help:"JSON file of named senders: their secrets, what they may send to whom, and how fast."`

	JWTSecret      Secret        `name:"jwt-secret" env:"BRIDGE_JWT_SECRET" help:"Secret of HS256 tokens: raw text, 32 bytes or more."`
	JWTPublicKey   string        `name:"jwt-public-key" env:"BRIDGE_JWT_PUBLIC_KEY" help:"Public key of RS256, ES256 or EdDSA tokens: PEM, or the path of a PEM file."`
	JWKSURL        string        `name:"jwks-url" env:"BRIDGE_JWKS_URL" help:"Where the keys of RS256, ES256 and EdDSA tokens are published (JWKS)."`
	JWTIssuer      string        `name:"jwt-issuer" env:"BRIDGE_JWT_ISSUER" help:"Required iss of tokens."`
	JWTAudience    string        `name:"jwt-audience" env:"BRIDGE_JWT_AUDIENCE" help:"Required aud of tokens."`
	JWTLeeway      time.Duration `name:"jwt-leeway" default:"60s" env:"BRIDGE_JWT_LEEWAY" help:"Room for clocks that differ, at a token's exp and nbf: 0 to 5m."`
	JWTUserClaim   string        `name:"jwt-user-claim" default:"sub" env:"BRIDGE_JWT_USER_CLAIM" help:"Claim that names the user."`
	JWTRightsClaim string        `name:"jwt-rights-claim" default:"bridge" env:"BRIDGE_JWT_RIGHTS_CLAIM" help:"Claim that lists the rights."`

	AllowedOrigins []string `env:"BRIDGE_ALLOWED_ORIGINS" sep:"," help:"Origins of browsers and apps that may connect, comma-separated: https://app.example, https://*.example.com for one label, capacitor://localhost, null. The bridge's own host always may."`

	DefaultTTL     time.Duration `name:"default-ttl" default:"72h" env:"BRIDGE_DEFAULT_TTL" help:"How long an event without ttl is kept."`
	MaxBytes       int           `default:"65536" env:"BRIDGE_MAX_BYTES" help:"Largest event and largest frame, bytes."`
	MaxBatchBytes  int           `default:"8388608" env:"BRIDGE_MAX_BATCH_BYTES" help:"Largest batch of events, bytes."`
	MaxSessions    int           `default:"20000" env:"BRIDGE_MAX_SESSIONS" help:"Sessions on this machine; one more gets 503."`
	SessionsByUser int           `name:"max-sessions-per-user" default:"16" env:"BRIDGE_MAX_SESSIONS_PER_USER" help:"Sessions of one user; one more closes the oldest."`
	MaxPending     int           `name:"max-unauthenticated-per-address" default:"1024" env:"BRIDGE_MAX_UNAUTHENTICATED_PER_ADDRESS" help:"Connections of one address that have not shown a token."`
	ConnectRate    float64       `default:"200" env:"BRIDGE_CONNECT_RATE" help:"Connects a second of one address, ten times as many at once; 0: no limit."`
	UserRate       float64       `default:"20" env:"BRIDGE_USER_RATE" help:"Events a second that one user may send, five times as many at once; 0: no limit."`
	UserBytes      int           `default:"262144" env:"BRIDGE_USER_BYTES" help:"Bytes a second that one user may send, four times as many at once; 0: no limit."`
	DrainTimeout   time.Duration `default:"15s" env:"BRIDGE_DRAIN_TIMEOUT" help:"How long sessions may take to leave when the program stops."`
	PingInterval   time.Duration `default:"25s" env:"BRIDGE_PING_INTERVAL" help:"Heartbeat of sessions; silence of 2.5 times as long ends one."`
	LogLevel       string        `default:"info" enum:"debug,info,warn,error" env:"BRIDGE_LOG_LEVEL" help:"debug, info, warn or error."`
	Audit          string        `default:"off" env:"BRIDGE_AUDIT" help:"Where the audit log goes, one JSON line an act: off, stderr, stdout, or a file's path (appended to)."`
}

// devMark begins every secret that dev makes, so that serve knows one wherever
// it was copied to.
const devMark = "hookbridge-dev-only-"

// check finds what serve must not start with. The error is one line that says
// what to mend and never repeats a secret.
func (s *Settings) check() error {
	if len(s.WebhookSecrets) == 0 && s.SecretsFile == "" {
		return errors.New("BRIDGE_WEBHOOK_SECRETS is missing (and so is BRIDGE_WEBHOOK_SECRETS_FILE): set it to a secret that only your backend knows, such as whsec_ and the output of: openssl rand -base64 32")
	}
	for i, w := range s.WebhookSecrets {
		if isDevWebhookSecret(string(w)) {
			return fmt.Errorf("BRIDGE_WEBHOOK_SECRETS, entry %d, is a secret that dev made: make one of your own with: openssl rand -base64 32", i+1)
		}
	}
	n := 0
	for _, set := range []bool{s.JWTSecret != "", s.JWTPublicKey != "", s.JWKSURL != ""} {
		if set {
			n++
		}
	}
	switch {
	case n == 0:
		return errors.New("no way to check tokens: set BRIDGE_JWT_SECRET (32 bytes or more), BRIDGE_JWT_PUBLIC_KEY or BRIDGE_JWKS_URL")
	case n > 1:
		return errors.New("set only one of BRIDGE_JWT_SECRET, BRIDGE_JWT_PUBLIC_KEY and BRIDGE_JWKS_URL")
	case strings.HasPrefix(string(s.JWTSecret), devMark):
		return errors.New("BRIDGE_JWT_SECRET is a secret that dev made: make one of your own with: openssl rand -base64 48")
	}
	return s.checkLimits()
}

// checkLimits finds numbers and origins that cannot be meant.
func (s *Settings) checkLimits() error {
	if _, err := s.Front.parse(s.AllowedOrigins); err != nil {
		return err
	}
	for name, n := range map[string]int{
		"BRIDGE_MAX_SESSIONS":          s.MaxSessions,
		"BRIDGE_MAX_SESSIONS_PER_USER": s.SessionsByUser, "BRIDGE_MAX_UNAUTHENTICATED_PER_ADDRESS": s.MaxPending,
	} {
		if n < 1 {
			return fmt.Errorf("%s must be 1 or more", name)
		}
	}
	if s.MaxBytes < 1024 || s.MaxBytes > 4<<20 {
		return errors.New("BRIDGE_MAX_BYTES must be from 1024 to 4194304")
	}
	if s.MaxBatchBytes < s.MaxBytes || s.MaxBatchBytes > 64<<20 {
		return errors.New("BRIDGE_MAX_BATCH_BYTES must be from BRIDGE_MAX_BYTES to 67108864")
	}
	if s.JWTLeeway < 0 || s.JWTLeeway > auth.MaxLeeway {
		return fmt.Errorf("BRIDGE_JWT_LEEWAY must be from 0s to %s", auth.MaxLeeway)
	}
	if s.ConnectRate < 0 || s.ConnectRate > 1e6 {
		return errors.New("BRIDGE_CONNECT_RATE must be from 0 to 1000000")
	}
	if s.UserRate < 0 || s.UserRate > 1e6 {
		return errors.New("BRIDGE_USER_RATE must be from 0 to 1000000")
	}
	if s.UserBytes < 0 || s.UserBytes > 1<<30 {
		return errors.New("BRIDGE_USER_BYTES must be from 0 to 1073741824")
	}
	for name, d := range map[string]time.Duration{
		"BRIDGE_DEFAULT_TTL": s.DefaultTTL, "BRIDGE_DRAIN_TIMEOUT": s.DrainTimeout,
	} {
		if d < time.Second {
			return fmt.Errorf("%s must be 1s or more", name)
		}
	}
	return s.checkStore()
}

// tokenConfig says how tokens are checked.
func (s *Settings) tokenConfig(log *slog.Logger) (auth.TokenConfig, error) {
	c := auth.TokenConfig{
		Secret: string(s.JWTSecret), PublicKeyPEM: s.JWTPublicKey, JWKSURL: s.JWKSURL,
		Issuer: s.JWTIssuer, Audience: s.JWTAudience, Leeway: s.JWTLeeway,
		UserClaim: s.JWTUserClaim, RightsClaim: s.JWTRightsClaim, Logger: log,
	}
	if c.PublicKeyPEM != "" && !strings.Contains(c.PublicKeyPEM, "-----BEGIN") {
		pem, err := os.ReadFile(c.PublicKeyPEM)
		if err != nil {
			return c, fmt.Errorf("BRIDGE_JWT_PUBLIC_KEY is neither PEM nor a readable file: %w", err)
		}
		c.PublicKeyPEM = string(pem)
	}
	return c, nil
}

// tokenSetting names the setting that decides how tokens are checked.
func (s *Settings) tokenSetting() string {
	switch {
	case s.JWTPublicKey != "":
		return "BRIDGE_JWT_PUBLIC_KEY"
	case s.JWKSURL != "":
		return "BRIDGE_JWKS_URL"
	}
	return "BRIDGE_JWT_SECRET"
}

// logger writes one line an event to w.
func (s *Settings) logger(w *os.File, text bool) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil { // kong has checked the enum
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if text {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
