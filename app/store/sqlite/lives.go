package sqlite

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// A backup of bridge.db that was put back cannot be told from the file that it
// replaced. So each start begins a new life: a row in lives, with the next number and
// a random name. The lives after the backup was made have names that the backup does
// not know. Where a life began is written per mailbox, with the first message that
// the mailbox gets in that life.

// lifeLength makes two of 10,000 lost lives share a name with the store's own
// about once in 200,000 stores.
const lifeLength = 8

// maxLives is how many lives a store remembers, and maxLifeStarts how many of their
// beginnings a mailbox does. A cursor of an older life gets a gap.
const (
	maxLives      = 10_000
	maxLifeStarts = 64
)

// lives is what the store has lived through; it does not change while it is open.
type lives struct {
	name    string // of the life now
	no      int64
	oldest  int64 // the first that is not forgotten
	numbers map[string]int64
	names   map[int64]string
}

// numberOf finds a life; the time before stores kept lives is number 0.
func (l *lives) numberOf(name string) (int64, bool) {
	if name == "" {
		return 0, true
	}
	n, ok := l.numbers[name]
	return n, ok
}

// loadLives reads the list.
func loadLives(c *sqlite3.Conn) (*lives, error) {
	l := &lives{numbers: make(map[string]int64), names: make(map[int64]string)}
	s, _, err := c.Prepare("SELECT no, name FROM lives ORDER BY no")
	if err != nil {
		return nil, err
	}
	err = with(s).each(func(r *sqlite3.Stmt) bool {
		l.no, l.name = r.ColumnInt64(0), r.ColumnText(1)
		if l.oldest == 0 {
			l.oldest = l.no
		}
		l.numbers[l.name], l.names[l.no] = l.no, l.name
		return true
	})
	return l, firstOf(err, s.Close())
}

// beginLife adds a life to the store's list, before anything is appended in it.
func beginLife(c *sqlite3.Conn) (*lives, error) {
	// A name needs no escaping.
	add := fmt.Sprintf("INSERT INTO lives (name) VALUES ('%s'); DELETE FROM lives WHERE no <= (SELECT max(no) FROM lives) - %d", randomName(lifeLength), maxLives)
	if err := c.Exec(add); err != nil {
		return nil, err
	}
	return loadLives(c)
}

// randomName has n characters of [0-9a-z], 26 at most.
func randomName(n int) string { return strings.ToLower(rand.Text()[:n]) }

// lifeStart says that a mailbox stood at after when the first message of the life
// no came into it.
type lifeStart struct {
	no    int64
	after uint64
}

// addLifeStart notes where a life began. From a full list the oldest entry goes,
// and its life counts as ended where it began: too early an end is safe.
func addLifeStart(list []lifeStart, s lifeStart) []lifeStart {
	if len(list) >= maxLifeStarts {
		list[1].after = list[0].after
		list = slices.Delete(list, 0, 1)
	}
	return append(list, s)
}

// lifeEnd is where a life ended in a mailbox that stands at head.
func lifeEnd(list []lifeStart, no int64, head uint64) uint64 {
	for _, s := range list {
		if s.no > no {
			return min(s.after, head)
		}
	}
	return head
}

// lived notes that a message of this life is about to come into a mailbox. true
// where it is the first, and the record has to be saved.
func (w *writer) lived(rec *record) bool {
	now := w.store.lives.no
	if n := len(rec.lives); n > 0 && rec.lives[n-1].no == now {
		return false
	}
	rec.lives = addLifeStart(rec.lives, lifeStart{now, rec.head})
	return true
}

// Life implements bridge.Store.
func (s *Store) Life() string { return s.lives.name }

// LifeEnd implements bridge.Store.
func (s *Store) LifeEnd(ctx context.Context, user, life string) (bridge.Position, error) {
	no, ok := s.lives.numberOf(life)
	if !ok {
		return bridge.Position{}, bridge.ErrRewound
	}
	var p bridge.Position
	err := s.viewOf(ctx, user, func(r *reader) error {
		mine, err := r.shelf(user)
		if err != nil {
			return err
		}
		all, err := r.shelf("")
		p = bridge.Position{Mailbox: lifeEnd(mine.lives, no, mine.head), Broadcast: lifeEnd(all.lives, no, all.head)}
		return err
	})
	return p, err
}
