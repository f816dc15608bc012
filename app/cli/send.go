package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

const (
	// sendAttempts and sendPatience bound the retries of one event.
	sendAttempts = 6
	sendPatience = 2 * time.Minute
	// sendTimeout ends one attempt.
	sendTimeout = 30 * time.Second
	// maxReply is the largest reply read, bytes.
	maxReply = 1 << 20
)

// SendCmd fires a signed webhook, as a backend does.
type SendCmd struct {
	To    []string       `sep:"none" placeholder:"USER" help:"Who gets it; repeatable."`
	Group string         `placeholder:"GROUP" help:"A group gets it."`
	All   bool           `help:"Everybody gets it."`
	Type  string         `default:"patient.added" help:"The event's type."`
	Data  string         `placeholder:"JSON" help:"The event's data: JSON, @FILE, or - for standard input."`
	TTL   *time.Duration `name:"ttl" help:"How long it is kept for those who are away; 0: only for who is online now."`
	ID    string         `name:"id" help:"The webhook-id; the same one twice is one event. Default: a new one."`
	Topic string         `placeholder:"TOPIC" help:"A newer message of the same topic takes the place of an older one that waits."`
	Wait  string         `enum:",received,acked" default:"" placeholder:"STATE" help:"Wait until everybody who is online has it: received or acked."`
	Limit *time.Duration `name:"timeout" placeholder:"5s" help:"Wait no longer than this, 30s at most."`
	URL   string         `name:"url" default:"http://127.0.0.1:8080" env:"BRIDGE_URL" help:"Where the bridge is."`

	WebhookSecrets
}

// Help is shown under send --help.
func (*SendCmd) Help() string {
	return `Examples:

    hookbridge send --to patient-42 --data '{"message":"Dr. Silva added you"}'
    hookbridge send --to patient-42 --to patient-43 --type visit.moved --data @visit.json --ttl 24h
    hookbridge send --to patient-42 --data '{"message":"Please call"}' --wait acked --timeout 10s
    hookbridge send --all --type clinic.closed --ttl 0s

It prints the bridge's reply. Where the bridge is busy or cannot be reached it tries again, with the same id, for two minutes.`
}

// Run sends the event and prints the reply.
func (c *SendCmd) Run(ctx context.Context, streams Streams) error {
	body, err := c.body(streams.In)
	if err != nil {
		return err
	}
	target, err := endpoint(c.URL, "/webhooks/events")
	if err != nil {
		return err
	}
	if target, err = c.waiting(target); err != nil {
		return err
	}
	secret, err := c.signingSecret()
	if err != nil {
		return err
	}
	id := c.ID
	if id == "" {
		id = "msg_" + ulid.Make().String()
	}
	s := sender{
		client: &http.Client{
			Timeout: sendTimeout + bridge.MaxWait,
			// A redirect would take the signed event to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		say: streams.Err, sleep: sleep, jitter: rand.N[time.Duration],
	}
	reply, err := s.send(ctx, target, secret, id, body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "%s\n", bytes.TrimSpace(reply))
	return err
}

// waiting adds what the caller wants to wait for.
func (c *SendCmd) waiting(target string) (string, error) {
	if c.Wait == "" {
		if c.Limit != nil {
			return "", errors.New("--timeout needs --wait received or --wait acked beside it")
		}
		return target, nil
	}
	query := url.Values{"wait": {c.Wait}}
	if c.Limit != nil {
		if *c.Limit < 0 || *c.Limit > bridge.MaxWait {
			return "", fmt.Errorf("--timeout must be at most %s", bridge.MaxWait)
		}
		query.Set("timeout", c.Limit.String())
	}
	return target + "?" + query.Encode(), nil
}

// body is the event as it is signed and sent.
func (c *SendCmd) body(in io.Reader) ([]byte, error) {
	to := map[string]any{}
	switch {
	case len(c.To) > 0 && c.Group == "" && !c.All:
		if to["users"] = c.To; len(c.To) == 1 {
			to = map[string]any{"user": c.To[0]}
		}
	case c.Group != "" && len(c.To) == 0 && !c.All:
		to["group"] = c.Group
	case c.All && len(c.To) == 0 && c.Group == "":
		to["all"] = true
	default:
		return nil, errors.New("say who gets it: --to USER, --group GROUP or --all, one of them")
	}
	data, err := c.data(in)
	if err != nil {
		return nil, err
	}
	var ttl *int64
	if c.TTL != nil {
		if *c.TTL < 0 || *c.TTL%time.Second != 0 {
			return nil, errors.New("--ttl must be whole seconds, 0s or more")
		}
		seconds := int64(*c.TTL / time.Second)
		ttl = &seconds
	}
	body, err := json.Marshal(struct {
		Type  string         `json:"type"`
		To    map[string]any `json:"to"`
		TTL   *int64         `json:"ttl,omitzero"`
		Topic string         `json:"topic,omitempty"`
	}{c.Type, to, ttl, c.Topic})
	if err != nil {
		return nil, err
	}
	if data != nil { // as it was given, byte for byte
		body = append(append(body[:len(body)-1], `,"data":`...), data...)
		body = append(body, '}')
	}
	return body, nil
}

func (c *SendCmd) data(in io.Reader) ([]byte, error) {
	if c.Data == "" {
		return nil, nil
	}
	b := []byte(c.Data)
	var err error
	if file, ok := strings.CutPrefix(c.Data, "@"); ok {
		b, err = readFile(file, in)
	} else if c.Data == "-" {
		b, err = io.ReadAll(in)
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	b = bytes.TrimSpace(b) // a file ends with a line break
	if err := wire.CheckData(b); err != nil {
		return nil, fmt.Errorf(`--data is not JSON that can be sent (%w); in a shell, put it in single quotes: --data '{"message":"hello"}'`, err)
	}
	return b, nil
}

// signingSecret is the first secret that can sign; the list may also hold the
// public keys of other senders.
func (c *SendCmd) signingSecret() (string, error) {
	secrets, err := c.secrets()
	if err != nil {
		return "", err
	}
	for _, s := range secrets {
		if !strings.HasPrefix(s, "whpk_") {
			return s, nil
		}
	}
	return "", errors.New("only public keys are set, and they cannot sign: give the secret, whsec_… or whsk_…, with --secret")
}

// endpoint is a path of the bridge. The base may have the path already.
func endpoint(base, path string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New("--url must be the bridge's address, like https://bridge.example")
	}
	if !strings.HasSuffix(u.Path, path) {
		u.Path = strings.TrimSuffix(u.Path, "/") + path
	}
	return u.String(), nil
}

// sender posts one event until it is taken or refused.
type sender struct {
	client *http.Client
	say    io.Writer
	sleep  func(ctx context.Context, d time.Duration) error
	jitter func(most time.Duration) time.Duration // from 0 up to most
}

// send returns the reply's body. It tries again, with the same id and body,
// where nothing says that the event itself is wrong.
func (s *sender) send(ctx context.Context, target, secret, id string, body []byte) ([]byte, error) {
	patience := sendPatience
	for n := 1; ; n++ {
		reply, wait, err := s.try(ctx, target, secret, id, body)
		if err == nil || wait < 0 || ctx.Err() != nil {
			return reply, err
		}
		if wait == 0 {
			wait = time.Second/2 + s.jitter(time.Second<<(n-1))
		}
		if n == sendAttempts || wait > patience {
			return nil, fmt.Errorf("given up after %d tries: %w; the same --id %s may be sent again", n, err, id)
		}
		patience -= wait
		fmt.Fprintf(s.say, "%v; again in %s\n", err, wait.Round(time.Millisecond))
		if err := s.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// try posts once. Beside an error, wait is negative where another try is of no
// use, positive where the bridge said how long to wait, and else zero.
func (s *sender) try(ctx context.Context, target, secret, id string, body []byte) (reply []byte, wait time.Duration, err error) {
	// Signed anew each time: the old timestamp may be out of the window by now.
	h, err := auth.SignWebhook(secret, id, time.Now(), body)
	if err != nil {
		return nil, -1, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, -1, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", h.ID)
	req.Header.Set("webhook-timestamp", h.Timestamp)
	req.Header.Set("webhook-signature", h.Signature)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("the bridge cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	reply, err = io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, 0, fmt.Errorf("the bridge's reply broke off: %w", err)
	}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return reply, 0, nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return nil, retryAfter(resp.Header, time.Now()), problemError(resp.StatusCode, reply)
	default:
		return nil, -1, problemError(resp.StatusCode, reply)
	}
}

// retryAfter reads the Retry-After header, seconds or a date; 0 without one.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(min(n, 1<<20)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// problemError is what a problem reply says, in one line.
func problemError(status int, body []byte) error {
	var p wire.Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return fmt.Errorf("the reply is %d %s, not the bridge's; is the address right?", status, http.StatusText(status))
	}
	text := fmt.Sprintf("%d %s: %s", status, p.Code, p.Title)
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return errors.New(text)
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
