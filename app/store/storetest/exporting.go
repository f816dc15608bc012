package storetest

import (
	"testing"
	"time"

	"hookbridge/app/bridge"
)

// Exported fails the test where a store's entries are not what bridge.Archive promises:
// in the order of their kinds, none that has expired by now, and each message behind its
// event and in its mailbox. It returns how many of the 10 kinds (a mailbox and its messages
// are one) there are.
func Exported(t *testing.T, entries []bridge.Entry, now time.Time) (kinds int) {
	t.Helper()
	var box bridge.MailboxEntry
	var last uint64
	events := make(map[string]bool)
	rank := 0
	found := make(map[int]bool)
	for _, e := range entries {
		if err := e.Check(); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
		r := 0
		switch {
		case e.Event != nil:
			r, events[e.Event.ID] = 1, true
		case e.Mailbox != nil:
			r, box, last = 2, *e.Mailbox, 0
		case e.Message != nil:
			r = 2
			m := e.Message
			if m.User != box.User || m.Seq <= last || m.Seq > box.Head || m.Expires <= now.UnixNano() || !events[m.ID] {
				t.Errorf("%+v in %+v behind %d", m, box, last)
			}
			last = m.Seq
		case e.Membership != nil:
			r = 3
		case e.Revocation != nil:
			r = 4
		case e.DeliveryLog != nil:
			r = 5
		case e.Seen != nil:
			r = 6
		case e.Callback != nil:
			r = 7
		case e.Taken != nil:
			r = 8
		case e.Timer != nil:
			r = 9
		}
		if r < rank {
			t.Errorf("%+v comes too late", e)
		}
		rank = r
		found[r] = true
	}
	return len(found)
}
