package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Members implements bridge.Store.
func (s *Store) Members(ctx context.Context, group string) ([]string, error) {
	now := s.opts.Now().UnixNano()
	return s.names(ctx, func(r *reader) args { return with(r.members).text(group).int(now) })
}

// Groups implements bridge.Store.
func (s *Store) Groups(ctx context.Context, user string) ([]string, error) {
	now := s.opts.Now().UnixNano()
	return s.names(ctx, func(r *reader) args { return with(r.groups).text(user).int(now) })
}

func (s *Store) names(ctx context.Context, query func(*reader) args) ([]string, error) {
	out := []string{}
	err := s.reading(ctx, func(r *reader) error {
		return query(r).each(func(row *sqlite3.Stmt) bool {
			out = append(out, row.ColumnText(0))
			return true
		})
	})
	return out, err
}

// SetMember implements bridge.Store.
func (s *Store) SetMember(ctx context.Context, group, user string, member bool) error {
	return s.do(ctx, func(w *writer) error { return w.setMember(group, user, member) })
}

// members lists who belongs to a group at this moment.
func (w *writer) members(group string) (users []string, err error) {
	err = with(w.sql.groupMembers).text(group).int(w.now).int(bridge.MaxGroupMembers).each(func(r *sqlite3.Stmt) bool {
		users = append(users, r.ColumnText(0))
		return true
	})
	return users, err
}

// setMember puts a user into a group, or takes them out.
func (w *writer) setMember(group, user string, member bool) error {
	if w.scarce && member {
		return refuse(errDiskFull)
	}
	if err := w.begin(); err != nil {
		return err
	}
	if !member {
		delete(w.sizes, group)
		if err := with(w.sql.dropTokens).text(group).text(user).exec(); err != nil {
			return err
		}
		return with(w.sql.dropMember).text(group).text(user).exec()
	}
	there, err := with(w.sql.countMember).text(group).text(user).count()
	if err != nil || there > 0 {
		return err
	}
	stored, ok := w.sizes[group]
	if !ok {
		if stored, err = with(w.sql.countStored).text(group).count(); err != nil {
			return err
		}
	}
	w.sizes[group] = stored
	if stored >= bridge.MaxGroupMembers {
		return refuse(bridge.ErrGroupFull)
	}
	w.sizes[group]++
	return with(w.sql.addMember).text(group).text(user).exec()
}

// saying is what has to change in token_members when a session joins.
type saying struct {
	rows int      // how many there are
	add  []string // groups that its token names
	drop []said
}

// said is one row of token_members, of a known user.
type said struct {
	group, token string
	until        int64
}

func (s *saying) nothing() bool { return len(s.add)+len(s.drop) == 0 }

// saying compares the groups that a session's token names with the rows in the
// file. The rows of the token ended (empty for none) go.
func (w *writer) saying(m bridge.Member, ended string) (s saying, err error) {
	if rec := w.users.get(m.User); rec != nil && rec.noTokens && len(m.Groups) == 0 {
		return s, nil
	}
	until := nanos(m.Until)
	named := make(map[string]bool, len(m.Groups)) // true: the file says so already
	if until > w.now {
		for _, g := range m.Groups {
			named[g] = false
		}
	}
	err = with(w.sql.tokenMembers).text(m.User).each(func(r *sqlite3.Stmt) bool {
		s.rows++
		row := said{r.ColumnText(0), r.ColumnText(1), r.ColumnInt64(2)}
		_, stays := named[row.group]
		switch {
		case row.token == m.Token && stays:
			named[row.group] = row.until >= until
		case row.token == m.Token, row.token == ended:
			s.drop = append(s.drop, row)
		case row.token == "":
			// The row is older than fingerprints: the user's tokens of today
			// replace it.
			s.drop = append(s.drop, row)
		}
		return true
	})
	for _, g := range m.Groups {
		if there, ok := named[g]; ok && !there {
			s.add = append(s.add, g)
		}
	}
	return s, err
}

// belong writes the groups that a session's token names. rows reports whether the file
// has some of the user's now.
func (w *writer) belong(m bridge.Member, ended string) (rows bool, err error) {
	s, err := w.saying(m, ended)
	rows = s.rows+len(s.add) > 0
	if err != nil || s.nothing() {
		return rows, err
	}
	if err := w.begin(); err != nil {
		return rows, err
	}
	for _, row := range s.drop {
		if err := with(w.sql.dropToken).text(row.group).text(m.User).text(row.token).exec(); err != nil {
			return rows, err
		}
	}
	for _, g := range s.add {
		err := with(w.sql.addToken).text(g).text(m.User).text(m.Token).text(m.TokenID).int(instantNanos(m.Issued)).int(nanos(m.Until)).exec()
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// pruneTokens removes the groups that expired tokens have named.
func (w *writer) pruneTokens() (more bool, err error) {
	if old, err := with(w.sql.oldToken).int(w.now).count(); err != nil || old == 0 {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	return true, with(w.sql.oldTokens).int(w.now).int(pruneIDs).exec()
}
