package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/wire"
)

// store is an Archive in memory.
type store struct {
	epoch   string
	entries []string // as JSON
	begun   bool     // an import is not finished
	begins  int
	loads   int

	stop func(n int) error // before the n-th entry of a Dump or Load of the store, counted from 0
	lost func(n int) error // after the n-th Load has happened
}

var errStop = errors.New("the plug was pulled")

func at(n int) func(int) error {
	return func(i int) error {
		if i == n {
			return errStop
		}
		return nil
	}
}

func (s *store) Epoch() (string, error) {
	if s.begun {
		return "", bridge.ErrUnfinished
	}
	return s.epoch, nil
}

func (s *store) Count(context.Context) (int64, error) { return int64(len(s.entries)), nil }

func (s *store) Dump(_ context.Context, take func(bridge.Entry) error) error {
	for i, text := range s.entries {
		if s.stop != nil {
			if err := s.stop(i); err != nil {
				return err
			}
		}
		var e bridge.Entry
		if err := wire.DecodeStrict([]byte(text), &e); err != nil {
			return err
		}
		if err := take(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) Begin(context.Context) error {
	if s.epoch != "" {
		return bridge.ErrNotEmpty
	}
	s.begins++
	s.begun, s.entries = true, nil
	return nil
}

func (s *store) Load(_ context.Context, entries []bridge.Entry) error {
	n := s.loads
	s.loads++
	if s.stop != nil {
		if err := s.stop(n); err != nil {
			return err
		}
	}
	for _, e := range entries {
		b, err := wire.EncodeStrict(e)
		if err != nil {
			return err
		}
		s.entries = append(s.entries, string(b))
	}
	if s.lost != nil {
		return s.lost(n)
	}
	return nil
}

func (s *store) Finish(_ context.Context, epoch string) error {
	s.epoch, s.begun = epoch, false
	return nil
}

func (s *store) Close() error { return nil }

// filled is a store with n entries of all kinds.
func filled(t testing.TB, n int) *store {
	t.Helper()
	s := &store{epoch: "epoch1"}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	for i := range n {
		user := fmt.Sprintf("patient-%d <é>", i)
		var e bridge.Entry
		switch i % 7 {
		case 0:
			e.Event = &bridge.EventEntry{ID: user, Digest: all[:32], Until: 1 << 62, Type: "t", At: int64(i), Except: []string{"s"},
				Places: []bridge.PlaceEntry{{User: user, Seq: 1 << 63}, {}}}
		case 1:
			e.Mailbox = &bridge.MailboxEntry{User: user, Head: uint64(i), Removed: [][2]uint64{{1, 2}}, Acked: bridge.Position{Mailbox: 1, Broadcast: 2}}
		case 2:
			e.Message = &bridge.MessageEntry{User: user, Seq: 1, ID: "x", Expires: 5, Event: all}
		case 3:
			e.Membership = &bridge.MembershipEntry{Group: "g", User: user, Stored: true}
		case 4:
			e.Revocation = &bridge.RevocationEntry{User: user, Revocation: bridge.Revocation{IssuedBefore: since}}
		case 5:
			e.DeliveryLog = &bridge.DeliveryLog{Member: bridge.Member{User: user, Session: "s", Since: since}, Skips: []bridge.Skip{{Last: bridge.Position{Mailbox: 3}}}}
		case 6:
			e.Seen = &bridge.SeenEntry{ID: "x", User: user, Session: "s", At: since.UnixNano()}
		}
		b, err := wire.EncodeStrict(e)
		expect.NoError(t, err)
		s.entries = append(s.entries, string(b))
	}
	return s
}

// same wants b to be all of a, and a store that a bridge runs on.
func same(t testing.TB, a, b *store) {
	t.Helper()
	if b.epoch != a.epoch || !slices.Equal(a.entries, b.entries) {
		t.Fatalf("%d entries of %q have become %d of %q", len(a.entries), a.epoch, len(b.entries), b.epoch)
	}
}
