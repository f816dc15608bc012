package client

import (
	"testing"
)

func TestRecentIDs(t *testing.T) {
	t.Run("are bounded", recentIDsBounded)
}

func recentIDsBounded(t *testing.T) {
	r := newRecent(3)
	for i, c := range []struct {
		id  string
		new bool
	}{{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"d", true}, {"b", false}, {"a", true}, {"b", true}} {
		if r.has(c.id) == c.new {
			t.Errorf("step %d: %s", i, c.id)
		}
		if c.new {
			r.add(c.id)
		}
	}
	if len(r.ids) != 3 {
		t.Errorf("%d ids are kept", len(r.ids))
	}
}
