package sqlite

import (
	"context"
	"fmt"
	"sync"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/journal"
	"hookbridge/app/store/sqlite/walfile"
)

// A plain message is stored in two steps. The writer puts it into the tables, in a
// transaction that stays open, and writes all that came with it into the journal: with
// the fsync of that it is stored. The transaction is committed later, for many groups at
// once ("filled"), because most of what a commit costs is pages, and the same pages
// change again and again. Whoever needs the file to have everything waits for that: every
// other request, and a reader of a mailbox that got messages in the open transaction.
// Where that is rolled back, and after a crash, the journal's messages are appended again,
// by the same code and with the same result (see recovery.go).

// fillMessages and fillBytes are how much the open transaction holds at most: less where
// little room is reserved on the disk. Each tick of the upkeep fills as well.
const (
	fillMessages = 4_096
	fillBytes    = 4 << 20
)

// roomToJournal is how often the reserve must be free on the disk, beside itself, for
// messages to go into the journal: that is enough for its two files and for the pages
// that its messages change.
const roomToJournal = 16

// tail is what the journal has and the last commit has not. The writer's goroutine owns
// it, apart from users.
type tail struct {
	journal  *journal.Journal
	limit    int   // messages
	bytes    int64 // the same in bytes
	roomy    bool  // there is room for the journal
	messages int   // in the open transaction and the journal
	adrift   bool  // the transaction was rolled back: they are in the journal alone

	writing bool   // the group that runs goes into the journal
	entry   []byte // its messages
	fresh   int    // how many those are

	mu      sync.Mutex // guards what follows, which readers use
	users   map[string]struct{}
	waiting []chan error  // of readers who need the file to have everything
	wake    chan struct{} // there are some
}

// begin begins the journal of a life, in which the file has everything up to a segment.
func (t *tail) begin(e *Store, filled uint64) {
	size := e.reserve.size
	t.limit, t.bytes = int(min(fillMessages, size/2_048)), min(fillBytes, size/2)
	t.journal = journal.New(e.opts.Dir, e.lives.name, filled+1, e.vfs.Failing)
	t.users, t.wake = make(map[string]struct{}), make(chan struct{}, 1)
}

// await returns where the writer says that the file has everything; nil where a mailbox
// got nothing that is not in the file yet. Any goroutine may ask.
func (t *tail) await(user string) <-chan error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.users[user]; !ok {
		return nil
	}
	done := make(chan error, 1)
	t.waiting = append(t.waiting, done)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return done
}

// filled waits until the file has all that was stored for a user. It does not wait for
// the fan-out, from which the Hub may read.
func (s *Store) filled(ctx context.Context, user string) error {
	done := s.writer.tail.await(user)
	if done == nil {
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.writer.ended:
		return nil
	}
}

// fillForReaders fills, and answers the readers who wait for that.
func (w *writer) fillForReaders() {
	t := &w.tail
	t.mu.Lock()
	waiting := t.waiting
	t.waiting = nil
	t.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	err := errPanicked
	w.opts.Guard.Run(whereWriter, func() { err = w.fillAlone() })
	for _, done := range waiting {
		done <- err
	}
}

// fillAlone fills while no group runs.
func (w *writer) fillAlone() error {
	h := w.store.health
	if err := h.isDamaged(); err != nil {
		return err
	}
	err := w.judge(false, w.fill())
	if err != nil {
		w.restore()
		w.fail(nil, err)
		return unavailable(err)
	}
	w.afterCommit()
	return nil
}

// add notes a message of the group that runs.
func (t *tail) add(no, born int64, m *bridge.Message, recs []*record, places []byte) {
	t.entry = appendJournaled(t.entry, no, born, m, places)
	t.fresh++
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, rec := range recs {
		t.users[rec.user] = struct{}{}
	}
}

// full reports whether it is time to fill.
func (t *tail) full() bool { return t.messages >= t.limit || t.journal.Pending() >= t.bytes }

// emptied is called once a commit has put everything into the file.
func (t *tail) emptied() {
	if t.messages > 0 {
		t.journal.Filled()
	}
	t.messages = 0
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.users)
}

// plain reports whether a message may go into the journal: what becomes of it depends on
// nothing but the tables and itself. (One with a topic depends on acks, which are written
// late; the members of a group depend on tokens.)
func plain(m *bridge.Message) bool {
	return !m.To.All && m.To.Group == "" && m.Topic == "" && len(m.To.Users) < bulkFrom
}

// journals reports whether a group goes into the journal.
func (w *writer) journals(group []*request) bool {
	if len(group) == 0 || !w.tail.roomy || w.tail.adrift || w.store.health.isFull() {
		return false
	}
	for _, r := range group {
		if !r.plain && (r.onlyReads == nil || !r.onlyReads(w)) {
			return false
		}
	}
	return true
}

// journalGroup carries a group out in the open transaction, and writes its messages into
// the journal.
func (w *writer) journalGroup(group []*request) (wrote bool, err error) {
	t := &w.tail
	t.entry, t.fresh, t.writing = t.entry[:0], 0, true
	defer func() { t.writing = false }()
	if err := w.carryInto(group); err != nil || t.fresh == 0 {
		return false, err
	}
	if err := t.journal.Write(t.entry); err != nil {
		return false, err
	}
	t.messages += t.fresh
	if cap(t.entry) > fillBytes {
		t.entry = nil
	}
	return true, nil
}

// fill commits the open transaction. That commit is not fsynced: the journal is kept until
// the checkpointer has done that, beside the writer. Only where the checkpointer lags
// behind, and the journal grows, the writer does it.
func (w *writer) fill() error {
	t := &w.tail
	if t.adrift {
		if _, err := w.attempt(w.refill); err != nil {
			return err
		}
	}
	if !w.inTx && t.messages == 0 {
		return nil
	}
	_, err := w.attempt(func() (bool, error) {
		segment := t.journal.Segment()
		if t.messages > 0 {
			if err := w.begin(); err != nil {
				return false, err
			}
			if err := with(w.sql.setFilled).int(int64(segment)).exec(); err != nil {
				return false, err
			}
		}
		if t.journal.Size() > 4*t.bytes {
			if err := w.commitTx(); err != nil {
				return false, err
			}
			t.emptied()
			if !w.store.vfs.LogUnsure() {
				t.journal.Durable(segment)
			}
			return true, nil
		}
		if err := walfile.Unsynced(w.sql.conn, w.commitTx); err != nil {
			return false, err
		}
		t.emptied()
		w.store.checkpoints.committed(t.journal.Segment() - 1)
		return true, nil
	})
	return err
}

// lookForRoom sees, after a commit, whether there is room for the journal. Where there is
// not, its files make room before the disk is full.
func (w *writer) lookForRoom() {
	r := w.store.reserve
	w.tail.roomy = r.free() >= roomToJournal*r.size
	if j := w.tail.journal; !w.tail.roomy && j.Settled() {
		if err := j.Remove(); err != nil {
			w.opts.Logger.Warn("the journal could not be taken off a disk that is nearly full", "error", err)
		}
	}
}

// clearJournal takes the journal's files away, with all that was erased since. Its request
// finds everything in the file.
func (w *writer) clearJournal() error {
	if w.store.health.isFull() {
		w.useRoom()
		defer w.holdRoom()
	}
	if err := w.store.vfs.SyncLog(w.store.checkpoints.log); err != nil {
		return err
	}
	w.tail.journal.Durable(w.tail.journal.Segment() - 1)
	return w.tail.journal.Remove()
}

// lost returns an error that names the journal's file where somebody else has removed,
// replaced or cut it.
func (t *tail) lost() error {
	if path := t.journal.Lost(); path != "" {
		return fmt.Errorf("%w: %s was removed, replaced or cut short while the program runs: stop it and start it again", errDamaged, path)
	}
	return nil
}
