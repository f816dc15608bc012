package move

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// reader reads an export section by section.
type reader struct {
	in      *bufio.Reader
	header  header
	seal    *sealer
	lines   int
	offset  int64 // behind the last whole line
	entries int64 // in the sections so far
	ended   bool  // the last section has been read
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
	case wire.Decode(b, &r.header) != nil || r.header.Version < 1:
		return nil, fmt.Errorf("%w: line 1 is no header", ErrDamaged)
	case r.header.Version > version:
		return nil, fmt.Errorf("the export is of version %d, and this program knows versions up to %d: use a newer hookbridge", r.header.Version, version)
	case r.header.Export == "" || !bridge.ValidEpoch(r.header.Epoch):
		return nil, fmt.Errorf("%w: line 1 is no header", ErrDamaged)
	}
	r.seal = newSealer(b)
	return r, nil
}

// next reads the next section, whose sum is right. ErrIncomplete where the file ends
// before it does.
func (r *reader) next() (entries []bridge.Entry, err error) {
	for room := maxSection; ; {
		b, err := r.line(room)
		switch {
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it ends after line %d", ErrIncomplete, r.lines)
		case errors.Is(err, errTooLong):
			r.lines++
			return nil, r.damaged("belongs to more than a section may hold")
		case err != nil:
			return nil, err
		}
		room -= len(b)
		l, ok := parseLine(b)
		if !ok {
			return nil, r.damaged("is no entry")
		}
		if l.closes() {
			return entries, r.closed(l, int64(len(entries)))
		}
		if err := l.Check(); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrDamaged, r.lines, err)
		}
		r.seal.add(b)
		entries = append(entries, l.Entry)
	}
}

// closed checks what closes a section of so many entries.
func (r *reader) closed(l line, entries int64) error {
	r.entries += entries
	if l.End && l.Entries != r.entries {
		return r.damaged(fmt.Sprintf("counts %d entries, and there are %d", l.Entries, r.entries))
	}
	if l.Sum != r.seal.sum(l) {
		return r.damaged("does not fit what is before it, which is not as it was written")
	}
	if r.ended = l.End; !l.End {
		return nil
	}
	_, err := r.in.ReadByte()
	if err == nil {
		r.lines++
		return r.damaged("follows its end")
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the export: %w", err)
	}
	return nil
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
