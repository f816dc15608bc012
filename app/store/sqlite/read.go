package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Pending implements bridge.Store.
func (e *Store) Pending(ctx context.Context, user string, after bridge.Position) (int, error) {
	r, err := e.readers.take(ctx)
	if err != nil {
		return 0, err
	}
	defer e.readers.give(r)
	n := 0
	now := e.opts.Now().UnixNano()
	err = r.view(func() error {
		_, _, from, err := r.shelves(user, after)
		if err != nil {
			return err
		}
		add := func(row *sqlite3.Stmt) bool {
			n += row.ColumnInt(0)
			return false
		}
		if err := with(r.count).text(user).seq(from.Mailbox).int(now).each(add); err != nil {
			return err
		}
		return with(r.count).text("").seq(from.Broadcast).int(now).each(add)
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return n, nil
}

// Read implements bridge.Store. The two logs come mixed in the order in which
// the messages arrived. A place beyond a log's head reads as empty, and Next is
// that head: what comes later has to be found.
func (e *Store) Read(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (bridge.Page, error) {
	if life != e.lives.name {
		return bridge.Page{}, bridge.ErrOtherLife
	}
	r, err := e.readers.take(ctx)
	if err != nil {
		return bridge.Page{}, err
	}
	defer e.readers.give(r)
	var p bridge.Page
	now := e.opts.Now().UnixNano()
	err = r.view(func() error {
		mine, all, from, err := r.shelves(user, after)
		if err != nil {
			return err
		}
		m := &stretch{rows: r.mail, shelf: mine, at: min(from.Mailbox, mine.head), to: bridge.Target{User: user}}
		b := &stretch{rows: r.all, shelf: all, at: min(from.Broadcast, all.head), to: bridge.Target{All: true}}
		p, err = mix(m, b, user, now, max(maxCount, 1), maxBytes)
		for i := range p.Deliveries {
			p.Deliveries[i].Life = life
		}
		// An answer that was not read to its end keeps a view of the file.
		return firstOf(err, m.rows.Reset(), b.rows.Reset())
	})
	if err != nil {
		return bridge.Page{}, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return p, nil
}

// stretch walks along one log from a place on.
type stretch struct {
	rows  *sqlite3.Stmt
	shelf shelf
	to    bridge.Target
	at    uint64 // everything up to here is read, or gone

	expired, trimmed uint64 // the furthest that are gone
	now              int64

	// The row that is next; ok is false at the log's head.
	ok      bool
	seq     uint64
	no      int64
	expires int64
}

// start begins the walk, step goes one row further.
func (s *stretch) start(user string, now int64) error {
	if s.shelf.trimmed > s.at {
		s.trimmed = s.shelf.trimmed
	}
	s.now = now
	a := with(s.rows).text(user).seq(s.at)
	if a.err != nil {
		return a.err
	}
	return s.step()
}

// step looks at the next row that has not expired. Sequences are given out
// without holes, so what lies between here and there is gone: trimmed up to the
// watermark, and expired beyond it, unless the mailbox says better.
func (s *stretch) step() error {
	for {
		s.ok = s.rows.Step()
		if !s.ok {
			if err := s.rows.Err(); err != nil {
				return err
			}
			s.pass(s.shelf.head)
			return nil
		}
		s.seq, s.no, s.expires = uint64(s.rows.ColumnInt64(0)), s.rows.ColumnInt64(1), s.rows.ColumnInt64(2)
		s.pass(s.seq - 1)
		if s.expires > s.now {
			return nil
		}
		s.at, s.expired = s.seq, s.seq
	}
}

// pass moves over places where nothing lies.
func (s *stretch) pass(to uint64) {
	if to <= s.at {
		return
	}
	switch {
	case to <= s.shelf.trimmed:
	case !s.shelf.explicit:
		s.expired = to
	case s.shelf.expired > s.at:
		// Which of these holes expired is not known, only that one up to the
		// watermark did; so none before it passes for nothing.
		s.expired = max(s.expired, min(to, s.shelf.expired))
	}
	s.at = to
}

// message makes the Message of the row that is next.
func (s *stretch) message() (*bridge.Message, error) {
	m := &bridge.Message{
		ID:      s.rows.ColumnText(3),
		From:    s.rows.ColumnText(4),
		To:      s.to,
		Event:   s.rows.ColumnBlob(7, []byte{}),
		Expires: time.Unix(0, s.expires).UTC(),
		Type:    s.rows.ColumnText(8),
		At:      time.Unix(0, s.rows.ColumnInt64(9)).UTC(),
		Topic:   s.rows.ColumnText(10),
	}
	copy(m.Digest[:], s.rows.ColumnRawBlob(5))
	var err error
	if m.Except, err = parseNames(s.rows.ColumnRawBlob(6)); err != nil {
		return nil, err
	}
	m.Encode()
	return m, nil
}

// mix reads both stretches, oldest arrival first, until the page is full.
func mix(mine, all *stretch, user string, now int64, maxCount, maxBytes int) (bridge.Page, error) {
	var p bridge.Page
	if err := mine.start(user, now); err != nil {
		return p, err
	}
	if err := all.start("", now); err != nil {
		return p, err
	}
	bytes := 0
	for mine.ok || all.ok {
		s := mine
		if !mine.ok || (all.ok && all.no < mine.no) {
			s = all
		}
		if len(p.Deliveries) == maxCount {
			p.More = true
			break
		}
		m, err := s.message()
		if err != nil {
			return p, err
		}
		bytes += len(m.Event)
		if len(p.Deliveries) > 0 && bytes > maxBytes {
			p.More = true
			break
		}
		d := bridge.Delivery{Message: m}
		if s == mine {
			d.Mailbox = s.seq
		} else {
			d.Broadcast = s.seq
		}
		p.Deliveries = append(p.Deliveries, d)
		s.at = s.seq
		if err := s.step(); err != nil {
			return p, err
		}
	}
	p.Next = bridge.Position{Mailbox: mine.at, Broadcast: all.at}
	p.Lost = bridge.Lost{
		Expired: bridge.Position{Mailbox: mine.expired, Broadcast: all.expired},
		Trimmed: bridge.Position{Mailbox: mine.trimmed, Broadcast: all.trimmed},
	}
	return p, nil
}
