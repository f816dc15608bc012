package handlers

import "sync"

// unauthenticatedLimit counts the WebSockets of each address that have not shown a token
// yet, so that one address cannot take all the room there is.
type unauthenticatedLimit struct {
	limit int
	mu    sync.Mutex // guards count
	count map[string]int
}

func newUnauthenticatedLimit(limit int) *unauthenticatedLimit {
	return &unauthenticatedLimit{limit: limit, count: make(map[string]int)}
}

// full reports whether the address has as many as it may have.
func (l *unauthenticatedLimit) full(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[clientNetwork(address)] >= l.limit
}

// enter counts one more; ok is false where the address is full. leave takes it off
// again and may be called more than once.
func (l *unauthenticatedLimit) enter(address string) (leave func(), ok bool) {
	address = clientNetwork(address)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[address] >= l.limit {
		return func() {}, false
	}
	l.count[address]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.count[address]--; l.count[address] == 0 {
			delete(l.count, address)
		}
	}), true
}

// total counts those of all addresses.
func (l *unauthenticatedLimit) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.count {
		n += c
	}
	return n
}
