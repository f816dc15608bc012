package handlers

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestBody(t *testing.T) {
	t.Run("is read as it comes", bodyIsRead)
	t.Run("that is too long or cut short is refused", bodyIsRefused)
	t.Run("is not allocated because a header announced it", bodyIsNotAllocated)
	t.Run("that has been coming for longest makes room", bodyMakesRoom)
	t.Run("of the largest size fits where there is no other", bodyOfLargestSize)
}

func readerOf(bs *bodyBudget, limit, length int) *bodyReader {
	return &bodyReader{budget: bs, limit: limit, length: length}
}

func bodyIsRead(t *testing.T) {
	for _, n := range []int{0, 1, 100, firstBodyBytes - 1, firstBodyBytes, firstBodyBytes + 1, 60_000, 1 << 20} {
		sent := bytes.Repeat([]byte("a"), n)
		for name, stream := range map[string]io.Reader{
			"at once": bytes.NewReader(sent), "in halves": iotest.HalfReader(bytes.NewReader(sent)), "with its end": iotest.DataErrReader(bytes.NewReader(sent)),
		} {
			for _, length := range []int{n, -1} {
				bs := newBodyBudget(1 << 20)
				got, err := readerOf(bs, 1<<20, length).read(stream)
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d bytes %s, announced %d: %d, %v", n, name, length, len(got), err)
				}
				if bs.size != 0 || len(bs.byAddress)+len(bs.reading) != 0 {
					t.Errorf("%d bytes stay counted", bs.size)
				}
				stream = bytes.NewReader(sent)
			}
		}
	}
}

func bodyIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		sent, limit, length int
		want                error
	}{
		"announced too large":  {0, 1000, 1001, errBodyTooLarge},
		"too large, in chunks": {20_001, 20_000, -1, errBodyTooLarge},
		"too short":            {5000, 60_000, 50_000, io.ErrUnexpectedEOF},
	} {
		bs := newBodyBudget(1 << 20)
		if _, err := readerOf(bs, c.limit, c.length).read(bytes.NewReader(make([]byte, c.sent))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if bs.size != 0 {
			t.Errorf("%s: %d bytes stay counted", name, bs.size)
		}
	}
}

// stuck sends so many bytes and then waits until it is told to end.
type stuck struct {
	left  int
	sent  chan struct{} // closed when all are sent
	until chan struct{}
}

func (s *stuck) Read(b []byte) (int, error) {
	if s.left == 0 {
		close(s.sent)
		<-s.until
		return 0, errors.New("ended")
	}
	n := min(len(b), s.left)
	s.left -= n
	return n, nil
}

// A length that is announced costs nothing: memory follows what arrives.
func bodyIsNotAllocated(t *testing.T) {
	bs := newBodyBudget(8 << 20)
	s := &stuck{left: 1, sent: make(chan struct{}), until: make(chan struct{})}
	r := readerOf(bs, 8<<20, 8<<20)
	done := make(chan error)
	go func() {
		_, err := r.read(s)
		done <- err
	}()
	<-s.sent
	bs.mu.Lock()
	if bs.size != 0 {
		t.Errorf("%d bytes are counted for one", bs.size)
	}
	bs.mu.Unlock()
	close(s.until)
	if <-done == nil {
		t.Error("it ended well")
	}
}

func bodyMakesRoom(t *testing.T) {
	bs := newBodyBudget(1000)
	bs.max, bs.maxPerAddress = 10_000, 6_000
	one, two, three := &bodyUse{address: "a"}, &bodyUse{address: "b"}, &bodyUse{address: "c"}
	for _, b := range []*bodyUse{one, two} {
		if err := bs.grow(b, 5_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := bs.grow(three, 1_000); err != nil || bs.done(one) != errBodiesFull || bs.done(two) != nil {
		t.Errorf("%v, the first %v", err, one.evicted)
	}
	if err := bs.grow(one, 1); err != errBodiesFull {
		t.Errorf("one that was given up goes on: %v", err)
	}
	four, five := &bodyUse{address: "c"}, &bodyUse{address: "c"}
	if err := bs.grow(four, 4_000); err != nil {
		t.Fatal(err)
	}
	if err := bs.grow(five, 1_500); err != nil || bs.done(three) != errAddressBodies || four.evicted != nil {
		t.Errorf("of one address: %v, its first %v", err, three.evicted)
	}
	if err := bs.grow(five, 100_000); err != errAddressBodies && err != errBodiesFull {
		t.Errorf("one that cannot fit: %v", err)
	}
	for _, b := range []*bodyUse{one, two, three, four, five} {
		_ = bs.done(b) // once more changes nothing
	}
	if bs.size != 0 || len(bs.reading)+len(bs.byAddress) != 0 {
		t.Errorf("%d bytes stay counted, %v", bs.size, bs.byAddress)
	}
}

// zeros sends so many bytes that nobody keeps.
type zeros int

func (z *zeros) Read(b []byte) (int, error) {
	if *z == 0 {
		return 0, io.EOF
	}
	n := min(len(b), int(*z))
	*z -= zeros(n)
	return n, nil
}

// Whatever the limits are, one largest body fits by itself, in chunks too, which
// do not tell how much is to come.
func bodyOfLargestSize(t *testing.T) {
	const largest = maxUnauthenticatedBodies/2 + 1
	for _, length := range []int{largest, -1} {
		z := zeros(largest)
		if b, err := readerOf(newBodyBudget(largest), largest, length).read(&z); err != nil || len(b) != largest {
			t.Errorf("announced %d: %d bytes, %v", length, len(b), err)
		}
	}
}

func BenchmarkReadSmallBody(b *testing.B) {
	bs, sent := newBodyBudget(8<<20), bytes.Repeat([]byte("a"), 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readerOf(bs, 64<<10, len(sent)).read(bytes.NewReader(sent)); err != nil {
			b.Fatal(err)
		}
	}
}
