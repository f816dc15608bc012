package sqlite

import (
	"bytes"
	"testing"
)

// What a column holds is read as what it was written from, and nothing that it may
// hold breaks the reader.
func FuzzColumns(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendPlace(appendPlace(nil, place{"ada", 7}), place{"", 1 << 40}))
	f.Add(appendNames(nil, []string{"ses_1", ""}))
	f.Add(packLifeStarts([]lifeStart{{1, 0}, {2, 300}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, column []byte) {
		if places, err := parsePlaces(column); err == nil {
			var again []byte
			for _, p := range places {
				again = appendPlace(again, p)
			}
			if n, err := placeLength(again); len(places) > 0 && (err != nil || n != len(appendPlace(nil, places[0]))) {
				t.Errorf("the first of %v takes %d bytes, %v", places, n, err)
			}
			same(t, again, func(b []byte) (out []byte, err error) {
				list, err := parsePlaces(b)
				for _, p := range list {
					out = appendPlace(out, p)
				}
				return out, err
			})
		}
		if names, err := parseNames(column); err == nil {
			same(t, appendNames(nil, names), func(b []byte) ([]byte, error) {
				list, err := parseNames(b)
				return appendNames(nil, list), err
			})
		}
		if starts, err := parseLifeStarts(column); err == nil {
			same(t, packLifeStarts(starts), func(b []byte) ([]byte, error) {
				list, err := parseLifeStarts(b)
				return packLifeStarts(list), err
			})
		}
	})
}

// same finds that what was written comes back.
func same(t *testing.T, written []byte, reread func([]byte) ([]byte, error)) {
	t.Helper()
	if got, err := reread(written); err != nil || !bytes.Equal(got, written) {
		t.Errorf("% x came back as % x, %v", written, got, err)
	}
}
