package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"hookbridge/app/expect"
)

func TestImports(t *testing.T) {
	t.Parallel()
	t.Run("go down only", importsGoDown)
	t.Run("of a library are where it belongs", importsOfLibraries)
	t.Run("of the program and its commands are their neighbours only", importsOfNeighbours)
}

// listed is what go list says of a package of ours.
type listed struct {
	ImportPath string
	Imports    []string // by itself
	Deps       []string // in the end, with all that these import
}

// packages are all of ours, by their paths. Tests are no part of what go list tells.
var packages = sync.OnceValues(func() (map[string]listed, error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "hookbridge/...").Output()
	if err != nil {
		return nil, err
	}
	all := make(map[string]listed)
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all[p.ImportPath] = p
	}
})

// packageOf is one of ours, which must be there.
func packageOf(t *testing.T, path string) listed {
	t.Helper()
	all, err := packages()
	expect.NoError(t, err)
	p, ok := all[path]
	if !ok {
		t.Errorf("there is no package %s", path)
	}
	return p
}

// importsGoDown is the law of imports: a package reaches only what stands below it, and
// technology stays at the edges.
func importsGoDown(t *testing.T) {
	t.Parallel()
	law := map[string]struct{ ours, notTheirs []string }{
		"hookbridge/app/wire":      {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "prometheus", "net/http/httptest"}},
		"hookbridge/auth":          {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "prometheus"}},
		"hookbridge/auth/authtest": {nil, []string{"golang-jwt"}},
		"hookbridge/app/expect":    {nil, []string{"."}}, // the standard library alone
		"hookbridge/handlers/web":  {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql"}},
		"hookbridge/app/guard":     {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "gobwas", "rueidis", "golang-jwt"}},
		"hookbridge/app/bridge": {[]string{"hookbridge/app/wire", "hookbridge/app/guard"},
			[]string{"fiber", "fasthttp", "gobwas", "sqlite", "database/sql", "rueidis", "golang-jwt"}},
		"hookbridge/app/callback/neterror": {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "rueidis", "prometheus", "net/http"}},
		"hookbridge/app/callback": {[]string{"hookbridge/app/callback/neterror", "hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/auth"},
			[]string{"fiber", "fasthttp", "gobwas", "sqlite", "database/sql", "rueidis"}},
		"hookbridge/app/callback/receiver": {[]string{"hookbridge/app/callback/neterror", "hookbridge/auth"},
			[]string{"fiber", "fasthttp", "gobwas", "sqlite", "database/sql", "rueidis", "prometheus", "kong"}},
		"hookbridge/app/move": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge"},
			[]string{"fiber", "fasthttp", "gobwas", "sqlite", "database/sql", "rueidis", "golang-jwt"}},
		"hookbridge/app/store/local": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge"},
			[]string{"fiber", "fasthttp", "gobwas", "golang-jwt", "sqlite", "database/sql", "rueidis"}},
		"hookbridge/app/store/sqlite/walfile": {[]string{"hookbridge/app/guard"}, []string{"fiber", "fasthttp", "gobwas", "rueidis", "golang-jwt"}},
		"hookbridge/app/store/sqlite/journal": {nil, []string{"fiber", "fasthttp", "gobwas", "rueidis", "golang-jwt", "sqlite", "database/sql", "prometheus"}},
		"hookbridge/app/store/sqlite": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/app/store/sqlite/walfile", "hookbridge/app/store/sqlite/journal"},
			[]string{"fiber", "fasthttp", "gobwas", "golang-jwt"}},
		"hookbridge/app/store/redis": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge"},
			[]string{"fiber", "fasthttp", "gobwas", "golang-jwt", "sqlite", "database/sql"}},
		"hookbridge/app/client": {[]string{"hookbridge/app/wire", "hookbridge/auth"},
			[]string{"fiber", "fasthttp", "sqlite", "database/sql", "rueidis", "prometheus", "kong"}},
		"hookbridge/handlers/contract": {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "jsonschema"}},
		"hookbridge/deploy/loadtest": {[]string{"hookbridge/app/wire", "hookbridge/auth"},
			[]string{"fiber", "sqlite", "database/sql", "rueidis", "prometheus"}},
		"hookbridge/app/e2e/soak": {[]string{"hookbridge/auth", "hookbridge/app/expect", "hookbridge/app/store/redis/redistest"},
			[]string{"fiber", "gobwas", "sqlite", "database/sql", "rueidis"}},
		"hookbridge/handlers": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/auth", "hookbridge/handlers/web", "hookbridge/handlers/contract"},
			[]string{"sqlite", "database/sql", "rueidis"}},
		"hookbridge/app/server": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/app/store/sqlite", "hookbridge/app/store/sqlite/walfile", "hookbridge/app/store/sqlite/journal",
			"hookbridge/app/store/redis", "hookbridge/app/store/local", "hookbridge/app/callback", "hookbridge/app/callback/neterror", "hookbridge/auth", "hookbridge/handlers", "hookbridge/handlers/web", "hookbridge/handlers/contract"},
			[]string{"kong"}},
		"hookbridge/app/cli": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/app/store/sqlite", "hookbridge/app/store/sqlite/walfile", "hookbridge/app/store/sqlite/journal",
			"hookbridge/app/store/redis", "hookbridge/auth", "hookbridge/handlers", "hookbridge/handlers/web", "hookbridge/handlers/contract", "hookbridge/app/store/local", "hookbridge/app/server", "hookbridge/app/client", "hookbridge/app/move", "hookbridge/app/callback", "hookbridge/app/callback/neterror", "hookbridge/app/callback/receiver"}, nil},
	}
	for pkg, may := range law {
		for _, dep := range packageOf(t, pkg).Deps {
			if strings.HasPrefix(dep, "hookbridge/") {
				if !slices.Contains(may.ours, dep) {
					t.Errorf("%s reaches %s, which is above or beside it", pkg, dep)
				}
				continue
			}
			for _, banned := range may.notTheirs {
				if strings.Contains(dep, banned) && strings.Contains(dep, ".") || dep == banned {
					t.Errorf("%s reaches %s, which belongs in another room", pkg, dep)
				}
			}
		}
	}
}

// importsOfLibraries is about what is used in one or two packages alone.
func importsOfLibraries(t *testing.T) {
	t.Parallel()
	all, err := packages()
	expect.NoError(t, err)
	for _, pkg := range all {
		for _, imported := range pkg.Imports {
			for library, may := range map[string][]string{
				"github.com/gofiber/":           {"hookbridge/handlers"},
				"github.com/cenkalti/backoff":   {"hookbridge/app/callback"},
				"code.dny.dev/ssrf":             {"hookbridge/app/callback"},
				"github.com/go-json-experiment": {"hookbridge/app/wire", "hookbridge/auth"},
			} {
				if strings.HasPrefix(imported, library) && !slices.Contains(may, pkg.ImportPath) {
					t.Errorf("%s imports %s", pkg.ImportPath, imported)
				}
			}
		}
	}
}

// importsOfNeighbours is about what a package itself imports of ours.
func importsOfNeighbours(t *testing.T) {
	t.Parallel()
	for pkg, may := range map[string][]string{
		"hookbridge/app":        {"hookbridge/app/cli"},
		"hookbridge/app/cli":    {"hookbridge/app/server", "hookbridge/app/callback/receiver", "hookbridge/app/client", "hookbridge/app/move", "hookbridge/app/bridge", "hookbridge/app/wire", "hookbridge/auth"},
		"hookbridge/app/server": {"hookbridge/handlers", "hookbridge/app/callback", "hookbridge/app/store/sqlite", "hookbridge/app/store/redis", "hookbridge/app/store/local", "hookbridge/app/bridge", "hookbridge/app/guard", "hookbridge/auth"},
	} {
		for _, imported := range packageOf(t, pkg).Imports {
			if strings.HasPrefix(imported, "hookbridge/") && !slices.Contains(may, imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}
