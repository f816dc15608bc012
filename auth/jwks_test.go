package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"hookbridge/app/expect"
)

func TestKeySet(t *testing.T) {
	t.Run("does not hold up the start where its server hangs or is down", keySetAtStart)
	t.Run("makes the first token wait for the first read", keySetFirstRead)
	t.Run("is read soon after an outage", keySetAfterOutage)
	t.Run("is read again when a token names a new key", keySetRotates)
	t.Run("keeps its keys when a read fails", keySetReadFails)
	t.Run("is read once for all who wait, also where the first has hung up", keySetSharedRead)
	t.Run("is read once for a flood of unknown kids, which holds up nobody", keySetFlood)
	t.Run("is read again from time to time", keySetRefresh)
	t.Run("ends its reader with the context", keySetReaderEnds)
	t.Run("is read again after a panic", keySetPanics)
}

// keyServer is a JWKS endpoint whose answer can be changed and held back. Its
// key sets are written by another library than the one under test.
type keyServer struct {
	*httptest.Server
	reads atomic.Int64
	mu    sync.Mutex
	reply http.HandlerFunc
}

func newKeyServer(t testing.TB, reply http.HandlerFunc) *keyServer {
	s := &keyServer{reply: reply}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.reads.Add(1)
		s.mu.Lock()
		reply := s.reply
		s.mu.Unlock()
		reply(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(reply http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = reply
}

func replies(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// keySetJSON publishes keys under their kids.
func keySetJSON(t testing.TB, keys map[string]any) string {
	t.Helper()
	var set jwkset.JWKSMarshal
	for kid, key := range keys {
		k, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid, USE: jwkset.UseSig}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, k.Marshal())
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const goodClaims = `{"sub":"u","exp":1795381200}`

func edToken(t testing.TB, kid string) string {
	return raw(t, `{"alg":"EdDSA","kid":"`+kid+`"}`, goodClaims, jwt.SigningMethodEdDSA, testKeys().ed)
}

func jwksTokens(t testing.TB, url string, interval time.Duration) *Tokens {
	return mustTokens(t, TokenConfig{JWKSURL: url, UnknownKIDInterval: interval})
}

func keySetAtStart(t *testing.T) {
	hang := make(chan struct{})
	s := newKeyServer(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	tokens := jwksTokens(t, s.URL, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := tokens.Verify(ctx, edToken(t, "d"))
	wantReason(t, err, TokenKeysUnavailable)
}

func keySetFirstRead(t *testing.T) {
	release := make(chan struct{})
	body := keySetJSON(t, map[string]any{"d": testKeys().ed.Public().(ed25519.PublicKey)})
	s := newKeyServer(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, body)
	})
	tokens := jwksTokens(t, s.URL, time.Hour)
	got := make(chan error, 1)
	go func() {
		_, err := tokens.Verify(t.Context(), edToken(t, "d"))
		got <- err
	}()
	expect.Eventually(t, "the read began", func() bool { return s.reads.Load() == 1 })
	close(release)
	wantReason(t, <-got, "")
}

func keySetAfterOutage(t *testing.T) {
	good := keySetJSON(t, map[string]any{"d": testKeys().ed.Public().(ed25519.PublicKey)})
	for name, outage := range map[string]http.HandlerFunc{
		"status 503":     replies(503, ""),
		"not JSON":       replies(200, "<html>"),
		"no keys member": replies(200, `{"error":"x"}`),
		"too large":      replies(200, `{"keys":[],"x":"`+strings.Repeat("x", maxKeySetBytes)+`"}`),
	} {
		t.Run(name, func(t *testing.T) {
			s := newKeyServer(t, outage)
			tokens := jwksTokens(t, s.URL, time.Hour) // the interval for unknown kids does not hold it back
			_, err := tokens.Verify(t.Context(), edToken(t, "d"))
			wantReason(t, err, TokenKeysUnavailable)
			s.set(replies(200, good))
			expect.Eventually(t, "tokens are good again", func() bool {
				_, err := tokens.Verify(t.Context(), edToken(t, "d"))
				return err == nil
			})
		})
	}
}

func keySetRotates(t *testing.T) {
	public := testKeys().ed.Public().(ed25519.PublicKey)
	s := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"old": public})))
	tokens := jwksTokens(t, s.URL, time.Nanosecond)
	_, err := tokens.Verify(t.Context(), edToken(t, "old"))
	wantReason(t, err, "")
	s.set(replies(200, keySetJSON(t, map[string]any{"new": public})))
	_, err = tokens.Verify(t.Context(), edToken(t, "new"))
	wantReason(t, err, "")
	_, err = tokens.Verify(t.Context(), edToken(t, "old"))
	wantReason(t, err, TokenUnknownKey)
	s.set(replies(200, `{"keys":[]}`)) // all withdrawn
	_, err = tokens.Verify(t.Context(), edToken(t, "other"))
	wantReason(t, err, TokenUnknownKey)
	_, err = tokens.Verify(t.Context(), edToken(t, "new"))
	wantReason(t, err, TokenUnknownKey)
}

func keySetReadFails(t *testing.T) {
	var log expect.Output
	s := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"d": testKeys().ed.Public().(ed25519.PublicKey)})))
	tokens := mustTokens(t, TokenConfig{JWKSURL: strings.Replace(s.URL, "http://", "http://user:hunter2@", 1) + "/jwks?key=hunter2",
		UnknownKIDInterval: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	_, err := tokens.Verify(t.Context(), edToken(t, "d"))
	wantReason(t, err, "")
	s.set(replies(500, ""))
	_, err = tokens.Verify(t.Context(), edToken(t, "new"))
	wantReason(t, err, TokenKeysUnavailable) // it may be a good one: we cannot know
	_, err = tokens.Verify(t.Context(), edToken(t, "d"))
	wantReason(t, err, "")
	s.CloseClientConnections()
	s.Close()
	_, err = tokens.Verify(t.Context(), edToken(t, "new"))
	wantReason(t, err, TokenKeysUnavailable)
	_, err = tokens.Verify(t.Context(), edToken(t, "d"))
	wantReason(t, err, "")
	if text := log.String(); !strings.Contains(text, "status 500") || strings.Contains(text, "hunter2") {
		t.Errorf("the log is %s", text)
	}
}

// endInterval lets the next token with an unknown kid ask for a read.
func endInterval(t *Tokens) {
	set := t.plain.keys.(*keySet)
	set.mu.Lock()
	defer set.mu.Unlock()
	set.began = set.began.Add(-set.interval)
}

func keySetSharedRead(t *testing.T) {
	public := testKeys().ed.Public().(ed25519.PublicKey)
	s := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"old": public})))
	tokens := jwksTokens(t, s.URL, time.Hour)
	_, err := tokens.Verify(t.Context(), edToken(t, "old"))
	wantReason(t, err, "")

	release := make(chan struct{})
	body := keySetJSON(t, map[string]any{"new": public})
	s.set(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, body)
	})
	endInterval(tokens)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = tokens.Verify(gone, edToken(t, "evil"))
	wantReason(t, err, TokenKeysUnavailable)
	token := edToken(t, "new")
	var wg sync.WaitGroup
	var good atomic.Int64
	for range 20 {
		wg.Go(func() {
			if _, err := tokens.Verify(t.Context(), token); err == nil {
				good.Add(1)
			}
		})
	}
	expect.Eventually(t, "the read began", func() bool { return s.reads.Load() == 2 })
	close(release)
	wg.Wait()
	if good.Load() != 20 || s.reads.Load() != 2 {
		t.Errorf("%d of 20 are good, %d reads", good.Load(), s.reads.Load())
	}
}

func keySetFlood(t *testing.T) {
	hold := make(chan struct{})
	body := keySetJSON(t, map[string]any{"d": testKeys().ed.Public().(ed25519.PublicKey)})
	s := newKeyServer(t, replies(200, body))
	tokens := jwksTokens(t, s.URL, time.Hour)
	good := edToken(t, "d")
	_, err := tokens.Verify(t.Context(), good)
	wantReason(t, err, "")

	// The interval is over: one read is allowed, and the key server hangs in it.
	s.set(func(w http.ResponseWriter, _ *http.Request) {
		<-hold
		fmt.Fprint(w, body)
	})
	endInterval(tokens)

	var wg sync.WaitGroup
	var refused atomic.Int64
	for g := range 20 {
		wg.Go(func() {
			for i := range 20 {
				if _, err := tokens.Verify(t.Context(), edToken(t, fmt.Sprintf("evil-%d-%d", g, i))); err != nil {
					refused.Add(1)
				}
			}
		})
	}
	expect.Eventually(t, "the read began", func() bool { return s.reads.Load() == 2 })
	for range 100 { // which would wait for hold, if they waited
		if _, err := tokens.Verify(t.Context(), good); err != nil {
			t.Fatal(err)
		}
	}
	close(hold)
	wg.Wait()
	if refused.Load() != 400 || s.reads.Load() != 2 {
		t.Errorf("%d of 400 refused, %d reads", refused.Load(), s.reads.Load())
	}
}

func keySetRefresh(t *testing.T) {
	public := testKeys().ed.Public().(ed25519.PublicKey)
	s := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"old": public})))
	set := &keySet{url: s.URL, client: s.Client(), log: slog.New(slog.DiscardHandler), interval: time.Hour,
		refreshEvery: 10 * time.Millisecond, timer: time.NewTimer(0), underway: make(chan struct{})}
	go set.run(t.Context())
	if _, err := set.key(t.Context(), algEdDSA, "old"); err != nil {
		t.Fatal(err)
	}
	s.set(replies(200, `{"keys":[]}`))
	expect.Eventually(t, "the withdrawn key is refused", func() bool {
		_, err := set.key(t.Context(), algEdDSA, "old")
		return err != nil
	})
}

func keySetReaderEnds(t *testing.T) {
	k := testKeys()
	s := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"d": k.ed.Public().(ed25519.PublicKey)})))
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	tokens, err := NewTokens(ctx, TokenConfig{JWKSURL: s.URL, Now: func() time.Time { return testNow }, UnknownKIDInterval: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tokens.Verify(t.Context(), edToken(t, "d"))
	wantReason(t, err, "")
	cancel()
	s.CloseClientConnections()
	expect.Eventually(t, "the reader ends", func() bool { return goleak.Find(before) == nil })
	_, err = tokens.Verify(t.Context(), edToken(t, "d")) // what is known stays known
	wantReason(t, err, "")
	_, err = tokens.Verify(t.Context(), edToken(t, "new"))
	wantReason(t, err, TokenKeysUnavailable)
}

// explosive is a transport that panics a few times, then works.
type explosive struct{ left atomic.Int64 }

func (e *explosive) RoundTrip(r *http.Request) (*http.Response, error) {
	if e.left.Add(-1) >= 0 {
		panic("x")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func keySetPanics(t *testing.T) {
	s := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"d": testKeys().ed.Public().(ed25519.PublicKey)})))
	transport := &explosive{}
	transport.left.Store(3)
	var caught atomic.Int64
	tokens := mustTokens(t, TokenConfig{JWKSURL: s.URL, UnknownKIDInterval: time.Hour, HTTPClient: &http.Client{Transport: transport},
		Loop: func(_ <-chan struct{}, f func()) {
			again := true
			for again {
				func() {
					defer func() {
						if again = recover() != nil; again {
							caught.Add(1)
						}
					}()
					f()
				}()
			}
		}})
	if _, err := tokens.Verify(t.Context(), edToken(t, "d")); err != nil || caught.Load() != 3 {
		t.Errorf("%v, after %d panics", err, caught.Load())
	}
}
