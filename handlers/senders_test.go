package handlers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
)

func TestSender(t *testing.T) {
	t.Run("shares its limits among its keys", senderKeysShare)
	t.Run("without a rate is never held back", senderWithoutRate)
	t.Run("has a rate that counts events and tells an honest wait", senderRate)
	t.Run("has a batch larger than the burst counted in full", senderLargeBatch)
	t.Run("waits in its own queue when it floods", senderFlood)
	t.Run("has no more requests in flight than slots", senderSlots)
}

func TestAddressRate(t *testing.T) {
	t.Run("lets an address connect in a burst, and then at its rate", addressBurst)
	t.Run("weighs calls with connects", addressWeights)
	t.Run("remembers a bounded number of addresses", addressMemory)
}

func TestRateProblem(t *testing.T) {
	t.Run("tells when to come back", rateProblemTellsWait)
}

func keyOf(name string, rate float64, burst int) SenderKey {
	return SenderKey{Sender: bridge.Sender{Name: name}, Rate: rate, Burst: burst}
}

// slow is a rate at which nothing comes back while a test runs.
const slow = 1e-4

func senderKeysShare(t *testing.T) {
	s := newSenders([]SenderKey{keyOf("clinic", slow, 2), keyOf("lab", slow, 1), keyOf("clinic", slow, 2)})
	if s[0] != s[2] || s[0] == s[1] {
		t.Fatal("a name has not exactly one set of limits")
	}
	if s[0].admit(1) != 0 || s[2].admit(1) != 0 || s[0].admit(1) == 0 {
		t.Error("two keys of one name have two rates")
	}
	if s[1].admit(1) != 0 {
		t.Error("another sender paid for it")
	}
}

func senderWithoutRate(t *testing.T) {
	n := newSenders([]SenderKey{keyOf("default", 0, 0)})[0]
	for range 10_000 {
		if wait := n.admit(1_000); wait != 0 {
			t.Fatalf("it is to wait %v", wait)
		}
	}
}

func senderRate(t *testing.T) {
	n := newSenders([]SenderKey{keyOf("clinic", slow, 5)})[0]
	if wait := n.admit(3); wait != 0 {
		t.Fatalf("three of five: %v", wait)
	}
	// Refusing costs nothing: the wait does not grow with each try.
	for range 20 {
		wait := n.admit(3)
		if least, most := time.Duration(0.99/slow)*time.Second, time.Duration(1/slow)*time.Second; wait < least || wait > most {
			t.Fatalf("with two left, three are to wait %v", wait)
		}
		if have := n.limit.TokensAt(time.Now().Add(wait)); have < 2.999 {
			t.Fatalf("after that wait there would be %v", have)
		}
	}
	if wait := n.admit(2); wait != 0 {
		t.Errorf("the two that are left: %v", wait)
	}
	if n.admit(0) == 0 {
		t.Error("a request of no events is free")
	}
}

func senderLargeBatch(t *testing.T) {
	n := newSenders([]SenderKey{keyOf("clinic", 1, 5)})[0]
	if wait := n.admit(1_003); wait != 0 {
		t.Fatalf("it could never be sent: %v", wait)
	}
	if wait := n.admit(1); wait < 990*time.Second || wait > 999*time.Second {
		t.Errorf("the next event is to wait %v", wait)
	}
	if n.admit(1_000) == 0 {
		t.Error("a second one passed the rate")
	}
}

func senderFlood(t *testing.T) {
	s := newSenders([]SenderKey{keyOf("flood", 0, 0), keyOf("calm", 0, 0)})
	var leaves []func()
	for range maxInFlight {
		leave, err := s[0].enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s[0].enter(over); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("one too many: %v", err)
	}
	leave, err := s[1].enter(t.Context())
	if err != nil {
		t.Fatalf("another sender: %v", err)
	}
	leave()
	entered := make(chan error, 1)
	go func() {
		leave, err := s[0].enter(t.Context())
		if err == nil {
			leave()
		}
		entered <- err
	}()
	for _, leave := range leaves {
		leave()
	}
	if err := <-entered; err != nil {
		t.Errorf("after the others have left: %v", err)
	}
	if n := len(s[0].slots); n != 0 {
		t.Errorf("%d slots were not given back", n)
	}
}

func senderSlots(t *testing.T) {
	n := newSenders([]SenderKey{keyOf("flood", 0, 0)})[0]
	var inside, most atomic.Int64
	var wg sync.WaitGroup
	for range 4 * maxInFlight {
		wg.Go(func() {
			leave, err := n.enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer leave()
			now := inside.Add(1)
			defer inside.Add(-1)
			for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
			}
		})
	}
	wg.Wait()
	if most.Load() > maxInFlight {
		t.Errorf("%d were inside at a time", most.Load())
	}
}

func addressBurst(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := newAddresses(0.5) // five at once, then one in two seconds
	for i := range 5 {
		if wait := a.admit("a", now); wait != 0 {
			t.Fatalf("connect %d is to wait %v", i, wait)
		}
	}
	for range 10 {
		if wait := a.admit("a", now); wait != 2*time.Second {
			t.Fatalf("it is to wait %v", wait)
		}
	}
	if wait := a.admit("b", now); wait != 0 {
		t.Errorf("another address is to wait %v", wait)
	}
	if wait := a.admit("a", now.Add(1500*time.Millisecond)); wait != 500*time.Millisecond {
		t.Errorf("a little later it is to wait %v", wait)
	}
	if wait := a.admit("a", now.Add(2*time.Second)); wait != 0 {
		t.Errorf("it waited as it was told, and is to wait %v more", wait)
	}
	if a.admit("a", now.Add(2*time.Second)) == 0 {
		t.Error("two came through for one")
	}
	free := newAddresses(0)
	for range 1_000 {
		if free.admit("a", now) != 0 {
			t.Fatal("there is a limit where none is set")
		}
	}
	if len(free.of) != 0 {
		t.Error("addresses are remembered for nothing")
	}
}

func addressWeights(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := newAddresses(1) // ten connects at once, or fifty acks
	for i := range 10 * connectWeight {
		if wait := a.wait("a", ackWeight, now); wait != 0 {
			t.Fatalf("ack %d is to wait %v", i, wait)
		}
		a.charge("a", ackWeight, now)
	}
	if wait := a.wait("a", ackWeight, now); wait != time.Second/connectWeight {
		t.Errorf("one more is to wait %v", wait)
	}
	if a.admit("a", now) == 0 {
		t.Error("acks leave the connects of their address alone")
	}
	if wait := a.wait("b", ackWeight, now); wait != 0 {
		t.Errorf("another address is to wait %v", wait)
	}
	// What was done at the same time is owed.
	for range 5 {
		a.charge("b", connectWeight, now)
		a.charge("a", connectWeight, now)
	}
	if wait := a.wait("a", connectWeight, now); wait != 6*time.Second {
		t.Errorf("one who owes is to wait %v", wait)
	}
	free := newAddresses(0)
	free.charge("a", connectWeight, now)
	if free.wait("a", connectWeight, now) != 0 || len(free.of) != 0 {
		t.Error("there is a limit where none is set")
	}
}

func addressMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	now := time.Unix(1_800_000_000, 0)
	a := newAddresses(1)
	for range 10 {
		a.admit("busy", now)
	}
	for i := range maxAddresses - 1 {
		a.admit(fmt.Sprint(i), now)
	}
	// The others have their whole allowance again after a second; busy has not.
	now = now.Add(2 * time.Second)
	if a.admit("new", now) != 0 {
		t.Error("a new address is locked out")
	}
	if len(a.of) != 2 {
		t.Errorf("%d addresses are remembered", len(a.of))
	}
	admitted := 0
	for range 3 {
		if a.admit("busy", now) == 0 {
			admitted++
		}
	}
	if admitted != 2 {
		t.Error("what busy has used was forgotten")
	}
	for i := range 2 * maxAddresses {
		if a.admit(fmt.Sprint(i), now) != 0 {
			t.Fatalf("a table full of others locked address %d out", i)
		}
		if len(a.of) > maxAddresses {
			t.Fatalf("%d addresses are remembered", len(a.of))
		}
	}
}

func rateProblemTellsWait(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler), o: Options{Bridge: &bridge.Bridge{}},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"code"})}
	app := fiber.New(fiber.Config{ErrorHandler: s.onError})
	var wait time.Duration
	app.Get("/", func(c *fiber.Ctx) error { return s.limited(c, "too often", wait) })
	for d, want := range map[time.Duration]string{
		1: "1", time.Millisecond: "1", time.Second: "1", time.Second + 1: "2", 90*time.Second - 1: "90", time.Hour: "3600",
	} {
		wait = d
		res, err := app.Test(httptest.NewRequest("GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Get("Retry-After"); got != want || res.StatusCode != 429 ||
			!strings.Contains(string(body), `"code":"rate_limited"`) || !strings.Contains(string(body), "too often; try again in "+want+" s") {
			t.Errorf("%v: %d, Retry-After %q, %s", d, res.StatusCode, got, body)
		}
	}
}
