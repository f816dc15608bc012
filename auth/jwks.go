package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// defaultUnknownKIDInterval is the least time between reads that tokens with an
	// unknown kid cause: a flood of them makes one request to the key server in this
	// time. A token that comes in between waits for the next read, so that this must
	// be shorter than waitForKeys, with room for the read.
	defaultUnknownKIDInterval = 3 * time.Second
	// refreshEvery is how often a working key set is read again, and so how long a
	// withdrawn key is still accepted.
	refreshEvery = 10 * time.Minute
	// firstRetry and lastRetry bound the wait after a read that failed. A key
	// server that is back is noticed within lastRetry even when nobody asks.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 15 * time.Second
	// noKeysInterval is the least time between reads that tokens cause as long as no
	// read has ever succeeded. It is shorter, because every token is refused until then.
	noKeysInterval = time.Second
	// fetchTimeout ends a read of the key server.
	fetchTimeout = 5 * time.Second
	// waitForKeys is how long a token with an unknown kid waits for a read to be
	// due and to be over. A session has 5 s from its upgrade to be connected.
	waitForKeys = 4500 * time.Millisecond
	// maxKeySetBytes is the largest reply read. A key takes half a kilobyte;
	// with certificates, a few.
	maxKeySetBytes = 1 << 20
)

// keySet keeps the keys of a JWKS URL. One goroutine reads the URL, so that there are
// never two reads at a time. A token with a known kid never waits. A token with an
// unknown kid asks for a read, at most one an interval, and waits for it, because its
// key may have been published a moment ago.
//
// The HTTP storage of jwkset is not used, because (measured at v0.11.4, with reads for
// unknown kids every 15 s) a hanging key server delays the start for the whole timeout;
// after an outage good tokens are refused for 15 s more; of 20 tokens that come at once
// with a rotated kid, 19 are refused; a caller that hangs up cancels the read for all;
// one bad key loses the set, and {"error":…} with status 200 empties it.
type keySet struct {
	url          string // of the keys, or where issuer is set, of its configuration
	issuer       string // whose configuration names the keys' URL; empty: url is that
	client       *http.Client
	log          *slog.Logger
	interval     time.Duration // least time between reads for unknown kids
	refreshEvery time.Duration
	ended        <-chan struct{} // closed when there will be no more reads
	timer        *time.Timer     // fires when the next read is due; a token may make that sooner

	mu       sync.Mutex
	keys     map[keyID]any // replaced, never changed; nil until the first read succeeds
	began    time.Time     // of the last read
	started  uint64        // reads that have begun
	done     uint64        // reads that are over
	next     time.Time     // when timer fires
	failed   bool          // the last read failed
	underway chan struct{} // closed when the requested or running read is over; nil without one
}

// newKeySet makes a key set, which reads nothing until run is called.
func newKeySet(ctx context.Context, c TokenConfig, i Issuer) (*keySet, error) {
	address, issuer := i.JWKSURL, ""
	if i.Discover {
		var err error
		if address, err = discoveryURL(i.Issuer); err != nil {
			return nil, err
		}
		issuer = i.Issuer
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the JWKS URL must be an absolute http or https URL")
	}
	if strings.Contains(address, " ") { // url.Parse makes %20 of one in the path
		return nil, errors.New("the JWKS URL has a blank in it: take it away, or percent-encode it as %20")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return nil, errors.New("the JWKS URL's port must be a number from 1 to 65535")
	}
	s := &keySet{
		url: address, issuer: issuer, client: c.HTTPClient, log: c.Logger, interval: c.UnknownKIDInterval,
		refreshEvery: refreshEvery,
		ended:        ctx.Done(),
		timer:        time.NewTimer(0),
		underway:     make(chan struct{}), // the first read: a token that comes before it is over waits for it
	}
	if s.client == nil {
		// A connection for each read: they are minutes apart, and none is left
		// open behind the program's back.
		s.client = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		}, CheckRedirect: stayOnTLS}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if i.Issuer != "" {
		s.log = s.log.With("issuer", i.Issuer)
	}
	if s.interval <= 0 {
		s.interval = defaultUnknownKIDInterval
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		s.log.Warn("the JWKS URL is not https: whoever sits on the way can put in keys of their own")
	}
	return s, nil
}

// stayOnTLS follows redirects, as http.Client does by itself, but not away from
// https.
func stayOnTLS(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("more than 10 redirects")
	case via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https":
		return errors.New("a redirect away from https")
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// find implements keySource.
func (s *keySet) find(ctx context.Context, alg, kid string) ([]any, error) {
	key, err := s.key(ctx, alg, kid)
	if err != nil {
		return nil, err
	}
	return []any{key}, nil
}

// key finds a key. For an unknown kid it waits for a read of the URL that begins after the
// token came.
func (s *keySet) key(ctx context.Context, alg, kid string) (any, error) {
	switch {
	case algorithms[alg].kind == kindSecret:
		return nil, tokenError(TokenAlgorithm, "the token's alg is one of HS256, HS384 and HS512, and the keys that are set here are public ones")
	case kid == "":
		return nil, tokenError(TokenUnknownKey, "the token's header has no kid; it must name its key")
	case len(kid) > maxKIDBytes:
		return nil, tokenError(TokenUnknownKey, "the token's kid is longer than %d bytes", maxKIDBytes)
	}
	id := keyID{kid, alg}
	s.mu.Lock()
	key, before := s.keys[id], s.started
	s.mu.Unlock()
	if key != nil {
		return key, nil
	}
	until := time.Now().Add(waitForKeys)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		key, over, err := s.lookUp(id, before, until)
		if over == nil {
			return key, err
		}
		select {
		case <-over:
		case <-s.ended:
			return nil, errNoKeys
		case <-ctx.Done(): // the key server is slow, or the caller has hung up
			return nil, errNoKeys
		}
	}
}

var (
	errNoKeys     = tokenError(TokenKeysUnavailable, "the keys that tokens are checked with cannot be read just now; try again shortly")
	errUnknownKey = tokenError(TokenUnknownKey, "the key set has no key of the token's kid and algorithm")
)

// lookUp looks for a key that was unknown when the number of started reads was before. If
// it is still unknown, lookUp asks for a read as soon as one is allowed; over is closed
// when that is over. It gives up, with over nil, if a later read did not bring the key,
// or if the next one would begin after until.
func (s *keySet) lookUp(id keyID, before uint64, until time.Time) (key any, over <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := s.keys[id]; key != nil {
		return key, nil, nil
	}
	if s.done <= before {
		if s.underway != nil || s.ask(until) {
			return nil, s.underway, nil
		}
	}
	if s.failed {
		return nil, nil, errNoKeys
	}
	return nil, nil, errUnknownKey
}

// ask schedules a read as soon as one is allowed, and reports whether that is before
// until. mu is held, and no read is under way.
func (s *keySet) ask(until time.Time) bool {
	interval := s.interval
	if s.keys == nil {
		interval = min(interval, noKeysInterval)
	}
	now, due := time.Now(), s.began.Add(interval)
	if due.Before(now) {
		due = now
	}
	sooner := due.Before(s.next) // than the regular read, or the retry after a failed one
	if !sooner {
		due = s.next
	}
	if !due.Before(until) {
		return false
	}
	if sooner {
		s.next = due
		s.timer.Reset(due.Sub(now))
	}
	s.underway = make(chan struct{})
	return true
}

// run reads the URL at once, then whenever the timer fires, until ctx ends.
func (s *keySet) run(ctx context.Context) {
	defer s.timer.Stop()
	s.timer.Reset(0) // also after a panic, which may have ended a read
	retry := firstRetry
	for {
		select {
		case <-s.timer.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		s.began = time.Now()
		s.started++
		if s.underway == nil {
			s.underway = make(chan struct{})
		}
		s.mu.Unlock()

		keys, err := s.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		s.report(keys, err)
		next := s.refreshEvery
		if err == nil {
			retry = firstRetry
		} else {
			next, retry = retry, min(2*retry, lastRetry)
		}

		s.over(keys, err, next)
	}
}

// over notes the end of a read, and schedules the next.
func (s *keySet) over(keys map[keyID]any, err error, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed = err != nil; !s.failed { // a failed read leaves the keys as they are
		s.keys = keys
	}
	s.done = s.started
	close(s.underway)
	s.underway = nil
	// A tenth more or less, so that machines that started together do not
	// go on together.
	next += rand.N(next/5+1) - next/10
	s.next = time.Now().Add(next)
	s.timer.Reset(next)
}

// report logs what a read changes. It needs no lock, since only its caller changes the
// keys.
func (s *keySet) report(keys map[keyID]any, err error) {
	switch {
	case err != nil:
		s.log.Warn("the JWKS cannot be read", "err", err, "keys_kept", len(s.keys))
	case len(keys) == 0:
		s.log.Warn("the JWKS has no usable key: every token is refused")
	case s.keys == nil || s.failed:
		s.log.Info("the JWKS was read", "keys", len(keys))
	}
}

// fetch reads the keys. With an issuer, it first reads where they are, since that may
// change.
func (s *keySet) fetch(ctx context.Context) (map[keyID]any, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	address := s.url
	if s.issuer != "" {
		b, err := s.get(ctx, address, "application/json")
		if err != nil {
			return nil, fmt.Errorf("read the OpenID configuration: %w", err)
		}
		if address, err = parseDiscovery(b, s.issuer); err != nil {
			return nil, err
		}
	}
	b, err := s.get(ctx, address, "application/jwk-set+json, application/json")
	if err != nil {
		return nil, err
	}
	return parseKeySet(b, s.log)
}

// get reads one reply of the key server.
func (s *keySet) get(ctx context.Context, address, accept string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the JWKS URL cannot be requested")
	}
	req.Header.Set("Accept", accept)
	resp, err := s.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok { // it would print the URL, which may hold credentials
			err = ue.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the key server answers with status %d", resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeySetBytes {
		return nil, fmt.Errorf("the reply is larger than %d bytes", maxKeySetBytes)
	}
	return b, nil
}
