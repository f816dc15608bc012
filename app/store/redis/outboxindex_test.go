package redis

import (
	"slices"
	"testing"

	"github.com/redis/rueidis"

	"hookbridge/app/expect"
	"hookbridge/app/store/redis/redistest"
)

// visited is an index of what is due, and a machine that visits the slots of its tags by a
// clock of the test, in milliseconds.
type visited struct {
	t     *testing.T
	e     *Store
	index string
	till  map[string]string // until when a tag is the machine's to visit
	empty map[string]string // 1: its slot was empty the time before
}

func (v *visited) run(s *script, args ...string) rueidis.RedisMessage {
	v.t.Helper()
	m, err := v.e.run(v.t.Context(), call{s, []string{v.index}, args})
	expect.NoError(v.t, err)
	return m
}

// claims wants those tags to be due, and visits them. A star follows one whose slot was empty
// the time before.
func (v *visited) claims(now int64, want ...string) {
	v.t.Helper()
	m := v.run(&v.e.scripts.outbox.claim, "10", "1000", itoa(now))
	list, err := m.AsStrSlice()
	expect.NoError(v.t, err)
	var got []string
	for one := range slices.Chunk(list[2:], 3) {
		tag := one[0]
		v.till[tag], v.empty[tag] = one[1], one[2]
		if one[2] == "1" {
			tag += "*"
		}
		got = append(got, tag)
	}
	if !slices.Equal(got, want) {
		v.t.Errorf("at %d %q are due instead of %q", now, got, want)
	}
}

// due has somebody write something to the slot of u that is due at a time.
func (v *visited) due(at int64) {
	v.t.Helper()
	v.run(&v.e.scripts.outbox.arm, "u", itoa(at), "")
}

// ends the visit of u, in whose slot something is due at next, or nothing.
func (v *visited) ends(now int64, next string) {
	v.t.Helper()
	v.run(&v.e.scripts.outbox.visited, itoa(now), "u", v.till["u"], next, v.empty["u"])
}

// settles ends a lease of a callback of u, in whose slot something is due at next, or nothing.
func (v *visited) settles(now int64, next string) {
	v.t.Helper()
	keys := []string{v.index}
	for _, other := range []string{"h", "au", "ae", "am", "y", "ym"} {
		keys = append(keys, v.index+other)
	}
	_, err := v.e.run(v.t.Context(), call{&v.e.scripts.outbox.settled, keys, []string{itoa(now), "u", next, "", "", ""}})
	expect.NoError(v.t, err)
}

// Who visits a slot and who writes to it do not wait for each other: what the visit did not
// see must be found by another one.
func TestDueIndex(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, err := Open(t.Context(), Options{URL: s.URL()})
	expect.NoError(t, err)
	defer func() { expect.NoError(t, e.Close()) }()
	const begin, lease, grace = 1_000_000, 1000, 60_000
	for name, story := range map[string]func(v *visited){
		"is one machine's to visit until its time is up": func(v *visited) {
			v.due(begin)
			v.claims(begin - 1)
			v.claims(begin, "u")
			v.claims(begin + lease - 1)
			v.claims(begin+lease, "u")
		},
		"comes when the visit says so": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.ends(begin+1, itoa(begin+5000))
			v.claims(begin + 4999)
			v.claims(begin+5000, "u")
		},
		"is looked at once more where there was nothing, and forgotten then": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.ends(begin+1, "")
			v.claims(begin + grace)
			v.claims(begin+grace+2, "u*")
			v.ends(begin+grace+3, "")
			v.claims(begin + 10*grace)
			v.due(begin + 10*grace)
			v.claims(begin+10*grace, "u")
		},
		"has what is written after a visit that saw nothing, at once and later": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.ends(begin+1, "")
			v.due(begin + 2)
			v.claims(begin+2, "u")
			v.ends(begin+3, "")
			v.due(begin + 3*grace)
			v.claims(begin + 3*grace - 1)
			v.claims(begin+3*grace, "u")
		},
		"has what is written during a visit, however that ends": func(v *visited) {
			at := int64(begin)
			v.due(at)
			for _, next := range []string{"", itoa(begin + 100*grace)} {
				v.claims(at, "u")
				v.due(at + 1)
				v.ends(at+2, next)
				v.claims(at+2, "u")
				at += 2 + lease
			}
		},
		"has what is written during a visit for later, at the visit's end": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.due(begin + 10*grace)
			v.due(begin + 20*grace) // which the mark of the first one covers
			v.ends(begin+1, "")
			v.claims(begin + lease - 1)
			v.claims(begin+lease, "u")
			v.ends(begin+lease+1, itoa(begin+10*grace))
			v.claims(begin + 10*grace - 1)
			v.claims(begin+10*grace, "u")
		},
		"has what is written before a second visit that sees nothing": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.ends(begin+1, "")
			v.claims(begin+grace+2, "u*")
			v.due(begin + 2*grace)
			v.ends(begin+grace+3, "")
			v.claims(begin+grace+2+lease, "u")
		},
		"takes the earlier one of what was written and what the visit saw": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.due(begin + 10*grace)
			v.ends(begin+1, itoa(begin+500))
			v.claims(begin + 499)
			v.claims(begin+500, "u")
		},
		"is not put off by what is due later": func(v *visited) {
			v.due(begin)
			v.due(begin + grace)
			v.claims(begin, "u")
		},
		"comes sooner where a lease has ended": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.ends(begin+1, itoa(begin+grace/2))
			v.settles(begin+2, itoa(begin+3))
			v.claims(begin+3, "u")
		},
		"is looked at once more where the last lease has ended": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.ends(begin+1, itoa(begin+grace/2))
			v.settles(begin+2, "")
			v.claims(begin + grace/2)
			v.claims(begin+grace+3, "u*")
		},
		"has what is written during a visit, though a lease ends with nothing behind it": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			v.due(begin + 10*grace)
			v.settles(begin+1, "")
			v.ends(begin+2, "")
			v.claims(begin+lease, "u")
		},
		"is not touched by a visit whose time was up": func(v *visited) {
			v.due(begin)
			v.claims(begin, "u")
			late := *v
			late.till = map[string]string{"u": v.till["u"]}
			v.claims(begin+lease, "u")
			late.ends(begin+lease+1, "")
			v.claims(begin + 2*lease - 1)
			v.claims(begin+2*lease, "u")
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(&visited{t: t, e: e, index: "hookbridge:{callbacks}:" + name, till: map[string]string{}, empty: map[string]string{}})
		})
	}
}
