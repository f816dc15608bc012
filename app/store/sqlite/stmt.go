package sqlite

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// args binds a prepared statement's parameters in order and runs it. It goes by
// value, so that the hot path allocates nothing for it.
type args struct {
	s   *sqlite3.Stmt
	n   int
	err error
}

func with(s *sqlite3.Stmt) args { return args{s: s} }

func (a args) text(v string) args {
	a.n++
	if a.err == nil {
		a.err = a.s.BindText(a.n, v)
	}
	return a
}

func (a args) int(v int64) args {
	a.n++
	if a.err == nil {
		a.err = a.s.BindInt64(a.n, v)
	}
	return a
}

func (a args) bool(v bool) args {
	if v {
		return a.int(1)
	}
	return a.int(0)
}

// orNull binds NULL for an empty string.
func (a args) orNull(v string) args {
	if v != "" {
		return a.text(v)
	}
	a.n++
	if a.err == nil {
		a.err = a.s.BindNull(a.n)
	}
	return a
}

func (a args) seq(v uint64) args { return a.int(int64(v)) }

// blob binds NULL for nil, and an empty blob for an empty slice.
func (a args) blob(v []byte) args {
	a.n++
	if a.err == nil {
		a.err = a.s.BindBlob(a.n, v)
	}
	return a
}

// exec runs a statement that answers nothing.
func (a args) exec() error {
	if a.err != nil {
		return a.err
	}
	return a.s.Exec()
}

// each calls row for every row of the answer, until row returns false.
func (a args) each(row func(s *sqlite3.Stmt) bool) error {
	if a.err != nil {
		return a.err
	}
	for a.s.Step() && row(a.s) {
	}
	err := a.s.Err()
	if rerr := a.s.Reset(); err == nil {
		err = rerr
	}
	return err
}

// row calls read for the first row of the answer, if there is one.
func (a args) row(read func(s *sqlite3.Stmt) error) error {
	var rerr error
	err := a.each(func(s *sqlite3.Stmt) bool {
		rerr = read(s)
		return false
	})
	return firstOf(err, rerr)
}

// prepareAll prepares a set of statements for the life of the connection.
func prepareAll(c *sqlite3.Conn, set map[**sqlite3.Stmt]string) error {
	for dst, sql := range set {
		s, _, err := c.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", sql, err)
		}
		*dst = s
	}
	return nil
}

// closeConn finalizes what was prepared on the connection and closes it.
func closeConn(c *sqlite3.Conn) error {
	if c == nil {
		return nil
	}
	var stmts []*sqlite3.Stmt
	for s := range c.Stmts() {
		stmts = append(stmts, s)
	}
	for _, s := range stmts {
		// The error is that of the statement's last run, reported back then.
		_ = s.Close()
	}
	return c.Close()
}

// count runs a statement that answers with one number.
func (a args) count() (n int, err error) {
	err = a.each(func(r *sqlite3.Stmt) bool {
		n = r.ColumnInt(0)
		return false
	})
	return n, err
}
