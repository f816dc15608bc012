package storetest

import (
	"context"
	"sync/atomic"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// A long call shares the store with all others: what is asked while it goes on is
// answered long before it ends.
var sharing = []promise{
	{"a message is stored while a batch of messages to many goes on", func(f *fixture) {
		const events, recipients = 60, 300
		f.betweenLongWork(func() {
			users := numbered(recipients)
			ms := make([]*bridge.Message, events)
			for i := range ms {
				ms[i] = f.message(bridge.Target{Users: users})
			}
			for i, a := range f.store.AppendMany(f.ctx, ms) {
				if a.Err != nil || len(a.Receipt.Recipients) != recipients {
					f.Errorf("event %d of the batch: %v", i, a.Err)
				}
			}
			for _, u := range []string{"u0", "u150", "u299"} {
				f.equal("in the batch's order for "+u, ids(f.all(u, bridge.Position{}).Deliveries), idsOf(ms))
			}
		})
	}},
	{"one caller's batch does not wait for another's to end", func(f *fixture) {
		users := numbered(200)
		batch := func(n int) []*bridge.Message {
			ms := make([]*bridge.Message, n)
			for i := range ms {
				ms[i] = f.message(bridge.Target{Users: users})
			}
			return ms
		}
		small := batch(2)
		f.betweenLongWork(func() {
			for _, a := range f.store.AppendMany(f.ctx, batch(60)) {
				if a.Err != nil {
					f.Error(a.Err)
				}
			}
		}, small...)
	}},
}

func idsOf(ms []*bridge.Message) []string {
	out := make([]string, len(ms))
	for i, m := range ms {
		out[i] = m.ID
	}
	return out
}

// betweenLongWork starts work, much of which goes to u0, appends messages (or one)
// once it is under way, and checks that these are delivered while most of the work
// is still to be done.
func (f *fixture) betweenLongWork(work func(), between ...*bridge.Message) {
	f.Helper()
	if len(between) == 0 {
		between = []*bridge.Message{f.message(user("somebody"))}
	}
	last := between[len(between)-1]
	f.join("u0")
	if to := last.To.Recipients()[0]; to != "u0" {
		f.join(to)
	}
	var delivered, before atomic.Int64 // of the long work to u0; and when the last one between came
	before.Store(-1)
	begun := make(chan struct{})
	f.hub.mu.Lock()
	f.hub.onAny = func(h heard) {
		switch {
		case h.Message.ID == last.ID:
			before.CompareAndSwap(-1, delivered.Load())
		case h.user == "u0" && delivered.Add(1) == 1:
			close(begun)
		}
	}
	f.hub.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	select {
	case <-begun:
	case <-f.ctx.Done():
		f.Fatal("the long work does not begin")
	}
	for i, a := range f.store.AppendMany(context.WithoutCancel(f.ctx), between) {
		if a.Err != nil {
			f.Fatalf("message %d between: %v", i, a.Err)
		}
	}
	<-done
	expect.Eventually(f, "the last message between to be heard", func() bool { return before.Load() >= 0 })
	if n, all := before.Load(), delivered.Load(); n > all/2 {
		f.Errorf("the message came after %d of %d deliveries of the long work", n, all)
	}
}
