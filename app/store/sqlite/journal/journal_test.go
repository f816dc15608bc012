package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hookbridge/app/expect"
)

func TestJournal(t *testing.T) {
	t.Parallel()
	t.Run("gives back what was written, in order, from both files", readsInOrder)
	t.Run("reads back the segment that is being written", readsCurrent)
	t.Run("leaves out an end that was torn", leavesOutTornEnd)
	t.Run("tells of damage before an entry that is whole", tellsOfDamage)
	t.Run("counts what another life has written, and does not return it", countsOtherLives)
	t.Run("does not bring back what a file held before it was used again", reusesFiles)
	t.Run("takes back what it could not write or sync", takesBack)
	t.Run("is not removed or wiped before the store has everything", keepsWhatIsNotTaken)
	t.Run("is wiped of everything, also of what failed and what is overwritten in part", wipes)
	t.Run("names a file that was removed, replaced or cut short", namesLostFile)
}

const life = "life0001"

// written makes a journal in a folder of its own, for a store that has nothing.
func written(t *testing.T, fault func(op string) error) (*Journal, string) {
	t.Helper()
	dir := t.TempDir()
	j := New(dir, life, 1, fault)
	t.Cleanup(func() { expect.NoError(t, j.Close()) })
	return j, dir
}

func write(t *testing.T, j *Journal, data ...string) {
	t.Helper()
	for _, d := range data {
		expect.NoError(t, j.Write([]byte(d)))
	}
}

// read is what a start finds, as "segment:data".
func read(t *testing.T, dir string, after uint64) []string {
	t.Helper()
	entries, others, err := Read(dir, life, after)
	expect.NoError(t, err)
	if others != 0 {
		t.Errorf("%d entries of other lives", others)
	}
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%d:%s", e.Segment, e.Data))
	}
	return out
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// change rewrites one of the files.
func change(t *testing.T, dir string, file int, f func(b []byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, fileNames[file])
	b, err := os.ReadFile(path)
	expect.NoError(t, err)
	expect.NoError(t, os.WriteFile(path, f(b), 0o600))
}

func readsInOrder(t *testing.T) {
	t.Parallel()
	j, dir := written(t, nil)
	if path, err := Present(dir); path != "" || err != nil {
		t.Errorf("before the first entry: %q, %v", path, err)
	}
	write(t, j, "a", "", "b")
	j.Filled()
	write(t, j, "c") // in the other file
	j.Filled()
	write(t, j, "d", "e") // in the same file, since the store does not have the first one durably
	if j.Segment() != 3 || j.Pending() != int64(2*headLength+2) || j.Size() != int64(fileHeader+3*headLength+3) || j.Settled() {
		t.Errorf("segment %d, pending %d, size %d, settled %v", j.Segment(), j.Pending(), j.Size(), j.Settled())
	}
	equal(t, "all", read(t, dir, 0), "1:a", "1:", "1:b", "2:c", "3:d", "3:e")
	j.Durable(1)
	j.Filled()
	write(t, j, "f") // in the first file again
	equal(t, "behind the first segment", read(t, dir, 1), "2:c", "3:d", "3:e", "4:f")
	equal(t, "behind the third", read(t, dir, 3), "4:f")
	for i, name := range fileNames {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("file %d: %v", i, err)
		}
	}
	if path, err := Present(dir); path != filepath.Join(dir, fileNames[0]) || err != nil {
		t.Errorf("%q is present, %v", path, err)
	}
}

func readsCurrent(t *testing.T) {
	t.Parallel()
	j, dir := written(t, nil)
	current := func() (out []string) {
		t.Helper()
		entries, err := j.Current()
		expect.NoError(t, err)
		for _, e := range entries {
			out = append(out, string(e))
		}
		return out
	}
	equal(t, "of a journal that is empty", current())
	write(t, j, "a", "b")
	equal(t, "of the first segment", current(), "a", "b")
	j.Filled()
	write(t, j, "c")
	j.Filled()
	equal(t, "of a segment that is empty", current())
	write(t, j, "d", "e")
	equal(t, "of a segment in the middle of a file", current(), "d", "e")
	change(t, dir, 1, func(b []byte) []byte { return append(b[:len(b)-1], 'x') })
	if got, err := j.Current(); !errors.Is(err, ErrDamaged) {
		t.Errorf("of a file that somebody else has changed: %q, %v", got, err)
	}
}

func leavesOutTornEnd(t *testing.T) {
	t.Parallel()
	j, dir := written(t, nil)
	write(t, j, "first", "second", strings.Repeat("third", 20))
	path := filepath.Join(dir, fileNames[0])
	whole, err := os.ReadFile(path)
	expect.NoError(t, err)
	last := fileHeader + 2*headLength + len("first") + len("second")
	for cut := last; cut < len(whole); cut++ {
		expect.NoError(t, os.WriteFile(path, whole[:cut], 0o600))
		equal(t, fmt.Sprintf("cut to %d bytes", cut), read(t, dir, 0), "1:first", "1:second")
		// What a file system has not written yet may be zeros.
		expect.NoError(t, os.WriteFile(path, append(whole[:cut:cut], make([]byte, len(whole)-cut)...), 0o600))
		equal(t, fmt.Sprintf("zeros from byte %d on", cut), read(t, dir, 0), "1:first", "1:second")
	}
	for cut := range fileHeader + 1 {
		expect.NoError(t, os.WriteFile(path, whole[:cut], 0o600))
		equal(t, fmt.Sprintf("a header of %d bytes", cut), read(t, dir, 0))
		if path, err := Present(dir); path != "" || err != nil {
			t.Errorf("a header of %d bytes: %q, %v", cut, path, err)
		}
	}
}

func tellsOfDamage(t *testing.T) {
	t.Parallel()
	first := len("first") + headLength
	for at := range fileHeader + first {
		j, dir := written(t, nil)
		write(t, j, "first", "second")
		change(t, dir, 0, func(b []byte) []byte { b[at] ^= 0x40; return b })
		entries, _, err := Read(dir, life, 0)
		salted := at >= len(fileMagic) && at < fileHeader // with another salt nothing counts as an entry
		if salted && (err != nil || len(entries) > 0) || !salted && !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d: %d entries, %v", at, len(entries), err)
		}
		if err != nil && !strings.Contains(err.Error(), filepath.Join(dir, fileNames[0])) {
			t.Errorf("byte %d: %q does not name the file", at, err)
		}
	}
	j, dir := written(t, nil)
	write(t, j, "first", "second")
	change(t, dir, 0, func(b []byte) []byte { b[fileHeader+first-1] ^= 1; return b })
	if entries, _, err := Read(dir, life, 1); err != nil || len(entries) > 0 {
		t.Errorf("in what the store has already: %d entries, %v", len(entries), err)
	}
}

func countsOtherLives(t *testing.T) {
	t.Parallel()
	j, dir := written(t, nil)
	write(t, j, "a", "b")
	expect.NoError(t, j.Close())
	entries, others, err := Read(dir, "life0002", 0)
	if err != nil || len(entries) > 0 || others != 2 {
		t.Errorf("%d entries, %d of other lives, %v", len(entries), others, err)
	}
	// A store that was put back begins the next life with the same segment.
	next := New(dir, "life0002", 1, nil)
	defer func() { expect.NoError(t, next.Close()) }()
	write(t, next, "c")
	entries, others, err = Read(dir, "life0002", 0)
	if err != nil || len(entries) != 1 || string(entries[0].Data) != "c" || entries[0].Life != "life0002" || others != 0 {
		t.Errorf("after the file was made anew: %v, %d of other lives, %v", entries, others, err)
	}
}

func reusesFiles(t *testing.T) {
	t.Parallel()
	for _, sizes := range [][2]int{{10, 10}, {10, 3}, {3, 10}, {1_000, 1}, {1_000, headLength}, {1, 1_000}, {headLength * 3, headLength - 1}} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			t.Parallel()
			j, dir := written(t, nil)
			old, fresh := strings.Repeat("o", sizes[0]), strings.Repeat("f", sizes[1])
			write(t, j, old, old, old)
			j.Filled()
			write(t, j, "between")
			j.Durable(1)
			j.Filled()
			equal(t, "before the file has a new entry", read(t, dir, 1), "2:between")
			length := func() int64 {
				info, err := os.Stat(filepath.Join(dir, fileNames[0]))
				expect.NoError(t, err)
				return info.Size()
			}
			before := length()
			for n := 1; n <= 4; n++ {
				write(t, j, fresh)
				want := append([]string{"2:between"}, slices.Repeat([]string{"3:" + fresh}, n)...)
				equal(t, fmt.Sprintf("with %d entries", n), read(t, dir, 1), want...)
				equal(t, fmt.Sprintf("with %d entries, to a store that was put back", n), read(t, dir, 0), want...)
			}
			if after := length(); after < before {
				t.Errorf("the file of %d bytes has %d", before, after)
			}
		})
	}
}

var errFault = errors.New("injected failure")

func takesBack(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			failing := false
			j, dir := written(t, func(got string) error {
				if failing && got == op {
					return errFault
				}
				return nil
			})
			refuse := func(data string) {
				t.Helper()
				failing = true
				if err := j.Write([]byte(data)); !errors.Is(err, errFault) {
					t.Errorf("a write that fails: %v", err)
				}
				failing = false
			}
			refuse("the very first")
			equal(t, "after it", read(t, dir, 0))
			write(t, j, "a")
			refuse(strings.Repeat("a long one", 50))
			equal(t, "after the next one", read(t, dir, 0), "1:a")
			if current, err := j.Current(); err != nil || len(current) != 1 {
				t.Errorf("%d in the segment, %v", len(current), err)
			}
			write(t, j, "b")
			refuse("x")
			write(t, j, "c")
			equal(t, "in the end", read(t, dir, 0), "1:a", "1:b", "1:c")
		})
	}
}

func keepsWhatIsNotTaken(t *testing.T) {
	t.Parallel()
	j, dir := written(t, nil)
	kept := func(when string, want ...string) {
		t.Helper()
		if j.Settled() {
			t.Errorf("%s: it counts as settled", when)
		}
		if err := j.Remove(); !errors.Is(err, errNotTaken) {
			t.Errorf("%s: removed, %v", when, err)
		}
		expect.NoError(t, j.Wipe())
		equal(t, when, read(t, dir, 0), want...)
	}
	write(t, j, "a")
	kept("before the store has it", "1:a")
	j.Filled()
	kept("before that is durable", "1:a")
	write(t, j, "b")
	j.Durable(1)
	kept("with a newer entry", "1:a", "2:b")
	j.Filled()
	kept("before the newer one is durable", "1:a", "2:b")
	j.Durable(2)
	j.Durable(1) // is told late
	if !j.Settled() {
		t.Error("it is not settled")
	}
	expect.NoError(t, j.Remove())
	for _, name := range fileNames {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	write(t, j, "c")
	equal(t, "after it was removed", read(t, dir, 2), "3:c")
	j.Filled()
	j.Durable(3)
	expect.NoError(t, j.Wipe())
	equal(t, "after it was wiped", read(t, dir, 0))
	write(t, j, "d")
	equal(t, "what is written after that", read(t, dir, 3), "4:d")
}

func wipes(t *testing.T) {
	t.Parallel()
	fail := false
	j, dir := written(t, func(op string) error {
		if fail && op == "sync" {
			return errFault
		}
		return nil
	})
	write(t, j, strings.Repeat("secret", 50_000), "secret") // longer than one write of zeros
	j.Filled()
	write(t, j, "secret")
	fail = true
	if err := j.Write([]byte("another secret")); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	fail = false
	j.Durable(1)
	j.Filled()
	write(t, j, "x") // over the first entry of the first file
	j.Filled()
	j.Durable(3)
	expect.NoError(t, j.Wipe())
	for _, name := range fileNames {
		b, err := os.ReadFile(filepath.Join(dir, name))
		expect.NoError(t, err)
		if bytes.Contains(b, []byte("secret")) || len(bytes.Trim(b[fileHeader:], "\x00")) > 0 {
			t.Errorf("something is left in %s", name)
		}
	}
	if j.Size() != int64(fileHeader) || j.Pending() != 0 {
		t.Errorf("it has %d bytes, %d pending", j.Size(), j.Pending())
	}
}

func namesLostFile(t *testing.T) {
	t.Parallel()
	for what, harm := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			b, err := os.ReadFile(path)
			return errors.Join(err, os.Rename(path, path+".away"), os.WriteFile(path, b, 0o600))
		},
		"cut short": func(path string) error { return os.Truncate(path, int64(fileHeader)) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			j, dir := written(t, nil)
			path := filepath.Join(dir, fileNames[0])
			if lost := j.Lost(); lost != "" {
				t.Errorf("before there is a file: %q", lost)
			}
			write(t, j, "a")
			if lost := j.Lost(); lost != "" {
				t.Errorf("a file that is as it was: %q", lost)
			}
			expect.NoError(t, harm(path))
			if lost := j.Lost(); lost != path {
				t.Errorf("%q is lost, and not %q", lost, path)
			}
		})
	}
}
