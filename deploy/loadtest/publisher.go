package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"hookbridge/auth"
)

const (
	maxPublishers = 4096
	// minBytes has room for a message's number.
	minBytes = 64
	// maxBytes is what an event may have by default, less its envelope.
	maxBytes = 60_000
	// publishTimeout is longer than the server lets a publish wait.
	publishTimeout = 30 * time.Second
)

// everyone, as a user's number, means a message to all sessions.
const everyone = -1

// sender sends signed events over connections that all publishers share.
type sender struct {
	http     fasthttp.HostClient
	url      string
	secret   string
	ledger   *ledger
	size     int // of a message's data, bytes
	sessions int // that a message to all reaches
}

func newSender(base *url.URL, secret string, l *ledger, size, sessions int) *sender {
	port, isTLS := base.Port(), base.Scheme == "https"
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[isTLS]
	}
	return &sender{url: base.JoinPath("/webhooks/events").String(), secret: secret, ledger: l, size: size, sessions: sessions,
		http: fasthttp.HostClient{Addr: net.JoinHostPort(base.Hostname(), port), IsTLS: isTLS, TLSConfig: &tls.Config{ServerName: base.Hostname()},
			ReadTimeout: publishTimeout, WriteTimeout: publishTimeout, MaxConns: maxPublishers, MaxIdleConnDuration: time.Minute, NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1}}
}

// publisher sends one message after the other; it is for one goroutine.
type publisher struct {
	*sender
	req  fasthttp.Request
	res  fasthttp.Response
	body []byte
}

// publish sends the next message to a user, or to everyone, and returns when it is answered. due is when
// it should have been sent, 0: now. It reports whether the server has taken it.
func (p *publisher) publish(user int, due int64) (*message, bool) {
	want, to := 1, `{"all":true}`
	if user == everyone {
		want = p.sessions
	} else {
		to = `{"user":"` + userName(user) + `"}`
	}
	if due == 0 {
		due = p.ledger.now()
	}
	n, m := p.ledger.number(want, due)
	p.body = append(append(p.body[:0], `{"type":"loadtest.message","to":`...), to...)
	p.body = append(p.ledger.data(append(p.body, `,"data":`...), n, p.size), '}')
	h, err := auth.SignWebhook(p.secret, p.ledger.name+"_"+strconv.FormatInt(n, 10), time.Now(), p.body)
	if err != nil {
		p.ledger.fail(err)
		return m, false
	}
	p.req.Reset()
	p.req.SetRequestURI(p.url)
	p.req.Header.SetMethod(http.MethodPost)
	p.req.Header.SetContentType("application/json")
	p.req.Header.Set("webhook-id", h.ID)
	p.req.Header.Set("webhook-timestamp", h.Timestamp)
	p.req.Header.Set("webhook-signature", h.Signature)
	p.req.SetBodyRaw(p.body)
	m.sent.Store(p.ledger.now())
	if err := p.http.Do(&p.req, &p.res); err != nil {
		p.ledger.fail(fmt.Errorf("the server does not answer: %w", err))
		return m, false
	}
	if p.res.StatusCode() != http.StatusAccepted {
		p.ledger.fail(refusedPublish(p.res.StatusCode(), p.res.Body()))
		return m, false
	}
	p.ledger.accept(m)
	return m, true
}

// refusedPublish says why the server has not taken a message, and what to mend.
func refusedPublish(status int, body []byte) error {
	var problem struct{ Code, Detail string }
	text := fmt.Sprintf("HTTP %d", status)
	if json.Unmarshal(bytes.TrimSpace(body), &problem) == nil && problem.Code != "" {
		text += fmt.Sprintf(" %s: %s", problem.Code, problem.Detail)
	}
	if status == http.StatusUnauthorized {
		text += "; --webhook-secret must be one of the server's BRIDGE_WEBHOOK_SECRETS"
	}
	return fmt.Errorf("a publish was refused: %s", text)
}
