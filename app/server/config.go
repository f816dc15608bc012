// Package server is the program that serve and dev run: its settings, how it is
// wired, started and stopped. No command line is known here.
package server

import (
	"encoding/base64"
	"log/slog"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Secret is a setting that must not be seen: it prints as ***.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// LogValue hides the secret from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// List is the secrets of a setting that may hold several, comma-separated.
func (s Secret) List() []string {
	if s == "" {
		return nil
	}
	if !strings.Contains(string(s), ",") {
		return []string{string(s)}
	}
	var out []string
	for one := range strings.SplitSeq(string(s), ",") {
		out = append(out, strings.TrimSpace(one))
	}
	return out
}

// Settings is every setting of serve, each a flag and an environment variable. This
// page has all defaults, units (numbers count what the help says; lengths of time
// are written like 25s, 15m or 72h) and ranges: serve does not start with a value
// outside of its range, both ends of which are allowed, and --help shows it.
type Settings struct {
	Listen string `default:":8080" env:"BRIDGE_LISTEN" help:"Address to listen on."`

	StoreSettings
	FrontSettings

	WebhookSecrets []Secret `env:"BRIDGE_WEBHOOK_SECRETS" sep:"," help:"Who may send: whsec_… secrets or whpk_… ed25519 public keys, comma-separated; any may sign."`

	SecretsFile string `name:"webhook-secrets-file" env:"BRIDGE_WEBHOOK_SECRETS_FILE" help:"JSON file of named senders: their secrets, what they may send to whom, and how fast."`

	TokenSettings

	CallbackSettings

	AllowedOrigins []string `env:"BRIDGE_ALLOWED_ORIGINS" sep:"," help:"Origins of browsers and apps that may connect, comma-separated: https://app.example, https://*.example.com for one label, capacitor://localhost, null. The bridge's own host always may."`

	DefaultTTL                   time.Duration `name:"default-ttl" default:"72h" range:"1s..8760h" env:"BRIDGE_DEFAULT_TTL" help:"How long an event without ttl is kept."`
	MaxBytes                     int           `default:"65536" range:"1024..4194304" env:"BRIDGE_MAX_BYTES" help:"Largest event and largest frame, bytes."`
	MaxBatchBytes                int           `default:"8388608" range:"1024..67108864" env:"BRIDGE_MAX_BATCH_BYTES" help:"Largest batch of events, bytes; no less than the largest event."`
	MaxSessions                  int           `default:"20000" range:"1..10000000" env:"BRIDGE_MAX_SESSIONS" help:"Sessions on this machine; one more gets 503."`
	SessionsByUser               int           `name:"max-sessions-per-user" default:"16" range:"1..10000" env:"BRIDGE_MAX_SESSIONS_PER_USER" help:"Sessions of one user; one more closes the oldest."`
	MaxUnauthenticatedPerAddress int           `name:"max-unauthenticated-per-address" default:"1024" range:"1..1000000" env:"BRIDGE_MAX_UNAUTHENTICATED_PER_ADDRESS" help:"Connections of one address that have not shown a token."`
	MaxConnections               int           `name:"max-connections" default:"0" range:"0..10000000" env:"BRIDGE_MAX_CONNECTIONS" help:"Connections of all kinds, sessions among them; 0: what the limit of open files allows, less 256, and 144 for each backend after the first."`
	MaxUnauthenticated           int           `name:"max-unauthenticated" default:"8192" range:"0..10000000" env:"BRIDGE_MAX_UNAUTHENTICATED" help:"Connections of all addresses that have shown no token and no signature; one more ends the oldest; 0: 8192."`
	ConnectRate                  float64       `default:"200" range:"0..1000000" env:"BRIDGE_CONNECT_RATE" help:"Connects a second of one address, ten times as many at once; 0: no limit."`
	UserRate                     float64       `default:"20" range:"0..1000000" env:"BRIDGE_USER_RATE" help:"Events a second that one user may send, five times as many at once; 0: no limit."`
	UserBytes                    int           `default:"262144" range:"0..1073741824" env:"BRIDGE_USER_BYTES" help:"Bytes a second that one user may send, four times as many at once; 0: no limit."`
	DrainTimeout                 time.Duration `default:"15s" range:"1s..10m" env:"BRIDGE_DRAIN_TIMEOUT" help:"How long sessions may take to leave when the program stops."`
	PingInterval                 time.Duration `default:"25s" range:"1s..10m" env:"BRIDGE_PING_INTERVAL" help:"Heartbeat of sessions; silence of 2.5 times as long ends one."`
	LogLevel                     string        `default:"info" enum:"debug,info,warn,error" env:"BRIDGE_LOG_LEVEL" help:"debug, info, warn or error."`
	Audit                        string        `default:"off" env:"BRIDGE_AUDIT" help:"Where the audit log goes, one JSON line an act: off, stderr, stdout, or a file's path (appended to)."`

	Times Times `kong:"-"`
}

// Defaults are the settings of a serve that nobody has told anything: what the tags
// above say, and nothing of the environment.
func Defaults() Settings {
	var s Settings
	setDefaults(reflect.ValueOf(&s).Elem())
	return s
}

func setDefaults(v reflect.Value) {
	for i := range v.NumField() {
		field := v.Field(i)
		if field.Kind() == reflect.Struct {
			setDefaults(field)
			continue
		}
		value, ok := v.Type().Field(i).Tag.Lookup("default")
		if !ok {
			continue
		}
		switch p := field.Addr().Interface().(type) {
		case *string:
			*p = value
		case *bool:
			*p = mustRead(strconv.ParseBool(value))
		case *int:
			*p = mustRead(strconv.Atoi(value))
		case *float64:
			*p = mustRead(strconv.ParseFloat(value, 64))
		case *time.Duration:
			*p = mustRead(time.ParseDuration(value))
		default:
			panic("a default of a kind that nobody reads: " + field.Type().String())
		}
	}
}

// Times are limits of time that are no settings, because clients rely on them or
// because nobody has a reason to change them. Where one is 0, the package that it goes
// to has a default, which is named here.
type Times struct {
	FirstFrame    time.Duration // for the first frame of a connection; 5 s
	Request       time.Duration // for a request's header and body; 10 s
	Publish       time.Duration // for the store to take a webhook, however many events it has; 10 s
	Message       time.Duration // for one message of a session, in however many fragments; 10 s
	RedisLease    time.Duration // how long a machine that is not heard of counts as live; 15 s
	RedisRenew    time.Duration // how often a machine says that it lives; 3 s
	RedisPatience time.Duration // for an answer of Redis; 5 s
}

// StoreSettings say where messages are kept, the same for every command
// that opens a store.
type StoreSettings struct {
	DataDir string `default:"data" env:"BRIDGE_DATA_DIR" help:"Folder of bridge.db; one process at a time."`

	RedisURL    Secret `name:"redis-url" env:"BRIDGE_REDIS_URL" help:"Keep everything in Redis 7 or later, for many machines, instead of bridge.db: redis://[user:password@]host:port, rediss:// for TLS; more addresses follow as ?addr=host:port."`
	RedisPrefix string `name:"redis-prefix" default:"hookbridge" env:"BRIDGE_REDIS_PREFIX" help:"Begins every key in Redis; one prefix is one store."`
	RedisWait   int    `name:"redis-wait" default:"0" range:"0..16" env:"BRIDGE_REDIS_WAIT" help:"Replicas that must have an event before it is answered with 202."`

	IDRetention  time.Duration `name:"id-retention" default:"168h" range:"1s..8760h" env:"BRIDGE_ID_RETENTION" help:"How long a webhook-id is remembered."`
	MailboxBytes int           `default:"16777216" range:"65536..1073741824" env:"BRIDGE_MAILBOX_BYTES" help:"Bytes of payload that a mailbox holds; past that the oldest messages go. One message always fits."`
	MailboxLimit int           `default:"10000" range:"1..1000000" env:"BRIDGE_MAILBOX_LIMIT" help:"Messages a mailbox holds; past that the oldest go."`
}

// FrontSettings say what stands in front of the program: proxies,
// balancers, and who scrapes it.
type FrontSettings struct {
	TrustedProxies string `name:"trusted-proxies" env:"BRIDGE_TRUSTED_PROXIES" placeholder:"N|CIDR,…" help:"Proxies in front that are believed when they name the client in X-Forwarded-For: how many there are, or their networks and addresses, comma-separated."`
	ClientIPHeader string `name:"client-ip-header" env:"BRIDGE_CLIENT_IP_HEADER" placeholder:"NAME" help:"Another header in which they name it, such as Forwarded or CF-Connecting-IP; alone it means one proxy. Set it only where nobody gets past that proxy. On Fly.io: Fly-Client-IP."`
	ProxyProtocol  string `name:"proxy-protocol" default:"off" enum:"off,on" env:"BRIDGE_PROXY_PROTOCOL" help:"on: connections begin with a header of the PROXY protocol (HAProxy's, versions 1 and 2): those of the networks in BRIDGE_TRUSTED_PROXIES, or all where it is empty."`
	PathPrefix     string `name:"path-prefix" env:"BRIDGE_PATH_PREFIX" placeholder:"/PATH" help:"What every path begins with, where a balancer in front does not take it off; /livez, /readyz and /metrics are served without it, too."`
	MetricsListen  string `name:"metrics-listen" env:"BRIDGE_METRICS_LISTEN" placeholder:"ADDRESS" help:"Address of its own for /metrics, which is not served on the public one then."`
}

// TokenSettings say which tokens are good, the same for every command that checks
// one.
type TokenSettings struct {
	JWTSecret      Secret        `name:"jwt-secret" env:"BRIDGE_JWT_SECRET" help:"Secret of HS256, HS384 and HS512 tokens: raw text, 32 bytes or more; several, comma-separated, of which any may have signed."`
	JWTPublicKey   string        `name:"jwt-public-key" env:"BRIDGE_JWT_PUBLIC_KEY" help:"Public key of RS, PS, ES (256, 384, 512) or EdDSA tokens: PEM, or the path of a PEM file."`
	JWKSURL        string        `name:"jwks-url" env:"BRIDGE_JWKS_URL" help:"Where such keys are published (JWKS)."`
	JWTIssuer      string        `name:"jwt-issuer" env:"BRIDGE_JWT_ISSUER" help:"Required iss of tokens."`
	JWTAudience    string        `name:"jwt-audience" env:"BRIDGE_JWT_AUDIENCE" help:"Required aud of tokens."`
	JWTIssuersFile string        `name:"jwt-issuers-file" env:"BRIDGE_JWT_ISSUERS_FILE" help:"JSON file of issuers, each with its keys (or its URL, to find them by OpenID discovery), audience and claims; a token is judged by the entry that its iss names, and by the settings above where there is none."`
	JWTLeeway      time.Duration `name:"jwt-leeway" default:"60s" range:"0s..5m" env:"BRIDGE_JWT_LEEWAY" help:"Room for clocks that differ, at a token's exp and nbf."`
	JWTUserClaim   string        `name:"jwt-user-claim" default:"sub" env:"BRIDGE_JWT_USER_CLAIM" help:"Claim that names the user."`
	JWTRightsClaim string        `name:"jwt-rights-claim" default:"bridge" env:"BRIDGE_JWT_RIGHTS_CLAIM" help:"Claim that lists the rights."`
}

// DevMark begins every secret that dev makes, so that serve knows one wherever
// it was copied to.
const DevMark = "hookbridge-dev-only-"

// IsDevWebhookSecret tells whether dev has made a webhook secret.
func IsDevWebhookSecret(secret string) bool {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	return err == nil && strings.HasPrefix(string(b), DevMark)
}

// Logger writes one line an event to w.
func (s *Settings) Logger(w *os.File, text bool) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil { // kong has checked the enum
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if text {
		return flyLogger(slog.New(slog.NewTextHandler(w, o)))
	}
	return flyLogger(slog.New(slog.NewJSONHandler(w, o)))
}
