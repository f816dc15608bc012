package move

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// Export writes a store to out, and calls progress after each section. Errors:
// ErrNothing, bridge.ErrUnfinished, those of out and of the store.
func Export(ctx context.Context, a bridge.Archive, out io.Writer, progress func(Moved)) (Moved, error) {
	w := &writer{out: bufio.NewWriterSize(out, 64<<10), progress: progress, most: sectionEntries}
	err := w.export(ctx, a)
	return w.moved, err
}

// writer writes one export.
type writer struct {
	out      *bufio.Writer
	seal     *sealer
	progress func(Moved)
	moved    Moved

	// The section that is being written.
	most    int // entries
	entries int
	bytes   int
}

func (w *writer) export(ctx context.Context, a bridge.Archive) error {
	epoch, err := a.Epoch()
	if err != nil {
		return err
	}
	if epoch == "" {
		return ErrNothing
	}
	first, err := w.line(header{
		Hookbridge: "export", Version: version, Export: strings.ToLower(rand.Text()[:16]),
		Epoch: epoch, At: time.Now().UTC().Truncate(time.Second),
	})
	if err != nil {
		return err
	}
	w.seal = newSealer(first)
	err = a.Dump(ctx, func(e bridge.Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return w.entry(e)
	})
	if err != nil {
		return err
	}
	if err := w.close(line{End: true, Entries: w.moved.Entries}); err != nil {
		return err
	}
	return w.out.Flush()
}

// entry writes one entry, and a checkpoint where the section is full.
func (w *writer) entry(e bridge.Entry) error {
	b, err := w.line(e)
	if err != nil {
		return err
	}
	w.seal.add(b)
	w.moved.Entries++
	w.entries++
	w.bytes += len(b)
	if w.entries < w.most && w.bytes < sectionBytes {
		return nil
	}
	return w.close(line{Place: strconv.FormatInt(w.moved.Entries, 10)})
}

// close writes what closes the section.
func (w *writer) close(l line) error {
	l.Sum = w.seal.sum(l)
	if _, err := w.line(l); err != nil {
		return err
	}
	w.entries, w.bytes = 0, 0
	w.progress(w.moved)
	return nil
}

// line writes v as a line, and returns it.
func (w *writer) line(v any) ([]byte, error) {
	b, err := wire.EncodeStrict(v)
	if err != nil {
		return nil, fmt.Errorf("an entry cannot be written: %w", err)
	}
	b = append(b, '\n')
	n, err := w.out.Write(b)
	w.moved.Bytes += int64(n)
	return b, err
}
