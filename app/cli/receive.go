package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"hookbridge/app/callback/receiver"
	"hookbridge/app/server"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// ReceiveCmd is a backend for developers: it prints the callbacks and requests of a
// bridge.
type ReceiveCmd struct {
	Listen  string          `default:"127.0.0.1:9000" help:"Address to listen on; port 0 takes a free one."`
	Secret  []server.Secret `env:"BRIDGE_CALLBACK_SECRET" sep:"," help:"The bridge's BRIDGE_CALLBACK_SECRET, or a whpk_… public key; several, comma-separated, of which any may have signed; without one, dev's."`
	DataDir string          `default:"data" env:"BRIDGE_DATA_DIR" help:"Folder where dev keeps its secrets."`
	Forward string          `placeholder:"URL" help:"Pass all on to your own program, byte for byte with its headers, and its reply back; with --reply, all but requests."`
	Reply   string          `placeholder:"FILE" help:"File with the JSON that requests are answered with, read anew for each; default: what --forward replies, or {}."`
}

// Help is shown under receive --help.
func (*ReceiveCmd) Help() string {
	return `Examples:

    hookbridge dev --forward http://127.0.0.1:9000
    hookbridge receive --reply slots.json

    BRIDGE_CALLBACK_SECRET=whsec_… hookbridge receive --forward http://127.0.0.1:3000/hook

The first two, in two terminals, share the secret that dev makes. For serve set BRIDGE_CALLBACK_URL to this address, and for both the same BRIDGE_CALLBACK_SECRET.

Each callback or request whose signature is good is one line of JSON on standard output, with its webhook-id as the last member; one that is sent again has the same. What was refused goes to standard error. Ctrl-C ends it.`
}

// Run receives until ctx ends.
func (c *ReceiveCmd) Run(ctx context.Context, streams Streams) error {
	r, err := c.receiver(streams)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("--listen: cannot listen on %s: %w; another address: --listen 127.0.0.1:0", c.Listen, err)
	}
	fmt.Fprintf(streams.Err, "receiving; for the bridge: dev --forward http://%[1]s, or BRIDGE_CALLBACK_URL=http://%[1]s\n", reached(ln.Addr()))
	s := &http.Server{
		Handler: r, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: log.New(streams.Err, "", 0),
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), server.ShutdownTimeout)
	defer cancel()
	if s.Shutdown(late) != nil { // somebody took too long
		return s.Close()
	}
	return nil
}

// reached is where a bridge on this machine reaches a listener.
func reached(ln net.Addr) string {
	if a, ok := ln.(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
	}
	return ln.String()
}

func (c *ReceiveCmd) receiver(streams Streams) (*receiver.Receiver, error) {
	secrets, err := c.secrets()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // of both streams: requests come at the same time
	o := receiver.Options{
		Secrets: secrets, Forward: c.Forward,
		OnReceived: func(r receiver.Received) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(streams.Out, "%s\n", received(r))
		},
		OnProblem: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintln(streams.Err, "refused:", strings.ReplaceAll(err.Error(), "\n", "; "))
		},
	}
	if c.Reply != "" {
		if _, err := c.reply(); err != nil {
			return nil, err
		}
		o.Answer = c.reply
	}
	r, err := receiver.New(o)
	if errors.Is(err, receiver.ErrForward) {
		return nil, fmt.Errorf("--forward: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("--secret (BRIDGE_CALLBACK_SECRET): %w", err)
	}
	return r, nil
}

// secrets are those that were set, for checking signatures, else dev's.
func (c *ReceiveCmd) secrets() (keys []string, err error) {
	for _, s := range c.Secret {
		key, err := auth.VerifyingKey(strings.TrimSpace(string(s)))
		if err != nil {
			return nil, fmt.Errorf("--secret (BRIDGE_CALLBACK_SECRET): %w", err)
		}
		keys = append(keys, key)
	}
	if len(keys) > 0 {
		return keys, nil
	}
	s, err := readDevSecrets(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("no secret to check signatures with: set BRIDGE_CALLBACK_SECRET to the bridge's, or start dev first: %w", err)
	}
	if s.CallbackSecret == "" {
		return nil, fmt.Errorf("no secret to check signatures with: %s has no callbackSecret; start dev once more", filepath.Join(c.DataDir, secretsFile))
	}
	return []string{s.CallbackSecret}, nil
}

// reply is what stands in the file of --reply.
func (c *ReceiveCmd) reply() ([]byte, error) {
	b, err := server.ReadRegular(c.Reply, receiver.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("--reply %s cannot be read: %w", c.Reply, err)
	}
	if err := wire.CheckData(b); err != nil {
		return nil, fmt.Errorf("--reply %s must hold one JSON value: %w", c.Reply, err)
	}
	return b, nil
}

// received is the body as one line, with the webhook-id as its last member.
func received(r receiver.Received) []byte {
	line := bytes.TrimSpace(wire.OneLine(r.Body))
	line = append(line[:len(line)-1:len(line)-1], `,"webhookId":`...)
	return append(append(line, wire.Encode(r.ID)...), '}')
}
