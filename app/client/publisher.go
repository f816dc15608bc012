package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hookbridge/app/wire"
	"hookbridge/auth"
)

// PublisherOptions are the settings of a Publisher. URL and Secret are required.
type PublisherOptions struct {
	// URL is the address of the bridge, http or https; "/webhooks/events" is
	// added unless it ends so.
	URL string
	// Secret signs: whsec_… (HMAC) or whsk_… (ed25519).
	Secret string
	// Attempts is how often one request is tried at most; default 6.
	Attempts int
	// Patience bounds the sum of the waits between the attempts; default 2 minutes.
	Patience time.Duration
	// Timeout ends one attempt; default 30 seconds. MaxWait is added to it where the reply
	// is to wait for the recipients.
	Timeout time.Duration
	// OnRetry is told why an attempt failed and when the next one comes. May be nil.
	OnRetry func(err error, in time.Duration)
	// HTTPClient makes the requests; default http.DefaultClient. Redirects are not followed.
	HTTPClient *http.Client
}

// Publisher sends signed events. It may be used by several goroutines at a time.
type Publisher struct {
	poster
	o   PublisherOptions
	url string
}

// NewPublisher checks the options.
func NewPublisher(o PublisherOptions) (*Publisher, error) {
	url, err := endpoint(o.URL, "/webhooks/events")
	if err != nil {
		return nil, err
	}
	if _, err := auth.SignWebhook(o.Secret, "msg_1", time.Now(), nil); err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = postTimeout
	}
	return &Publisher{o: o, url: url, poster: newPoster(o.HTTPClient, o.Attempts, o.Patience, o.OnRetry)}, nil
}

// What a PublishResult's Status may be.
const (
	StatusDropped  = "dropped"  // nobody was online, and it was not to be stored
	StatusQueued   = "queued"   // nobody was online; stored
	StatusSent     = "sent"     // handed to at least one session
	StatusReceived = "received" // it has arrived at a device
	StatusAcked    = "acked"    // an app has handled it
)

// PublishResult is what the bridge replies.
type PublishResult struct {
	ID         string    `json:"id"`         // the event's, as sessions see it
	Status     string    `json:"status"`     // of several recipients, that of the least advanced among those online
	Sessions   int       `json:"sessions"`   // live sessions it went to
	Recipients int       `json:"recipients"` // users it is for; 0 unless it was addressed to several
	Online     int       `json:"online"`     // how many of those were online
	Duplicate  bool      `json:"duplicate"`  // the bridge had this id already
	Expires    time.Time `json:"expires"`    // until then it is kept; zero if it was not stored

	Raw json.RawMessage `json:"-"` // the reply as it came
}

// Publish sends one event. It tries again, with the same id, where the bridge is busy
// or cannot be reached, and returns once the bridge has stored the event or
// refused it. Beside options that are wrong, its error wraps that of the last
// attempt: a *ProblemError, or the network's.
func (p *Publisher) Publish(ctx context.Context, r PublishRequest) (PublishResult, error) {
	target, err := r.target(p.url)
	if err != nil {
		return PublishResult{}, err
	}
	body, err := r.encode("")
	if err != nil {
		return PublishResult{}, err
	}
	id := r.ID
	if id == "" {
		id = newID()
	}
	var result PublishResult
	var wait time.Duration // what the reply may take beside the Timeout
	if r.WaitFor != "" {
		wait = MaxWait
	}
	reply, err := p.post(ctx, target, id, body, wait)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(reply, &result); err != nil {
		return result, fmt.Errorf("the bridge has taken the event, but its reply cannot be read: %w", err)
	}
	result.Raw = bytes.TrimSpace(reply)
	return result, nil
}

// BatchResult is what became of one event of a batch: a PublishResult, or a
// Problem where the bridge has not taken it.
type BatchResult struct {
	PublishResult
	Problem *wire.Problem `json:"problem"`
}

// PublishBatch sends up to 1,000 events in one request, and tries again as Publish does. The
// results are in the order of the events; one that is refused does not stop the others.
// WaitFor is not for batches.
func (p *Publisher) PublishBatch(ctx context.Context, events []PublishRequest) ([]BatchResult, error) {
	body := []byte(`{"events":[`)
	for i, r := range events {
		if r.WaitFor != "" {
			return nil, errors.New("a batch cannot wait: leave out WaitFor")
		}
		id := r.ID
		if id == "" {
			id = newID()
		}
		one, err := r.encode(id)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, one...)
	}
	reply, err := p.post(ctx, p.url+"/batch", newID(), append(body, "]}"...), 0)
	if err != nil {
		return nil, err
	}
	var results struct {
		Results []json.RawMessage `json:"results"`
	}
	err = json.Unmarshal(reply, &results)
	if err == nil && len(results.Results) != len(events) {
		err = fmt.Errorf("%d results for %d events", len(results.Results), len(events))
	}
	all := make([]BatchResult, len(results.Results))
	for i, raw := range results.Results {
		if err == nil {
			err = json.Unmarshal(raw, &all[i])
		}
		all[i].Raw = raw
	}
	if err != nil {
		return nil, fmt.Errorf("the bridge has taken the batch, but its reply cannot be read: %w", err)
	}
	return all, nil
}

func newID() string { return "msg_" + rand.Text() }

// post signs and sends one body until it is taken or refused, and returns the reply's body.
func (p *Publisher) post(ctx context.Context, target, id string, body []byte, wait time.Duration) ([]byte, error) {
	prove := func(_ context.Context, h http.Header) error {
		signed, err := auth.SignWebhook(p.o.Secret, id, time.Now(), body)
		if err != nil {
			return err
		}
		h.Set("webhook-id", signed.ID)
		h.Set("webhook-timestamp", signed.Timestamp)
		h.Set("webhook-signature", signed.Signature)
		return nil
	}
	reply, tries, err := p.poster.post(ctx, target, body, p.o.Timeout+wait, prove)
	if err != nil && tries > 0 {
		err = fmt.Errorf("given up after %d tries: %w; the same id %s may be sent again", tries, err, id)
	}
	return reply, err
}
