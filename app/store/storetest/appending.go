package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

var appending = []promise{
	{"messages of one user are heard and read in the order of their appends", func(f *fixture) {
		f.join("u")
		var want []string
		for i := range 20 {
			m := f.message(user("u"))
			r := f.append(m)
			f.equal("place", r.Recipients, []bridge.Recipient{{User: "u", Seq: uint64(i + 1), Sessions: 1}})
			want = append(want, m.ID)
		}
		f.equal("read", ids(f.all("u", bridge.Position{}).Deliveries), want)
		f.equal("heard", ids(f.hub.of("u")), want)
	}},
	{"what concurrent senders append is heard and read in one and the same order", func(f *fixture) {
		f.join("u")
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for i := range 10 {
					m := f.message(user("u"))
					if i%5 == 0 {
						m.To = everybody
					}
					if _, err := f.store.Append(f.ctx, m); err != nil {
						f.Errorf("append: %v", err)
					}
				}
			})
		}
		wg.Wait()
		var mail, all []bridge.Delivery
		for _, d := range f.all("u", bridge.Position{}).Deliveries {
			if d.Mailbox != 0 {
				mail = append(mail, d)
			} else {
				all = append(all, d)
			}
		}
		f.equal("messages", []int{len(mail), len(all)}, []int{256, 64})
		for i, d := range mail {
			f.equal("sequence", d.Mailbox, i+1)
		}
		for i, d := range all {
			f.equal("sequence", d.Broadcast, i+1)
		}
		f.equal("heard", ids(f.hub.of("u")), ids(mail))
		f.equal("heard by all", ids(f.hub.of("")), ids(all))
	}},
	{"64 concurrent appends of one id are one delivery and 63 duplicates", func(f *fixture) {
		f.join("u")
		m := f.message(user("u"))
		var mu sync.Mutex
		var fresh, again int
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				copied := *m
				r, err := f.store.Append(f.ctx, &copied)
				if err != nil {
					f.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if r.Duplicate {
					again++
				} else {
					fresh++
				}
				if len(r.Recipients) != 1 || r.Recipients[0].Seq != 1 || !r.Expires.Equal(m.Expires) {
					f.Errorf("receipt: %+v", r)
				}
			})
		}
		wg.Wait()
		f.equal("fresh and duplicate", []int{fresh, again}, []int{1, 63})
		f.equal("heard", ids(f.hub.of("u")), []string{m.ID})
		f.equal("read", ids(f.all("u", bridge.Position{}).Deliveries), []string{m.ID})
	}},
	{"the same id with another digest is a conflict, before and after a restart", func(f *fixture) {
		m := f.message(user("u"))
		f.append(m)
		other := *m
		other.Digest[0]++
		for range 2 {
			if _, err := f.store.Append(f.ctx, &other); !errors.Is(err, bridge.ErrConflict) {
				f.Fatalf("got %v, want ErrConflict", err)
			}
			if r := f.append(m); !r.Duplicate {
				f.Fatal("the same message again is no duplicate")
			}
			f.reopen()
		}
		f.equal("read", len(f.all("u", bridge.Position{}).Deliveries), 1)
	}},
	{"a message that is never stored is delivered once, its id is remembered and it leaves no gap", func(f *fixture) {
		f.join("u")
		for _, to := range []bridge.Target{user("u"), everybody} {
			m := f.message(to)
			m.Expires = time.Time{}
			r := f.append(m)
			f.equal("receipt", []any{r.Duplicate, r.Sessions, r.Broadcast, r.Expires.IsZero()}, []any{false, 1, 0, true})
			f.equal("heard", ids(f.hub.of(to.User)), []string{m.ID})
			f.reopen()
			r = f.append(m)
			f.equal("receipt", []any{r.Duplicate, r.Sessions, r.Broadcast, r.Expires.IsZero()}, []any{true, 0, 0, true})
			f.join("u")
			if to.User != "" {
				f.equal("recipients", r.Recipients, []bridge.Recipient{{User: "u"}})
			}
			other := *m
			other.Digest[5]++
			if _, err := f.store.Append(f.ctx, &other); !errors.Is(err, bridge.ErrConflict) {
				f.Fatalf("got %v, want ErrConflict", err)
			}
			// What was on its way to other machines may reach the one that has just
			// come; nothing else is heard.
			calls := f.hub.of(to.User)
			f.equal("heard", slices.Compact(ids(calls)), []string{m.ID})
			f.equal("places", []uint64{calls[0].Mailbox, calls[0].Broadcast}, []uint64{0, 0})
		}
		f.join("u")
		m, n := f.send(user("u"), time.Hour), f.send(everybody, time.Hour)
		p := f.all("u", bridge.Position{})
		f.equal("read", ids(p.Deliveries), []string{m.ID, n.ID})
		f.equal("next", p.Next(), bridge.Position{Mailbox: 1, Broadcast: 1})
		f.equal("lost", p.Lost(), bridge.Lost{})
	}},
	{"a context that has ended stops an append, and one that ends later leaves the store sound", func(f *fixture) {
		gone, cancel := context.WithCancel(f.ctx)
		cancel()
		if _, err := f.store.Append(gone, f.message(user("u"))); !errors.Is(err, context.Canceled) {
			f.Fatalf("got %v, want context.Canceled", err)
		}
		var wg sync.WaitGroup
		ended := make([]*bridge.Message, 32)
		for i := range ended {
			ended[i] = f.message(user("u"))
			ctx, cancel := context.WithCancel(f.ctx)
			wg.Go(func() {
				if _, err := f.store.Append(ctx, ended[i]); err != nil && !errors.Is(err, context.Canceled) {
					f.Errorf("append: %v", err)
				}
			})
			wg.Go(cancel)
		}
		wg.Wait()
		for _, m := range ended {
			f.append(m) // whatever became of it, asking again settles it
		}
		p := f.all("u", bridge.Position{})
		seen := map[string]int{}
		for _, d := range p.Deliveries {
			seen[d.Message.ID]++
		}
		for _, m := range ended {
			f.equal("times stored "+m.ID, seen[m.ID], 1)
		}
	}},
	{"a duplicate answers for every recipient as of now", func(f *fixture) {
		m := f.message(bridge.Target{Users: []string{"a", "b", "c"}})
		f.append(m)
		f.ack("b", bridge.Position{Mailbox: 1})
		for range 2 {
			r := f.append(m)
			f.equal("receipt", fmt.Sprint(r.Duplicate, r.Sessions, r.Recipients),
				fmt.Sprint(true, 0, []bridge.Recipient{{User: "a", Seq: 1}, {User: "b", Seq: 1, Acked: true}, {User: "c", Seq: 1}}))
			f.reopen()
		}
		f.clock.Advance(2 * time.Hour)
		for _, to := range f.append(m).Recipients {
			f.equal("place of an expired message", to.Seq, 0)
		}
	}},
}
