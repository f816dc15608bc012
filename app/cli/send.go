package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"hookbridge/app/client"
	"hookbridge/app/wire"
)

// SendCmd fires a signed webhook, as a backend does.
type SendCmd struct {
	To       []string       `sep:"none" placeholder:"USER" help:"Who gets it; repeatable."`
	Group    string         `placeholder:"GROUP" help:"A group gets it."`
	All      bool           `help:"Everybody gets it."`
	Type     string         `default:"patient.added" help:"The event's type."`
	Data     string         `placeholder:"JSON" help:"The event's data: JSON, @FILE, or - for standard input."`
	TTL      *time.Duration `name:"ttl" help:"How long it is kept for those who are away; 0: only for who is online now."`
	Escalate *time.Duration `placeholder:"TIME" help:"Tell the backend of each recipient who has not acked it after this time (2m, at most its ttl)."`
	ID       string         `name:"id" help:"The webhook-id; the same one twice is one event. Default: a new one."`
	Topic    string         `placeholder:"TOPIC" help:"A newer message of the same topic takes the place of an older one that waits."`
	Wait     string         `enum:",received,acked" default:"" placeholder:"STATE" help:"Wait until everybody who is online has it: received or acked."`
	Limit    *time.Duration `name:"timeout" placeholder:"5s" help:"Wait no longer than this, 30s at most."`
	URL      string         `name:"url" default:"http://127.0.0.1:8080" env:"BRIDGE_URL" help:"Where the bridge is."`

	WebhookSecrets
}

// Help is shown under send --help.
func (*SendCmd) Help() string {
	return `Examples:

    hookbridge send --to patient-42 --data '{"message":"Dr. Silva added you"}'
    hookbridge send --to patient-42 --to patient-43 --type visit.moved --data @visit.json --ttl 24h
    hookbridge send --to patient-42 --data '{"message":"Please call"}' --wait acked --timeout 10s
    hookbridge send --to patient-42 --data '{"message":"Your visit is today"}' --escalate 2m
    hookbridge send --all --type clinic.closed --ttl 0s

It prints the bridge's reply. Where the bridge is busy or cannot be reached it tries again, with the same id, for two minutes.`
}

// Run sends the event and prints the reply.
func (c *SendCmd) Run(ctx context.Context, streams Streams) error {
	r, err := c.request(ctx, streams.In)
	if err != nil {
		return err
	}
	secret, err := c.signingSecret()
	if err != nil {
		return err
	}
	p, err := client.NewPublisher(client.PublisherOptions{
		URL: c.URL, Secret: secret,
		OnRetry: func(err error, in time.Duration) {
			fmt.Fprintf(streams.Err, "%v; again in %s\n", err, in.Round(time.Millisecond))
		},
	})
	if err != nil {
		return flagOf(err)
	}
	result, err := p.Publish(ctx, r)
	if bad, ok := errors.AsType[*wire.DecodeError](err); ok {
		return fmt.Errorf(`--data is not JSON that can be sent (%w); in a shell, put it in single quotes: --data '{"message":"hello"}'`, bad)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "%s\n", result.Raw)
	return err
}

// request is what the flags ask for.
func (c *SendCmd) request(ctx context.Context, in io.Reader) (client.PublishRequest, error) {
	r := client.PublishRequest{ID: c.ID, Type: c.Type, TTL: c.TTL, Topic: c.Topic, WaitFor: c.Wait, WaitAtMost: c.Limit}
	switch {
	case len(c.To) == 1 && c.Group == "" && !c.All:
		r.To.User = c.To[0]
	case len(c.To) > 1 && c.Group == "" && !c.All:
		r.To.Users = c.To
	case c.Group != "" && len(c.To) == 0 && !c.All:
		r.To.Group = c.Group
	case c.All && len(c.To) == 0 && c.Group == "":
		r.To.All = true
	default:
		return r, errors.New("say who gets it: --to USER, --group GROUP or --all, one of them")
	}
	if c.TTL != nil && (*c.TTL < 0 || *c.TTL%time.Second != 0) {
		return r, errors.New("--ttl must be whole seconds, 0s or more")
	}
	if c.Escalate != nil {
		if *c.Escalate < time.Second || *c.Escalate%time.Second != 0 {
			return r, errors.New("--escalate must be whole seconds, 1s or more")
		}
		r.Escalate = *c.Escalate
	}
	if c.Wait == "" && c.Limit != nil {
		return r, errors.New("--timeout needs --wait received or --wait acked beside it")
	}
	if c.Limit != nil && (*c.Limit < 0 || *c.Limit > client.MaxWait) {
		return r, fmt.Errorf("--timeout must be at most %s", client.MaxWait)
	}
	var err error
	r.Data, err = c.data(ctx, in)
	return r, err
}

func (c *SendCmd) data(ctx context.Context, in io.Reader) (b []byte, err error) {
	switch file, isFile := strings.CutPrefix(c.Data, "@"); {
	case c.Data == "":
		return nil, nil
	case isFile:
		b, err = readFile(ctx, file, in)
	case c.Data == "-":
		b, err = readInput(ctx, in)
	default:
		b = []byte(c.Data)
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
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
