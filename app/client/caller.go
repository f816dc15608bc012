package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hookbridge/app/wire"
)

// CallerOptions are the settings of a Caller. URL and one of Token and TokenSource are
// required.
type CallerOptions struct {
	// URL is the address of the bridge, http or https.
	URL string
	// Token is the user's token; its bridge.backend names the types of events that the
	// user may send and ask.
	Token string
	// TokenSource gives a token for each attempt.
	TokenSource func(ctx context.Context) (string, error)
	// Attempts and Patience bound the tries of a send, as a Publisher's.
	Attempts int
	Patience time.Duration
	// OnRetry is told why an attempt failed and when the next one comes. May be nil.
	OnRetry func(err error, in time.Duration)
	// HTTPClient makes the requests; default http.DefaultClient. Redirects are not followed.
	HTTPClient *http.Client
}

// Caller is a user who sends to a backend and asks it. It may be used by several
// goroutines at a time.
type Caller struct {
	poster
	o               CallerOptions
	sends, requests string // URLs
}

// NewCaller checks the options.
func NewCaller(o CallerOptions) (*Caller, error) {
	if (o.Token == "") == (o.TokenSource == nil) {
		return nil, errors.New("give one of Token and TokenSource")
	}
	sends, err := endpoint(o.URL, "/v1/sends")
	if err != nil {
		return nil, err
	}
	requests, err := endpoint(o.URL, "/v1/requests")
	if err != nil {
		return nil, err
	}
	if o.TokenSource == nil {
		token := o.Token
		o.TokenSource = func(context.Context) (string, error) { return token, nil }
	}
	return &Caller{poster: newPoster(o.HTTPClient, o.Attempts, o.Patience, o.OnRetry), o: o, sends: sends, requests: requests}, nil
}

// BackendEvent is what a user sends to a backend, or asks it with.
type BackendEvent struct {
	// Type is the kind of event, like visit.confirmed.
	Type string
	// Data is any JSON, delivered byte for byte; nil: none.
	Data json.RawMessage
	// Backend names who it is for; empty: whoever takes this type from this user.
	Backend string
}

// SendToBackend sends to a backend, and returns the id under which the bridge has stored
// it. It tries again, with the same ref, where the bridge is busy or cannot be reached.
// The same ref with the same content is one message of this user; empty: a new one.
// Its error wraps that of the last attempt: a *ProblemError, or the network's.
func (c *Caller) SendToBackend(ctx context.Context, ref string, e BackendEvent) (id string, err error) {
	if ref == "" {
		ref = newID()
	}
	body, err := e.encode(callMembers{Ref: ref})
	if err != nil {
		return "", err
	}
	reply, tries, err := c.post(ctx, c.sends, body, postTimeout, c.prove)
	if tries > 0 {
		err = fmt.Errorf("given up after %d tries: %w; the same ref %s may be sent again", tries, err, ref)
	}
	if err != nil {
		return "", err
	}
	var sent struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(reply, &sent) != nil || sent.ID == "" {
		return "", fmt.Errorf("the reply says that it was taken, but is not the bridge's; is the address right? The same ref %s may be sent again", ref)
	}
	return sent.ID, nil
}

// Request asks a backend, and returns the JSON that it replies, byte for byte. It is
// posted once. timeout is how long the backend has, at most 30 s; 0: 5 s.
// Errors: a *ProblemError (backend_timeout, backend_failed and so on), or the network's.
func (c *Caller) Request(ctx context.Context, e BackendEvent, timeout time.Duration) (json.RawMessage, error) {
	body, err := e.encode(callMembers{TimeoutMs: wholeMs(timeout)})
	if err != nil {
		return nil, err
	}
	reply, err := c.attempt(ctx, c.requests, body, timeout+postTimeout, c.prove)
	if proof, ok := errors.AsType[*proofError](err); ok {
		err = proof.error
	}
	if err != nil {
		return nil, err
	}
	if wire.CheckData(reply) != nil { // of a proxy, perhaps
		return nil, &ProblemError{Status: http.StatusOK}
	}
	return reply, nil
}

// wholeMs rounds up, since less than a millisecond is not the default, which 0 means.
func wholeMs(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func (c *Caller) prove(ctx context.Context, h http.Header) error {
	token, err := checkedToken(c.o.TokenSource(ctx))
	h.Set("Authorization", "Bearer "+token)
	return err
}

// callMembers are the members of a send or a request beside its event.
type callMembers struct {
	Ref       string `json:"ref,omitempty"`
	TimeoutMs int64  `json:"timeoutMs,omitzero"`
	To        struct {
		Backend any `json:"backend"`
	} `json:"to"`
}

// encode adds the event, and whom it is for, to the other members.
func (e *BackendEvent) encode(members callMembers) ([]byte, error) {
	members.To.Backend = true
	if e.Backend != "" {
		members.To.Backend = e.Backend
	}
	body := wire.Encode(members)
	body = append(append(body[:len(body)-1], `,"event":{"type":`...), wire.Encode(e.Type)...)
	if e.Data != nil {
		data := bytes.TrimSpace(e.Data)
		if err := wire.CheckData(data); err != nil {
			return nil, fmt.Errorf("the event's Data cannot be sent: %w", err)
		}
		body = append(append(body, `,"data":`...), data...)
	}
	return append(body, "}}"...), nil
}
