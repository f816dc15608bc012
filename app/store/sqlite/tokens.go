package sqlite

import (
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// admits tells why a session may not join: bridge.ErrRevoked, bridge.ErrErased.
func (w *writer) admits(m bridge.Member) error {
	switch {
	case w.engine.revoked.covers(m.User, m.TokenID, m.Issued):
		return bridge.ErrRevoked
	case w.erasures.after(m):
		return bridge.ErrErased
	}
	return nil
}

// saying is what has to change in token_members when a session joins.
type saying struct {
	add  []string // groups that its token names
	drop []said
}

// said is one row of token_members, of a known user.
type said struct {
	group, token string
	until        int64
}

func (s *saying) nothing() bool { return len(s.add)+len(s.drop) == 0 }

// saying compares what a session's token says with what is in the file, where the
// token ended (empty for none) says nothing any more.
func (w *writer) saying(m bridge.Member, ended string) (s saying, err error) {
	until := nanos(m.Until)
	named := make(map[string]bool, len(m.Groups)) // true: the file says so already
	if until > w.now {
		for _, g := range m.Groups {
			named[g] = false
		}
	}
	err = with(w.store.tokenMembers).text(m.User).each(func(r *sqlite3.Stmt) bool {
		row := said{r.ColumnText(0), r.ColumnText(1), r.ColumnInt64(2)}
		_, stays := named[row.group]
		switch {
		case row.token == m.Token && stays:
			named[row.group] = row.until >= until
		case row.token == m.Token, row.token == ended:
			s.drop = append(s.drop, row)
		case row.token == "":
			// From before there were fingerprints: whoever is here says by now
			// what counts.
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

// belong writes down what groups a session's token names.
func (w *writer) belong(m bridge.Member, ended string) error {
	s, err := w.saying(m, ended)
	if err != nil || s.nothing() {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	for _, row := range s.drop {
		if err := with(w.store.dropToken).text(row.group).text(m.User).text(row.token).exec(); err != nil {
			return err
		}
	}
	for _, g := range s.add {
		err := with(w.store.addToken).text(g).text(m.User).text(m.Token).text(m.TokenID).int(instantNanos(m.Issued)).int(nanos(m.Until)).exec()
		if err != nil {
			return err
		}
	}
	return nil
}

// instantNanos is a time as it stands in the file, where 0 is none.
func instantNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return nanos(t)
}

// revoke remembers a revocation, and takes back what the tokens have said.
func (w *writer) revoke(user string, v bridge.Revocation) error {
	if err := w.begin(); err != nil {
		return err
	}
	if err := with(w.store.addRevocation).text(user).text(v.TokenID).int(instantNanos(v.IssuedBefore)).exec(); err != nil {
		return err
	}
	if v.TokenID != "" {
		return with(w.store.revokeToken).text(user).text(v.TokenID).exec()
	}
	return with(w.store.revokeBefore).text(user).int(nanos(v.IssuedBefore)).exec()
}

// pruneTokens forgets what tokens have said that are over.
func (w *writer) pruneTokens() (more bool, err error) {
	old := false
	err = with(w.store.oldToken).int(w.now).each(func(*sqlite3.Stmt) bool {
		old = true
		return false
	})
	if err != nil || !old {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	return true, with(w.store.oldTokens).int(w.now).int(pruneIDs).exec()
}
