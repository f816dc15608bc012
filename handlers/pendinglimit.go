package handlers

import "sync"

// pending counts the connections of each address that have not proven who they
// are, so that one address cannot hold all there is room for.
type pending struct {
	limit int
	mu    sync.Mutex // guards count
	count map[string]int
}

func newPending(limit int) *pending { return &pending{limit: limit, count: make(map[string]int)} }

// full tells whether the address has all it may have.
func (p *pending) full(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[clientNetwork(address)] >= p.limit
}

// enter counts one more, unless the address is full by now; the returned
// function takes it off again and may be called more than once.
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
