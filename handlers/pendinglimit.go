package handlers

import "sync"

// pending counts the WebSockets of each address that have not shown a token yet, so
// that one address cannot take all the room there is.
type pending struct {
	limit int
	mu    sync.Mutex // guards count
	count map[string]int
}

func newPending(limit int) *pending { return &pending{limit: limit, count: make(map[string]int)} }

// full reports whether the address has as many as it may have.
func (p *pending) full(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[clientNetwork(address)] >= p.limit
}

// enter counts one more; ok is false where the address is full. leave takes it off
// again and may be called more than once.
func (p *pending) enter(address string) (leave func(), ok bool) {
	address = clientNetwork(address)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[address] >= p.limit {
		return func() {}, false
	}
	p.count[address]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.count[address]--; p.count[address] == 0 {
			delete(p.count, address)
		}
	}), true
}

// total counts those of all addresses.
func (p *pending) total() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.count {
		n += c
	}
	return n
}
