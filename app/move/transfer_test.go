package move

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"hookbridge/app/bridge"
)

// exported is a store's export.
func exported(t testing.TB, s *store) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Stream(t.Context(), s, &b, Options{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// load imports a file into a store.
func load(t testing.TB, s *store, b []byte) (Moved, error) {
	t.Helper()
	return Import(t.Context(), s, bytes.NewReader(b), Options{})
}

func fileIn(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export")
	must(t, os.WriteFile(path, b, 0o644))
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func exportID(t testing.TB, b []byte) string {
	t.Helper()
	first, _, _ := bytes.Cut(b, []byte("\n"))
	var h header
	must(t, json.Unmarshal(first, &h))
	return h.Export
}

func TestAStoreIsTheSameBehindAFile(t *testing.T) {
	for _, n := range []int{0, 1, 499, 500, 501, 1700} {
		from, to := filled(t, n), &store{}
		path := filepath.Join(t.TempDir(), "export")
		var told Moved
		m, err := Export(t.Context(), from, path, Options{Moved: func(m Moved) { told = m }})
		must(t, err)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || m.Entries != int64(n) || m.Bytes != info.Size() || told != m {
			t.Errorf("%d: %+v, told %+v, %v %v", n, m, told, info.Mode(), err)
		}
		got, err := load(t, to, read(t, path))
		if err != nil || got.Entries != int64(n) || got.Bytes != info.Size() {
			t.Fatalf("%d: %+v %v", n, got, err)
		}
		same(t, from, to)
		if to.loads != (n+499)/500 {
			t.Errorf("%d entries in %d loads", n, to.loads)
		}
	}
}

func TestTheFormatIsTheOneThatIsDescribed(t *testing.T) {
	lines := strings.Split(string(exported(t, filled(t, 501))), "\n")
	if len(lines) != 1+500+1+1+1+1 || lines[len(lines)-1] != "" {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range map[int]string{
		0: `{"hookbridge":"export","version":1,"export":"`, 1: `{"event":{"id":`, 2: `{"mailbox":{"user":`,
		501: `{"place":"behind 500","sum":"`, 503: `{"end":true,"entries":501,"sum":"`,
	} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is %s", i+1, lines[i])
		}
	}
}

// What version 1 has written once is read for good.
func TestAnOldExportIsRead(t *testing.T) {
	to := &store{}
	m, err := load(t, to, read(t, "testdata/version1.jsonl"))
	if err != nil || m.Entries != 30 {
		t.Fatalf("%+v %v", m, err)
	}
	same(t, filled(t, 30), to)
}

func TestLongEntriesAndLargeSectionsComeWhole(t *testing.T) {
	from, to := &store{epoch: "epoch1"}, &store{}
	places := make([]bridge.PlaceEntry, 10_000)
	for i := range places {
		places[i] = bridge.PlaceEntry{User: strings.Repeat("é", 128), Seq: uint64(i)}
	}
	for _, e := range []bridge.Entry{
		{Event: &bridge.EventEntry{ID: "x", Places: places}},
		{Message: &bridge.MessageEntry{User: "u", Seq: 1, Event: bytes.Repeat([]byte{0xff}, 4<<20)}},
		{Message: &bridge.MessageEntry{User: "u", Seq: 2, Event: []byte("{}")}},
	} {
		b, err := json.Marshal(e)
		must(t, err)
		from.entries = append(from.entries, string(b))
	}
	_, err := load(t, to, exported(t, from))
	must(t, err)
	same(t, from, to)
	if to.loads != 3 {
		t.Errorf("%d loads: a section ends with a megabyte", to.loads)
	}
}

func TestAnExportThatBrokeOffAtAnyEntryGoesOn(t *testing.T) {
	const entries = 60
	from, o := filled(t, entries), Options{section: 7}
	path := filepath.Join(t.TempDir(), "export")
	for n := range entries {
		from.stop = at(n)
		if _, err := Export(t.Context(), from, path, o); !errors.Is(err, errStop) {
			t.Fatalf("%d: %v", n, err)
		}
		half := read(t, path)
		from.stop = nil
		m, err := Export(t.Context(), from, path, o)
		if err != nil || m.Before != int64(n) {
			t.Fatalf("%d: %+v %v", n, m, err)
		}
		whole := read(t, path)
		if !bytes.HasPrefix(whole, half) {
			t.Fatalf("%d: what was written has changed", n)
		}
		to := &store{}
		if _, err := load(t, to, half); !errors.Is(err, ErrIncomplete) || to.progress.Loaded != int64(n) {
			t.Fatalf("%d: the half: %v %+v", n, err, to.progress)
		}
		got, err := load(t, to, whole)
		if err != nil || got.Before != int64(n) || to.cleared != 0 {
			t.Fatalf("%d: the rest: %v %+v", n, err, got)
		}
		same(t, from, to)
		must(t, os.Remove(path))
	}
}

func TestAFileCutAnywhereIsLoadedAsFarAsItIsWholeAndGoneOnWith(t *testing.T) {
	from, o := filled(t, 10), Options{section: 3}
	path := filepath.Join(t.TempDir(), "export")
	_, err := Export(t.Context(), from, path, o)
	must(t, err)
	whole := read(t, path)
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
		if to.progress.Loaded != int64(3*closed) {
			t.Fatalf("cut at %d: %d are loaded, of %d sections", n, to.progress.Loaded, closed)
		}
		must(t, os.WriteFile(path, whole[:n], 0o644))
		if _, err := Export(t.Context(), from, path, o); err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		again := read(t, path)
		if bytes.IndexByte(whole[:n], '\n') > 0 && exportID(t, again) != exportID(t, whole) {
			t.Fatalf("cut at %d: another export", n)
		}
		if _, err := load(t, to, again); err != nil || to.cleared != 0 {
			t.Fatalf("cut at %d: %v", n, err)
		}
		same(t, from, to)
	}
}

// Between the two runs of an export things expire, and what comes behind the
// last checkpoint is fewer than what was there before.
func TestNothingIsSkippedWhereThingsExpireBetweenTwoRuns(t *testing.T) {
	from := filled(t, 1100)
	whole := exported(t, from)
	cut := bytes.LastIndex(whole, []byte(`{"end"`))
	to := &store{}
	if _, err := load(t, to, whole[:cut]); !errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
	path := fileIn(t, whole[:cut])
	gone := make(map[string]bool)
	for _, e := range from.entries[1000:1050] {
		gone[e] = true
	}
	from.leaves = func(e string) bool { return gone[e] }
	_, err := Export(t.Context(), from, path, Options{})
	must(t, err)
	_, err = load(t, to, read(t, path))
	must(t, err)
	for _, e := range from.entries {
		if !to.has[e] && !gone[e] {
			t.Fatalf("lost: %s", e)
		}
	}
}

func TestAnExportWhoseTailACrashHasSpoiledIsWrittenAgainFromThere(t *testing.T) {
	from, to := filled(t, 1700), &store{}
	whole := exported(t, from)
	broken := bytes.Clone(whole[:bytes.LastIndex(whole, []byte(`{"end"`))])
	spoil := bytes.Index(broken, []byte(`{"place":"behind 500"`)) + 600
	clear(broken[spoil : spoil+4000])
	path := fileIn(t, broken)
	m, err := Export(t.Context(), from, path, Options{})
	if err != nil || m.Before != 500 {
		t.Fatalf("%+v %v", m, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	_, err = load(t, to, read(t, path))
	must(t, err)
	same(t, from, to)
}

func TestAnImportThatBrokeOffAtAnyLoadGoesOn(t *testing.T) {
	from := filled(t, 3300)
	whole := exported(t, from)
	for n := range 7 {
		for name, to := range map[string]*store{"before": {stop: at(n)}, "after": {lost: at(n)}} {
			if _, err := load(t, to, whole); !errors.Is(err, errStop) || to.epoch != "" {
				t.Fatalf("%s load %d: %v", name, n, err)
			}
			to.stop, to.lost = nil, nil
			m, err := load(t, to, whole)
			if err != nil || to.cleared != 0 || to.loads > 8 || n > 1 && m.Before == 0 {
				t.Fatalf("%s load %d: %v, %d loads", name, n, err, to.loads)
			}
			same(t, from, to)
		}
	}
}

func TestAnotherExportTakesThePlaceOfHalfOfOne(t *testing.T) {
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
	if _, err := load(t, to, bad); !errors.Is(err, ErrDamaged) || to.cleared != 0 || to.progress.Loaded != 1000 {
		t.Fatalf("%v %+v", err, to.progress)
	}
	var said string
	_, err := Import(t.Context(), to, bytes.NewReader(exported(t, other)), Options{Say: func(s string) { said += s }})
	if err != nil || to.cleared != 1 || !strings.Contains(said, "1000 entries of another export") {
		t.Fatalf("%v %q", err, said)
	}
	same(t, other, to)
}

func TestCtrlCEndsATransferInOrder(t *testing.T) {
	from := filled(t, 900)
	path := filepath.Join(t.TempDir(), "export")
	ctx, cancel := context.WithCancel(t.Context())
	from.stop = func(n int) error {
		if n == 700 {
			cancel()
		}
		return nil
	}
	if _, err := Export(ctx, from, path, Options{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	from.stop = nil
	if m, err := Export(t.Context(), from, path, Options{}); err != nil || m.Before != 700 {
		t.Fatalf("%+v %v", m, err)
	}
	// A pipe that gives nothing more holds nobody up.
	whole := read(t, path)
	in, out := io.Pipe()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	wrote := make(chan error)
	go func() {
		_, err := out.Write(whole[:len(whole)-10])
		wrote <- err
	}()
	to := &store{}
	if _, err := Import(ctx, to, in, Options{Moved: func(Moved) { cancel() }}); !errors.Is(err, context.Canceled) || to.progress.Loaded == 0 {
		t.Fatalf("%v %+v", err, to.progress)
	}
	must(t, in.Close())
	if err := <-wrote; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
}
