package bridge

import (
	"runtime"
	"sync"
)

// writers write what is queued for sessions, as many at a time as there are processors. A
// message to many makes that many sessions writable at once, and a goroutine for each of
// them would cost as much as a third of the write.
type writers struct {
	mu      sync.Mutex // guards what follows; taken inside a session's lock
	waiting []*Session
	next    int // what is before it in waiting was taken
	running int
}

// writersBatch is how many sessions a writer takes at a time.
const writersBatch = 32

// add has a session's queue written. Its writing is set.
func (ws *writers) add(s *Session) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.waiting = append(ws.waiting, s)
	if ws.running < runtime.GOMAXPROCS(0) {
		ws.running++
		go ws.run()
	}
}

// run writes until nothing waits. Session.writeQueued catches panics.
func (ws *writers) run() {
	var batch [writersBatch]*Session
	for {
		n := ws.take(batch[:])
		if n == 0 {
			return
		}
		for _, s := range batch[:n] {
			s.writeQueued()
		}
		clear(batch[:n])
	}
}

// take moves sessions that have waited for longest into batch; 0 ends the writer.
func (ws *writers) take(batch []*Session) (n int) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	n = copy(batch, ws.waiting[ws.next:])
	clear(ws.waiting[ws.next : ws.next+n])          // so that nothing keeps them
	if ws.next += n; 2*ws.next >= len(ws.waiting) { // no more is moved than was taken
		left := copy(ws.waiting, ws.waiting[ws.next:])
		clear(ws.waiting[left:])
		ws.waiting, ws.next = ws.waiting[:left], 0
		if left == 0 && cap(ws.waiting) > maxWaitingKept {
			ws.waiting = nil
		}
	}
	if n == 0 {
		ws.running--
	}
	return n
}

// maxWaitingKept is for how many sessions the list is kept while none waits.
const maxWaitingKept = 16 << 10
