package bridge

import (
	"testing"
)

func TestCursor(t *testing.T) {
	t.Run("reads back as its position", cursorReadsBack)
	t.Run("is refused where it is malformed", cursorMalformed)
	t.Run("starts the replay, after a gap where it cannot be trusted", cursorIsJudged)
	t.Run("tells whether the store has lost the time it is from", cursorFromLostTime)
}

func cursorReadsBack(t *testing.T) {
	tag := cursorTag("k3f9", "patient-42")
	for _, p := range []Position{{}, {17, 5}, {1 << 62, 1}} {
		for _, life := range []string{"", "7gq2x0"} { // those of before stores kept lives stay good
			want := cursor{tag, life, p}
			if got, err := parseCursor(want.String()); err != nil || got != want {
				t.Errorf("%v came back as %v, %v", want, got, err)
			}
		}
	}
	if tag == cursorTag("k3f9", "patient-43") || tag == cursorTag("k3fa", "patient-42") || len(tag) != 8 {
		t.Errorf("the tag %q does not tell users and stores apart", tag)
	}
}

func cursorMalformed(t *testing.T) {
	for _, s := range []string{"", "a", "a.1", ".1.2", "a.1.2.3", "a.1.2.", "a.1.2.life.x", "a.1.2.LIFE", "a.1.2.thislifeislong", "a.-1.2", "a.+1.2", "a.01.2", "a.1.x", "a.1.99999999999999999999", "a. 1.2"} {
		if c, err := parseCursor(s); err == nil {
			t.Errorf("%q was read as %v", s, c)
		}
	}
}

func cursorIsJudged(t *testing.T) {
	st := JoinState{Head: Position{20, 9}, Acked: Position{12, 7}, First: Position{0, 4}, Life: "now0"}
	ends := map[string]Position{"": {10, 4}, "past": {18, 8}}
	lifeEnd := func(life string) (Position, error) {
		if end, ok := ends[life]; ok {
			return end, nil
		}
		return Position{}, ErrRewound
	}
	for after, want := range map[string]start{
		"":                {from: Position{12, 7}, told: Lost{Expired: st.Head}},
		"mine.17.5.now0":  {from: Position{17, 5}, resumed: true},
		"mine.20.9.now0":  {from: Position{20, 9}, resumed: true},
		"mine.3.0.now0":   {from: Position{3, 4}, resumed: true}, // older messages to all are not theirs
		"mine.21.5.now0":  {from: st.First, gap: GapAhead, told: Lost{st.Head, st.Head}},
		"mine.17.10.now0": {from: st.First, gap: GapAhead, told: Lost{st.Head, st.Head}},
		"theirs.1.1.now0": {from: st.First, gap: GapForeign, told: Lost{st.Head, st.Head}},
		"garbage":         {from: st.First, gap: GapMalformed, told: Lost{st.Head, st.Head}},

		"mine.18.8.past": {from: Position{18, 8}, resumed: true},
		"mine.19.8.past": {from: Position{18, 8}, gap: GapRewound},
		"mine.3.9.past":  {from: Position{3, 8}, gap: GapRewound},
		"mine.17.5.lost": {from: st.First, gap: GapRewound},
		"mine.9.4":       {from: Position{9, 4}, resumed: true}, // of before stores kept lives
		"mine.11.4":      {from: Position{10, 4}, gap: GapRewound},
		"mine.21.4":      {from: st.First, gap: GapAhead, told: Lost{st.Head, st.Head}},
	} {
		got, err := startFrom(after, "mine", st, lifeEnd)
		got.agreed = Position{} // has a test of its own, with what it is for
		if err != nil || got != want {
			t.Errorf("after %q: %+v, %v, want %+v", after, got, err, want)
		}
	}
}

func cursorFromLostTime(t *testing.T) {
	lifeEnd := func(life string) (Position, error) {
		if life == "past" {
			return Position{18, 8}, nil
		}
		return Position{}, ErrRewound
	}
	for after, want := range map[string]bool{
		"mine.9.4.lost": true, "mine.19.8.past": true, "mine.18.9.past": true,
		"": false, "garbage": false, "mine.99.9": false, "mine.99.9.now0": false, "mine.18.8.past": false, "theirs.9.4.lost": false,
	} {
		if got, err := fromLostTime(after, "mine", "now0", lifeEnd); err != nil || got != want {
			t.Errorf("%q: %v, %v", after, got, err)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("k3f9a1b2.17.5")
	f.Add("k3f9a1b2.0.0.7gq2x0")
	f.Add("1.2.3.4")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := parseCursor(s); err == nil && c.String() != s {
			t.Errorf("%q reads as %+v and writes as %q", s, c, c)
		}
		if h, err := parsePong([]byte(s)); err == nil && string(h.append(nil)) != s {
			t.Errorf("%q reads as %+v", s, h)
		}
	})
}
