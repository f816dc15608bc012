package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestDeliveryLog(t *testing.T) {
	t.Run("tells for each position when it was sent, received and acked", logTellsTimes)
	t.Run("keeps no mark that says nothing new", logKeepsNewMarks)
	t.Run("names no message that the session was not sent", logSkips)
	t.Run("knows a message without a position by its id", logUnstored)
	t.Run("is bounded, and tells nothing of what it has forgotten", logIsBounded)
	t.Run("bounds its skips, and forgets them with their positions", logSkipsAreBounded)
	t.Run("bounds the messages without a position", logUnstoredAreBounded)
	t.Run("is copied whole, and its copy does not change with it", logCopy)
}

func instantOf(n uint64) time.Time { return time.Unix(1_800_000_000+int64(n), 0).UTC() }

func mail(n uint64) Position { return Position{Mailbox: n} }
func all(n uint64) Position  { return Position{Broadcast: n} }

// of asks for the message at a place.
func (t *DeliveryLog) of(p Position) (Times, bool) { return t.Of("msg", p.Mailbox, p.Broadcast) }

func logTellsTimes(t *testing.T) {
	log := &DeliveryLog{From: Position{Mailbox: 2, Broadcast: 7}}
	for _, n := range []uint64{3, 5, 6} { // one write may carry several messages
		log.mark(&log.Sent, Position{Mailbox: n, Broadcast: 7}, instantOf(n))
	}
	log.mark(&log.Sent, Position{Mailbox: 6, Broadcast: 9}, instantOf(9))
	log.mark(&log.Received, Position{Mailbox: 5, Broadcast: 7}, instantOf(20))
	log.mark(&log.Acked, Position{Mailbox: 3, Broadcast: 7}, instantOf(30))
	for _, c := range []struct {
		at   Position
		want Times
		had  bool
	}{
		{at: mail(1)}, {at: mail(2)}, {at: all(7)}, // before it began
		{mail(3), Times{instantOf(3), instantOf(20), instantOf(30)}, true},
		{mail(4), Times{Sent: instantOf(5), Received: instantOf(20)}, true},
		{mail(5), Times{Sent: instantOf(5), Received: instantOf(20)}, true},
		{mail(6), Times{Sent: instantOf(6)}, true},
		{all(8), Times{Sent: instantOf(9)}, true},
		{all(9), Times{Sent: instantOf(9)}, true},
		{at: mail(7)}, {at: all(10)}, // not yet
	} {
		if got, had := log.of(c.at); got != c.want || had != c.had {
			t.Errorf("%+v: %+v, %v", c.at, got, had)
		}
	}
}

func logKeepsNewMarks(t *testing.T) {
	log := &DeliveryLog{}
	log.mark(&log.Sent, Position{Mailbox: 3, Broadcast: 1}, instantOf(1))
	log.mark(&log.Sent, Position{Mailbox: 3, Broadcast: 1}, instantOf(2))
	log.mark(&log.Sent, Position{Mailbox: 2, Broadcast: 1}, instantOf(3))
	if want := []Mark{{Position{Mailbox: 3, Broadcast: 1}, instantOf(1)}}; !reflect.DeepEqual(log.Sent, want) {
		t.Errorf("%+v", log.Sent)
	}
}

func logSkips(t *testing.T) {
	log := &DeliveryLog{}
	log.skip(mail(2), mail(3))
	log.skip(mail(4), mail(4)) // goes on where the last one ended
	log.skip(all(4), all(5))   // the same number in the other log
	log.skip(all(6), all(6))
	log.skip(mail(8), mail(8))
	log.mark(&log.Sent, Position{Mailbox: 9, Broadcast: 9}, instantOf(1))
	if want := []Skip{{mail(2), mail(4)}, {all(4), all(6)}, {mail(8), mail(8)}}; !reflect.DeepEqual(log.Skips, want) {
		t.Fatalf("%+v", log.Skips)
	}
	for n := uint64(1); n <= 9; n++ {
		_, inMail := log.of(mail(n))
		_, inAll := log.of(all(n))
		if inMail != (n == 1 || n > 4 && n != 8) || inAll != (n < 4 || n > 6) {
			t.Errorf("place %d: in the mailbox %v, to all %v", n, inMail, inAll)
		}
	}
}

func logUnstored(t *testing.T) {
	log := &DeliveryLog{}
	for i, n := range []uint64{2, 5, 7} {
		log.unstored(fmt.Sprint("p", i), n)
	}
	want := func(when string, times ...Times) {
		t.Helper()
		for i, w := range times {
			if got, had := log.Of(fmt.Sprint("p", i), 0, 0); !had || got != w {
				t.Errorf("%s, p%d: %+v, %v", when, i, got, had)
			}
		}
	}
	want("before a write", Times{}, Times{}, Times{})
	log.unstoredSent(5, instantOf(1))
	want("after a write", Times{Sent: instantOf(1)}, Times{Sent: instantOf(1)}, Times{})
	log.unstoredReceived(2, instantOf(2))
	log.unstoredSent(7, instantOf(3))
	want("after a pong", Times{instantOf(1), instantOf(2), time.Time{}}, Times{Sent: instantOf(1)}, Times{Sent: instantOf(3)})
	log.unstoredReceived(9, instantOf(4))
	want("in the end", Times{instantOf(1), instantOf(2), time.Time{}}, Times{instantOf(1), instantOf(4), time.Time{}}, Times{instantOf(3), instantOf(4), time.Time{}})
	if _, had := log.Of("p9", 0, 0); had {
		t.Error("an id never handed is known")
	}
	if _, had := log.Of("p0", 1, 0); had {
		t.Error("an id counts for a message that has a place")
	}
	if !(&DeliveryLog{}).Empty() || log.Empty() {
		t.Error("Empty is wrong about messages without a place")
	}
}

func logIsBounded(t *testing.T) {
	log := &DeliveryLog{}
	const n = 10 * maxMarks
	for i := uint64(1); i <= n; i++ {
		log.mark(&log.Sent, mail(i), instantOf(i))
		log.mark(&log.Received, mail(i), instantOf(n+i))
		log.mark(&log.Acked, mail(i), instantOf(2*n+i))
		if len(log.Sent) > maxMarks || len(log.Received) > maxMarks || len(log.Acked) > maxMarks {
			t.Fatalf("%d, %d and %d marks", len(log.Sent), len(log.Received), len(log.Acked))
		}
	}
	if log.From.Mailbox < n-maxMarks || log.From.Mailbox >= n-maxMarks/4 {
		t.Errorf("it knows what is after %d of %d", log.From.Mailbox, n)
	}
	for i := uint64(1); i <= n; i++ {
		// Never a later time for one whose own time is forgotten.
		want := Times{instantOf(i), instantOf(n + i), instantOf(2*n + i)}
		got, had := log.of(mail(i))
		if had != (i > log.From.Mailbox) || had && got != want {
			t.Fatalf("place %d: %+v, %v", i, got, had)
		}
	}
}

func logSkipsAreBounded(t *testing.T) {
	log := &DeliveryLog{}
	for i := uint64(1); i <= 5*maxSkips; i++ {
		log.skip(mail(3*i), mail(3*i))
		log.skip(all(2*i), all(2*i))
		log.mark(&log.Sent, Position{Mailbox: 3*i + 2, Broadcast: 2*i + 1}, instantOf(i))
		if len(log.Skips) > maxSkips {
			t.Fatalf("%d skips", len(log.Skips))
		}
	}
	told := 0
	for i := uint64(1); i <= 5*maxSkips; i++ {
		for _, place := range []Position{mail(3 * i), all(2 * i)} {
			if _, had := log.of(place); had {
				t.Fatalf("%+v was passed without a frame, and is said to have been sent", place)
			}
		}
		if _, had := log.of(mail(3*i + 1)); had {
			told++
		}
	}
	if told < maxSkips/4 {
		t.Errorf("only %d places are left", told)
	}
}

func logUnstoredAreBounded(t *testing.T) {
	log := &DeliveryLog{}
	for n := uint64(1); n <= 5*maxUnstored; n++ {
		log.unstored(fmt.Sprint(n), n)
		log.unstoredSent(n, instantOf(n))
		if len(log.Unstored) > maxUnstored {
			t.Fatalf("%d are kept", len(log.Unstored))
		}
		if got, had := log.Of(fmt.Sprint(n), 0, 0); !had || !got.Sent.Equal(instantOf(n)) {
			t.Fatalf("the newest is %+v, %v", got, had)
		}
	}
	if _, had := log.Of("1", 0, 0); had {
		t.Error("the oldest is still known")
	}
	if _, had := log.Of(fmt.Sprint(4*maxUnstored+maxUnstored/2+1), 0, 0); !had {
		t.Error("less is known than half of the bound")
	}
}

func logCopy(t *testing.T) {
	log := &DeliveryLog{Member: Member{User: "u", Session: "s", Groups: []string{"g"}}}
	log.skip(mail(2), mail(2))
	log.unstored("p", 1)
	log.mark(&log.Sent, mail(3), instantOf(3))
	log.mark(&log.Received, mail(3), instantOf(4))
	log.mark(&log.Acked, mail(3), instantOf(5))
	c := log.clone()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	log.skip(mail(3), mail(3))
	log.unstoredSent(1, instantOf(6))
	log.unstoredReceived(1, instantOf(7))
	for i := uint64(4); i < 4+2*maxMarks; i++ {
		log.mark(&log.Sent, mail(i), instantOf(i))
		log.mark(&log.Received, mail(i), instantOf(i))
		log.mark(&log.Acked, mail(i), instantOf(i))
	}
	var back DeliveryLog
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, c) {
		t.Errorf("kept as JSON it is %+v, %v; the copy is %+v", back, err, c)
	}
	if got, had := c.of(mail(3)); !had || got != (Times{instantOf(3), instantOf(4), instantOf(5)}) {
		t.Errorf("the copy says %+v, %v", got, had)
	}
}

// threeSources is a store with ended sessions, and another machine with live ones.
type threeSources struct {
	Store
	Live
}

func (threeSources) Listen(Hub) {}

func logOf(user, session string, since uint64) DeliveryLog {
	return DeliveryLog{Member: Member{User: user, Session: session, Since: instantOf(since)}}
}

func (threeSources) DeliveryLogs(context.Context, []string) ([][]DeliveryLog, error) {
	return [][]DeliveryLog{{logOf("ada", "ended", 2)}, {logOf("bob", "ended", 1)}}, nil
}

func (threeSources) Ask(context.Context, []string) ([]DeliveryLog, error) {
	return []DeliveryLog{logOf("bob", "elsewhere", 2), logOf("ada", "elsewhere", 1)}, nil
}

func TestDeliveryLogsOfUser(t *testing.T) {
	b := New(QuietConfig(), threeSources{}, threeSources{}, nil)
	b.hub.add(&Session{b: b, user: "ada", id: "here", since: instantOf(3)})
	for _, c := range []struct {
		what     string
		liveOnly bool
		want     string
	}{
		{"those that ended, live here and elsewhere, oldest first", false, "[[elsewhere ended here] [ended elsewhere]]"},
		{"live ones alone", true, "[[elsewhere here] [elsewhere]]"},
	} {
		t.Run(c.what, func(t *testing.T) {
			lists, err := b.deliveryLogs(t.Context(), []string{"ada", "bob"}, c.liveOnly)
			if err != nil {
				t.Fatal(err)
			}
			got := make([][]string, len(lists))
			for i, list := range lists {
				for _, log := range list {
					got[i] = append(got[i], log.Member.Session)
				}
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
		})
	}
}
