package bridge

import (
	"testing"
)

func TestGaps(t *testing.T) {
	t.Run("of a page", gapsOfPage)
	t.Run("are told again for messages of another life at the same positions", gapsOfOtherLife)
}

// pageOf is a page that looked at the mailbox from a place to another, and holds
// messages at some places there.
func pageOf(s Stretch, held ...uint64) *Page {
	p := &Page{Mailbox: s}
	for _, place := range held {
		p.Deliveries = append(p.Deliveries, Delivery{Mailbox: place})
	}
	return p
}

func gapsOfPage(t *testing.T) {
	type frame struct {
		to     uint64
		reason string
	}
	none := frame{}
	cursor, head := toldGaps{}, Position{Mailbox: 9}
	fresh := toldGaps{Lost: Lost{Expired: head}}
	waiting := toldGaps{Lost: Lost{Expired: head}, pending: &Pending{Mailbox: []Range{{2, 3}, {5, 5}}}}
	afterGap := toldGaps{Lost: Lost{Expired: head, Trimmed: head}}
	for _, c := range []struct {
		promise string
		told    toldGaps
		page    *Page
		want    frame
	}{
		{"nothing is gone where every place is held", cursor, pageOf(Stretch{Next: 3}, 1, 2, 3), none},
		{"an empty log has no gap", cursor, pageOf(Stretch{}), none},
		{"a place beyond the head has no gap", cursor, pageOf(Stretch{After: 7, Next: 3, Trimmed: 2}), none},

		{"what is missing has expired", cursor, pageOf(Stretch{Next: 4}), frame{4, GapExpired}},
		{"what is missing behind the last message has expired", cursor, pageOf(Stretch{Next: 4}, 1, 2, 3), frame{0, GapExpired}},
		{"the cursor of a gap stops short of the first message", cursor, pageOf(Stretch{Next: 6}, 3, 4), frame{2, GapExpired}},
		{"what is missing outside of the stretch is told with the page that comes to it", cursor, pageOf(Stretch{After: 2, Next: 3}, 3), none},

		{"what was pushed out was trimmed", cursor, pageOf(Stretch{Next: 6, Trimmed: 4}, 5, 6), frame{4, GapTrimmed}},
		{"what was trimmed is told to a reader who had not passed it", cursor, pageOf(Stretch{After: 3, Next: 6, Trimmed: 4}, 5, 6), frame{4, GapTrimmed}},
		{"what was trimmed is not told to a reader who had passed it", cursor, pageOf(Stretch{After: 4, Next: 6, Trimmed: 4}, 5, 6), none},
		{"where some expired and some was trimmed the reason is trimmed", cursor, pageOf(Stretch{Next: 6, Trimmed: 2}, 6), frame{5, GapTrimmed}},

		{"what was replaced or recalled is not lost", cursor, pageOf(Stretch{Next: 5, Removed: []Range{{1, 2}, {4, 4}}}, 3, 5), none},
		{"what is missing beside what was recalled has expired", cursor, pageOf(Stretch{Next: 5, Removed: []Range{{1, 1}, {4, 4}}}, 3, 5), frame{2, GapExpired}},
		{"a store may call all behind a place recalled", cursor, pageOf(Stretch{Next: 7, Removed: []Range{{4, 9}}}, 3, 6), frame{2, GapExpired}},

		{"a fresh device is not told of what had expired before it came", fresh, pageOf(Stretch{Next: 9}, 4), none},
		{"a fresh device is told of what expires after it came", fresh, pageOf(Stretch{Next: 10}, 4), frame{3, GapExpired}},
		{"a fresh device is told of what was trimmed before anybody acked it", fresh, pageOf(Stretch{Next: 9, Trimmed: 2}, 4), frame{2, GapTrimmed}},
		{"a fresh device is told of what was pending and expired before it was read", waiting, pageOf(Stretch{Next: 9}, 2, 3, 7), frame{1, GapExpired}},
		{"a fresh device is told where a part of what was pending has expired", waiting, pageOf(Stretch{Next: 4}, 2), frame{1, GapExpired}},
		{"a fresh device is not told of what expired beside what was pending", waiting, pageOf(Stretch{Next: 9}, 2, 3, 5), none},
		{"a fresh device is not told of what was pending and was recalled", waiting, pageOf(Stretch{Next: 9, Removed: []Range{{3, 3}, {5, 5}}}, 2), none},

		{"a gap frame that tells of everything is not followed by another", afterGap, pageOf(Stretch{Next: 9, Trimmed: 3}, 5), none},
		{"a gap frame that tells of everything is followed by one for what goes later", afterGap, pageOf(Stretch{Next: 11}, 5), frame{4, GapExpired}},
	} {
		t.Run(c.promise, func(t *testing.T) {
			to, reason, _ := c.told.gap(c.page)
			if got := (frame{to.Mailbox, reason}); got != c.want {
				t.Errorf("told %+v, want %+v", got, c.want)
			}
			// The log of messages to all goes by the same rules.
			other, all := c.told, &Page{Broadcast: c.page.Mailbox}
			other.Expired, other.Trimmed = Position{Broadcast: other.Expired.Mailbox}, Position{Broadcast: other.Trimmed.Mailbox}
			if c.told.pending != nil {
				other.pending = &Pending{Broadcast: c.told.pending.Mailbox}
			}
			for _, d := range c.page.Deliveries {
				all.Deliveries = append(all.Deliveries, Delivery{Broadcast: d.Mailbox})
			}
			to, reason, _ = other.gap(all)
			if got := (frame{to.Broadcast, reason}); got != c.want {
				t.Errorf("of messages to all told %+v, want %+v", got, c.want)
			}
		})
	}
}

func gapsOfOtherLife(t *testing.T) {
	fresh := toldGaps{Lost: Lost{Expired: Position{Mailbox: 9}, Trimmed: Position{Mailbox: 9}}}
	fresh.rewind(Position{Mailbox: 4})
	if _, _, due := fresh.gap(pageOf(Stretch{Next: 4, Trimmed: 1})); due {
		t.Error("up to where the lives agree it is told")
	}
	if _, reason, _ := fresh.gap(pageOf(Stretch{Next: 6}, 5)); reason != GapExpired {
		t.Errorf("behind that it is told as %q", reason)
	}
}
