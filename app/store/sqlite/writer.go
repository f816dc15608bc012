package sqlite

import (
	"time"
)

// Bounds of one group.
const (
	maxGroup       = 512     // requests in one transaction
	maxGroupBytes  = 4 << 20 // payload in one transaction, one message at least
	maxGroupPlaces = 2_000   // places in mailboxes, one message's at least
	groupPlaces    = 500     // what a message to a group counts for: its members are not known yet
)

// upkeepEvery is how often the writer looks for acks to write and rows to prune
// when nothing else wakes it; acks are durable well within a second.
const upkeepEvery = 300 * time.Millisecond

// writer owns the writing connection, and everything known about users. All of
// it belongs to the one goroutine that runs loop.
type writer struct {
	store *Store
	opts  Options
	sql   *statements
	queue *queue
	fan   chan []*request
	ended chan struct{} // closed once it has written the last

	users   *records
	guarded int64    // the log's length when the disk was looked at; see guard
	touched []string // users whose records this transaction changed
	nextNo  int64
	firstNo int64 // what nextNo was when the transaction was opened
	now     int64 // this group's time, Unix nanoseconds
	inTx    bool
	locked  bool // commitMu is held
	buf     []byte

	sizes map[string]int // of groups that were counted; dropped when in doubt
	reach map[string]int // how many members a group had when it was last written to
	loose []int64        // messages to several that this append took out of a mailbox

	tail   tail
	filled uint64 // the segment of the journal that the file had, and all before it, at the start

	acks     *ackBook
	outbox   *outbox
	prune    pruner
	erasures erasures
	probe    int64
	scarce   bool       // the disk is full, and only what makes room may use what is left
	carry    []*request // taken from the queue, not yet run
	share    []*request // of long work, for the next transaction

	lastErr error // of the acks written at the very end
}

// live begins the journal and the leases of the store's life.
func (w *writer) live() {
	w.tail.begin(w.store, w.filled)
	w.outbox.life = w.store.lives.no
}

func newWriter(e *Store, s *statements) (*writer, error) {
	w := &writer{store: e, opts: e.opts, sql: s, queue: e.queue, fan: make(chan []*request, 1), ended: make(chan struct{}),
		users: newRecords(recordLimit), acks: e.acks, erasures: erasures{}, buf: make([]byte, 0, 256), sizes: make(map[string]int),
		reach: make(map[string]int)}
	var err error
	if w.nextNo, err = s.nextNo(); err != nil {
		return nil, err
	}
	filled, err := queryInt(s.conn, "SELECT value FROM meta WHERE key = 'journal'")
	if err != nil {
		return nil, err
	}
	w.filled = uint64(filled)
	w.tail.begin(e, w.filled)
	w.outbox, err = newOutbox(e, s)
	return w, err
}

// loop runs until the queue is closed and empty. After a panic outside of a group it
// starts again, because nobody else would answer the callers that wait.
func (w *writer) loop() {
	defer close(w.ended)
	defer close(w.fan)
	w.opts.Guard.Loop(whereWriter, nil, w.turns)
	w.opts.Guard.Run(whereWriter, func() { w.lastErr = w.finish() })
}

// finish writes what is left, before the end.
func (w *writer) finish() error {
	w.acks.close()
	if err := w.store.health.isDamaged(); err != nil {
		return nil // the journal stays; the caller was told of the damage
	}
	if err := w.fill(); err != nil {
		return err
	}
	return w.flushAcks()
}

// whereWriter is what the writer's panics are counted as.
const whereWriter = "store writer"

func (w *writer) turns() {
	w.refuseCarry()
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		open := true
		if len(w.carry) == 0 {
			w.carry, open = w.queue.take()
		}
		if len(w.share) == 0 {
			w.share = w.queue.takeBulk(w.size)
		}
		if len(w.carry) == 0 && len(w.share) == 0 && !open {
			return
		}
		if len(w.carry) == 0 && len(w.share) == 0 && !w.upkeepDue() {
			select {
			case <-w.queue.wake:
			case <-w.tail.wake:
				w.fillForReaders()
			case <-tick.C:
				w.tick()
				if w.store.health.isFull() {
					w.admit(nil)
				} else {
					w.holdRoom()
				}
			}
			continue
		}
		select {
		case <-w.tail.wake:
			w.fillForReaders()
		case <-tick.C:
			w.tick()
		default:
		}
		n := w.groupOf(w.carry)
		group := w.carry[:n:n]
		w.carry = w.carry[n:]
		w.queue.free(n)
		if n != 1 || !group[0].alone {
			group = append(group, w.share...)
			w.share = nil
		}
		w.run(group)
		if w.tail.full() {
			w.run(nil)
		}
	}
}

// tick enters acks, fills, and lets the upkeep begin.
func (w *writer) tick() {
	if w.inTx || w.tail.messages > 0 || w.acks.hasNotes() {
		w.run(nil)
	}
	w.acks.tick()
	w.prune.due()
}

// refuseCarry refuses the requests that a panic has left between the queue and a
// group: tried again, they might cause it again.
func (w *writer) refuseCarry() {
	left := append(w.carry, w.share...)
	if len(left) == 0 {
		return
	}
	for _, r := range left {
		r.err = errPanicked
	}
	w.queue.free(len(w.carry))
	w.fan <- left
	w.carry, w.share = nil, nil
}

// maxReach bounds the memory of groups' sizes.
const maxReach = 10_000

// size is how much of a transaction a request will take.
func (w *writer) size(r *request) (places, bytes int) {
	if r.size == nil {
		return 1, 0
	}
	return r.size(w)
}

// reached notes how many members a group has.
func (w *writer) reached(group string, members int) {
	if len(w.reach) >= maxReach {
		clear(w.reach)
	}
	w.reach[group] = members
}

// groupOf cuts off as much as goes into one transaction.
func (w *writer) groupOf(waiting []*request) int {
	bytes, places := 0, 0
	for i, r := range waiting {
		if r.alone {
			return max(i, 1)
		}
		p, b := w.size(r)
		places, bytes = places+p, bytes+b
		if i > 0 && (bytes > maxGroupBytes || places > maxGroupPlaces) {
			return i
		}
		if i+1 == maxGroup {
			return maxGroup
		}
	}
	return len(waiting)
}

func (w *writer) upkeepDue() bool { return w.acks.pending() || w.prune.backlog }
