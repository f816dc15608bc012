package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// RunRewinds holds a pair to what bridge.Store promises of a store that goes back in
// time, one way of which the harness knows.
func RunRewinds(t *testing.T, h Harness) {
	t.Helper()
	for _, p := range []struct {
		sentence string
		test     func(r *rewound)
	}{
		{"what came after a life that was lost, or after its end, is told apart", (*rewound).toldApart},
		{"acks of what was lost count for nothing", (*rewound).acksCountForNothing},
		{"an id that was lost is a new one", (*rewound).idsAreNew},
		{"who was first seen in a time that was lost owns all messages to all that there are", (*rewound).returns},
		{"going back twice is found out twice", (*rewound).twice},
		{"nothing that comes then is heard as of the life before", (*rewound).heardInItsLife},
	} {
		t.Run(p.sentence, func(t *testing.T) {
			t.Parallel()
			r := &rewound{newFixture(t, h)}
			// Servers that change places take their time, on a busy machine.
			ctx, cancel := context.WithTimeout(context.Background(), 6*expect.Patience)
			t.Cleanup(cancel)
			r.ctx = ctx
			p.test(r)
		})
	}
}

// rewound is a store that goes back in time.
type rewound struct{ *fixture }

func (r *rewound) save() {
	r.Helper()
	if !r.backend.RewindsOpen {
		r.close()
		defer r.start()
	}
	r.backend.Save()
}

func (r *rewound) rewind() {
	r.Helper()
	if r.backend.RewindsOpen {
		r.backend.Rewind()
		return
	}
	r.close()
	r.backend.Rewind()
	r.start()
}

// publish appends n messages to the user and as many to all. A store that has
// just gone back may need to be asked again.
func (r *rewound) publish(n int) {
	r.Helper()
	for range n {
		for _, to := range []bridge.Target{user("u"), everybody} {
			m := r.message(to)
			expect.Eventually(r, "a message to be taken", func() bool {
				_, err := r.store.Append(r.ctx, m)
				if err != nil && !errors.Is(err, bridge.ErrUnavailable) {
					r.Fatalf("append: %v", err)
				}
				return err == nil
			})
		}
	}
}

// both is the place n in both logs.
func both(n uint64) bridge.Position { return bridge.Position{Mailbox: n, Broadcast: n} }

// lifeEnd is how far a life still counts; nowhere where it was lost.
func (r *rewound) lifeEnd(life string) bridge.Position {
	r.Helper()
	end, err := r.store.LifeEnd(r.ctx, "u", life)
	if err != nil && !errors.Is(err, bridge.ErrRewound) {
		r.Fatalf("the end of a life: %v", err)
	}
	return end
}

func (r *rewound) toldApart() {
	r.join("u")
	r.publish(3)
	first := r.store.Life()
	r.save()
	r.publish(5)
	lost := r.store.Life()
	r.equal("the end of the life that goes on", r.lifeEnd(lost), both(8))
	r.rewind()
	r.publish(1)
	now := r.store.Life()
	if now == lost || now == first {
		r.Fatalf("the store lives %q, as if nothing had happened", now)
	}
	r.publish(6)
	if end := r.lifeEnd(lost); !both(3).Covers(end) {
		r.Errorf("what was lost counts up to %v", end)
	}
	r.equal("the end of the life in which it was saved", r.lifeEnd(first), both(3))
	r.equal("the end of this life", r.lifeEnd(now), both(10))
	if _, err := r.store.Read(r.ctx, "u", lost, both(8), 10, 1<<20); !errors.Is(err, bridge.ErrOtherLife) {
		r.Errorf("reading on from what was lost: %v", err)
	}
	r.equal("what there is", len(r.all("u", both(3)).Deliveries), 14)
	if _, err := r.store.LifeEnd(r.ctx, "u", "neverwas"); !errors.Is(err, bridge.ErrRewound) {
		r.Errorf("a life that never was: %v", err)
	}
}

func (r *rewound) acksCountForNothing() {
	r.join("u")
	r.publish(3)
	r.save()
	r.publish(5)
	lost := r.store.Life()
	r.rewind()
	r.publish(5)
	if err := r.store.Ack(r.ctx, "u", "ses_1", lost, both(8)); err != nil && !errors.Is(err, bridge.ErrRewound) {
		r.Fatalf("ack: %v", err)
	}
	if st := r.join("u"); !both(3).Covers(st.Acked) {
		r.Errorf("after an ack of what was lost %v counts as acked", st.Acked)
	}
	r.ok("ack", r.store.Ack(r.ctx, "u", "ses_1", r.store.Life(), both(5)))
	expect.Eventually(r, "an ack of this life to count", func() bool { return r.join("u").Acked == both(5) })
}

func (r *rewound) idsAreNew() {
	r.save()
	m := r.message(user("u"))
	r.append(m)
	r.rewind()
	expect.Eventually(r, "the message to be taken again", func() bool {
		receipt, err := r.store.Append(r.ctx, m)
		if err == nil && receipt.Duplicate {
			r.Fatal("the store says that it has a message which it lost")
		}
		return err == nil
	})
	r.equal("what there is", len(r.all("u", bridge.Position{}).Deliveries), 1)
}

func (r *rewound) returns() {
	r.publish(2)
	r.save()
	r.come("u", "ses_1", false)
	r.publish(1)
	r.rewind()
	r.publish(3)
	r.come("u", "ses_1", true)
	r.come("other", "ses_2", false)
	r.publish(1)
	toAll := func(who string) (n int) {
		for _, d := range r.all(who, bridge.Position{}).Deliveries {
			if d.Broadcast != 0 {
				n++
			}
		}
		return n
	}
	r.equal("messages to all of who came back", toAll("u"), 6)
	r.equal("messages to all of who came for the first time", toAll("other"), 1)
}

// come makes a session present, whose cursor may show that its user was here before.
func (r *rewound) come(who, session string, again bool) {
	r.Helper()
	m := bridge.Member{User: who, Session: session, Transport: "websocket", Since: r.clock.Now(), Returns: again}
	if _, err := r.table.Join(r.ctx, r.live, m); err != nil {
		r.Fatalf("join %q: %v", who, err)
	}
}

func (r *rewound) twice() {
	r.join("u")
	r.publish(1)
	r.save()
	var lives []string
	for range 3 {
		r.publish(2)
		lives = append(lives, r.store.Life())
		r.rewind()
		if !r.backend.RewindsOpen {
			continue
		}
		r.save() // a server that was promoted has to be copied again
	}
	r.publish(4)
	seen := map[string]bool{r.store.Life(): true}
	for i, life := range lives {
		if seen[life] {
			r.Errorf("the life %q came back", life)
		}
		seen[life] = true
		if end := r.lifeEnd(life); !both(uint64(1 + 2*i)).Covers(end) {
			r.Errorf("life %d, which was lost, counts up to %v", i, end)
		}
	}
}

func (r *rewound) heardInItsLife() {
	r.join("u")
	r.publish(2)
	r.save()
	r.publish(1)
	before := r.serial.Load() // ids up to here were lost, or are older
	r.rewind()
	r.publish(1)
	now := r.store.Life()
	if r.backend.RewindsOpen && !r.hub.born(now) {
		r.Errorf("nobody was told of the life %q", now)
	}
	expect.Eventually(r, "messages to be heard again", func() bool {
		r.join("u") // as a session does that is told of another life
		r.publish(1)
		return r.heardAfter("u", before) && r.heardAfter("", before)
	})
	for _, who := range []string{"u", ""} {
		for _, d := range r.hub.of(who) {
			if after := serialOf(d) > before; after != (d.Life == now) {
				r.Errorf("%q heard %s as of %q, and the store lives %q", who, d.Message.ID, d.Life, now)
			}
		}
	}
}

func serialOf(d bridge.Delivery) (n int64) {
	_, _ = fmt.Sscanf(d.Message.ID, "msg_%d", &n) // every id of the suite is one
	return n
}

// heardAfter tells whether a message was heard whose id is beyond n.
func (r *rewound) heardAfter(who string, n int64) bool {
	return slices.ContainsFunc(r.hub.of(who), func(d bridge.Delivery) bool { return serialOf(d) > n })
}

// lasting are promises of stores that did not go back.
var lasting = []promise{
	{"a restart keeps every place of every life good", func(f *fixture) {
		f.join("u")
		at := map[string]bridge.Position{}
		for i := range 40 {
			f.send(user("u"), time.Hour)
			if i%2 == 0 {
				f.send(everybody, time.Hour)
			}
			st := f.join("u")
			f.equal("life", st.Life, f.store.Life())
			at[st.Life] = st.Head
			f.reopen()
		}
		for life, p := range at {
			end, err := f.store.LifeEnd(f.ctx, "u", life)
			if err != nil || !end.Covers(p) {
				f.Fatalf("of the life %q %v is good (%v), and %v was seen", life, end, err, p)
			}
		}
		old, err := f.store.LifeEnd(f.ctx, "nobody", f.store.Life())
		f.equal("the end of life of somebody who was never there", fmt.Sprint(old.Mailbox, err), "0 <nil>")
	}},
	{"an old place of before a restart reads on after it", func(f *fixture) {
		f.join("u")
		f.send(user("u"), time.Hour)
		life := f.store.Life()
		f.reopen()
		f.send(user("u"), time.Hour)
		end := must(f.store.LifeEnd(f.ctx, "u", life))(f, "the end of the life before")
		if end.Mailbox < 1 {
			f.Fatalf("of the life before nothing counts: %v", end)
		}
		f.equal("what is new", len(f.all("u", bridge.Position{Mailbox: 1}).Deliveries), 1)
	}},
}
