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
	"sync"
	"time"
)

const (
	defaultUnknownKIDInterval = 15 * time.Second
	// refreshEvery is how often a working key set is read again: how long a
	// withdrawn key goes on to be taken.
	refreshEvery = 10 * time.Minute
	// firstRetry and lastRetry bound the wait after a read that failed. A key
	// server that is back is noticed within lastRetry even when nobody asks.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 15 * time.Second
	// noKeysInterval is the least time between reads that tokens ask for while
	// no key was ever read: there is nothing to lose then, and all to win.
	noKeysInterval = time.Second
	// fetchTimeout ends a read of the key server.
	fetchTimeout = 5 * time.Second
	// waitForKeys is how long a token with an unknown kid waits for a read.
	waitForKeys = 2 * time.Second
	// maxKeySetBytes is the largest reply read. A key takes half a kilobyte;
	// with certificates, a few.
	maxKeySetBytes = 1 << 20
)

// keySet keeps the keys of a JWKS URL. One goroutine reads the URL, so that no
// number of requests makes two reads at a time; a token whose kid is known never
// waits, and one whose kid is unknown asks for a read at most once an interval.
//
// The HTTP storage of jwkset would not do. Measured at v0.11.4 with a read for
// unknown kids every 15 s: a key server that hangs holds up the start for the
// whole timeout; after an outage good tokens are refused for 15 s more, and until
// one comes nothing is read before the next regular refresh; of 20 tokens that
// come at once with a rotated kid 19 are refused; a caller that hangs up spends
// the read for all; one bad key loses the set, and {"error":…} with status 200
// empties it.
type keySet struct {
	url          string
	client       *http.Client
	log          *slog.Logger
	interval     time.Duration // least time between reads for unknown kids
	refreshEvery time.Duration
	ended        <-chan struct{} // closed when no read comes any more
	timer        *time.Timer     // when the next read is due; a token may bring it forward

	mu       sync.Mutex
	keys     map[keyID]any // replaced, never changed; nil until the first read succeeds
	began    time.Time     // of the last read
	failed   bool          // the last read failed
	underway chan struct{} // closed when the read that was asked for or runs is over; nil when none
}

func newKeySet(ctx context.Context, c TokenConfig) (*keySet, error) {
	u, err := url.Parse(c.JWKSURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the JWKS URL must be an absolute http or https URL")
	}
	s := &keySet{
		url: c.JWKSURL, client: c.HTTPClient, log: c.Logger, interval: c.UnknownKIDInterval,
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
		}}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.interval <= 0 {
		s.interval = defaultUnknownKIDInterval
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		s.log.Warn("the JWKS URL is not https: whoever sits on the way can put in keys of their own")
	}
	if c.Loop == nil {
		go s.run(ctx)
	} else {
		go c.Loop(ctx.Done(), func() { s.run(ctx) })
	}
	return s, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// key finds a key, waiting for one read of the URL where that may help.
func (s *keySet) key(ctx context.Context, alg, kid string) (any, error) {
	switch {
	case alg == algHS256:
		return nil, errAlgorithm
	case kid == "":
		return nil, tokenError(TokenUnknownKey, "the token's header has no kid; it must name its key")
	case len(kid) > maxKIDBytes:
		return nil, tokenError(TokenUnknownKey, "the token's kid is longer than %d bytes", maxKIDBytes)
	}
	id := keyID{kid, alg}
	key, wait := s.find(id)
	if key != nil {
		return key, nil
	}
	if wait != nil {
		ctx, cancel := context.WithTimeout(ctx, waitForKeys)
		defer cancel()
		select {
		case <-wait:
		case <-s.ended:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.keys[id] != nil:
		return s.keys[id], nil
	case s.failed || s.underway != nil: // under way still: the key server is slow
		return nil, tokenError(TokenKeysUnavailable, "the keys that tokens are checked with cannot be read just now; try again shortly")
	}
	return nil, tokenError(TokenUnknownKey, "the key set has no key of the token's kid and algorithm")
}

// find looks a key up. Where it is unknown, it asks for a read if one is due,
// and returns what to wait for while a read is to come.
func (s *keySet) find(id keyID) (key any, wait <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := s.keys[id]; key != nil {
		return key, nil
	}
	interval := s.interval
	if s.keys == nil {
		interval = min(interval, noKeysInterval)
	}
	if s.underway == nil && time.Since(s.began) >= interval {
		s.underway = make(chan struct{})
		s.timer.Reset(0)
	}
	return nil, s.underway
}

// run reads the URL at once, then when it is time or asked for, until ctx ends.
func (s *keySet) run(ctx context.Context) {
	defer s.timer.Stop()
	s.timer.Reset(0) // where a panic has ended the loop, a read was under way
	retry := firstRetry
	for {
		select {
		case <-s.timer.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		s.began = time.Now()
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

// over ends a read, and sets the time of the next.
func (s *keySet) over(keys map[keyID]any, err error, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed = err != nil; !s.failed { // else the keys that were read before stay
		s.keys = keys
	}
	close(s.underway)
	s.underway = nil
	// A tenth more or less, so that machines that started together do not
	// go on together.
	s.timer.Reset(next - next/10 + rand.N(next/5+1))
}

// report tells the log what a read changes. It takes no lock: nobody but its
// caller changes the keys.
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

func (s *keySet) fetch(ctx context.Context) (map[keyID]any, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, errors.New("the JWKS URL cannot be requested")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // it would print the URL, which may hold credentials
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
	return parseKeySet(b, s.log)
}
