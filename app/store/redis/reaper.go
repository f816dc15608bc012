package redis

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// A machine that dies leaves its sessions in their users' keys. Until these are taken
// out, each script that publishes has to know that the machine is dead. Each machine
// therefore keeps a list of its sessions, and the first machine that notices the death
// reaps it: it takes the listed sessions out of their users' keys and forgets the dead
// machine.

// sessionLists are the lists of a machine's sessions, each with the tag of its user's
// keys: one while the machine lives, and one when it is dead. Both share a tag with what
// is known of machines, so that one script can work on all of it.
func (s *Store) sessionLists(machine string) (live, dead string) {
	base := s.opts.Prefix + ":{machines}:"
	return base + "l:" + machine, base + "d:" + machine
}

// listSession puts a session on this machine's list: without the user's name, which
// would outlive the user's erasure there.
func (s *Store) listSession(session, user string) rueidis.Completed {
	live, _ := s.sessionLists(s.self)
	return s.client.B().Hset().Key(live).FieldValue().FieldValue(session, userTag(user)).Build()
}

// unlistSession takes it off the list.
func (s *Store) unlistSession(session string) rueidis.Completed {
	live, _ := s.sessionLists(s.self)
	return s.client.B().Hdel().Key(live).Field(session).Build()
}

// reapDead reaps the machines whose leases (until, by machine) lapsed long ago. It does
// so beside the renewals of this machine's own lease, one round at a time.
func (s *Store) reapDead(now int64, until map[string]int64) {
	var dead []string
	for machine, t := range until {
		if machine != s.self && t < now-s.opts.Lease.Milliseconds() {
			dead = append(dead, machine)
		}
	}
	if len(dead) == 0 || s.reaping.Swap(true) {
		return
	}
	s.loops.Go(func() {
		defer s.reaping.Store(false)
		s.opts.Guard.Run("redis dead machines", func() { s.reapAll(dead, now, until) })
	})
}

func (s *Store) reapAll(dead []string, now int64, until map[string]int64) {
	for _, machine := range dead {
		ctx, cancel := context.WithTimeout(s.ctx, reapTimeout)
		err := s.reap(ctx, machine, now, until[machine])
		cancel()
		if s.ctx.Err() != nil {
			return
		}
		if err != nil {
			s.opts.Logger.Warn("the sessions of a machine that died could not all be taken out", "error", err)
		}
	}
}

// reapTimeout bounds the work for one dead machine.
const reapTimeout = time.Minute

// reapPage is about how many sessions are taken out in one go.
const reapPage = 256

// reap takes out the sessions of one machine and forgets it. If it fails, the machine is
// still known as dead, and a later round goes on.
func (s *Store) reap(ctx context.Context, machine string, now, until int64) error {
	z, n, _ := s.machineKeys()
	live, dead := s.sessionLists(machine)
	before := itoa(now - s.opts.Lease.Milliseconds())
	reply, err := s.run(ctx, call{&s.scripts.reap, []string{z, live, dead, dead + ":lock"}, []string{machine, before, itoa(reapTimeout.Milliseconds())}})
	if err != nil {
		return err
	}
	if mine, err := reply.AsInt64(); err != nil || mine == 0 {
		return s.fault(ctx, err)
	}
	if err := s.dropSessions(ctx, machine, live, dead, time.UnixMilli(until-s.redisAhead()).UnixNano()); err != nil {
		return err
	}
	if _, err = s.run(ctx, call{&s.scripts.forgetMachine, []string{z, n, live, dead}, []string{machine, before}}); err != nil {
		return err
	}
	return s.do(ctx, s.client.B().Unlink().Key(dead+":lock").Build())
}

// checkPresence has it seen now whether users are still there of whom a session was taken
// out: list has sessions and the tags of their users' keys, and calls a script for each.
func (s *Store) checkPresence(ctx context.Context, list []string, calls []call) error {
	var due []call
	for i, r := range s.runMany(ctx, calls) {
		if r.err != nil {
			return r.err
		}
		moved, err := r.message.AsInt64()
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		if moved == 1 {
			due = append(due, call{&s.scripts.outbox.arm, []string{s.timerIndex()}, []string{list[2*i+1], "", s.clockArg()}})
		}
	}
	for _, r := range s.runMany(ctx, due) {
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// dropSessions takes the sessions on a dead machine's list out of their users' keys. at is
// when the machine was last known to live, Unix nanoseconds.
func (s *Store) dropSessions(ctx context.Context, machine, live, dead string, at int64) error {
	for cursor := uint64(0); ; {
		r := s.client.DoMulti(ctx, s.client.B().Exists().Key(live).Build(), s.client.B().Hscan().Key(dead).Cursor(cursor).Count(reapPage).Build())
		back, err := r[0].AsInt64()
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		if back != 0 { // it lives after all, and has listed its sessions anew
			break
		}
		page, err := r[1].AsScanEntry()
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		var calls, gone []call
		for i := 0; i+1 < len(page.Elements); i += 2 {
			b := s.mailboxAt(page.Elements[i+1])
			calls = append(calls, call{&s.scripts.dropSession, []string{b.h, b.l}, []string{page.Elements[i], machine, itoa(at)}})
			gone = append(gone, call{&s.scripts.outbox.gone, b.timerKeys()[:1], []string{s.clockArg()}})
		}
		for _, r := range s.runMany(ctx, calls) {
			if r.err != nil {
				return r.err
			}
		}
		if err := s.checkPresence(ctx, page.Elements, gone); err != nil {
			return err
		}
		if cursor = page.Cursor; cursor == 0 {
			break
		}
	}
	return s.do(ctx, s.client.B().Unlink().Key(dead).Build())
}
