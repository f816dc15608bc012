package local_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/local"
	"hookbridge/app/store/storetest"
)

// slow is a store whose Enter waits to be let go.
type slow struct {
	hub   *storetest.Hub
	enter chan string // which token ends with each Enter
	let   chan error  // what it answers
}

func (s *slow) Enter(_ context.Context, m bridge.Member, ended string) (bridge.JoinState, error) {
	s.enter <- ended
	err := <-s.let
	if err == nil {
		s.hub.Joined(m)
	}
	return bridge.JoinState{}, err
}

func (s *slow) Exit(context.Context, bridge.DeliveryLog) error { return nil }
func (s *slow) LastSeen(_ context.Context, users []string) ([]time.Time, error) {
	return make([]time.Time, len(users)), nil
}
func (s *slow) Closed() bool { return false }

func begin(t *testing.T) (*slow, *local.Live, func(ctx context.Context, session, token string) chan error) {
	t.Helper()
	s := &slow{hub: &storetest.Hub{}, enter: make(chan string), let: make(chan error)}
	l := local.New(s, nil)
	l.Listen(s.hub)
	return s, l, func(ctx context.Context, session, token string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := s.hub.Join(ctx, l, bridge.Member{User: "u", Session: session, Token: token})
			done <- err
		}()
		return done
	}
}

func TestJoin(t *testing.T) {
	t.Run("with a new token ends the one before once no session has it, also where sessions are refreshed at once", func(t *testing.T) {
		s, _, join := begin(t)
		for _, session := range []string{"ses_1", "ses_2"} {
			done := join(t.Context(), session, "a")
			if ended := <-s.enter; ended != "" {
				t.Errorf("%q ends with a session that comes", ended)
			}
			s.let <- nil
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		first, second := join(t.Context(), "ses_1", "b"), join(t.Context(), "ses_2", "b")
		if ended := <-s.enter; ended != "" {
			t.Errorf("%q ends while another session has it", ended)
		}
		s.let <- nil
		if ended := <-s.enter; ended != "a" {
			t.Errorf("%q ends with the last session that had a", ended)
		}
		s.let <- nil
		if err := errors.Join(<-first, <-second); err != nil {
			t.Error(err)
		}
	})
	t.Run("that the store refuses leaves the session the token that it had", func(t *testing.T) {
		s, l, join := begin(t)
		done := join(t.Context(), "ses_1", "a")
		<-s.enter
		s.let <- nil
		<-done
		done = join(t.Context(), "ses_1", "b")
		<-s.enter
		s.let <- bridge.ErrRevoked
		if err := <-done; !errors.Is(err, bridge.ErrRevoked) {
			t.Errorf("join: %v", err)
		}
		list, err := l.Sessions(t.Context(), "u")
		if err != nil || len(list) != 1 || list[0].Token != "a" {
			t.Errorf("sessions %+v, %v", list, err)
		}
	})
	t.Run("whose time is up while another session joins keeps nobody waiting", func(t *testing.T) {
		s, _, join := begin(t)
		first := join(t.Context(), "ses_1", "a")
		<-s.enter
		ctx, cancel := context.WithCancel(t.Context())
		second := join(ctx, "ses_2", "a")
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("join: %v", err)
		}
		s.let <- nil
		if err := <-first; err != nil {
			t.Error(err)
		}
		third := join(t.Context(), "ses_3", "a")
		<-s.enter
		s.let <- nil
		if err := <-third; err != nil {
			t.Error(err)
		}
	})
}
