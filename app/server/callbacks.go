package server

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/callback"
	"hookbridge/app/guard"
	"hookbridge/auth"
)

// CallbackSettings say which backends hear of what happens in the bridge.
type CallbackSettings struct {
	CallbackURL          Secret `name:"callback-url" placeholder:"URL" env:"BRIDGE_CALLBACK_URL" help:"Where your backend takes callbacks: signed webhooks of what users do and send. https; http only for localhost and hosts under .internal."`
	CallbackSecret       Secret `name:"callback-secret" env:"BRIDGE_CALLBACK_SECRET" help:"Secret that callbacks are signed with, whsec_… or whsk_…; several, comma-separated, of which each signs."`
	CallbacksFile        string `name:"callbacks-file" placeholder:"FILE" env:"BRIDGE_CALLBACKS_FILE" help:"Instead of these two: JSON file of named backends, their URLs and secrets, and which types about which users they hear of."`
	CallbackAllowPrivate bool   `name:"callback-allow-private" default:"false" env:"BRIDGE_CALLBACK_ALLOW_PRIVATE" help:"Backends may be at any address, of private networks too, and take http."`
}

// envBackend names the backend of BRIDGE_CALLBACK_URL, which hears of everything.
const envBackend = "default"

// backends are those of the file, or the one of the environment; none where nothing is
// set. Its error is Faults, a line for each setting or entry that is wrong.
func (s *CallbackSettings) backends() ([]auth.Backend, error) {
	var all Faults
	switch {
	case s.CallbacksFile != "" && (s.CallbackURL != "" || s.CallbackSecret != ""):
		all.Add("BRIDGE_CALLBACKS_FILE and BRIDGE_CALLBACK_URL with BRIDGE_CALLBACK_SECRET are both set: put that backend into the file, too, or unset the file")
	case s.CallbacksFile != "":
		return s.backendsOfFile()
	case s.CallbackURL == "" && s.CallbackSecret == "":
		return nil, nil
	case s.CallbackURL == "":
		all.Add("BRIDGE_CALLBACK_SECRET is set, but BRIDGE_CALLBACK_URL is not: set it to where your backend takes callbacks")
	case s.CallbackSecret == "":
		all.Add("BRIDGE_CALLBACK_SECRET is missing: set it to a secret that your backend knows too, such as whsec_ and the output of: openssl rand -base64 32")
	}
	if s.CallbacksFile == "" && s.CallbackURL != "" {
		all.take("BRIDGE_CALLBACK_URL", callback.CheckURL(string(s.CallbackURL), s.CallbackAllowPrivate))
	}
	b := auth.Backend{Name: envBackend, URL: string(s.CallbackURL), Secrets: s.CallbackSecret.List(), Types: []string{"*"}}
	for i, secret := range b.Secrets {
		if err := auth.CheckSigningSecret(secret); err != nil {
			all.Add("BRIDGE_CALLBACK_SECRET, entry %d of %d: %w", i+1, len(b.Secrets), err)
		}
	}
	if len(all) == 0 {
		all.take("BRIDGE_CALLBACK_SECRET", b.Check())
	}
	return []auth.Backend{b}, all.orNil()
}

func (s *CallbackSettings) backendsOfFile() ([]auth.Backend, error) {
	var all Faults
	text, err := ReadRegular(s.CallbacksFile, maxSettingsFile)
	if err != nil {
		return nil, fmt.Errorf("BRIDGE_CALLBACKS_FILE cannot be read: %w", err)
	}
	backends, err := auth.ParseBackends(text)
	all.take("BRIDGE_CALLBACKS_FILE", err)
	for _, b := range backends {
		if err := callback.CheckURL(b.URL, s.CallbackAllowPrivate); err != nil {
			all.Add("BRIDGE_CALLBACKS_FILE: backend %s: %w", b.Name, err)
		}
	}
	return backends, all.orNil()
}

// callbackFaults are those of the backends. Secrets that dev made are among them: only
// dev may sign with these.
func (s *CallbackSettings) callbackFaults() (all Faults) {
	backends, err := s.backends()
	all.take("", err)
	for _, b := range backends {
		for i, secret := range b.Secrets {
			switch {
			case !IsDevWebhookSecret(secret):
			case s.CallbacksFile == "":
				all.Add("BRIDGE_CALLBACK_SECRET, entry %d, is a secret that dev made: make one of your own with: openssl rand -base64 32", i+1)
			default:
				all.Add("BRIDGE_CALLBACKS_FILE: backend %s: secret %d is one that dev made: make one of your own with: openssl rand -base64 32", b.Name, i+1)
			}
		}
	}
	return all
}

// callbacks makes what sends to the backends, and what the domain knows of them from
// its Backends. Where no backend is set it only gives up what is left from when there was one.
func (s *Settings) callbacks(log *slog.Logger, registry prometheus.Registerer, g *guard.Guard) (*callback.Sender, error) {
	backends, err := s.backends()
	if err != nil {
		return nil, err
	}
	return callback.New(callback.Options{
		Backends: backends, AllowPrivate: s.CallbackAllowPrivate, MaxBytes: s.MaxBytes, Logger: log, Registerer: registry, Guard: g,
	})
}
