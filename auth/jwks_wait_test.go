package auth

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeyWait(t *testing.T) {
	t.Run("makes a token with a key that was just published good", keyWaitForNew)
	t.Run("asks the key server once in three seconds at most", keyWaitOfStrangers)
	t.Run("ends where the key server is slow", keyWaitEnds)
	t.Run("does not begin once the reader has ended", keyWaitIsOver)
}

// memoryKeys is a key server without a network, for synthetic time.
type memoryKeys struct {
	mu    sync.Mutex
	body  string
	takes time.Duration // for an answer
	reads []time.Time
}

func (m *memoryKeys) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	m.reads = append(m.reads, time.Now())
	body, takes := m.body, m.takes
	m.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (m *memoryKeys) publish(t *testing.T, kids ...string) {
	t.Helper()
	keys := map[string]any{}
	for _, kid := range kids {
		keys[kid] = testKeys().ed.Public().(ed25519.PublicKey)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.body = keySetJSON(t, keys)
}

// inMemory runs a test in synthetic time, with a key set of the default timing.
func inMemory(t *testing.T, test func(t *testing.T, m *memoryKeys, verify func(kid string) (time.Duration, error))) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryKeys{takes: 300 * time.Millisecond}
		m.publish(t, "old")
		tokens := mustTokens(t, TokenConfig{JWKSURL: "https://keys.example/jwks", HTTPClient: &http.Client{Transport: m}})
		test(t, m, func(kid string) (time.Duration, error) {
			began := time.Now()
			_, err := tokens.Verify(t.Context(), edToken(t, kid))
			return time.Since(began), err
		})
	})
}

func keyWaitForNew(t *testing.T) {
	for name, before := range map[string][]string{
		"right after a read for itself":        {"new"},
		"right after a read for a stranger's":  {"stranger"},
		"right after the first read of all":    {},
		"after a read for a stranger's, twice": {"stranger", "stranger"},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, m *memoryKeys, verify func(string) (time.Duration, error)) {
				_, err := verify("old")
				wantReason(t, err, "")
				for _, kid := range before {
					_, err := verify(kid)
					wantReason(t, err, TokenUnknownKey)
				}
				m.publish(t, "old", "new")
				took, err := verify("new")
				wantReason(t, err, "")
				if took >= 5*time.Second {
					t.Errorf("it took %s", took)
				}
				if took, err := verify("old"); err != nil || took != 0 {
					t.Errorf("a known key took %s: %v", took, err)
				}
			})
		})
	}
}

func keyWaitOfStrangers(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memoryKeys, verify func(string) (time.Duration, error)) {
		began := time.Now()
		var wg sync.WaitGroup
		for g := range 50 {
			wg.Go(func() {
				for i := 0; time.Since(began) < time.Minute; i++ {
					took, err := verify(fmt.Sprintf("stranger-%d-%d", g, i))
					wantReason(t, err, TokenUnknownKey)
					if took >= 5*time.Second {
						t.Errorf("one was held for %s", took)
					}
				}
			})
		}
		time.Sleep(31 * time.Second) // of the synthetic clock: amidst the flood
		m.publish(t, "old", "new")
		took, err := verify("new")
		wantReason(t, err, "")
		if took >= 5*time.Second {
			t.Errorf("amidst strangers it took %s", took)
		}
		if took, err := verify("old"); err != nil || took != 0 {
			t.Errorf("amidst strangers a known key took %s: %v", took, err)
		}
		wg.Wait()
		for i, at := range m.reads[1:] {
			if since := at.Sub(m.reads[i]); since < defaultUnknownKIDInterval {
				t.Errorf("two reads within %s", since)
			}
		}
		if len(m.reads) < 10 {
			t.Errorf("only %d reads: the flood asked for none", len(m.reads))
		}
	})
}

// Where the key server is slow or down, a token is not called bad, because that is not
// known, and its wait ends.
func keyWaitEnds(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memoryKeys, verify func(string) (time.Duration, error)) {
		_, err := verify("old")
		wantReason(t, err, "")
		m.mu.Lock()
		m.takes = time.Minute
		m.mu.Unlock()
		took, err := verify("new")
		wantReason(t, err, TokenKeysUnavailable)
		if took > waitForKeys {
			t.Errorf("it took %s", took)
		}
	})
}

func keyWaitIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryKeys{takes: time.Hour}
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		tokens, err := NewTokens(ctx, TokenConfig{JWKSURL: "https://keys.example/jwks", HTTPClient: &http.Client{Transport: m}})
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("the start took %s", d)
		}
		cancel()
		synctest.Wait()
		began = time.Now()
		_, err = tokens.Verify(t.Context(), edToken(t, "new"))
		wantReason(t, err, TokenKeysUnavailable)
		if d := time.Since(began); d != 0 {
			t.Errorf("waited %s for a reader that has ended", d)
		}
	})
}
