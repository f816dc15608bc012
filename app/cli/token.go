package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hookbridge/app/server"
	"hookbridge/auth"
)

// TokenCmd makes a token, as whoever signs people in does.
type TokenCmd struct {
	User     string        `arg:"" help:"Whose token it is: 1–128 characters."`
	Send     []string      `sep:"none" placeholder:"PATTERN" help:"May send to users like this, * for any run of characters; repeatable. The lone * also allows to all."`
	Backend  []string      `sep:"none" placeholder:"TYPE" help:"May send a backend events of types like this, and ask it, * for any run of characters; repeatable."`
	Group    []string      `sep:"none" placeholder:"GROUP" help:"Is in this group; repeatable."`
	Admin    []string      `sep:"none" placeholder:"AREA" help:"May operate presence, sessions, events, users, groups or callbacks; repeatable."`
	TTL      time.Duration `name:"ttl" default:"1h" help:"How long it is good for."`
	Issuer   string        `env:"BRIDGE_JWT_ISSUER" help:"Its iss."`
	Audience string        `env:"BRIDGE_JWT_AUDIENCE" help:"Its aud."`
	ID       string        `name:"id" help:"Its jti, by which it can be revoked."`

	TokenSecret
}

// TokenSecret is where a command that makes tokens finds the secret to sign
// them with.
type TokenSecret struct {
	JWTSecret server.Secret `name:"jwt-secret" env:"BRIDGE_JWT_SECRET" help:"Secret to sign with (HS256), the first of several; without one, dev's."`
	DataDir   string        `default:"data" env:"BRIDGE_DATA_DIR" help:"Folder where dev keeps its secrets."`
}

// Help is shown under token --help.
func (*TokenCmd) Help() string {
	return `Examples:

    hookbridge token patient-42
    hookbridge token doctor-7 --send 'patient-*' --ttl 12h
    hookbridge token patient-42 --backend 'visit.*' --backend 'slots.*'
    hookbridge token ops --admin presence --admin callbacks

Production tokens come from whoever signs your users in; this is for trying and testing.`
}

// areas are what an admin right may name.
var areas = []string{"presence", "sessions", "events", "users", "groups", "callbacks"}

// Run prints the token.
func (c *TokenCmd) Run(_ context.Context, streams Streams) error {
	if c.TTL < time.Second {
		return errors.New("--ttl must be 1s or more")
	}
	for _, a := range c.Admin {
		if !slices.Contains(areas, a) {
			return fmt.Errorf("--admin %q is no area; the areas are %s", a, strings.Join(areas, ", "))
		}
	}
	secret, err := c.secret()
	if err != nil {
		return err
	}
	rights, err := json.Marshal(struct {
		Send   []string `json:"send,omitempty"`
		Groups []string `json:"groups,omitempty"`
		Admin  []string `json:"admin,omitempty"`

		Backend []string `json:"backend,omitempty"`
	}{c.Send, c.Group, c.Admin, c.Backend})
	if err != nil {
		return err
	}
	now := time.Now()
	claims := auth.Claims{User: c.User, ID: c.ID, IssuedAt: now, Expires: now.Add(c.TTL), Rights: rights, Issuer: c.Issuer}
	if c.Audience != "" {
		claims.Audiences = []string{c.Audience}
	}
	token, err := auth.SignToken(secret, claims)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(streams.Out, token)
	return err
}

// secret is the one that was set, else dev's.
func (c *TokenSecret) secret() (string, error) {
	if c.JWTSecret != "" {
		return c.JWTSecret.List()[0], nil // of several, the first: any is good
	}
	s, err := readDevSecrets(c.DataDir)
	if err != nil {
		return "", fmt.Errorf("no secret to sign tokens with: set BRIDGE_JWT_SECRET, or start dev first: %w", err)
	}
	if s.JWTSecret == "" {
		return "", fmt.Errorf("no secret to sign tokens with: %s has no jwtSecret", filepath.Join(c.DataDir, secretsFile))
	}
	return s.JWTSecret, nil
}

// readDevSecrets reads what dev keeps. Its error names the file and quotes
// nothing of it.
func readDevSecrets(dir string) (devSecretsFile, error) {
	var s devSecretsFile
	path := filepath.Join(dir, secretsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s does not exist", path)
	}
	if err != nil {
		return s, err
	}
	if json.Unmarshal(b, &s) != nil {
		return s, fmt.Errorf("%s is not the JSON that dev writes", path)
	}
	return s, nil
}
