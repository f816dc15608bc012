package move

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestImport(t *testing.T) {
	t.Run("refuses what is no good export and says why", importRefused)
	t.Run("bounds the size of a section", importBounds)
	t.Run("refuses a store with a life of its own", importIntoLived)
	t.Run("reads an old export", importOld)
	t.Run("of a file cut anywhere loads what is whole, and starts over", importOfCutFile)
	t.Run("that broke off at any load starts over", importStartsOver)
	t.Run("of another export takes the place of half of one", importOfAnother)
}

func importRefused(t *testing.T) {
	whole := exported(t, filled(t, 700))
	lines := bytes.SplitAfter(whole, []byte("\n"))
	without := func(n int) []byte { return bytes.Join(slices.Delete(slices.Clone(lines), n-1, n), nil) }
	with := func(n int, line string) []byte {
		l := slices.Clone(lines)
		l[n-1] = []byte(line + "\n")
		return bytes.Join(l, nil)
	}
	other := bytes.SplitAfter(exported(t, filled(t, 700)), []byte("\n"))
	for name, c := range map[string]struct {
		file []byte
		is   error
		says string
	}{
		"nothing":              {nil, ErrIncomplete, "nothing is there"},
		"a text":               {[]byte("hello\nworld\n"), ErrForeign, "no export"},
		"a user's export":      {[]byte(`{"user":"patient-1","at":""}` + "\n"), ErrForeign, ""},
		"a file without lines": {bytes.Repeat([]byte{'x'}, 1<<20), ErrForeign, ""},
		"no line in the end":   {append([]byte(opening), bytes.Repeat([]byte{'x'}, 1<<20)...), ErrForeign, ""},
		"no header":            {without(1), ErrForeign, ""},
		"a newer version":      {bytes.Replace(whole, []byte(`"version":3`), []byte(`"version":4`), 1), nil, "version 4, and this program knows versions up to 3"},
		"no version":           {bytes.Replace(whole, []byte(`"version":3`), []byte(`"version":0`), 1), ErrDamaged, "line 1"},
		"no epoch":             {bytes.Replace(whole, []byte(`"epoch1"`), []byte(`"epoch-"`), 1), ErrDamaged, "line 1"},
		"no JSON":              {with(7, `{"event":{"id":"`), ErrDamaged, "line 7 is no entry"},
		"an empty line":        {with(7, ``), ErrDamaged, "line 7 is no entry"},
		"no entry":             {with(7, `{}`), ErrDamaged, "line 7"},
		"an event without id":  {with(7, `{"event":{"digest":"","until":1,"type":"","at":0}}`), ErrDamaged, "line 7: the export does not fit"},
		"a hash of nothing":    {with(7, `{"mailbox":{"hash":"AAAA"}}`), ErrDamaged, "line 7: the export does not fit"},
		"two in one":           {with(7, `{"sight":{"id":"x","user":"u","session":"s","at":1},"membership":{"group":"g","user":"u"}}`), ErrDamaged, "line 7"},
		"an unknown kind":      {with(7, `{"lease":{"id":"x"}}`), ErrDamaged, "line 7"},
		"an unknown member":    {with(7, `{"membership":{"group":"g","user":"u","rank":1}}`), ErrDamaged, "line 7"},
		"a second header":      {with(7, string(bytes.TrimSpace(lines[0]))), ErrDamaged, "line 7"},
		"another entry":        {with(7, `{"membership":{"group":"g","user":"u"}}`), ErrDamaged, "line 502 does not fit"},
		"a line less":          {without(7), ErrDamaged, "line 501 does not fit"},
		"another's checkpoint": {with(502, string(bytes.TrimSpace(other[501]))), ErrDamaged, "line 502 does not fit"},
		"another's half":       {slices.Concat(bytes.Join(lines[:502], nil), bytes.Join(other[502:], nil)), ErrDamaged, "line 703 does not fit"},
		"no checkpoint":        {without(502), ErrDamaged, "line 702 does not fit"},
		"a wrong count":        {bytes.Replace(whole, []byte(`"entries":700`), []byte(`"entries":701`), 1), ErrDamaged, "counts 701 entries, and there are 700"},
		"something behind":     {append(bytes.Clone(whole), '\n'), ErrDamaged, "line 704 follows its end"},
		"two exports":          {slices.Concat(whole, whole), ErrDamaged, "follows its end"},
		"no end":               {without(703), ErrIncomplete, "it ends after line 702"},
	} {
		to := &store{}
		_, err := load(t, to, c.file)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || to.epoch != "" {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(to.entries); n != 0 && n != 500 || to.begun != (n == 500) {
			t.Errorf("%s: %d entries are loaded", name, n)
		}
	}
}

func importBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	whole := exported(t, filled(t, 700))
	first := bytes.IndexByte(whole, '\n') + 1
	in := io.MultiReader(bytes.NewReader(whole[:first]), endless{})
	if _, err := Import(t.Context(), &store{}, in, ignore); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

// endless is a line without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func importIntoLived(t *testing.T) {
	whole := exported(t, filled(t, 700))
	to := &store{}
	_, err := load(t, to, whole)
	expect.NoError(t, err)
	if _, err := load(t, to, whole); !errors.Is(err, bridge.ErrNotEmpty) || !strings.Contains(err.Error(), "has been imported already") {
		t.Error(err)
	}
	if _, err := load(t, &store{epoch: "epoch2"}, whole); !errors.Is(err, bridge.ErrNotEmpty) || !strings.Contains(err.Error(), "life of its own") {
		t.Error(err)
	}
}

var errFull = errors.New("no space left")

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// FuzzImport: whatever the input is, an import does not panic, and finishes
// nothing but an export that is as it was written.
func FuzzImport(f *testing.F) {
	whole := read(f, "testdata/version1.jsonl")
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(whole[:len(whole)-1])
	f.Add(slices.Concat(whole, whole))
	f.Add(bytes.Replace(whole, []byte("patient-1"), []byte("patient-2"), 1))
	f.Add(bytes.Replace(whole, []byte(`"version":1`), []byte(`"version":2`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		to := &store{}
		_, err := load(t, to, b)
		if (err == nil) != (to.epoch != "") {
			t.Fatalf("%v, and the epoch is %q", err, to.epoch)
		}
		if err == nil && !bytes.Equal(b, whole) {
			t.Fatal("a damaged export was finished")
		}
	})
}

// What version 1 has written once is read for good.
func importOld(t *testing.T) {
	to := &store{}
	m, err := load(t, to, read(t, "testdata/version1.jsonl"))
	if err != nil || m.Entries != 30 {
		t.Fatalf("%+v %v", m, err)
	}
	same(t, filled(t, 30), to)
}

func importOfCutFile(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	from := filled(t, 10)
	whole := inSections(t, from, 3)
	for n := range whole {
		to := &store{}
		if _, err := load(t, to, whole[:n]); !errors.Is(err, ErrIncomplete) || to.epoch != "" {
			t.Fatalf("cut at %d: %v", n, err)
		}
		closed := 0
		for _, l := range bytes.SplitAfter(whole[:n], []byte("\n")) {
			if bytes.HasPrefix(l, []byte(`{"place"`)) && bytes.HasSuffix(l, []byte("\n")) {
				closed++
			}
		}
		if len(to.entries) != 3*closed || to.begun != (closed > 0) {
			t.Fatalf("cut at %d: %d are loaded, of %d sections", n, len(to.entries), closed)
		}
		if _, err := load(t, to, whole); err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		same(t, from, to)
	}
}

func importStartsOver(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	from := filled(t, 3300)
	whole := exported(t, from)
	for n := range 7 {
		for name, to := range map[string]*store{"before": {stop: at(n)}, "after": {lost: at(n)}} {
			if _, err := load(t, to, whole); !errors.Is(err, errStop) || to.epoch != "" || !to.begun {
				t.Fatalf("%s load %d: %v", name, n, err)
			}
			to.stop, to.lost = nil, nil
			if _, err := load(t, to, whole); err != nil || to.begins != 2 {
				t.Fatalf("%s load %d: %v, begun %d times", name, n, err, to.begins)
			}
			same(t, from, to)
		}
	}
}

func importOfAnother(t *testing.T) {
	from, other := filled(t, 1100), filled(t, 700)
	other.epoch = "epoch2"
	half := exported(t, from)
	half = half[:len(half)-1]
	to := &store{}
	if _, err := load(t, to, half); !errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
	// What is no good takes nothing out.
	bad := bytes.Replace(exported(t, other), []byte("patient-3"), []byte("patient-8"), 1)
	if _, err := load(t, to, bad); !errors.Is(err, ErrDamaged) || to.begins != 1 || len(to.entries) != 1000 {
		t.Fatalf("%v, %d entries", err, len(to.entries))
	}
	if _, err := load(t, to, exported(t, other)); err != nil || to.begins != 2 {
		t.Fatalf("%v, begun %d times", err, to.begins)
	}
	same(t, other, to)
}
