package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/local"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/wire"
)

func TestRefresh(t *testing.T) {
	t.Run("that fails leaves the session with its token", refreshFails)
	t.Run("during which its old token is revoked ends the session only if it fails", refreshDuringRevocation)
	t.Run("after the user was erased closes the session as erased", refreshAfterErasure)
}

// storeAndLive is both ports in one.
type storeAndLive interface {
	bridge.Store
	bridge.Live
}

// onDisk is a real store with those who are connected to it.
type onDisk struct {
	*sqlite.Store
	*local.Live
}

func openStore(t *testing.T, o sqlite.Options) onDisk {
	t.Helper()
	o.Dir = t.TempDir()
	s, err := sqlite.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return onDisk{s, local.New(s, o.Now)}
}

// Listen is of both.
func (o onDisk) Listen(h bridge.Hub) {
	o.Store.Listen(h)
	o.Live.Listen(h)
}

// unsteady is the real store, whose Join a test may have fail.
type unsteady struct {
	storeAndLive
	mu     sync.Mutex // guards before
	before func(m bridge.Member) error
}

func (u *unsteady) Join(ctx context.Context, m bridge.Member) (bridge.JoinState, error) {
	u.mu.Lock()
	before := u.before
	u.mu.Unlock()
	if before != nil {
		if err := before(m); err != nil {
			return bridge.JoinState{}, err
		}
	}
	return u.storeAndLive.Join(ctx, m)
}

func (u *unsteady) failing(before func(m bridge.Member) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.before = before
}

// named takes any text for a token: it is the token's id, and its user is ada. The
// group of that name is what the token says.
type named struct{}

func identityOf(token string) bridge.Identity {
	return bridge.Identity{User: "ada", Token: "fp-" + token, TokenID: token, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		Policy: bridge.Policy{Groups: []string{"of " + token}}}
}

func (named) Authenticate(_ context.Context, token string) (bridge.Identity, error) {
	return identityOf(token), nil
}

// closing is a line that remembers what it was closed with.
type closing struct {
	*line
	codes chan wire.CloseCode
}

func (c *closing) WriteClose(code wire.CloseCode, reason string, at time.Time) {
	c.codes <- code
	c.line.WriteClose(code, reason, at)
}

func (c *closing) code(t *testing.T) wire.CloseCode {
	t.Helper()
	select {
	case code := <-c.codes:
		return code
	case <-time.After(expect.Patience):
		t.Fatal("the connection was not closed")
		return 0
	}
}

func unsteadyBridge(t *testing.T) (*bridge.Bridge, *unsteady, *closing) {
	t.Helper()
	store := openStore(t, sqlite.Options{})
	u := &unsteady{storeAndLive: store}
	b := bridge.New(bridge.QuietConfig(), u, u, named{})
	t.Cleanup(func() {
		if err := b.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &closing{newLine(), make(chan wire.CloseCode, 8)}
	c.in <- `{"type":"connect","token":"first"}`
	b.Accept(c, bridge.Handshake{})
	if hello := c.next(t); hello["type"] != "connected" {
		t.Fatalf("%v", hello)
	}
	return b, u, c
}

func (c *closing) refresh(token string) { c.in <- fmt.Sprintf(`{"type":"refresh","token":%q}`, token) }

var errAway = fmt.Errorf("%w: a test has taken it away", bridge.ErrUnavailable)

func refreshFails(t *testing.T) {
	b, u, c := unsteadyBridge(t)
	u.failing(func(bridge.Member) error { return errAway })
	c.refresh("second")
	if f := c.next(t); f["type"] != "error" {
		t.Fatalf("%v", f)
	}
	if o := publish(t, b, "still-there", wire.Target{User: "ada"}); o.Sessions != 1 {
		t.Errorf("it is not there any more: %+v", o)
	}
	c.next(t)
	u.failing(nil)
	expect.NoError(t, u.Revoke(t.Context(), "ada", bridge.Revocation{TokenID: "second"})) // which is not its token
	c.refresh("third")
	if f := c.next(t); f["type"] != "refreshed" {
		t.Fatalf("%v", f)
	}
	groups, err := u.Groups(t.Context(), "ada")
	expect.NoError(t, err)
	if !slices.Equal(groups, []string{"of third"}) {
		t.Errorf("groups %v", groups)
	}
	expect.NoError(t, u.Revoke(t.Context(), "ada", bridge.Revocation{TokenID: "third"}))
	if code := c.code(t); code != wire.CloseForbidden {
		t.Errorf("closed with %d", code)
	}
}

func refreshDuringRevocation(t *testing.T) {
	for name, outcome := range map[string]error{"it fails": errAway, "it succeeds": nil} {
		t.Run(name, func(t *testing.T) {
			_, u, c := unsteadyBridge(t)
			u.failing(func(bridge.Member) error {
				return errors.Join(u.Revoke(context.Background(), "ada", bridge.Revocation{TokenID: "first"}), outcome)
			})
			c.refresh("second")
			if outcome == nil {
				if f := c.next(t); f["type"] != "refreshed" {
					t.Fatalf("%v", f)
				}
				expect.NoError(t, u.Revoke(t.Context(), "ada", bridge.Revocation{TokenID: "second"}))
			}
			if code := c.code(t); code != wire.CloseForbidden {
				t.Errorf("closed with %d", code)
			}
		})
	}
}

func refreshAfterErasure(t *testing.T) {
	_, u, c := unsteadyBridge(t)
	u.failing(func(bridge.Member) error { return bridge.ErrErased })
	c.refresh("second")
	if code := c.code(t); code != wire.CloseErased {
		t.Errorf("closed with %d", code)
	}
}
