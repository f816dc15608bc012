package auth

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTicket(t *testing.T) {
	t.Run("works once within its time", ticketWorksOnce)
	t.Run("lapses with its time or its token", ticketLapses)
	t.Run("is one of a bounded number", ticketsAreBounded)
	t.Run("is one of a number bounded by the bytes of their claims too", ticketsAreBoundedInBytes)
	t.Run("is redeemed by one of many who try", ticketForOne)
	t.Run("is there for others, however many one user asks for", ticketsOfOneUser)
}

func ticketWorksOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	tickets := NewTickets(30*time.Second, 10, func() time.Time { return now })
	c := Claims{User: "u", ID: "j", Expires: now.Add(time.Hour), Rights: []byte(`{"a":1}`)}
	ticket, expires, err := tickets.Issue(t.Context(), c)
	if err != nil || !expires.Equal(now.Add(30*time.Second)) {
		t.Fatal(expires, err)
	}
	c.Rights[2] = 'z' // the caller's own from here on
	now = now.Add(30*time.Second - 1)
	got, err := tickets.Redeem(t.Context(), ticket)
	if err != nil || string(got.Rights) != `{"a":1}` {
		t.Fatal(got, err)
	}
	c.Rights, got.Rights = nil, nil
	if !reflect.DeepEqual(got, c) {
		t.Fatalf("got %+v", got)
	}
	for _, s := range []string{ticket, "", "unknown"} {
		if _, err := tickets.Redeem(t.Context(), s); !errors.Is(err, ErrTicket) {
			t.Errorf("redeeming %q: %v", s, err)
		}
	}
}

func ticketLapses(t *testing.T) {
	now := time.Unix(1000, 0)
	tickets := NewTickets(30*time.Second, 10, func() time.Time { return now })
	long, _, err1 := tickets.Issue(t.Context(), Claims{User: "u", Expires: now.Add(time.Hour)})
	short, expires, err2 := tickets.Issue(t.Context(), Claims{User: "u", Expires: now.Add(5 * time.Second)})
	if err1 != nil || err2 != nil || !expires.Equal(now.Add(5*time.Second)) {
		t.Fatal(expires, err1, err2)
	}
	now = now.Add(5 * time.Second)
	if _, err := tickets.Redeem(t.Context(), short); !errors.Is(err, ErrTicket) {
		t.Errorf("short: %v", err)
	}
	now = now.Add(25 * time.Second)
	if _, err := tickets.Redeem(t.Context(), long); !errors.Is(err, ErrTicket) {
		t.Errorf("long: %v", err)
	}
}

func ticketsAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	tickets := NewTickets(30*time.Second, 3, func() time.Time { return now })
	var last string
	for range 3 {
		var err error
		if last, _, err = tickets.Issue(t.Context(), Claims{User: "u"}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	if _, _, err := tickets.Issue(t.Context(), Claims{User: "u"}); !errors.Is(err, ErrTooManyTickets) {
		t.Fatalf("got %v", err)
	}
	if _, err := tickets.Redeem(t.Context(), last); err != nil { // a used one makes room
		t.Fatal(err)
	}
	if _, _, err := tickets.Issue(t.Context(), Claims{User: "u"}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute) // and so do lapsed ones
	for range 3 {
		if _, _, err := tickets.Issue(t.Context(), Claims{User: "u"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(tickets.byHash) != 3 || tickets.issued.Len() != 3 {
		t.Errorf("%d and %d are kept", len(tickets.byHash), tickets.issued.Len())
	}
}

func ticketForOne(t *testing.T) {
	tickets := NewTickets(time.Minute, 1000, nil)
	for range 100 {
		ticket, _, err := tickets.Issue(t.Context(), Claims{User: "u"})
		if err != nil {
			t.Fatal(err)
		}
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := tickets.Redeem(t.Context(), ticket); err == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d redeemed one ticket", won.Load())
		}
	}
}

func ticketsAreBoundedInBytes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tickets := NewTickets(30*time.Second, 1_000_000, func() time.Time { return now })
	large := Claims{User: "u", Rights: bytes.Repeat([]byte("r"), 12<<10)}
	n := 0
	for ; n < 100_000; n++ {
		large.User = fmt.Sprint(n)
		if _, _, err := tickets.Issue(t.Context(), large); err != nil {
			if !errors.Is(err, ErrTooManyTickets) {
				t.Fatal(err)
			}
			break
		}
	}
	if most := maxTicketMemory / (12 << 10); n > most || n < most*9/10 {
		t.Errorf("%d tickets of 12 KiB are out", n)
	}
	now = now.Add(31 * time.Second)
	ticket, _, err := tickets.Issue(t.Context(), large)
	if err != nil {
		t.Fatalf("after the others have lapsed: %v", err)
	}
	if _, err := tickets.Redeem(t.Context(), ticket); err != nil || tickets.size != 0 || len(tickets.byUser) != 0 {
		t.Errorf("%v, %d bytes of %d users stay counted", err, tickets.size, len(tickets.byUser))
	}
}

func ticketsOfOneUser(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tickets := NewTickets(30*time.Second, 100_000, func() time.Time { return now })
	for _, claims := range []Claims{{User: "small"}, {User: "large", Rights: bytes.Repeat([]byte("r"), 5<<10)}} {
		n := 0
		var last string
		for ; n < 100_000; n++ {
			ticket, _, err := tickets.Issue(t.Context(), claims)
			if errors.Is(err, ErrTooManyTickets) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			last = ticket
		}
		if n < 40 || n > 1_000 {
			t.Errorf("%s has %d tickets", claims.User, n)
		}
		if _, err := tickets.Redeem(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tickets.Issue(t.Context(), claims); err != nil {
			t.Errorf("a used ticket of %s makes no room: %v", claims.User, err)
		}
	}
	for i := range 1_000 {
		if _, _, err := tickets.Issue(t.Context(), Claims{User: fmt.Sprint(i)}); err != nil {
			t.Fatalf("another user: %v", err)
		}
	}
	now = now.Add(31 * time.Second)
	if _, _, err := tickets.Issue(t.Context(), Claims{User: "small"}); err != nil || len(tickets.byUser) != 1 {
		t.Errorf("after all have lapsed: %v, %d users are remembered", err, len(tickets.byUser))
	}
}
