package walfile

import "testing"

func TestZeroFill(t *testing.T) {
	t.Run("is done to pages of rows only", zeroFillsRows)
}

func TestPointerMap(t *testing.T) {
	t.Run("is where the format puts it", pointerMapsByFormat)
}

func zeroFillsRows(t *testing.T) {
	for kind := range 256 {
		var page [PageSize]byte
		for i := range page {
			page[i] = 0xaa
		}
		copy(page[:], []byte{byte(kind), 0, 0, 0, 3, 0x0f, 0x00})
		was := page
		zeroFill(&page, false)
		from, to := 0, 0
		switch kind {
		case 10, 13:
			from, to = 8+6, 0x0f00
		case 2, 5:
			from, to = 12+6, 0x0f00
		}
		clear(was[from:to])
		if page != was {
			t.Errorf("kind %d: not what lies between %d and %d was cleared", kind, from, to)
		}
	}
	for _, wrong := range [][]byte{{13, 0, 0, 0xff, 0xff, 0x0f, 0x00}, {13, 0, 0, 0, 3, 0x10, 0x01}, {13, 0, 0, 0, 3, 0, 0}} {
		var page [PageSize]byte
		for i := range page {
			page[i] = 0xaa
		}
		copy(page[:], wrong)
		was := page
		if zeroFill(&page, false); page != was {
			t.Errorf("% x was taken for a page of rows", wrong)
		}
	}
}

func pointerMapsByFormat(t *testing.T) {
	for no, want := range map[int64]bool{1: false, 2: true, 3: false, 821: false, 822: true, 823: false, 1642: true,
		// The page at 1 GiB is never used; a map due there is on the next.
		262145: false, 262146: false, 261582: true, 262402: true} {
		if isPointerMap(no) != want {
			t.Errorf("page %d: %v", no, !want)
		}
	}
}
