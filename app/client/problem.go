package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"hookbridge/app/wire"
)

// maxReply is the largest HTTP reply that is read, bytes.
const maxReply = 16 << 20

// ErrURL is a URL that is not the address of a bridge.
var ErrURL = errors.New("the URL must be the bridge's address, like https://bridge.example")

// ProblemError is an HTTP reply that says no. Its Problem is empty where something
// else than a bridge has answered.
type ProblemError struct {
	Status     int           // the reply's HTTP status
	Problem    wire.Problem  // what the bridge says (RFC 9457)
	RetryAfter time.Duration // how long the bridge asks to wait; 0 where it does not
}

// Error is the problem in one line that is safe to print.
func (e *ProblemError) Error() string {
	if e.Problem.Code == "" {
		return fmt.Sprintf("the reply is %d %s, not the bridge's; is the address right?", e.Status, http.StatusText(e.Status))
	}
	text := fmt.Sprintf("%d %s: %s", e.Status, e.Problem.Code, e.Problem.Title)
	if e.Problem.Detail != "" {
		text += ": " + e.Problem.Detail
	}
	return printable(text)
}

// readReply reads and closes the body of a reply. Its error is a *ProblemError
// unless the status is 2xx, or the network's.
func readReply(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, fmt.Errorf("the bridge's reply broke off: %w", err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return body, nil
	}
	e := &ProblemError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	if json.Unmarshal(body, &e.Problem) != nil {
		e.Problem = wire.Problem{}
	}
	return nil, e
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

// endpoint is a path of the bridge as an http or https URL. The base may have the
// path already.
func endpoint(base, path string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return "", ErrURL
	}
	switch u.Scheme {
	case "http", "https":
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	default:
		return "", ErrURL
	}
	if !strings.HasSuffix(u.Path, path) {
		u.Path = strings.TrimSuffix(u.Path, "/") + path
	}
	return u.String(), nil
}

// httpClient is the caller's or the default client, changed to follow no redirect: it
// would take a token or a signed event to somebody else.
func httpClient(c *http.Client) http.Client {
	if c == nil {
		c = http.DefaultClient
	}
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return own
}

// printable is a text from the other side as it may stand in a log or on a
// terminal: one that has control characters in it is quoted.
func printable(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return strconv.Quote(s)
	}
	return s
}
