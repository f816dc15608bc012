package redis

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// A machine that died leaves its sessions in their users' keys. Until these are taken
// out, each script that publishes has to know that the machine is dead, so that is
// done soon: each machine keeps a list of its sessions, and the first one to notice
// the death goes through it.

// sessionsOf is where a machine's sessions are listed, each with the tag of its user's keys, and where
// that list is once the machine is dead. Both have one tag with what is known of
// machines, so that a script can do it in one step.
func (e *Store) sessionsOf(machine string) (live, dead string) {
	base := e.opts.Prefix + ":{machines}:"
	return base + "l:" + machine, base + "d:" + machine
}

// attend lists a session as this machine's: without its user's name, which would
// outlive an erasure here.
func (e *Store) attend(session, user string) rueidis.Completed {
	live, _ := e.sessionsOf(e.self)
	return e.client.B().Hset().Key(live).FieldValue().FieldValue(session, "u"+short(user)).Build()
}

// depart takes it off the list.
func (e *Store) depart(session string) rueidis.Completed {
	live, _ := e.sessionsOf(e.self)
	return e.client.B().Hdel().Key(live).Field(session).Build()
}

// burying goes through what machines that died have left, beside the renewals: one
// such round at a time.
func (e *Store) burying(now int64, until map[string]int64) {
	var dead []string
	for machine, t := range until {
		if machine != e.self && t < now-e.opts.Lease.Milliseconds() {
			dead = append(dead, machine)
		}
	}
	if len(dead) == 0 || e.reaping.Swap(true) {
		return
	}
	e.loops.Go(func() {
		defer e.reaping.Store(false)
		e.opts.Guard.Run("redis dead machines", func() { e.buryAll(dead, now, until) })
	})
}

func (e *Store) buryAll(dead []string, now int64, until map[string]int64) {
	for _, machine := range dead {
		ctx, cancel := context.WithTimeout(e.life, reapTimeout)
		err := e.bury(ctx, machine, now, until[machine])
		cancel()
		if e.life.Err() != nil {
			return
		}
		if err != nil {
			e.opts.Logger.Warn("the sessions of a machine that died could not all be taken out", "error", err)
		}
	}
}

// reapTimeout bounds the work for one dead machine.
const reapTimeout = time.Minute

// reapPage is about how many sessions are taken out in one go.
const reapPage = 256

// bury takes out the sessions of a machine and strikes it off. Where that breaks off,
// the machine is still known as dead, and somebody goes on later.
func (e *Store) bury(ctx context.Context, machine string, now, until int64) error {
	z, n, _ := e.machineKeys()
	live, dead := e.sessionsOf(machine)
	before := itoa(now - e.opts.Lease.Milliseconds())
	reply, err := e.run(ctx, call{&e.scripts.reap, []string{z, live, dead, dead + ":lock"}, []string{machine, before, itoa(reapTimeout.Milliseconds())}})
	if err != nil {
		return err
	}
	if mine, err := reply.AsInt64(); err != nil || mine == 0 {
		return e.fault(ctx, err)
	}
	if err := e.empty(ctx, machine, live, dead, time.UnixMilli(until).UnixNano()); err != nil {
		return err
	}
	if _, err = e.run(ctx, call{&e.scripts.forgetMachine, []string{z, n, live, dead}, []string{machine, before}}); err != nil {
		return err
	}
	return e.fault(ctx, e.client.Do(ctx, e.client.B().Unlink().Key(dead+":lock").Build()).Error())
}

// empty goes through the list of a dead machine's sessions.
func (e *Store) empty(ctx context.Context, machine, live, dead string, at int64) error {
	for cursor := uint64(0); ; {
		r := e.client.DoMulti(ctx, e.client.B().Exists().Key(live).Build(), e.client.B().Hscan().Key(dead).Cursor(cursor).Count(reapPage).Build())
		back, err := r[0].AsInt64()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		if back != 0 { // it lives after all, and has listed its sessions anew
			return e.fault(ctx, e.client.Do(ctx, e.client.B().Unlink().Key(dead).Build()).Error())
		}
		page, err := r[1].AsScanEntry()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		var calls []call
		for i := 0; i+1 < len(page.Elements); i += 2 {
			b := e.mailboxAt(page.Elements[i+1])
			calls = append(calls, call{&e.scripts.dropSession, []string{b.h, b.l}, []string{page.Elements[i], machine, itoa(at)}})
		}
		for _, r := range e.runMany(ctx, calls) {
			if r.err != nil {
				return r.err
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return e.fault(ctx, e.client.Do(ctx, e.client.B().Unlink().Key(dead).Build()).Error())
		}
	}
}
