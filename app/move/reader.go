package move

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"

	"hookbridge/app/bridge"
)

// reader reads an export section by section, and tells of nothing that has not
// come whole.
type reader struct {
	in      *bufio.Reader
	header  header
	seal    *sealer
	from    []byte // what the section's sum goes on from: the header, or the sum before
	lines   int
	offset  int64 // behind the last whole line
	entries int64 // in the sections so far
}

// section is what stands between two checkpoints.
type section struct {
	entries []bridge.Entry
	place   string // behind it; empty at the end
	end     bool
}

// newReader reads the header.
func newReader(in io.Reader) (*reader, error) {
	r := &reader{in: bufio.NewReaderSize(in, 64<<10)}
	b, err := r.line(maxHeader)
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errTooLong):
		return nil, err
	case !mayBeExport(b) || errors.Is(err, errTooLong):
		return nil, ErrForeign
	case len(b) == 0:
		return nil, fmt.Errorf("%w: nothing is there", ErrIncomplete)
	case err != nil:
		return nil, fmt.Errorf("%w: it ends in its first line", ErrIncomplete)
	case json.Unmarshal(b, &r.header) != nil || r.header.Version < 1:
		return nil, fmt.Errorf("%w: line 1 is no header", ErrDamaged)
	case r.header.Version > version:
		return nil, fmt.Errorf("the export is of version %d, and this program knows versions up to %d: use a newer hookbridge", r.header.Version, version)
	case r.header.Export == "" || !isEpoch(r.header.Epoch):
		return nil, fmt.Errorf("%w: line 1 is no header", ErrDamaged)
	}
	r.from, r.seal = b, newSealer(b)
	return r, nil
}

// isEpoch: see Engine.Epoch.
func isEpoch(s string) bool {
	return len(s) >= 4 && len(s) <= 16 && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

// next reads the next section, which counts as read once its sum is right.
// ErrIncomplete where the file ends before it does.
func (r *reader) next() (section, error) {
	var s section
	room := maxSection
	for {
		b, err := r.line(room)
		switch {
		case errors.Is(err, io.EOF):
			return s, ErrIncomplete
		case errors.Is(err, errTooLong):
			r.lines++
			return s, r.damaged("belongs to more than a section may hold")
		case err != nil:
			return s, err
		}
		room -= len(b)
		l, ok := parseLine(b)
		var sum string
		switch {
		case !ok:
			return s, r.damaged("is no entry")
		case l.End:
			n := r.entries + int64(len(s.entries))
			if l.Entries != n {
				return s, r.damaged(fmt.Sprintf("counts %d entries, and there are %d", l.Entries, n))
			}
			s.end, sum = true, r.seal.end(n)
		case l.Place != "":
			s.place, sum = l.Place, r.seal.checkpoint(l.Place)
		default:
			r.seal.add(b)
			s.entries = append(s.entries, l.Entry)
			continue
		}
		if l.Sum != sum {
			return s, r.damaged("does not fit what is before it, which is not as it was written")
		}
		r.from = []byte(sum)
		r.entries += int64(len(s.entries))
		return s, nil
	}
}

// atEnd wants nothing to follow.
func (r *reader) atEnd() error {
	_, err := r.in.ReadByte()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		r.lines++
		return r.damaged("follows its end")
	}
	return fmt.Errorf("reading the export: %w", err)
}

func (r *reader) damaged(how string) error {
	return fmt.Errorf("%w: line %d %s", ErrDamaged, r.lines, how)
}

var errTooLong = errors.New("the line is too long")

// line reads a line with its newline. Where the input ends before that, it
// returns what there is, and io.EOF.
func (r *reader) line(most int) ([]byte, error) {
	var all []byte
	for {
		b, err := r.in.ReadSlice('\n')
		all = append(all, b...)
		switch {
		case len(all) > most:
			return all, errTooLong
		case err == nil:
			r.lines++
			r.offset += int64(len(all))
			return all, nil
		case errors.Is(err, io.EOF):
			return all, io.EOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("reading the export: %w", err)
		}
	}
}

// interruptible is a reader whose Read ends with its context, also while a pipe
// has nothing to give.
type interruptible struct {
	ctx context.Context
	in  io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	type got struct {
		n   int
		err error
	}
	done := make(chan got, 1)
	go func() { // p is its own where the context ends first: nobody reads on
		n, err := i.in.Read(p)
		done <- got{n, err}
	}()
	select {
	case g := <-done:
		return g.n, g.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}
