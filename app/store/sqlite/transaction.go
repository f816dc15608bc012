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
	if len(group) > 0 {
		w.fan <- group
	}
}

func (w *writer) carryOut(group []*request) {
	start := time.Now()
	todo := w.admit(group)
	wrote, err := w.commit(todo)
	switch {
	case err != nil:
		w.fail(todo, err)
	case wrote:
		w.store.health.good()
		w.store.metrics.commit(time.Since(start), len(group))
		if !w.store.health.isFull() {
			w.store.checkpoints.look()
			w.guard()
		}
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

// errPanicked answers the requests of a group in whose transaction our code panicked.
var errPanicked = fmt.Errorf("%w: the store's writer failed", bridge.ErrUnavailable)

// attempt carries a group's transaction out. One that panics is rolled back, and
// fails with errPanicked.
func (w *writer) attempt(group []*request) (wrote bool, err error) {
	w.store.commitMu.Lock()
	defer w.store.commitMu.Unlock()
	if !w.opts.Guard.Run(whereWriter, func() { wrote, err = w.transact(group) }) {
		return wrote, err
	}
	w.inTx = false
	w.users = newRecords(recordLimit) // a record may be half changed; the file has them all
	err = errPanicked
	w.opts.Guard.Run(whereWriter, func() { // where this fails as well, begin tries again
		if !w.sql.conn.GetAutocommit() {
			if rerr := with(w.sql.rollback).exec(); rerr != nil {
				err = fmt.Errorf("%w (and rolling back: %w)", err, rerr)
			}
		}
	})
	return false, err
}

// commit carries a group out in one transaction, unless the files are damaged. It
// fails where the transaction went into files that were removed or replaced.
func (w *writer) commit(group []*request) (wrote bool, err error) {
	h := w.store.health
	if err := h.isDamaged(); err != nil {
		return false, err
	}
	wrote, err = w.attempt(group)
	switch {
	case wrote && err == nil:
		if err = w.store.files.moved(); err != nil {
			h.damage(err)
		}
	case err != nil && w.store.files.cut() != nil:
		err = w.store.files.cut()
		h.damage(err)
	case walfile.Full(err):
		h.setFull(true)
		err = fmt.Errorf("%w (%w)", errDiskFull, err)
	default:
		err = h.looked(err)
	}
	return wrote, err
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
// there is nothing to write, there is no transaction and no fsync.
func (w *writer) transact(group []*request) (wrote bool, err error) {
	w.now = w.opts.Now().UnixNano()
	w.touched = w.touched[:0]
	w.outbox.begin()
	defer func() {
		wrote = w.inTx
		w.inTx = false
		if err != nil && !w.sql.conn.GetAutocommit() {
			if rerr := with(w.sql.rollback).exec(); rerr != nil {
				err = fmt.Errorf("%w (and rolling back: %w)", err, rerr)
			}
		}
	}()
	for _, early := range []bool{true, false} {
		for _, r := range group {
			if r.early != early {
				continue
			}
			if err := w.apply(r); err != nil {
				return false, err
			}
		}
	}
	if len(group) != 1 || !group[0].alone {
		if err := w.upkeep(); err != nil {
			return false, err
		}
	}
	if !w.inTx {
		return false, nil
	}
	if err := with(w.sql.commit).exec(); err != nil {
		return false, err
	}
	w.acks.written()
	w.outbox.written()
	return true, nil
}

// upkeep does a slice of what nobody waits for.
func (w *writer) upkeep() error {
	if err := w.writeAcks(acksPerGroup); err != nil {
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
	w.inTx = true
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
	w.outbox.failed()
	w.prune.failed()
	w.store.health.bad(err)
	if !errors.Is(err, bridge.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	for _, r := range group {
		r.err = err
		if r.failed != nil {
			r.err = r.failed(w, err)
		}
	}
}
