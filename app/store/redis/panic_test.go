package redis_test

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// brittle is a hub that panics while it is told to.
type brittle struct {
	*hub
	broken atomic.Bool
}

func (b *brittle) Deliver(user string, d bridge.Delivery) int {
	if b.broken.Load() {
		panic("x")
	}
	return b.hub.Deliver(user, d)
}

func (b *brittle) Notify(n bridge.Notice) {
	if b.broken.Load() {
		panic("x")
	}
	b.hub.Notify(n)
}

func (b *brittle) DeliveryLogs(string) []bridge.DeliveryLog {
	if b.broken.Load() {
		panic("x")
	}
	return nil
}

func TestAListenerThatPanicsStopsNoChannelAndCostsNobodyTheirMessage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	registry := prometheus.NewRegistry()
	g := guard.New(slog.New(slog.DiscardHandler), registry)
	g.SetPause(time.Millisecond)
	e, h := quick(t, redis.Options{URL: s.URL(), Guard: g})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	l := &brittle{hub: h}
	e.Listen(l)
	join(t, e, "u", "s")

	l.broken.Store(true)
	appendTo(t, other, message("a", "u")) // comes over a channel
	appendTo(t, e, message("b", "u"))     // comes back over one
	must(t, other.Tell(t.Context(), bridge.Notice{Kind: bridge.NoticeDisconnect, User: "u"}))
	if _, err := other.Ask(deadline(t, 10*time.Second), []string{"u"}); err != nil { // asks this machine, which cannot say
		t.Error(err)
	}
	l.broken.Store(false)
	redistest.Eventually(t, "sessions read from the store what they were not told", func() bool {
		return l.toldBehind("u", bridge.Position{Mailbox: 2})
	})
	if r := appendTo(t, e, message("c", "u")); r.Sessions != 1 {
		t.Errorf("%+v", r)
	}
	if online(t, other, "u") != 1 {
		t.Error("the machine's word lapsed")
	}
	families, err := registry.Gather()
	must(t, err)
	if len(families) != 1 || families[0].GetMetric()[0].GetCounter().GetValue() < 3 {
		t.Errorf("%v", families)
	}
}
