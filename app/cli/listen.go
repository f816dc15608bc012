package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"hookbridge/app/client"
	"hookbridge/app/server"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// mintedLife is how long a token that listen makes for itself is good for. It is
// renewed while it listens.
const mintedLife = time.Hour

// ListenCmd prints what a user gets, as a user's app does.
type ListenCmd struct {
	URL        string        `name:"url" default:"http://127.0.0.1:8080" env:"BRIDGE_URL" help:"Where the bridge is."`
	Token      server.Secret `env:"BRIDGE_TOKEN" help:"The user's token."`
	User       string        `help:"Or: make tokens for this user, with the JWT secret."`
	Issuer     string        `env:"BRIDGE_JWT_ISSUER" help:"The iss of tokens made for --user."`
	Audience   string        `env:"BRIDGE_JWT_AUDIENCE" help:"The aud of tokens made for --user."`
	After      string        `placeholder:"CURSOR" help:"Resume after this cursor; default: all that no session of the user has acked."`
	CursorFile string        `placeholder:"FILE" help:"Keep the cursor in a file and resume there."`
	Plain      bool          `help:"Speak the plain mode, without cursors and acks."`
	NoAck      bool          `help:"Do not ack: the events stay waiting for the user's other sessions."`

	TokenSecret
}

// Help is shown under listen --help.
func (*ListenCmd) Help() string {
	return `Examples:

    hookbridge listen --user patient-42
    BRIDGE_TOKEN=eyJ… hookbridge listen --url https://bridge.example --cursor-file cursor

Each event is one line of JSON on standard output; what happens to the connection goes to standard error. A lost connection is made again and resumes where it was. Ctrl-C ends it.`
}

// Run prints events until ctx ends or the bridge says to stop.
func (c *ListenCmd) Run(ctx context.Context, streams Streams) error {
	o, err := c.options(streams)
	if err != nil {
		return err
	}
	s, err := client.NewSubscriber(o)
	if err != nil {
		return flagOf(err)
	}
	err = s.Run(ctx)
	if err == nil && ctx.Err() == nil {
		fmt.Fprintln(streams.Err, "signed out")
	}
	return err
}

func (c *ListenCmd) options(streams Streams) (client.SubscriberOptions, error) {
	o := client.SubscriberOptions{
		URL: c.URL, Token: string(c.Token), Cursor: c.After, Plain: c.Plain, NoAck: c.NoAck,
		OnEvent:  func(_ context.Context, e client.Event) error { return printEvent(streams.Out, e, c.Plain) },
		OnNotice: func(n client.Notice) { fmt.Fprintln(streams.Err, n) },
	}
	if c.Plain && (c.After != "" || c.CursorFile != "" || c.NoAck) {
		return o, errors.New("--plain has no cursors and no acks: leave out --after, --cursor-file and --no-ack")
	}
	switch {
	case c.Token != "" && c.User != "":
		return o, errors.New("give --token or --user, not both")
	case c.User != "":
		secret, err := c.secret()
		if err != nil {
			return o, err
		}
		o.TokenSource = func(context.Context) (string, error) { return c.mint(secret) }
	case c.Token == "":
		return o, errors.New("say who listens: --user USER, or --token (BRIDGE_TOKEN)")
	}
	if c.CursorFile == "" {
		return o, nil
	}
	file := &cursorFile{path: c.CursorFile}
	if c.After == "" { // a cursor that was given counts instead of the file's
		var err error
		if file, err = openCursorFile(c.CursorFile); err != nil {
			return o, err
		}
		o.Cursor = file.saved
	}
	o.SaveCursor = file.save
	return o, nil
}

func (c *ListenCmd) mint(secret string) (string, error) {
	now := time.Now()
	claims := auth.Claims{User: c.User, IssuedAt: now, Expires: now.Add(mintedLife), Issuer: c.Issuer}
	if c.Audience != "" {
		claims.Audiences = []string{c.Audience}
	}
	return auth.SignToken(secret, claims)
}

// flagOf names the flag that an error of the client is about.
func flagOf(err error) error {
	if errors.Is(err, client.ErrURL) {
		return fmt.Errorf("--url: %w", err)
	}
	return err
}

// printEvent writes the event object as one line, with from as its last member where
// a user sent it. In the plain mode the message has the sender in it.
func printEvent(w io.Writer, e client.Event, plain bool) error {
	// Its data goes out as it came, but for line breaks between its tokens.
	line := bytes.Clone(wire.OneLine(e.Raw))
	if e.From != "" && !plain {
		line = append(line[:len(line)-1], `,"from":`...)
		line = append(append(line, wire.Encode(e.From)...), '}')
	}
	_, err := w.Write(append(line, '\n'))
	return err
}
