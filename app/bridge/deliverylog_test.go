package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"
)

func instantOf(n uint64) time.Time { return time.Unix(1_800_000_000+int64(n), 0).UTC() }

func mail(n uint64) Position { return Position{Mailbox: n} }
func all(n uint64) Position  { return Position{Broadcast: n} }

// of asks for the message at a place.
func (t *DeliveryLog) of(p Position) (Times, bool) { return t.Of("msg", p.Mailbox, p.Broadcast) }

func TestATrailTellsForEachPlaceWhenItWasPassed(t *testing.T) {
	tr := &DeliveryLog{From: Position{Mailbox: 2, Broadcast: 7}}
	for _, n := range []uint64{3, 5, 6} { // one write may carry several messages
		tr.mark(&tr.Sent, Position{Mailbox: n, Broadcast: 7}, instantOf(n))
	}
	tr.mark(&tr.Sent, Position{Mailbox: 6, Broadcast: 9}, instantOf(9))
	tr.mark(&tr.Received, Position{Mailbox: 5, Broadcast: 7}, instantOf(20))
	tr.mark(&tr.Acked, Position{Mailbox: 3, Broadcast: 7}, instantOf(30))
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
		if got, had := tr.of(c.at); got != c.want || had != c.had {
			t.Errorf("%+v: %+v, %v", c.at, got, had)
		}
	}
}

func TestAMarkThatSaysNothingNewIsNotKept(t *testing.T) {
	tr := &DeliveryLog{}
	tr.mark(&tr.Sent, Position{Mailbox: 3, Broadcast: 1}, instantOf(1))
	tr.mark(&tr.Sent, Position{Mailbox: 3, Broadcast: 1}, instantOf(2))
	tr.mark(&tr.Sent, Position{Mailbox: 2, Broadcast: 1}, instantOf(3))
	if want := []Mark{{Position{Mailbox: 3, Broadcast: 1}, instantOf(1)}}; !reflect.DeepEqual(tr.Sent, want) {
		t.Errorf("%+v", tr.Sent)
	}
}

func TestWhatASessionPassedWithoutAFrameItWasNotHanded(t *testing.T) {
	tr := &DeliveryLog{}
	tr.skip(mail(2), mail(3))
	tr.skip(mail(4), mail(4)) // goes on where the last one ended
	tr.skip(all(4), all(5))   // the same number in the other log
	tr.skip(all(6), all(6))
	tr.skip(mail(8), mail(8))
	tr.mark(&tr.Sent, Position{Mailbox: 9, Broadcast: 9}, instantOf(1))
	if want := []Skip{{mail(2), mail(4)}, {all(4), all(6)}, {mail(8), mail(8)}}; !reflect.DeepEqual(tr.Skips, want) {
		t.Fatalf("%+v", tr.Skips)
	}
	for n := uint64(1); n <= 9; n++ {
		_, inMail := tr.of(mail(n))
		_, inAll := tr.of(all(n))
		if inMail != (n == 1 || n > 4 && n != 8) || inAll != (n < 4 || n > 6) {
			t.Errorf("place %d: in the mailbox %v, to all %v", n, inMail, inAll)
		}
	}
}

func TestAMessageWithoutAPlaceIsKnownByItsID(t *testing.T) {
	tr := &DeliveryLog{}
	for i, n := range []uint64{2, 5, 7} {
		tr.unstored(fmt.Sprint("p", i), n)
	}
	want := func(when string, times ...Times) {
		t.Helper()
		for i, w := range times {
			if got, had := tr.Of(fmt.Sprint("p", i), 0, 0); !had || got != w {
				t.Errorf("%s, p%d: %+v, %v", when, i, got, had)
			}
		}
	}
	want("before a write", Times{}, Times{}, Times{})
	tr.unstoredSent(5, instantOf(1))
	want("after a write", Times{Sent: instantOf(1)}, Times{Sent: instantOf(1)}, Times{})
	tr.unstoredReceived(2, instantOf(2))
	tr.unstoredSent(7, instantOf(3))
	want("after a pong", Times{instantOf(1), instantOf(2), time.Time{}}, Times{Sent: instantOf(1)}, Times{Sent: instantOf(3)})
	tr.unstoredReceived(9, instantOf(4))
	want("in the end", Times{instantOf(1), instantOf(2), time.Time{}}, Times{instantOf(1), instantOf(4), time.Time{}}, Times{instantOf(3), instantOf(4), time.Time{}})
	if _, had := tr.Of("p9", 0, 0); had {
		t.Error("an id never handed is known")
	}
	if _, had := tr.Of("p0", 1, 0); had {
		t.Error("an id counts for a message that has a place")
	}
	if !(&DeliveryLog{}).Empty() || tr.Empty() {
		t.Error("Empty is wrong about messages without a place")
	}
}

func TestATrailIsBoundedAndWhatItForgetsItDoesNotTell(t *testing.T) {
	tr := &DeliveryLog{}
	const n = 10 * maxMarks
	for i := uint64(1); i <= n; i++ {
		tr.mark(&tr.Sent, mail(i), instantOf(i))
		tr.mark(&tr.Received, mail(i), instantOf(n+i))
		tr.mark(&tr.Acked, mail(i), instantOf(2*n+i))
		if len(tr.Sent) > maxMarks || len(tr.Received) > maxMarks || len(tr.Acked) > maxMarks {
			t.Fatalf("%d, %d and %d marks", len(tr.Sent), len(tr.Received), len(tr.Acked))
		}
	}
	if tr.From.Mailbox < n-maxMarks || tr.From.Mailbox >= n-maxMarks/4 {
		t.Errorf("it knows what is after %d of %d", tr.From.Mailbox, n)
	}
	for i := uint64(1); i <= n; i++ {
		// Never a later time for one whose own time is forgotten.
		want := Times{instantOf(i), instantOf(n + i), instantOf(2*n + i)}
		got, had := tr.of(mail(i))
		if had != (i > tr.From.Mailbox) || had && got != want {
			t.Fatalf("place %d: %+v, %v", i, got, had)
		}
	}
}

func TestSkipsAreBoundedAndForgottenWithTheirPlaces(t *testing.T) {
	tr := &DeliveryLog{}
	for i := uint64(1); i <= 5*maxSkips; i++ {
		tr.skip(mail(3*i), mail(3*i))
		tr.skip(all(2*i), all(2*i))
		tr.mark(&tr.Sent, Position{Mailbox: 3*i + 2, Broadcast: 2*i + 1}, instantOf(i))
		if len(tr.Skips) > maxSkips {
			t.Fatalf("%d skips", len(tr.Skips))
		}
	}
	told := 0
	for i := uint64(1); i <= 5*maxSkips; i++ {
		for _, place := range []Position{mail(3 * i), all(2 * i)} {
			if _, had := tr.of(place); had {
				t.Fatalf("%+v was passed without a frame, and is said to have been sent", place)
			}
		}
		if _, had := tr.of(mail(3*i + 1)); had {
			told++
		}
	}
	if told < maxSkips/4 {
		t.Errorf("only %d places are left", told)
	}
}

func TestMessagesWithoutAPlaceAreBounded(t *testing.T) {
	tr := &DeliveryLog{}
	for n := uint64(1); n <= 5*maxUnstored; n++ {
		tr.unstored(fmt.Sprint(n), n)
		tr.unstoredSent(n, instantOf(n))
		if len(tr.Unstored) > maxUnstored {
			t.Fatalf("%d are kept", len(tr.Unstored))
		}
		if got, had := tr.Of(fmt.Sprint(n), 0, 0); !had || !got.Sent.Equal(instantOf(n)) {
			t.Fatalf("the newest is %+v, %v", got, had)
		}
	}
	if _, had := tr.Of("1", 0, 0); had {
		t.Error("the oldest is still known")
	}
	if _, had := tr.Of(fmt.Sprint(4*maxUnstored+maxUnstored/2+1), 0, 0); !had {
		t.Error("less is known than half of the bound")
	}
}

func TestACopyOfATrailIsOfItsOwn(t *testing.T) {
	tr := &DeliveryLog{Member: Member{User: "u", Session: "s", Groups: []string{"g"}}}
	tr.skip(mail(2), mail(2))
	tr.unstored("p", 1)
	tr.mark(&tr.Sent, mail(3), instantOf(3))
	tr.mark(&tr.Received, mail(3), instantOf(4))
	tr.mark(&tr.Acked, mail(3), instantOf(5))
	c := tr.clone()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	tr.skip(mail(3), mail(3))
	tr.unstoredSent(1, instantOf(6))
	tr.unstoredReceived(1, instantOf(7))
	for i := uint64(4); i < 4+2*maxMarks; i++ {
		tr.mark(&tr.Sent, mail(i), instantOf(i))
		tr.mark(&tr.Received, mail(i), instantOf(i))
		tr.mark(&tr.Acked, mail(i), instantOf(i))
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

func TestDeliveryLogsOfAUser(t *testing.T) {
	b := New(Config{Logger: slog.New(slog.DiscardHandler)}, threeSources{}, threeSources{}, nil)
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
