package sqlite

import (
	"errors"
	"github.com/ncruces/go-sqlite3"
	"os"
	"testing"
)

func TestDbg(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	es, _ := os.ReadDir(dir)
	for _, x := range es {
		i, _ := x.Info()
		t.Log(x.Name(), i.Size(), i.Mode())
	}
	e, err = Open(t.Context(), Options{Dir: dir})
	if err != nil {
		var se sqlite3.ExtendedErrorCode
		errors.As(err, &se)
		t.Log(err, int(se))
		v := newWALVFS()
		c, err := sqlite3.Open("file:" + dir + "/bridge.db?vfs=" + v.name)
		t.Log(err)
		for _, q := range []string{"PRAGMA busy_timeout=5000", "PRAGMA page_size=4096", "PRAGMA auto_vacuum=INCREMENTAL", "PRAGMA journal_mode=WAL"} {
			err := c.Exec(q)
			errors.As(err, &se)
			t.Log(q, err, int(se), errors.Unwrap(err))
		}
	}
}
