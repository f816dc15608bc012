package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/fasthttp/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

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
	After      string        `placeholder:"CURSOR" help:"Resume after this place; default: all that no session of the user has acked."`
	CursorFile string        `placeholder:"FILE" help:"Keep the place in a file and resume there."`
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
	f, err := c.feed(streams)
	if err != nil {
		return err
	}
	return f.run(ctx)
}

func (c *ListenCmd) feed(streams Streams) (*feed, error) {
	if c.Plain && (c.After != "" || c.CursorFile != "" || c.NoAck) {
		return nil, errors.New("--plain has no cursors and no acks: leave out --after, --cursor-file and --no-ack")
	}
	target, err := endpoint(c.URL, "/ws")
	if err != nil {
		return nil, err
	}
	f := &feed{
		url:   "ws" + strings.TrimPrefix(target, "http"), // https becomes wss
		dial:  &websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: dialTimeout},
		out:   printer{out: streams.Out, seen: newRecent(recentEvents)},
		say:   func(format string, args ...any) { fmt.Fprintf(streams.Err, format+"\n", args...) },
		plain: c.Plain, noAck: c.NoAck, sleep: sleep, ackEvery: ackEvery,
		retreat: retreat{jitter: rand.N[time.Duration]},
	}
	switch {
	case c.Token != "" && c.User != "":
		return nil, errors.New("give --token or --user, not both")
	case c.Token != "":
		f.token = func() (string, error) { return string(c.Token), nil }
	case c.User != "":
		secret, err := c.secret()
		if err != nil {
			return nil, err
		}
		f.token = func() (string, error) { return c.mint(secret) }
		f.retreat.renews = true
		if _, err := f.token(); err != nil { // what is wrong with it now would be wrong each time
			return nil, err
		}
	default:
		return nil, errors.New("say who listens: --user USER, or --token (BRIDGE_TOKEN)")
	}
	if f.place, err = newPlace(c.CursorFile, c.After); err != nil {
		return nil, err
	}
	return f, nil
}

func (c *ListenCmd) mint(secret string) (string, error) {
	now := time.Now()
	claims := auth.Claims{User: c.User, IssuedAt: now, Expires: now.Add(mintedLife), Issuer: c.Issuer}
	if c.Audience != "" {
		claims.Audiences = []string{c.Audience}
	}
	return auth.SignToken(secret, claims)
}

// place is where the reading stands.
type place struct {
	file   string // empty: kept in memory only
	cursor string
	saved  string // what the file holds
}

// newPlace takes the cursor that was given, or else the file's.
func newPlace(file, after string) (*place, error) {
	p := &place{file: file, cursor: after}
	if file == "" || after != "" {
		return p, nil
	}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--cursor-file: %w", err)
	}
	p.cursor = strings.TrimSpace(string(b))
	p.saved = p.cursor
	return p, nil
}

// save writes the cursor, whole or not at all.
func (p *place) save() error {
	if p.file == "" || p.cursor == p.saved {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(p.file), filepath.Base(p.file)+".*")
	if err != nil {
		return fmt.Errorf("--cursor-file: %w", err)
	}
	_, err = tmp.WriteString(p.cursor + "\n")
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), p.file)
	}
	if err != nil {
		return fmt.Errorf("--cursor-file: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	p.saved = p.cursor
	return nil
}

// forget clears the place, as an app does whose user was erased.
func (p *place) forget() error {
	p.cursor, p.saved = "", ""
	if p.file == "" {
		return nil
	}
	if err := os.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--cursor-file: %w", err)
	}
	return nil
}

// printer writes each event once, as one line.
type printer struct {
	out  io.Writer
	seen *recent
}

// event writes the event object, with from as its last member where a user sent
// it. An event seen before is left out: after a reconnect some come twice.
func (p *printer) event(from string, event jsontext.Value) error {
	var e struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(event, &e, wire.Lenient); err != nil || event.Kind() != '{' {
		return errors.New("the bridge sent an event that is not a JSON object")
	}
	if e.ID != "" && !p.seen.add(e.ID) {
		return nil
	}
	// Its data goes out as it came, but for line breaks between its tokens.
	line := bytes.Clone(wire.OneLine(bytes.TrimSpace(event)))
	if from != "" {
		line = append(line[:len(line)-1], `,"from":`...)
		line = append(append(line, wire.Encode(from)...), '}')
	}
	_, err := p.out.Write(append(line, '\n'))
	return err
}

// recentEvents is how many event ids are remembered: as many as a mailbox holds.
const recentEvents = 10_000

// recent remembers the last ids, so many at most.
type recent struct {
	ids  map[string]struct{}
	ring []string
	next int
}

func newRecent(n int) *recent {
	return &recent{ids: make(map[string]struct{}), ring: make([]string, n)}
}

// add reports whether the id is new.
func (r *recent) add(id string) bool {
	if _, ok := r.ids[id]; ok {
		return false
	}
	delete(r.ids, r.ring[r.next])
	r.ids[id] = struct{}{}
	r.ring[r.next] = id
	r.next = (r.next + 1) % len(r.ring)
	return true
}

// visible is a text from the other side as it may stand on a terminal: one that
// has control characters in it is quoted.
func visible(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return strconv.Quote(s)
	}
	return s
}
