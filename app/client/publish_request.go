package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"
	"unicode/utf8"

	"hookbridge/app/wire"
)

// MaxWait is the longest that a bridge waits before it replies.
const MaxWait = 30 * time.Second

// PublishRequest is one event as a backend reports it. Type and To are required.
type PublishRequest struct {
	// ID is the webhook-id, [A-Za-z0-9_-]{1,64}: the bridge takes the same id with
	// the same content as the same event, for at least 7 days. Empty: a new one.
	ID string
	// Type is the kind of event, [A-Za-z0-9_.-]{1,128}, like patient.added.
	Type string
	To   Target
	// Timestamp is when it happened; zero: now.
	Timestamp time.Time
	// TTL is how long it is kept for those who are away, whole seconds; nil:
	// the bridge's default; 0: it is for those alone who are online now.
	TTL *time.Duration
	// Escalate, whole seconds and at most the TTL, has backends told of each recipient
	// who has not acked it by then; 0: they are not.
	Escalate time.Duration
	// Topic makes it replace an older event of the same topic that was not acked yet.
	Topic string
	// Except names sessions that do not get it.
	Except []string
	// Data is any JSON, delivered byte for byte; nil: none.
	Data json.RawMessage

	// WaitFor makes the bridge reply only when all recipients who are online are
	// so far: StatusReceived or StatusAcked.
	WaitFor string
	// WaitAtMost bounds that wait, up to MaxWait; nil: the bridge's default.
	WaitAtMost *time.Duration
}

// Target is who gets an event; exactly one member is set.
type Target struct {
	User  string   `json:"user,omitzero"`
	Users []string `json:"users,omitzero"` // at most 1,000
	Group string   `json:"group,omitzero"`
	All   bool     `json:"all,omitzero"`
}

// target adds to the URL what the reply is to wait for.
func (r *PublishRequest) target(base string) (string, error) {
	switch {
	case r.WaitFor == "" && r.WaitAtMost != nil:
		return "", errors.New("WaitAtMost needs WaitFor beside it")
	case r.WaitAtMost != nil && (*r.WaitAtMost < 0 || *r.WaitAtMost > MaxWait):
		return "", fmt.Errorf("WaitAtMost must be at most %s", MaxWait)
	case r.WaitFor == "":
		return base, nil
	}
	query := url.Values{"wait": {r.WaitFor}}
	if r.WaitAtMost != nil {
		query.Set("timeout", r.WaitAtMost.String())
	}
	return base + "?" + query.Encode(), nil
}

// encode is the event as it is signed and sent, with its id where it is one of a batch.
func (r *PublishRequest) encode(id string) ([]byte, error) {
	set := 0
	for _, is := range []bool{r.To.User != "", len(r.To.Users) > 0, r.To.Group != "", r.To.All} {
		if is {
			set++
		}
	}
	if set != 1 {
		return nil, errors.New("the event must be to exactly one of User, Users, Group and All")
	}
	for _, s := range append([]string{r.Type, r.To.User, r.To.Group, r.Topic}, r.To.Users...) {
		if !utf8.ValidString(s) {
			return nil, errors.New("the event's Type, To and Topic must be UTF-8")
		}
	}
	var ttl *int64
	if r.TTL != nil {
		if *r.TTL < 0 || *r.TTL%time.Second != 0 {
			return nil, errors.New("TTL must be whole seconds, 0 or more")
		}
		seconds := int64(*r.TTL / time.Second)
		ttl = &seconds
	}
	if r.Escalate < 0 || r.Escalate%time.Second != 0 {
		return nil, errors.New("an event's Escalate must be whole seconds")
	}
	type except struct {
		Sessions []string `json:"sessions"`
	}
	e := struct {
		ID        string    `json:"id,omitempty"`
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp,omitzero"`
		To        Target    `json:"to"`
		TTL       *int64    `json:"ttl,omitempty"`
		Escalate  int64     `json:"escalate,omitzero"`
		Topic     string    `json:"topic,omitempty"`
		Except    *except   `json:"except,omitempty"`
	}{ID: id, Type: r.Type, Timestamp: r.Timestamp.UTC(), To: r.To, TTL: ttl, Escalate: int64(r.Escalate / time.Second), Topic: r.Topic}
	if len(r.Except) > 0 {
		e.Except = &except{r.Except}
	}
	body := wire.Encode(e)
	if r.Data == nil {
		return body, nil
	}
	data := bytes.TrimSpace(r.Data) // what comes from a file ends with a line break
	if err := wire.CheckData(data); err != nil {
		return nil, fmt.Errorf("the event's Data cannot be sent: %w", err)
	}
	body = append(append(body[:len(body)-1], `,"data":`...), data...) // as it was given, byte for byte
	return append(body, '}'), nil
}
