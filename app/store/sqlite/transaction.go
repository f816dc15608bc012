package sqlite

import (
	"errors"
	"fmt"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/walfile"
)

// run carries out one group, and passes it on to be told and answered.
func (w *writer) run(group []*request) {
	if w.opts.Guard.Run(whereWriter, func() { w.carryOut(group) }) {
		for _, r := range group { // some of them may have had an answer
			r.err = errPanicked
		}
	}
	if len(group) == 0 {
		return
	}
	for {
		select {
		case w.fan <- group:
			return
		case <-w.tail.wake: // it may be the Hub that reads, from the fan-out
			w.fillForReaders()
		}
	}
}

func (w *writer) carryOut(group []*request) {
	start := time.Now()
	todo := w.admit(group)
	wrote, err := w.commit(todo)
	switch {
	case err != nil:
		w.restore()
		w.fail(todo, err)
	case wrote:
		w.store.health.good()
		w.store.metrics.commit(time.Since(start), len(group))
	}
	if err == nil {
		w.afterCommit()
	}
	for _, r := range group {
		if r.err == nil && r.after != nil {
			r.after(w)
		}
	}
	if w.store.health.isFull() && (wrote || err != nil) {
		w.keepRoom()
	}
}

// afterCommit looks at the write-ahead log and the disk, unless a transaction is open.
func (w *writer) afterCommit() {
	if !w.inTx && !w.store.health.isFull() {
		w.store.checkpoints.look()
		w.guard()
	}
}

// errPanicked answers the requests of a group in whose transaction our code panicked.
var errPanicked = fmt.Errorf("%w: the store's writer failed", bridge.ErrUnavailable)

// attempt carries out a step of a transaction. One that fails or panics is rolled back,
// with all that was in the transaction; a panic is errPanicked. The commit's lock is held
// for as long as a transaction is open.
func (w *writer) attempt(step func() (wrote bool, err error)) (wrote bool, err error) {
	if !w.locked {
		w.store.commitMu.Lock()
		w.locked = true
	}
	defer func() {
		if !w.inTx {
			w.locked = false
			w.store.commitMu.Unlock()
		}
	}()
	if w.opts.Guard.Run(whereWriter, func() { wrote, err = step() }) {
		err = errPanicked
		w.users = newRecords(recordLimit) // a record may be half changed; the file has them all
	}
	if err == nil {
		return wrote, nil
	}
	w.opts.Guard.Run(whereWriter, func() { // where this fails as well, begin tries again
		if rerr := w.rollBack(); rerr != nil {
			err = fmt.Errorf("%w (and rolling back: %w)", err, rerr)
		}
	})
	return false, err
}

// rollBack ends the transaction, if one is open, with nothing done.
func (w *writer) rollBack() error {
	if w.inTx {
		w.nextNo = w.firstNo
	}
	w.inTx = false
	w.acks.failed()
	w.outbox.failed()
	if w.tail.messages > 0 {
		w.tail.adrift = true
		w.users = newRecords(recordLimit) // they have the tail's messages already
	}
	if w.sql.conn.GetAutocommit() {
		return nil
	}
	return with(w.sql.rollback).exec()
}

// restore opens the transaction of the tail's messages again, after it was rolled back.
// Where that fails, fill tries again. On a full disk keepRoom does it.
func (w *writer) restore() {
	if !w.tail.adrift || w.store.health.isFull() || w.store.health.isDamaged() != nil {
		return
	}
	if _, err := w.attempt(w.refill); err != nil {
		w.opts.Logger.Error("what the journal has could not be put into the tables again", "error", err)
	}
}

// commit carries a group out, unless the files are damaged: in the open transaction and
// the journal, or else in a transaction to itself, before which the open one is
// committed. It fails where it wrote into files that were removed or replaced.
func (w *writer) commit(group []*request) (wrote bool, err error) {
	h := w.store.health
	if err := h.isDamaged(); err != nil {
		return false, err
	}
	if w.journals(group) {
		wrote, err = w.attempt(func() (bool, error) { return w.journalGroup(group) })
	} else if err = w.fill(); err == nil {
		wrote, err = w.attempt(func() (bool, error) { return w.transact(group) })
	}
	return wrote, w.judge(wrote, err)
}

// judge looks, after a commit or an attempt at one, at what an error says of the files.
func (w *writer) judge(wrote bool, err error) error {
	h := w.store.health
	if wrote || err != nil {
		if lost := firstOf(w.store.files.moved(), w.tail.lost()); lost != nil {
			h.damage(lost)
			return lost
		}
	}
	switch {
	case err != nil && w.store.files.cut() != nil:
		err = w.store.files.cut()
		h.damage(err)
	case walfile.Full(err):
		h.setFull(true)
		err = fmt.Errorf("%w (%w)", errDiskFull, err)
	default:
		err = h.looked(err)
	}
	return err
}

// admit refuses the messages of a group while the disk is full, and returns the
// other requests. It looks first whether there is room again.
func (w *writer) admit(group []*request) []*request {
	w.scarce = false
	if !w.store.health.isFull() {
		return group
	}
	if err := w.store.reserve.fill(); err == nil {
		w.store.health.setFull(false)
		return group
	}
	w.scarce = w.store.reserve.scarce()
	var rest []*request
	for _, r := range group {
		if r.needsRoom {
			r.err = errDiskFull
			continue
		}
		rest = append(rest, r)
	}
	return rest
}

// transact does everything asked, and a slice of upkeep, in one transaction. Where
// there is nothing to write, there is no transaction and no fsync. Upkeep alone, for which
// nobody waits, is made durable by the checkpointer, beside the writer: that does not count
// as a write that proves the disk.
func (w *writer) transact(group []*request) (wrote bool, err error) {
	if err := w.carryInto(group); err != nil {
		return false, err
	}
	if !w.inTx {
		w.outbox.written()
		return false, nil
	}
	if len(group) == 0 && !w.store.health.isFull() {
		if err := walfile.Unsynced(w.sql.conn, w.commitTx); err != nil {
			return false, err
		}
		w.store.checkpoints.committed(w.tail.journal.Segment() - 1)
		return false, nil
	}
	if err := w.commitTx(); err != nil {
		return false, err
	}
	if !w.store.vfs.LogUnsure() {
		w.tail.journal.Durable(w.tail.journal.Segment() - 1) // with the same fsync
		w.acks.durableTo(w.acks.writtenSoFar())
	}
	return true, nil
}

// commitTx commits the transaction.
func (w *writer) commitTx() error {
	if err := with(w.sql.commit).exec(); err != nil {
		return err
	}
	w.inTx = false
	w.acks.written()
	w.outbox.written()
	return nil
}

// carryInto does everything asked, and a slice of upkeep, in the running transaction, or
// in a new one that is opened by the first write.
func (w *writer) carryInto(group []*request) error {
	w.now = w.opts.Now().UnixNano()
	if !w.inTx {
		w.touched = w.touched[:0]
		w.outbox.begin()
	}
	if err := w.enterAcks(); err != nil {
		return err
	}
	for _, early := range []bool{true, false} {
		for _, r := range group {
			if r.early != early {
				continue
			}
			if err := w.apply(r); err != nil {
				return err
			}
		}
	}
	if len(group) == 1 && group[0].alone {
		return nil
	}
	n := acksPerGroup
	if len(group) == 0 {
		n = acksAlone
	}
	return w.upkeep(n)
}

// upkeep does a slice of what nobody waits for, with the acks of up to so many users.
func (w *writer) upkeep(acks int) error {
	if err := w.writeAcks(acks); err != nil {
		return err
	}
	return w.pruneSlice()
}

// apply runs one request's function in the running transaction.
func (w *writer) apply(r *request) error {
	err := r.write(w)
	if err == nil {
		return nil
	}
	if no, ok := errors.AsType[refused](err); ok {
		r.err = no.error
		return nil
	}
	return err
}

// begin opens the group's transaction when the first write needs it.
func (w *writer) begin() error {
	if w.inTx {
		return nil
	}
	if !w.sql.conn.GetAutocommit() {
		// An earlier rollback failed as well; nothing can be written on top.
		if err := with(w.sql.rollback).exec(); err != nil {
			return err
		}
	}
	if w.store.health.isFull() {
		w.useRoom()
	}
	if err := with(w.sql.begin).exec(); err != nil {
		return err
	}
	w.inTx, w.firstNo = true, w.nextNo
	return nil
}

// fail answers a group whose transaction has failed. The records of the users it
// touched are wrong now, and memory drops them. The acks in it stay on the book and
// will be written later.
func (w *writer) fail(group []*request, err error) {
	for _, user := range w.touched {
		w.users.drop(user)
	}
	clear(w.sizes)
	w.acks.failed()
	w.prune.failed()
	w.store.health.bad(err)
	err = unavailable(err)
	for _, r := range group {
		r.err = err
		if r.failed != nil {
			r.err = r.failed(w, err)
		}
	}
}

// unavailable makes an error one that says that the store is not available.
func unavailable(err error) error {
	if errors.Is(err, bridge.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
}
