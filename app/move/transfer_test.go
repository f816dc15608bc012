package move

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/wire"
)

func TestTransfer(t *testing.T) {
	t.Run("leaves a store the same", transferIsWhole)
	t.Run("carries long entries and large sections whole", transferOfLong)
	t.Run("has the format that is described", transferFormat)
	t.Run("ends in order on Ctrl-C", transferInterrupted)
}

func TestExport(t *testing.T) {
	t.Run("is not made of half a store", exportRefused)
	t.Run("ends with the error of the store", exportEnds)
	t.Run("says so when writing fails", exportWriteFails)
}

// exported is a store's export.
func exported(t testing.TB, s *store) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := Export(t.Context(), s, &b, ignore)
	expect.NoError(t, err)
	return b.Bytes()
}

func ignore(Moved) {}

// inSections is a store's export in sections of so many entries.
func inSections(t testing.TB, s *store, most int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := &writer{out: bufio.NewWriter(&b), progress: ignore, most: most}
	expect.NoError(t, w.export(t.Context(), s))
	return b.Bytes()
}

// load imports a file into a store.
func load(t testing.TB, s *store, b []byte) (Moved, error) {
	t.Helper()
	return Import(t.Context(), s, bytes.NewReader(b), ignore)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	expect.NoError(t, err)
	return b
}

func transferIsWhole(t *testing.T) {
	for _, n := range []int{0, 1, 499, 500, 501, 1700} {
		from, to := filled(t, n), &store{}
		var file bytes.Buffer
		var told Moved
		m, err := Export(t.Context(), from, &file, func(m Moved) { told = m })
		if want := (Moved{Entries: int64(n), Bytes: int64(file.Len())}); err != nil || m != want || told != want {
			t.Errorf("%d: %+v, told %+v, %v", n, m, told, err)
		}
		got, err := load(t, to, file.Bytes())
		if err != nil || got != m {
			t.Fatalf("%d: %+v %v", n, got, err)
		}
		same(t, from, to)
		if to.loads != (n+499)/500 {
			t.Errorf("%d entries in %d loads", n, to.loads)
		}
	}
}

func transferOfLong(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	from, to := &store{epoch: "epoch1"}, &store{}
	places := make([]bridge.PlaceEntry, 10_000)
	for i := range places {
		places[i] = bridge.PlaceEntry{User: strings.Repeat("é", 128), Seq: uint64(i)}
	}
	for _, e := range []bridge.Entry{
		{Event: &bridge.EventEntry{ID: "x", Digest: make([]byte, 32), Places: places}},
		{Message: &bridge.MessageEntry{User: "u", Seq: 1, Event: bytes.Repeat([]byte{0xff}, 4<<20)}},
		{Message: &bridge.MessageEntry{User: "u", Seq: 2, Event: []byte("{}")}},
	} {
		b, err := wire.EncodeStrict(e)
		expect.NoError(t, err)
		from.entries = append(from.entries, string(b))
	}
	_, err := load(t, to, exported(t, from))
	expect.NoError(t, err)
	same(t, from, to)
	if to.loads != 3 {
		t.Errorf("%d loads: a section ends with a megabyte", to.loads)
	}
}

func transferFormat(t *testing.T) {
	lines := strings.Split(string(exported(t, filled(t, 501))), "\n")
	if len(lines) != 1+500+1+1+1+1 || lines[len(lines)-1] != "" {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range map[int]string{
		0: `{"hookbridge":"export","version":3,"export":"`, 1: `{"event":{"id":`, 2: `{"mailbox":{"user":`,
		501: `{"place":"500","sum":"`, 503: `{"end":true,"entries":501,"sum":"`,
	} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is %s", i+1, lines[i])
		}
	}
}

func transferInterrupted(t *testing.T) {
	from := filled(t, 900)
	ctx, cancel := context.WithCancel(t.Context())
	from.stop = func(n int) error {
		if n == 700 {
			cancel()
		}
		return nil
	}
	if m, err := Export(ctx, from, io.Discard, ignore); !errors.Is(err, context.Canceled) || m.Entries != 700 {
		t.Fatalf("%+v %v", m, err)
	}
	from.stop = nil
	// A pipe that gives nothing more holds nobody up.
	whole := exported(t, from)
	in, out := io.Pipe()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	wrote := make(chan error)
	go func() {
		_, err := out.Write(whole[:len(whole)-10])
		wrote <- err
	}()
	to := &store{}
	if _, err := Import(ctx, to, in, func(Moved) { cancel() }); !errors.Is(err, context.Canceled) || len(to.entries) == 0 || !to.begun {
		t.Fatalf("%v, %d entries", err, len(to.entries))
	}
	expect.NoError(t, in.Close())
	if err := <-wrote; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
}

func exportRefused(t *testing.T) {
	var out bytes.Buffer
	if _, err := Export(t.Context(), &store{}, &out, ignore); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
	if _, err := Export(t.Context(), &store{begun: true}, &out, ignore); !errors.Is(err, bridge.ErrUnfinished) {
		t.Error(err)
	}
	if out.Len() != 0 {
		t.Errorf("written: %s", out.String())
	}
}

func exportEnds(t *testing.T) {
	from := filled(t, 60)
	for n := range from.entries {
		from.stop = at(n)
		var half bytes.Buffer
		if _, err := Export(t.Context(), from, &half, ignore); !errors.Is(err, errStop) {
			t.Fatalf("%d: %v", n, err)
		}
		if _, err := load(t, &store{}, half.Bytes()); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("%d: the half: %v", n, err)
		}
	}
}

func exportWriteFails(t *testing.T) {
	if _, err := Export(t.Context(), filled(t, 9000), &full{room: 300_000}, ignore); !errors.Is(err, errFull) {
		t.Error(err)
	}
}
