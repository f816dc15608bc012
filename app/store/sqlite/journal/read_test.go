package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

var testSalt = [saltLength]byte{1, 2, 3, 4, 5, 6, 7, 8}

// encoded is a file with entries as the format has them, written by other code than the
// package's.
func encoded(entries ...Entry) []byte {
	b := append([]byte(fileMagic), testSalt[:]...)
	for _, e := range entries {
		head := binary.LittleEndian.AppendUint32(nil, entryMagic)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(e.Data)))
		head = binary.LittleEndian.AppendUint32(head, 0)
		head = binary.LittleEndian.AppendUint64(head, e.Segment)
		head = append(append(head, e.Life...), e.Data...)
		binary.LittleEndian.PutUint32(head[8:], sum(testSalt, head))
		b = append(b, head...)
	}
	return b
}

// FuzzRead reads files that are anything: it must not panic, and neither return more than
// the file has nor make room for what an entry only announces.
func FuzzRead(f *testing.F) {
	whole := encoded(Entry{1, life, []byte("a")}, Entry{1, "life0002", nil}, Entry{2, life, bytes.Repeat([]byte("b"), 300)})
	f.Add([]byte(nil))
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:fileHeader])
	f.Add(whole[:fileHeader+headLength-1])
	f.Add(append([]byte("hbjrnl2\n"), whole[len(fileMagic):]...))
	f.Add(append(bytes.Clone(whole), encoded(Entry{1, life, []byte("an earlier use")})[fileHeader:]...))
	damaged := bytes.Clone(whole)
	damaged[fileHeader+headLength] ^= 1
	f.Add(damaged)
	for _, length := range []uint32{1 << 31, 1<<32 - 1, uint32(len(whole))} {
		announced := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(announced[fileHeader+4:], length)
		f.Add(announced)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		was := bytes.Clone(b)
		entries, err := readFile(b, func(e Entry) bool { return e.Life == life })
		if err != nil {
			if !errors.Is(err, ErrDamaged) || entries != nil {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			return
		}
		size, segment := fileHeader, uint64(0)
		for _, e := range entries {
			size += headLength + len(e.Data)
			if e.Life != life || e.Segment < segment || cap(e.Data) > cap(b) {
				t.Fatalf("an entry of the life %q and segment %d after segment %d, with room for %d bytes", e.Life, e.Segment, segment, cap(e.Data))
			}
			segment = e.Segment
		}
		if len(entries) > 0 && size > len(b) {
			t.Fatalf("%d bytes of %d", size, len(b))
		}
		if !bytes.Equal(b, was) {
			t.Fatal("the file was changed")
		}
	})
}
