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
type keySet struct {
	url          string
	client       *http.Client
	log          *slog.Logger
	interval     time.Duration // least time between reads for unknown kids
	refreshEvery time.Duration
	wake         chan struct{} // asks the goroutine to read now; capacity 1

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
		wake:         make(chan struct{}, 1),
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
	go s.run(ctx)
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
	key, wait, err := s.find(id, true)
	if wait == nil {
		return key, err
	}
	timer := time.NewTimer(waitForKeys)
	defer timer.Stop()
	select {
	case <-wait:
	case <-timer.C:
	case <-ctx.Done():
	}
	key, _, err = s.find(id, false)
	return key, err
}

// find looks a key up. Where it is unknown and mayWait, it asks for a read if
// one is due, and returns what to wait for while a read is to come.
func (s *keySet) find(id keyID, mayWait bool) (key any, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := s.keys[id]; key != nil {
		return key, nil, nil
	}
	if mayWait {
		if s.underway == nil && s.due() {
			s.underway = make(chan struct{})
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
		if s.underway != nil {
			return nil, s.underway, nil
		}
	}
	if s.keys == nil || s.failed || s.underway != nil { // under way still: the key server is slow
		return nil, nil, tokenError(TokenKeysUnavailable, "the keys that tokens are checked with cannot be read just now; try again shortly")
	}
	return nil, nil, tokenError(TokenUnknownKey, "the key set has no key of the token's kid and algorithm")
}

func (s *keySet) due() bool {
	interval := s.interval
	if s.keys == nil {
		interval = min(interval, noKeysInterval)
	}
	return time.Since(s.began) >= interval
}

// run reads the URL at once, then when it is time or asked for, until ctx ends.
func (s *keySet) run(ctx context.Context) {
	retry := firstRetry
	for {
		next := s.refreshEvery
		if s.read(ctx) {
			retry = firstRetry
		} else {
			next, retry = min(retry, s.refreshEvery), min(2*retry, lastRetry)
		}
		// A tenth more or less, so that machines that started together do not
		// go on together.
		timer := time.NewTimer(next - next/10 + rand.N(next/5+1))
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			timer.Stop()
			s.end()
			return
		}
		timer.Stop()
	}
}

// read reads the URL once and lets those who wait go on. Keys that were read
// before stay when it fails.
func (s *keySet) read(ctx context.Context) bool {
	s.mu.Lock()
	s.began = time.Now()
	if s.underway == nil {
		s.underway = make(chan struct{})
	}
	s.mu.Unlock()

	keys, err := s.fetch(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.underway)
	s.underway = nil
	// A wake that came in while this read ran is answered by it.
	select {
	case <-s.wake:
	default:
	}
	had, was := s.keys != nil, s.failed
	s.failed = err != nil
	switch {
	case err != nil && ctx.Err() == nil:
		s.log.Warn("the JWKS cannot be read", "err", err, "keys_kept", len(s.keys))
	case err == nil:
		s.keys = keys
		if !had || was {
			s.log.Info("the JWKS was read", "keys", len(keys))
		}
		if len(keys) == 0 {
			s.log.Warn("the JWKS has no usable key: every token is refused")
		}
	}
	return err == nil
}

// end lets nobody wait for a read that will not come.
func (s *keySet) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.underway != nil {
		close(s.underway)
	}
	// A closed channel stays for those who come later: they do not wait.
	s.underway = make(chan struct{})
	close(s.underway)
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
