package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hookbridge/app/server"
	"hookbridge/auth"
)

// VerifyCmd tells why a webhook's signature does not match, or what is wrong with a
// token.
type VerifyCmd struct {
	Token server.Secret `placeholder:"TOKEN" help:"Check this token instead of a webhook, by the settings of serve; - for standard input, which keeps it out of the list of processes."`

	HeaderFile string `placeholder:"FILE" help:"File with the request's header lines, as curl -v or a log shows them; - for standard input."`
	ID         string `name:"id" help:"The webhook-id header."`
	Timestamp  string `help:"The webhook-timestamp header."`
	Signature  string `help:"The webhook-signature header."`
	Body       string `placeholder:"FILE" help:"File with the body, byte for byte; - for standard input."`

	WebhookSecrets
	server.TokenSettings
}

// WebhookSecrets is where a command finds the webhook secrets.
type WebhookSecrets struct {
	Secret  []server.Secret `env:"BRIDGE_WEBHOOK_SECRETS" sep:"," help:"Webhook secrets, comma-separated; without one, dev's."`
	DataDir string          `default:"data" env:"BRIDGE_DATA_DIR" help:"Folder where dev keeps its secrets."`
}

// Help is shown under verify --help.
func (*VerifyCmd) Help() string {
	return `Example:

    hookbridge verify --header-file headers.txt --body body.json
    hookbridge verify --id msg_1 --timestamp 1795377600 --signature 'v1,…' --body -
    hookbridge verify --token - < token.txt

It checks one thing after another, says which one fails, and names the usual mistakes under which the signature would match. A token is checked by the same settings as serve's (BRIDGE_JWT_SECRET and the others; without any, by dev's secret). It exits with 1 when something fails.`
}

// Run prints a line for each step.
func (c *VerifyCmd) Run(ctx context.Context, streams Streams) error {
	if c.Token != "" {
		return c.verifyToken(ctx, streams)
	}
	if c.Body == "" {
		return errors.New("what is to be checked? Give a webhook's --body with its headers, or a --token")
	}
	secrets, err := c.secrets()
	if err != nil {
		return err
	}
	webhooks, err := auth.NewWebhooks(secrets)
	if err != nil {
		return err
	}
	if c.HeaderFile == "-" && c.Body == "-" {
		return errors.New("--header-file and --body cannot both be standard input")
	}
	h, err := c.header(ctx, streams.In)
	if err != nil {
		return err
	}
	body, err := readFile(ctx, c.Body, streams.In)
	if err != nil {
		return fmt.Errorf("--body: %w", err)
	}
	fails, err := report(streams.Out, webhooks.Diagnose(h, body, time.Now()))
	if err == nil && fails != "" {
		err = fmt.Errorf("the webhook would be refused: %s fails", fails)
	}
	return err
}

// report prints a line for each step, and names the first that fails.
func report(w io.Writer, steps []auth.Step) (fails string, err error) {
	var out bytes.Buffer
	for _, s := range steps {
		mark := "✓"
		switch {
		case s.Name == auth.StepHint:
			mark = "→"
		case !s.OK:
			mark = "✗"
			if fails == "" {
				fails = s.Name
			}
		}
		fmt.Fprintf(&out, "%s %-17s  %s\n", mark, s.Name, s.Detail)
	}
	_, err = w.Write(out.Bytes())
	return fails, err
}

// header takes the three headers from the flags, or from the file where a flag
// is missing.
func (c *VerifyCmd) header(ctx context.Context, in io.Reader) (auth.Header, error) {
	h := auth.Header{ID: c.ID, Timestamp: c.Timestamp, Signature: c.Signature}
	if c.HeaderFile == "" {
		return h, nil
	}
	b, err := readFile(ctx, c.HeaderFile, in)
	if err != nil {
		return h, fmt.Errorf("--header-file: %w", err)
	}
	found := headerLines(b)
	family := "webhook-"
	if found["webhook-id"] == "" && found["webhook-signature"] == "" {
		family = "svix-"
	}
	for name, to := range map[string]*string{"id": &h.ID, "timestamp": &h.Timestamp, "signature": &h.Signature} {
		if *to == "" {
			*to = found[family+name]
		}
	}
	return h, nil
}

// headerLines reads "Name: value" lines and skips all others. curl -v puts "> "
// before what it sent.
func headerLines(b []byte) map[string]string {
	found := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, len(b)+1)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "> "), ":")
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case !ok:
		case found[name] == "":
			found[name] = strings.TrimSpace(value)
		case strings.HasSuffix(name, "-signature"): // several lines are one list
			found[name] += " " + strings.TrimSpace(value)
		}
	}
	return found
}

// readFile reads a file, or in where the name is a dash.
func readFile(ctx context.Context, name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return readInput(ctx, in)
	}
	return os.ReadFile(name)
}

// readInput reads in to its end, or until ctx ends: where nothing comes from a terminal or
// a pipe, a read waits for it.
func readInput(ctx context.Context, in io.Reader) ([]byte, error) {
	var b []byte
	read := make(chan error, 1)
	go func() {
		var err error
		b, err = io.ReadAll(in)
		read <- err
	}()
	select {
	case err := <-read:
		return b, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// secrets are those that were set, else dev's.
func (c *WebhookSecrets) secrets() ([]string, error) {
	var out []string
	for _, s := range c.Secret {
		out = append(out, strings.TrimSpace(string(s)))
	}
	if len(out) > 0 {
		return out, nil
	}
	s, err := readDevSecrets(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("no webhook secret: set BRIDGE_WEBHOOK_SECRETS, or start dev first: %w", err)
	}
	if s.WebhookSecret == "" {
		return nil, fmt.Errorf("no webhook secret: %s has no webhookSecret", filepath.Join(c.DataDir, secretsFile))
	}
	return []string{s.WebhookSecret}, nil
}
