//go:build !race

package allocs

import (
	"fmt"
	"net"
	"testing"

	"hookbridge/app/expect"
)

// The most that may be allocated, in number of allocations. A change that needs more raises its figure here,
// in the same commit, which says what the users get for it; one that needs less lowers it.
const (
	mostStored    = 27  // webhook to a user who is away, up to its 202
	mostDelivered = 27  // webhook to a user with a session, up to its frame there
	mostConnect   = 225 // upgrade, token, first frame, "connected", and the end of the session; with the test's own dial
)

// runs are enough for what runs beside, like timers, to come to less than one allocation each.
const runs = 1000

func TestAllocations(t *testing.T) {
	check := func(t *testing.T, most float64, f func(i int)) {
		t.Helper()
		i := 0
		n := testing.AllocsPerRun(runs, func() { f(i); i++ })
		t.Logf("%.0f allocations", n)
		if n > most {
			t.Errorf("%.0f allocations; %.0f are allowed. Find what is new with -bench . -memprofile; where it is worth it, raise the figure in this file and say why in the commit", n, most)
		}
	}
	p := start(t)
	t.Run("a message to a user who is away", func(t *testing.T) {
		webhooks := p.webhooks("away", runs+1)
		check(t, mostStored, func(i int) { p.fire(webhooks[i]) })
	})
	t.Run("a message to a session", func(t *testing.T) {
		webhooks := p.webhooks("here", runs+1)
		c := p.session(p.handshake("here"))
		check(t, mostDelivered, func(i int) { p.fire(webhooks[i]); p.frame(c) })
		expect.NoError(t, c.Close())
	})
	t.Run("a connect", func(t *testing.T) {
		var handshakes []handshake
		for i := range runs + 1 {
			handshakes = append(handshakes, p.handshake(fmt.Sprint("user-", i)))
		}
		check(t, mostConnect, func(i int) { expect.NoError(t, p.session(handshakes[i]).Close()) })
	})
}

// BenchmarkStored is a signed webhook to a user who is away: the whole way to the disk and its 202.
func BenchmarkStored(b *testing.B) {
	p := start(b)
	webhooks := p.webhooks("away", b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for _, w := range webhooks {
		p.fire(w)
	}
}

// BenchmarkDelivered is the same with a session, up to the frame there.
func BenchmarkDelivered(b *testing.B) {
	p := start(b)
	webhooks := p.webhooks("here", b.N)
	c := p.session(p.handshake("here"))
	b.ReportAllocs()
	b.ResetTimer()
	for _, w := range webhooks {
		p.fire(w)
		p.frame(c)
	}
}

// BenchmarkToMany is one message after the other to the 16 sessions of a user; an op is one delivery.
func BenchmarkToMany(b *testing.B) {
	const devices = 16
	p := start(b)
	webhooks := p.webhooks("here", (b.N+devices-1)/devices)
	var sessions [devices]net.Conn
	h := p.handshake("here")
	for i := range sessions {
		sessions[i] = p.session(h)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, w := range webhooks {
		p.fire(w)
		for _, c := range sessions {
			p.frame(c)
		}
	}
}

// BenchmarkConnect is the upgrade, the token, the first frame and the answer, and the end.
func BenchmarkConnect(b *testing.B) {
	p := start(b)
	handshakes := make([]handshake, b.N)
	for i := range handshakes {
		handshakes[i] = p.handshake(fmt.Sprint("user-", i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, h := range handshakes {
		expect.NoError(b, p.session(h).Close())
	}
}
