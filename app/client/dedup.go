package client

// recentEvents is how many event ids a Subscriber remembers: as many as a mailbox
// holds by default.
const recentEvents = 10_000

// recent remembers the ids added last, size of them at most.
type recent struct {
	size int
	ids  map[string]struct{}
	ring []string
	next int // where the oldest id stands once the ring is full
}

func newRecent(size int) *recent { return &recent{size: size, ids: make(map[string]struct{})} }

func (r *recent) has(id string) bool {
	_, ok := r.ids[id]
	return ok
}

// add remembers an id that is not remembered yet.
func (r *recent) add(id string) {
	r.ids[id] = struct{}{}
	if len(r.ring) < r.size {
		r.ring = append(r.ring, id)
		return
	}
	delete(r.ids, r.ring[r.next])
	r.ring[r.next] = id
	r.next = (r.next + 1) % r.size
}
