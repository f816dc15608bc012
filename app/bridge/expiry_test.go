package bridge_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
)

// lifeTokens reads a token like "patient-1 45s": whose it is, and how long it
// lives from when it is shown.
type lifeTokens struct{}

func (lifeTokens) Authenticate(_ context.Context, token string) (bridge.Identity, error) {
	user, life, _ := strings.Cut(token, " ")
	d, err := time.ParseDuration(life)
	if err != nil {
		return bridge.Identity{}, fmt.Errorf("%w: %w", bridge.ErrUnauthorized, err)
	}
	return bridge.Identity{User: user, Expires: time.Now().Add(d)}, nil
}

// emptyEngine holds nothing: its sessions have only their tokens.
type emptyEngine struct{ storeAndLive }

func (emptyEngine) Epoch() string                                   { return "empty" }
func (emptyEngine) Listen(bridge.Hub)                               {}
func (emptyEngine) Leave(context.Context, bridge.DeliveryLog) error { return nil }
func (emptyEngine) Join(context.Context, bridge.Member) (s bridge.JoinState, err error) {
	return s, nil
}
func (emptyEngine) Revoked(context.Context, string, string, time.Time) (bool, error) {
	return false, nil
}
func (emptyEngine) Life() string { return "" }
func (emptyEngine) Read(context.Context, string, string, bridge.Position, int, int) (p bridge.Page, err error) {
	return p, nil
}

// Times are those of a synthetic clock: nothing here waits for real.
func TestExpiryWarning(t *testing.T) {
	for _, c := range []struct {
		name   string
		tokens []string // the first in the connect frame, each other one as soon as the one before is told of
		want   string   // when the session is told, and of how much time that is left, then when it ends; seconds
	}{
		{"a minute before", []string{"1h"}, "3540:60 3600"},
		{"just over a minute", []string{"61s"}, "1:60 61"},
		{"shorter: a quarter of what is left", []string{"40s"}, "30:10 40"},
		{"a few seconds", []string{"2s"}, "1.5:0.5 2"},
		{"again and again, short ones", []string{"40s", "40s", "40s"}, "30:10 60:10 90:10 100"},
		{"again and again, just over a minute: never within five seconds", []string{"61s", "61s", "61s"}, "1:60 6:56 11:56 67"},
		{"very short ones: not each is told of", []string{"4s", "4s"}, "3:1 7"},
		{"a short one that five seconds put off", []string{"6s", "6s"}, "4.5:1.5 9.5:1 10.5"},
		{"a long one after a short one", []string{"40s", "1h"}, "30:10 3570:60 3630"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bridge.New(bridge.QuietConfig(func(c *bridge.Config) { c.PingEvery = 24 * time.Hour }), emptyEngine{}, emptyEngine{}, lifeTokens{})
				began := time.Now()
				l := newLine()
				go b.Accept(l, bridge.Handshake{})
				l.in <- fmt.Sprintf(`{"type":"connect","token":"patient-1 %s"}`, c.tokens[0])
				var told []string
				next := 1
				seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
				for live := true; live; {
					select {
					case f := <-l.out:
						if f["type"] != "token_expiring" {
							continue
						}
						told = append(told, seconds(time.Since(began))+":"+seconds(time.Duration(f["inMs"].(float64))*time.Millisecond))
						if next < len(c.tokens) {
							l.in <- fmt.Sprintf(`{"type":"refresh","token":"patient-1 %s"}`, c.tokens[next])
							next++
						}
					case <-l.gone:
						told = append(told, seconds(time.Since(began)))
						live = false
					}
				}
				if got := strings.Join(told, " "); got != c.want {
					t.Errorf("told and ended at %s, want %s", got, c.want)
				}
				if err := b.Drain(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
