package storetest

import (
	"errors"
	"fmt"

	"hookbridge/app/bridge"
)

var batches = []promise{
	{"many messages are appended in their order, each with its own answer", func(f *fixture) {
		f.join("u1")
		known := f.message(user("u"))
		f.append(known)
		other := *known
		other.Digest[0]++
		var ms []*bridge.Message
		var want []string
		for i := range 1000 {
			m := f.message(user(fmt.Sprint("u", i%3)))
			ms = append(ms, m)
			if i%3 == 1 {
				want = append(want, m.ID)
			}
		}
		ms[500], ms[700] = known, &other
		out := f.store.AppendMany(f.ctx, ms)
		f.equal("answers", len(out), 1000)
		for i, a := range out {
			switch i {
			case 500:
				f.equal("the known one", a.Receipt.Duplicate, true)
			case 700:
				if !errors.Is(a.Err, bridge.ErrConflict) {
					f.Fatalf("the one that conflicts: %v", a.Err)
				}
			default:
				if a.Err != nil {
					f.Fatalf("message %d: %v", i, a.Err)
				}
				f.equal("recipients", len(a.Receipt.Recipients), 1)
			}
		}
		if 700%3 == 1 {
			want = append(want[:700/3], want[700/3+1:]...)
		}
		f.equal("order", ids(f.all("u1", bridge.Position{}).Deliveries), want)
		f.equal("heard in order", ids(f.hub.of("u1")), want)
	}},
	{"one message that is good is stored beside one that names nobody", func(f *fixture) {
		m := f.message(user("u"))
		out := f.store.AppendMany(f.ctx, []*bridge.Message{f.message(bridge.Target{}), m})
		if out[0].Err == nil {
			f.Error("a message for nobody was taken")
		}
		f.equal("the good one", out[1].Err, nil)
		f.equal("messages", ids(f.all("u", bridge.Position{}).Deliveries), []string{m.ID})
	}},
}
