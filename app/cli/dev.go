package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"hookbridge/app/server"
	"hookbridge/auth"
)

// DevCmd runs the bridge with secrets of its own making and the page.
type DevCmd struct {
	Listen   string   `default:"127.0.0.1:8080" help:"Loopback address to listen on; port 0 takes a free one."`
	DataDir  string   `default:"data" env:"BRIDGE_DATA_DIR" help:"Folder of bridge.db and the dev secrets."`
	Forward  string   `placeholder:"URL" help:"Pass callbacks and requests on to your own backend too, such as http://127.0.0.1:3000/hook; it answers the requests. Its secret is callbackSecret in the data folder's dev-secrets.json."`
	Origins  []string `name:"allowed-origins" env:"BRIDGE_ALLOWED_ORIGINS" sep:"," help:"Origins of your own pages that may connect, comma-separated, such as http://localhost:5173."`
	LogLevel string   `default:"warn" enum:"debug,info,warn,error" env:"BRIDGE_LOG_LEVEL" help:"debug, info, warn or error."`
}

// Run serves until ctx ends.
func (c *DevCmd) Run(ctx context.Context, streams Streams) (err error) {
	if err := loopbackOnly(c.Listen); err != nil {
		return err
	}
	secrets, err := devSecrets(c.DataDir)
	if err != nil {
		return err
	}
	backend, err := newDevBackend(secrets.CallbackSecret, c.Forward)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.stop()) }() // after the bridge, which sends to it
	ln, err := net.Listen("tcp", c.Listen)                    // the page's origin must be known before the rooms are wired
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; another address: --listen 127.0.0.1:0", c.Listen, err)
	}
	address := ln.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	base := "http://" + address
	s := server.Defaults()
	s.Listen, s.DataDir, s.LogLevel = address, c.DataDir, c.LogLevel
	s.WebhookSecrets, s.JWTSecret = []server.Secret{server.Secret(secrets.WebhookSecret)}, server.Secret(secrets.JWTSecret)
	s.CallbackURL, s.CallbackSecret = server.Secret(backend.url), server.Secret(secrets.CallbackSecret)
	s.AllowedOrigins = append(c.Origins, base, "http://localhost:"+port)
	s.ConnectRate, s.UserRate, s.UserBytes = 0, 0, 0 // everybody has one address, and tries things out
	s.MaxSessions, s.MaxUnauthenticatedPerAddress, s.DrainTimeout = 1000, 256, 3*time.Second
	demo := &server.Demo{
		BridgeURL: base, WebhookSecret: secrets.WebhookSecret, TokenSecret: secrets.JWTSecret,
		Client: &http.Client{Timeout: 10 * time.Second}, Callbacks: backend.heard,
	}
	p, err := server.NewProgram(ctx, s, demo, s.Logger(os.Stderr, true))
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	p.StartOn(ln)
	if err := c.greet(streams.Out, base, secrets); err != nil {
		return errors.Join(err, p.Stop())
	}
	return p.Wait(ctx)
}

func loopbackOnly(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("--listen: %w; it is an address like 127.0.0.1:8080", err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("dev listens on loopback only (127.0.0.1, ::1, localhost): its page hands out tokens; for anything else use serve")
}

// secretsFile is what dev keeps in its data folder; the token, send and verify
// commands read it too.
const secretsFile = "dev-secrets.json"

type devSecretsFile struct {
	WebhookSecret  string `json:"webhookSecret"`
	JWTSecret      string `json:"jwtSecret"`
	CallbackSecret string `json:"callbackSecret"`
}

// devSecrets reads dev's secrets, or makes and keeps them, readable by the
// owner alone. A file of an older dev gets the one that it lacks.
func devSecrets(dir string) (devSecretsFile, error) {
	var s devSecretsFile
	path := filepath.Join(dir, secretsFile)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.WebhookSecret, s.JWTSecret = devWebhookSecret(), server.DevMark+rand.Text()+rand.Text()
	case err != nil:
		return s, err
	case json.Unmarshal(b, &s) != nil || !server.IsDevWebhookSecret(s.WebhookSecret) || !strings.HasPrefix(s.JWTSecret, server.DevMark),
		s.CallbackSecret != "" && auth.CheckWebhookSecret(s.CallbackSecret) != nil:
		return s, fmt.Errorf("%s is damaged: remove it and start dev again", path)
	case s.CallbackSecret != "":
		return s, nil
	}
	s.CallbackSecret = devWebhookSecret()
	if b, err = json.MarshalIndent(s, "", "  "); err != nil {
		return s, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	return s, os.WriteFile(path, append(b, '\n'), 0o600)
}

func devWebhookSecret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(server.DevMark+rand.Text()))
}

// greet prints where to look and what to paste.
func (c *DevCmd) greet(w io.Writer, base string, secrets devSecretsFile) error {
	now := time.Now()
	body := `{"type":"patient.added","to":{"user":"patient-42"},"data":{"message":"Dr. Silva added you"}}`
	h, err := auth.SignWebhook(secrets.WebhookSecret, "msg_"+ulid.Make().String(), now, []byte(body))
	if err != nil {
		return err
	}
	token, err := auth.SignToken(secrets.JWTSecret, auth.Claims{User: "patient-42", IssuedAt: now, Expires: now.Add(12 * time.Hour), Rights: []byte(`{"backend":["*"]}`)})
	if err != nil {
		return err
	}
	var url, listen, data string // for the commands that would look for this dev elsewhere
	if base != "http://127.0.0.1:8080" {
		url, listen = " --url "+base, " --listen "+strings.TrimPrefix(base, "http://")
	}
	if c.DataDir != "data" {
		data = " --data-dir '" + strings.ReplaceAll(c.DataDir, "'", `'\''`) + "'"
	}
	_, err = fmt.Fprintf(w, `
  Hookbridge is running, with secrets of its own, for you to try.

  The page: a doctor adds a patient, and the patient's page rings
    %s

  A signed webhook, good for the next five minutes (then: hookbridge send --to patient-42%s)
    curl -sS %s/webhooks/events \
      -H 'Content-Type: application/json' \
      -H 'webhook-id: %s' \
      -H 'webhook-timestamp: %s' \
      -H 'webhook-signature: %s' \
      -d '%s'

  A token of patient-42 for your own client, good for 12 hours; it may send to the backend, too
    %s

  What users do and send comes back as signed webhooks, which the page's doctor shows. To see them in a terminal
    hookbridge receive%s
    hookbridge dev%s --forward http://127.0.0.1:9000    (in place of this one; or your own backend's address)

  Stop with Ctrl-C.

`, base, url+data, base, h.ID, h.Timestamp, h.Signature, body, token, data, listen+data)
	return err
}
