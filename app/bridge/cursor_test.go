package bridge

import (
	"testing"
)

func TestACursorReadsBackAsItsPosition(t *testing.T) {
	tag := cursorTag("k3f9", "patient-42")
	for _, p := range []Position{{}, {17, 5}, {1 << 62, 1}} {
		gotTag, got, err := parseCursor(formatCursor(tag, p))
		if err != nil || gotTag != tag || got != p {
			t.Errorf("%v came back as %q %v, %v", p, gotTag, got, err)
		}
	}
	if tag == cursorTag("k3f9", "patient-43") || tag == cursorTag("k3fa", "patient-42") || len(tag) != 8 {
		t.Errorf("the tag %q does not tell users and stores apart", tag)
	}
}

func TestAMalformedCursorIsRefused(t *testing.T) {
	for _, s := range []string{"", "a", "a.1", ".1.2", "a.1.2.3", "a.-1.2", "a.+1.2", "a.01.2", "a.1.x", "a.1.99999999999999999999", "a. 1.2"} {
		if _, p, err := parseCursor(s); err == nil {
			t.Errorf("%q was read as %v", s, p)
		}
	}
}

func TestEachCursorIsJudgedByWhereItsUserStands(t *testing.T) {
	st := Standing{Head: Position{20, 9}, Acked: Position{12, 7}, First: Position{0, 4}}
	for after, want := range map[string]start{
		"":           {from: Position{12, 7}, told: Lost{Expired: st.Head}},
		"mine.17.5":  {from: Position{17, 5}, resumed: true},
		"mine.20.9":  {from: Position{20, 9}, resumed: true},
		"mine.3.0":   {from: Position{3, 4}, resumed: true}, // older messages to all are not theirs
		"mine.21.5":  {from: st.First, gap: GapAhead, told: Lost{st.Head, st.Head}},
		"mine.17.10": {from: st.First, gap: GapAhead, told: Lost{st.Head, st.Head}},
		"theirs.1.1": {from: st.First, gap: GapForeign, told: Lost{st.Head, st.Head}},
		"garbage":    {from: st.First, gap: GapMalformed, told: Lost{st.Head, st.Head}},
	} {
		if got := startFrom(after, "mine", st); got != want {
			t.Errorf("after %q: %+v, want %+v", after, got, want)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("k3f9a1b2.17.5")
	f.Add("k3f9a1b2.0.0")
	f.Fuzz(func(t *testing.T, s string) {
		if tag, p, err := parseCursor(s); err == nil && formatCursor(tag, p) != s {
			t.Errorf("%q reads as %q %v and writes as %q", s, tag, p, formatCursor(tag, p))
		}
		_, _, _ = parsePong([]byte(s))
	})
}
