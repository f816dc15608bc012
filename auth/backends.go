package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
)

const (
	// maxBackends bounds how many loops and connections the settings can ask for.
	maxBackends = 64
	// maxSigningSecrets is how many signatures one webhook of ours carries at most:
	// no more than Webhooks looks at.
	maxSigningSecrets = maxSignatures
)

// Backend is a receiver of our own webhooks: where it is, the secrets they are signed
// with, and what it wants to hear about whom.
type Backend struct {
	Name    string
	URL     string
	Secrets []string // whsec_ or whsk_; each of them signs
	Types   []string // patterns of types; a lone "*" is every type
	Users   []string // patterns of users; nil: every user
}

// String names the backend and keeps its secrets and its URL, which may hold some.
func (b Backend) String() string { return "backend " + b.Name }

// LogValue keeps the secrets and the URL out of logs.
func (b Backend) LogValue() slog.Value { return slog.StringValue(b.Name) }

type backendFile struct {
	Backends []backendEntry `json:"backends"`
}

type backendEntry struct {
	Name    string   `json:"name"`
	URL     string   `json:"url"`
	Secrets []string `json:"secrets"`
	Types   patterns `json:"types"`
	Users   patterns `json:"users"`
}

// ParseBackends reads a file of backends:
//
//	{"backends":[{"name":"clinic","url":"https://…","secrets":["whsec_…"],
//	 "types":["*"],"users":["patient-*"]}]}
//
// Names it does not know are refused: a slip in "users" must not tell a backend of
// everybody. It does not look at the URL. Its errors are a line for each backend that
// is wrong, and never repeat a secret or a URL.
func ParseBackends(b []byte) ([]Backend, error) {
	var f backendFile
	if err := json.Unmarshal(withoutBOM(b), &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, fileFault(err, "backends", "a backend has name, url, secrets, types and users")
	}
	if len(f.Backends) == 0 {
		return nil, errors.New(`no backends: it must be {"backends":[{"name":"…","url":"https://…","secrets":["whsec_…"],"types":["*"]}]}`)
	}
	if len(f.Backends) > maxBackends {
		return nil, fmt.Errorf("%d backends; at most %d are allowed", len(f.Backends), maxBackends)
	}
	var faults []error
	out := make([]Backend, 0, len(f.Backends))
	names := make(map[string]bool)
	for i, e := range f.Backends {
		backend := Backend{Name: e.Name, URL: e.URL, Secrets: e.Secrets, Types: e.Types, Users: e.Users}
		err := backend.Check()
		if err == nil && names[e.Name] {
			err = errors.New("name is given to another backend, too")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("backend %d: %w", i+1, err))
		}
		names[e.Name] = true
		out = append(out, backend)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return out, nil
}

// Check says what is wrong with a backend, its URL apart, without any part of a
// secret.
func (b Backend) Check() error {
	if !validSenderName(b.Name) || b.Name == "." || b.Name == ".." { // these two are no part of a path
		return fmt.Errorf("name must be 1 to %d characters A-Z a-z 0-9 _ . - and cannot be a single or a double dot", maxSenderName)
	}
	if len(b.Secrets) == 0 {
		return errors.New("secrets must list one secret at least")
	}
	if len(b.Secrets) > maxSigningSecrets {
		return fmt.Errorf("%d secrets; at most %d are allowed", len(b.Secrets), maxSigningSecrets)
	}
	for i, secret := range b.Secrets {
		if err := CheckSigningSecret(secret); err != nil {
			return fmt.Errorf("secret %d of %d: %w", i+1, len(b.Secrets), err)
		}
	}
	if len(b.Types) == 0 {
		return errors.New(`types must list one pattern at least, such as "*" for every type`)
	}
	if slices.ContainsFunc(b.Types, func(p string) bool {
		return p == "" || len(p) > maxPatternChars || firstNotAlphanumeric(p, "_.-*") >= 0
	}) {
		return fmt.Errorf("types: a pattern has 1 to %d characters A-Z a-z 0-9 _ . - *", maxPatternChars)
	}
	if b.Users != nil && len(b.Users) == 0 {
		return errors.New("users is empty: leave it out for every user")
	}
	if slices.ContainsFunc(b.Users, func(p string) bool { return p == "" || utf8.RuneCountInString(p) > maxPatternChars }) {
		return fmt.Errorf("users: a pattern has 1 to %d characters", maxPatternChars)
	}
	if slices.ContainsFunc(b.Users, func(p string) bool { return strings.HasPrefix(p, "group:") }) {
		return errors.New("users: a pattern that begins with group: covers no user; list patterns of users")
	}
	return nil
}

// CheckSigningSecret says what is wrong with a secret for SignWebhook, without any
// part of it.
func CheckSigningSecret(secret string) error {
	_, err := SignWebhook(secret, "check", time.Unix(0, 0), nil)
	return err
}

// SignWebhookWithAll signs as SignWebhook does, with every secret: the signatures
// stand behind each other with a space between, so that a receiver may hold any of
// the secrets while they rotate.
func SignWebhookWithAll(secrets []string, id string, at time.Time, body []byte) (Header, error) {
	var all Header
	for _, secret := range secrets {
		h, err := SignWebhook(secret, id, at, body)
		if err != nil {
			return Header{}, err
		}
		if all.Signature != "" {
			h.Signature = all.Signature + " " + h.Signature
		}
		all = h
	}
	if all.Signature == "" {
		return Header{}, errors.New("no webhook secret is set")
	}
	return all, nil
}
