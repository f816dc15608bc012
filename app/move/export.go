package move

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"hookbridge/app/bridge"
)

// Export writes a store to a file, readable by its owner alone, because it holds
// payloads. Where the file holds an export of the same store that broke off, it
// goes on behind that one's last checkpoint.
func Export(ctx context.Context, a bridge.Archive, path string, o Options) (Moved, error) {
	if err := exportable(ctx, a); err != nil {
		return Moved{}, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return Moved{}, err
	}
	w := &writer{file: f, out: bufio.NewWriterSize(f, 64<<10), o: o.withDefaults()}
	after, err := w.open(a.Epoch())
	if err == nil {
		err = w.dump(ctx, a, after)
	}
	return w.moved, errors.Join(err, f.Close())
}

// Stream writes a store to where nothing can be gone on with, like a pipe.
func Stream(ctx context.Context, a bridge.Archive, out io.Writer, o Options) (Moved, error) {
	if err := exportable(ctx, a); err != nil {
		return Moved{}, err
	}
	w := &writer{out: bufio.NewWriterSize(out, 64<<10), o: o.withDefaults()}
	err := w.begin(a.Epoch())
	if err == nil {
		err = w.dump(ctx, a, "")
	}
	return w.moved, err
}

// exportable tells whether the store is one.
func exportable(ctx context.Context, a bridge.Archive) error {
	if a.Epoch() != "" {
		return nil
	}
	p, err := a.Progress(ctx)
	if err != nil {
		return err
	}
	if p.Export != "" {
		return bridge.ErrUnfinished
	}
	return ErrNothing
}

// writer writes one export.
type writer struct {
	file   *os.File // nil where it is a stream
	out    *bufio.Writer
	o      Options
	seal   *sealer
	moved  Moved
	synced time.Time

	// The section that is being written.
	entries int
	bytes   int64
	place   string // behind its last entry
}

// begin writes the header of a new export.
func (w *writer) begin(epoch string) error {
	h := header{
		Hookbridge: "export", Version: version, Export: strings.ToLower(rand.Text()[:16]),
		Epoch: epoch, At: time.Now().UTC().Truncate(time.Second),
	}
	b, err := w.line(h)
	if err != nil {
		return err
	}
	w.seal = newSealer(b)
	return w.sync()
}

// open finds where the file's export goes on, and takes out what is behind that.
func (w *writer) open(epoch string) (after string, err error) {
	r, err := newReader(w.file)
	switch {
	case errors.Is(err, ErrIncomplete): // new, or cut in its first line
	case err != nil:
		return "", err
	case r.header.Epoch != epoch:
		return "", ErrOther
	}
	var keep int64
	if r != nil {
		if after, keep, err = w.resume(r); err != nil {
			return "", err
		}
	}
	// From here on the file is ours.
	if err := w.file.Chmod(0o600); err != nil {
		return "", err
	}
	if err := w.file.Truncate(keep); err != nil {
		return "", err
	}
	if _, err := w.file.Seek(keep, io.SeekStart); err != nil {
		return "", err
	}
	if r == nil {
		return "", w.begin(epoch)
	}
	w.moved = Moved{Entries: r.entries, Before: r.entries, Bytes: keep}
	w.o.Say(fmt.Sprintf("the file holds %d entries of an export that broke off: it goes on behind them", r.entries))
	w.o.Moved(w.moved)
	return after, nil
}

// resume reads what is there up to the last checkpoint that is good: what a
// crash has left behind that one is written again.
func (w *writer) resume(r *reader) (after string, keep int64, err error) {
	for {
		keep = r.offset
		s, err := r.next()
		switch {
		case errors.Is(err, ErrIncomplete), errors.Is(err, ErrDamaged):
			w.seal = newSealer(r.from)
			return after, keep, nil
		case err != nil:
			return "", 0, err
		case s.end:
			return "", 0, ErrFinished
		}
		after = s.place
	}
}

// dump writes what comes after a place, and the end.
func (w *writer) dump(ctx context.Context, a bridge.Archive, after string) error {
	w.synced = time.Now()
	err := a.Dump(ctx, after, func(e bridge.Entry, place string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return w.entry(e, place)
	})
	if err != nil {
		// What has been written stays and is gone on from, unless it is the
		// writing that fails.
		if w.file == nil || w.out.Flush() != nil {
			return err
		}
		if w.entries > 0 {
			err = errors.Join(err, w.checkpoint())
		}
		return errors.Join(err, w.sync())
	}
	if _, err := w.line(ending{End: true, Entries: w.moved.Entries, Sum: w.seal.end(w.moved.Entries)}); err != nil {
		return err
	}
	if err := w.sync(); err != nil {
		return err
	}
	w.o.Moved(w.moved)
	return nil
}

// entry writes one entry, and a checkpoint where the section is full.
func (w *writer) entry(e bridge.Entry, place string) error {
	b, err := w.line(e)
	if err != nil {
		return err
	}
	w.seal.add(b)
	w.moved.Entries++
	w.entries++
	w.bytes += int64(len(b))
	w.place = place
	if w.entries < w.o.section && w.bytes < sectionBytes {
		return nil
	}
	if err := w.checkpoint(); err != nil {
		return err
	}
	w.o.Moved(w.moved)
	if time.Since(w.synced) < syncEvery {
		return nil
	}
	return w.sync()
}

func (w *writer) checkpoint() error {
	_, err := w.line(checkpoint{Place: w.place, Sum: w.seal.checkpoint(w.place)})
	w.entries, w.bytes = 0, 0
	return err
}

// line writes v as a line, and returns it.
func (w *writer) line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("an entry cannot be written: %w", err)
	}
	b = append(b, '\n')
	n, err := w.out.Write(b)
	w.moved.Bytes += int64(n)
	return b, err
}

// sync makes what has been written durable.
func (w *writer) sync() error {
	w.synced = time.Now()
	if err := w.out.Flush(); err != nil {
		return err
	}
	if w.file == nil {
		return nil
	}
	return w.file.Sync()
}
