package callback

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"hookbridge/app/callback/neterror"
	"hookbridge/auth"
)

const (
	// connectTimeout bounds each of the dial and the TLS handshake: a connection may be
	// in the making for longer than the post that asked for it.
	connectTimeout = 10 * time.Second
	// MaxConnections bounds the connections of this machine to one backend. Those that are
	// being made count, too: the transport goes on making one after its request has timed out.
	MaxConnections = maxInFlight + maxRequests
	// idleTimeout is how long a connection is kept for the next post. It is less than the
	// five seconds after which common servers (Node's, Apache, uvicorn) close one: a post
	// that crosses the close fails, and a request is not sent again.
	idleTimeout = 4 * time.Second
	// maxReplyHeader is the largest header of a reply that is read, bytes.
	maxReplyHeader = 64 << 10
	// maxDiscard and discardTimeout bound what of a reply that nobody asked for is read,
	// in bytes and in time, so that its connection can be used again.
	maxDiscard     = 64 << 10
	discardTimeout = time.Second
)

// maxRepeats bounds how often the transport may send a callback again within one try. It does
// so by itself, until the try's time is up, where an HTTP/2 backend resets the stream or leaves
// the connection, even if the backend may have read the whole callback. A request is never
// sent again for that reason.
const maxRepeats = 8

var errRepeated = errors.New("the backend has refused it too often")

// endpoint is where one backend is, with connections of its own: another backend's
// posts do not wait for them. Proxies of the environment (HTTPS_PROXY) are not used:
// the address that was judged has to be the one that is dialled.
type endpoint struct {
	url     string // without userinfo
	user    string // userinfo
	pass    string
	hasUser bool
	secrets []string
	dialer  *net.Dialer
	tls     *tls.Config
	// handshakeTimeout is connectTimeout, which tests shorten.
	handshakeTimeout time.Duration
	http             interface {
		http.RoundTripper
		CloseIdleConnections()
	}
}

func newEndpoint(b auth.Backend, allowPrivate bool) (*endpoint, error) {
	u, r, err := parseURL(b.URL, allowPrivate)
	if err != nil {
		return nil, err
	}
	e := &endpoint{
		secrets: b.Secrets, dialer: &net.Dialer{Timeout: connectTimeout, ControlContext: r.control},
		tls: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, handshakeTimeout: connectTimeout,
	}
	if u.User != nil {
		e.user, e.hasUser = u.User.Username(), true
		e.pass, _ = u.User.Password()
		u.User = nil
	}
	e.url = u.String()
	e.http = &http.Transport{
		DialContext:            e.dialer.DialContext,
		DialTLSContext:         e.dialTLS,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: tryTimeout, PingTimeout: 5 * time.Second},
		MaxConnsPerHost:        MaxConnections,
		MaxIdleConnsPerHost:    maxInFlight,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxReplyHeader,
		DisableCompression:     true, // a small reply must not become a large one
	}
	return e, nil
}

// dialTLS connects to an address and shakes hands.
func (e *endpoint) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	raw, err := e.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.handshakeTimeout)
	defer cancel()
	config := e.tls.Clone()
	config.ServerName = host
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // what went wrong before says more
		return nil, fmt.Errorf("%w: %w", neterror.ErrHandshake, err)
	}
	return conn, nil
}

// reply is what came of a post.
type reply struct {
	status     int           // 0: none came
	retryAfter time.Duration // what the backend asked for; 0 for nothing
	body       []byte        // as far as it was asked for
	why        string        // without a status: the class of error
	ours       bool          // nothing was sent, and the backend has no part in that
}

// post signs and sends a body once, and reads up to maxBody bytes of the reply (one
// more, which tells that it is too long). It follows no redirect. Its error is that of
// the network or the context; the reply then has the class of error alone.
func (e *endpoint) post(ctx context.Context, id string, body []byte, maxBody int) (reply, error) {
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	signed, err := auth.SignWebhookWithAll(e.secrets, id, time.Now(), body)
	if err != nil {
		return reply{why: "it could not be signed", ours: true}, err
	}
	req, err := http.NewRequestWithContext(life, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return reply{why: "it could not be sent", ours: true}, err
	}
	again := maxRepeats
	if maxBody > 0 {
		again = 0
	}
	req.GetBody = atMost(again, req.GetBody)
	req.Header = http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"Hookbridge"},
		"Webhook-Id":        {signed.ID},
		"Webhook-Timestamp": {signed.Timestamp},
		"Webhook-Signature": {signed.Signature},
	}
	if e.hasUser {
		req.SetBasicAuth(e.user, e.pass)
	}
	resp, err := e.http.RoundTrip(req) // not a Client: no redirects, no cookies
	if err != nil {
		return reply{why: class(err)}, err
	}
	defer resp.Body.Close()
	// When the time is up the connection is closed, and a backend that notices may still
	// get an answer through, which is that of a handler that was cut off.
	if err := ctx.Err(); err != nil {
		return reply{why: class(err)}, err
	}
	r := reply{status: resp.StatusCode, retryAfter: retryAfter(resp.Header, time.Now())}
	if r.status == http.StatusSwitchingProtocols {
		return r, nil // its body is the bare connection, whose reads end with no context
	}
	if maxBody == 0 {
		defer time.AfterFunc(discardTimeout, cancel).Stop()
		_, _ = io.CopyN(io.Discard, resp.Body, maxDiscard) // the status has said all; this only keeps the connection
		return r, nil
	}
	if r.body, err = io.ReadAll(io.LimitReader(resp.Body, int64(maxBody)+1)); err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return reply{status: r.status, why: class(err)}, err
	}
	return r, nil
}

// atMost gives a body again n times.
func atMost(n int, body func() (io.ReadCloser, error)) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		if n--; n < 0 {
			return nil, errRepeated
		}
		return body()
	}
}

// class names the kind of an error, without an address or anything else of the URL.
func class(err error) string {
	if errors.Is(err, errAddress) {
		return "its address is not allowed"
	}
	return neterror.Class(err)
}

// last is a failed try in words for operators: the status or the class of error.
func (r reply) last() string {
	switch {
	case r.status == 0:
		return r.why
	case r.status >= 300 && r.status < 400:
		return fmt.Sprintf("status %d: redirects are not followed", r.status)
	}
	return fmt.Sprintf("status %d", r.status)
}

func (r reply) ok() bool { return r.status >= 200 && r.status < 300 }

// backendAtFault tells whether the reply says something about the backend and not
// about what was sent: another callback would fare no better now.
func (r reply) backendAtFault() bool {
	return r.status == 0 && !r.ours || r.status >= 500 || r.status == http.StatusTooManyRequests
}

// busy tells whether the backend has said when to come back by a status that means
// just that (RFC 9110, RFC 6585).
func (r reply) busy() bool {
	return r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable
}
