package bridge

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"hookbridge/app/wire"
)

func TestWait(t *testing.T) {
	t.Run("ends when everybody has come that far", waitEnds)
	t.Run("counts a pong that comes before the store has answered", waitEarlyPong)
	t.Run("never lowers a status", waitStatusNeverFalls)
	t.Run("is for those whom the message has reached", waitOnlyForReached)
	t.Run("counts an ack for what it covers", waitAckCovers)
	t.Run("may be for an event that others wait for too", waitOfSeveral)
	t.Run("for a message to all ends only when all its sessions are named", waitForAll)
	t.Run("of another machine is told each step once", waitElsewhere)
	t.Run("ends at closing, also one that begins later", waitCloses)
	t.Run("leaves nothing behind under everything at once", waitConcurrently)
	t.Run("is removed where its append panics", waitAppendPanics)
}

// noted collects what waits tell other machines.
type noted struct {
	mu   sync.Mutex // guards list
	list []Notice
}

func (n *noted) tell(notice Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, notice)
}

func (n *noted) take() []Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

func over(w *wait) bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// wantOver says whether the wait should have ended by now.
func wantOver(t *testing.T, w *wait, want bool, when string) {
	t.Helper()
	if over(w) != want {
		t.Errorf("%s: ended is %v", when, !want)
	}
}

// empty checks that nothing is remembered of waits that were removed.
func (ws *waits) empty(t *testing.T) {
	t.Helper()
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if n := ws.open.Load(); n != 0 || len(ws.byID) != 0 || len(ws.byUser) != 0 {
		t.Errorf("%d waits, %d ids and %d users are remembered", n, len(ws.byID), len(ws.byUser))
	}
}

func mailDelivery(id string, seq uint64) *Delivery {
	return &Delivery{Message: &Message{ID: id}, Mailbox: seq}
}

func received(id string) func(string, *awaited) Status {
	return func(have string, u *awaited) Status {
		if have == id {
			return StatusReceived
		}
		return u.status
	}
}

func waitEnds(t *testing.T) {
	ws := newWaits(nil)
	w := ws.add("m", StatusReceived)
	for i, user := range []string{"ada", "bob"} {
		ws.delivering(user, mailDelivery("m", uint64(i+1)))
		ws.delivered(user, "m", i+1)
	}
	ws.advance("ada", received("m"))
	wantOver(t, w, false, "before it is known who is waited for")
	ws.allKnown(w, 0)
	wantOver(t, w, false, "with one to come")
	ws.advance("bob", received("other"))
	ws.advance("cleo", received("m"))
	wantOver(t, w, false, "after progress of others")
	ws.advance("bob", received("m"))
	wantOver(t, w, true, "when both are there")
	ws.acked("bob", Position{Mailbox: 2})
	users := ws.remove(w)
	if len(users) != 2 || users["ada"].status != StatusReceived || users["ada"].total() != 1 || users["bob"].status != StatusAcked || users["bob"].total() != 2 {
		t.Errorf("%+v, %+v", users["ada"], users["bob"])
	}
	ws.empty(t)
}

func waitEarlyPong(t *testing.T) {
	ws := newWaits(nil)
	w := ws.add("m", StatusReceived)
	ws.delivering("ada", mailDelivery("m", 1))
	ws.advance("ada", received("m"))
	ws.delivered("ada", "m", 1)
	ws.expect(w, "ada", awaited{mailbox: 1, sessions: 1, status: StatusSent})
	ws.allKnown(w, 0)
	wantOver(t, w, true, "after a pong in between")
	if u := ws.remove(w)["ada"]; u.status != StatusReceived || u.total() != 1 {
		t.Errorf("%+v", u)
	}
}

func waitStatusNeverFalls(t *testing.T) {
	ws := newWaits(nil)
	w := ws.add("m", StatusAcked)
	ws.expect(w, "ada", awaited{mailbox: 1, sessions: 1, status: StatusAcked})
	ws.expect(w, "ada", awaited{mailbox: 1, sessions: 1, status: StatusSent})
	ws.advance("ada", received("m"))
	ws.allKnown(w, 0)
	wantOver(t, w, true, "after an ack")
	if got := ws.remove(w)["ada"].status; got != StatusAcked {
		t.Errorf("it is %s", got)
	}
}

func waitOnlyForReached(t *testing.T) {
	ws := newWaits(nil)
	w := ws.add("m", StatusAcked)
	ws.delivering("ada", mailDelivery("m", 1))
	ws.delivering("bob", mailDelivery("m", 1))
	ws.allKnown(w, 0)
	ws.delivered("ada", "m", 0)
	wantOver(t, w, false, "while bob has it")
	ws.acked("bob", Position{Mailbox: 1})
	wantOver(t, w, true, "when bob has acked")
	if users := ws.remove(w); len(users) != 1 || users["bob"] == nil {
		t.Errorf("%v", users)
	}
	alone := ws.add("n", StatusReceived)
	ws.allKnown(alone, 0)
	wantOver(t, alone, true, "with nobody online")
	ws.remove(alone)
	ws.empty(t)
}

func waitAckCovers(t *testing.T) {
	for _, c := range []struct {
		at   awaited
		ack  Position
		want bool
	}{
		{awaited{mailbox: 5}, Position{Mailbox: 5}, true},
		{awaited{mailbox: 5}, Position{Mailbox: 9}, true},
		{awaited{mailbox: 5}, Position{Mailbox: 4, Broadcast: 9}, false},
		{awaited{broadcast: 5}, Position{Broadcast: 5}, true},
		{awaited{broadcast: 5}, Position{Mailbox: 9, Broadcast: 4}, false},
		{awaited{}, Position{Mailbox: 9, Broadcast: 9}, false}, // it has no place that an ack could cover
	} {
		ws := newWaits(nil)
		w := ws.add("m", StatusAcked)
		c.at.sessions, c.at.status = 1, StatusSent
		ws.expect(w, "ada", c.at)
		ws.allKnown(w, 0)
		ws.acked("ada", c.ack)
		wantOver(t, w, c.want, fmt.Sprintf("%+v at %+v", c.ack, c.at))
	}
}

func waitOfSeveral(t *testing.T) {
	ws := newWaits(nil)
	received, acked := ws.add("m", StatusReceived), ws.add("m", StatusAcked)
	ws.delivering("ada", mailDelivery("m", 1))
	ws.delivered("ada", "m", 1)
	ws.allKnown(received, 0)
	ws.allKnown(acked, 0)
	ws.advance("ada", func(string, *awaited) Status { return StatusReceived })
	wantOver(t, received, true, "who waits for received")
	wantOver(t, acked, false, "who waits for acked")
	ws.remove(received)
	ws.acked("ada", Position{Mailbox: 1})
	wantOver(t, acked, true, "who waits for acked, after the other left")
	ws.remove(acked)
	ws.empty(t)
}

func waitForAll(t *testing.T) {
	ws := newWaits(nil)
	w := ws.add("m", StatusReceived)
	ws.delivering("ada", &Delivery{Message: &Message{ID: "m"}, Broadcast: 4})
	ws.delivered("ada", "m", 1)
	ws.allKnown(w, 4)
	ws.advance("ada", received("m"))
	wantOver(t, w, false, "with three sessions to be named")
	reached := func(machine, user string, sessions int, s Status) {
		ws.reported(&Notice{Kind: NoticeReached, ID: "m", Asker: machine, User: user, Sessions: sessions, Broadcast: 4, Status: s})
	}
	reached("two", "ada", 1, StatusSent) // the same user on another machine
	reached("two", "bob", 2, StatusSent)
	wantOver(t, w, false, "before bob has received it")
	reached("two", "bob", 2, StatusReceived)
	wantOver(t, w, true, "when all four are there")
	users := ws.remove(w)
	if users["ada"].total() != 2 || users["bob"].total() != 2 || users["bob"].broadcast != 4 {
		t.Errorf("%+v, %+v", users["ada"], users["bob"])
	}
	ws.empty(t)
}

func waitElsewhere(t *testing.T) {
	var n noted
	ws := newWaits(n.tell)
	w := ws.addFor("m", StatusAcked, "two")
	if ws.addFor("m", StatusAcked, "two") != w || ws.addFor("m", StatusAcked, "three") == w {
		t.Fatal("a machine asks once, and for itself")
	}
	ws.remove(ws.addFor("m", StatusAcked, "three"))
	ws.delivering("ada", mailDelivery("m", 3))
	ws.delivered("ada", "m", 1)
	ws.advance("ada", received("m"))
	ws.advance("ada", received("m"))
	ws.acked("ada", Position{Mailbox: 3})
	// What another machine says is not passed on: it has told everybody itself.
	ws.reported(&Notice{Kind: NoticeReached, ID: "m", Asker: "two", User: "bob", Status: StatusAcked, Sessions: 1, Mailbox: 3})
	want := []Notice{
		{Kind: NoticeReached, To: "two", User: "ada", ID: "m", Status: StatusReceived, Sessions: 1, Mailbox: 3},
		{Kind: NoticeReached, To: "two", User: "ada", ID: "m", Status: StatusAcked, Sessions: 1, Mailbox: 3},
	}
	if got := n.take(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	wantOver(t, w, false, "a wait for another machine")
	ws.remove(w)
	ws.empty(t)
}

func waitCloses(t *testing.T) {
	ws := newWaits(nil)
	a, b := ws.add("m", StatusAcked), ws.add("n", StatusReceived)
	ws.close()
	late := ws.add("m", StatusAcked)
	for _, w := range []*wait{a, b, late} {
		wantOver(t, w, true, "after closing")
		ws.remove(w)
	}
	ws.close()
	ws.empty(t)
}

// waitConcurrently is for the race detector, and for the maps: what
// is removed leaves nothing behind, whatever goes on meanwhile.
func waitConcurrently(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	var n noted
	ws := newWaits(n.tell)
	const callers, rounds = 8, 200
	var pongs, calls sync.WaitGroup
	stop := make(chan struct{})
	for u := range 4 {
		user := fmt.Sprint("u", u)
		pongs.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ws.advance(user, func(string, *awaited) Status { return StatusReceived })
				ws.acked(user, Position{Mailbox: rounds, Broadcast: 1})
				ws.reported(&Notice{ID: "shared", User: user, Status: StatusReceived, Sessions: 1, Broadcast: 1, Asker: "two"})
			}
		})
	}
	for c := range callers {
		calls.Go(func() {
			for r := range uint64(rounds) {
				id := "shared"
				if c%2 == 0 {
					id = fmt.Sprint("m", c, "-", r)
				}
				w := ws.add(id, StatusAcked)
				for u := range 4 {
					user := fmt.Sprint("u", u)
					ws.delivering(user, mailDelivery(id, r+1))
					ws.delivered(user, id, (c+u)%3)
					ws.expect(w, user, awaited{mailbox: r + 1, sessions: 1, status: StatusSent})
				}
				ws.allKnown(w, 0)
				<-w.done // those who ack go on until all callers are done
				ws.remove(w)
			}
		})
	}
	calls.Wait()
	close(stop)
	pongs.Wait()
	ws.close()
	ws.empty(t)
}

// noStore is a store that breaks on each append.
type noStore struct {
	Store
	Live
}

func (noStore) Listen(Hub)                                        {}
func (noStore) Append(context.Context, *Message) (Receipt, error) { panic("x") }

func waitAppendPanics(t *testing.T) {
	b := New(QuietConfig(), noStore{}, noStore{}, nil)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the caller does not hear of it")
			}
		}()
		_, _ = b.Publish(t.Context(), PublishRequest{ID: "a", Event: wire.Event{Type: "t", To: wire.Target{User: "u"}, TTL: -1}},
			Wait{For: StatusAcked, Timeout: time.Hour})
	}()
	if n := b.waits.open.Load(); n != 0 {
		t.Errorf("%d waits are left", n)
	}
}
