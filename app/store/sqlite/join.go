package sqlite

import (
	"context"
	"fmt"

	"hookbridge/app/bridge"
)

// joining is a session on its way in through the writer.
type joining struct {
	member   bridge.Member
	ended    string // a token of the user that says nothing any more
	state    bridge.JoinState
	noTokens bool // see record
}

// Enter is for local.Live.
func (s *Store) Enter(ctx context.Context, m bridge.Member, ended string) (bridge.JoinState, error) {
	if m.User == "" {
		return bridge.JoinState{}, errNoUser
	}
	j := &joining{member: m, ended: ended}
	if err := s.ask(ctx, j.request()); err != nil {
		return bridge.JoinState{}, err
	}
	return j.state, nil
}

func (j *joining) request() *request {
	return &request{
		onlyReads: func(w *writer) bool { return w.knows(j) },
		write:     func(w *writer) error { return w.join(j) },
		after:     func(w *writer) { w.joined(j) },
		tell: func(s *Store, h bridge.Hub) {
			s.opts.Guard.Run(whereFanOut, func() { h.Joined(j.member) })
		},
		failed: func(w *writer, err error) error { return w.joinReading(j, err) },
	}
}

// join finds where a user stands, and notes one that is seen for the first time.
func (w *writer) join(j *joining) error {
	if w.scarce {
		return refuse(w.joinReading(j, errDiskFull))
	}
	if err := w.admits(j.member); err != nil {
		return refuse(err)
	}
	rec, err := w.record(j.member.User)
	if err != nil {
		return err
	}
	if !rec.seen {
		all, err := w.record("")
		if err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
		w.touch(rec)
		rec.seen = true
		rec.lastSeen = w.now
		if !j.member.Returns {
			rec.first = all.head
			rec.acked.Broadcast = max(rec.acked.Broadcast, all.head)
		}
		if err := w.sql.save(rec); err != nil {
			return err
		}
	}
	rows, err := w.belong(j.member, j.ended)
	if err != nil {
		return err
	}
	j.noTokens = !rows
	return w.standing(j, nil)
}

// knows reports whether a join has nothing to write, and reads nothing but what is in
// memory.
func (w *writer) knows(j *joining) bool {
	rec := w.users.get(j.member.User)
	return rec != nil && rec.seen && rec.noTokens && len(j.member.Groups) == 0
}

// standing fills in a join's answer. It returns unseen for a user who has never
// joined: then the attempt to write that first join has failed.
func (w *writer) standing(j *joining, unseen error) error {
	rec, err := w.record(j.member.User)
	if err != nil {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	all, err := w.record("")
	if err != nil {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	if !rec.seen {
		return unseen
	}
	j.state = bridge.JoinState{
		Head:  bridge.Position{Mailbox: rec.head, Broadcast: all.head},
		Acked: rec.acked,
		First: bridge.Position{Broadcast: rec.first},
		Life:  w.store.lives.name,
	}
	j.state.Page, j.state.PageAfter = emptyPage(rec, all, j)
	return nil
}

// emptyPage is the first page of a session that has missed nothing: most sessions have
// not, and then it needs no reading. It is nil for others.
func emptyPage(rec, all *record, j *joining) (*bridge.Page, bridge.Position) {
	r := j.member.Reads
	if r == nil || !r.Fresh && r.Life != j.state.Life {
		return nil, bridge.Position{}
	}
	after := r.After
	if r.Fresh {
		after = j.state.Acked
	}
	after = after.Max(j.state.First)
	if !after.Covers(j.state.Head) {
		return nil, bridge.Position{}
	}
	end := func(of *record) bridge.Stretch {
		return bridge.Stretch{After: of.head, Next: of.head, Trimmed: of.trimmed, Removed: removed(of.explicit, of.expired, of.head)}
	}
	return &bridge.Page{Mailbox: end(rec), Broadcast: end(all)}, after
}

// joined notes that a user was there, whether or not their session's join has written
// something.
func (w *writer) joined(j *joining) {
	rec := w.users.get(j.member.User)
	if rec == nil {
		return
	}
	rec.noTokens = j.noTokens
	if rec.lastSeen < w.now { // a first join has written it
		w.wasSeen(rec, w.now)
	}
}

// joinReading is a join while nothing can be written: where a known user stands can
// still be read. It returns err where something would have to be written, and while what
// was stored last is in the journal alone.
func (w *writer) joinReading(j *joining, err error) error {
	if refused := w.admits(j.member); refused != nil {
		return refused
	}
	if w.tail.adrift {
		return err
	}
	s, rerr := w.saying(j.member, j.ended)
	if rerr != nil || !s.nothing() {
		return err
	}
	return w.standing(j, err)
}

// admits returns why a session may not join: bridge.ErrRevoked, bridge.ErrErased.
func (w *writer) admits(m bridge.Member) error {
	switch {
	case w.store.revoked.covers(m.User, m.TokenID, m.Issued):
		return bridge.ErrRevoked
	case w.erasures.after(m):
		return bridge.ErrErased
	}
	return nil
}
