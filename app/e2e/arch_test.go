package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestEachPackageImportsOnlyWhatItsRoomMay is the import law: arrows point
// down, technology stays at the edges.
func TestEachPackageImportsOnlyWhatItsRoomMay(t *testing.T) {
	law := map[string]struct{ ours, notTheirs []string }{
		"hookbridge/app/wire":      {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "prometheus", "net/http/httptest"}},
		"hookbridge/auth":          {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "prometheus"}},
		"hookbridge/auth/authtest": {nil, []string{"golang-jwt"}},
		"hookbridge/handlers/web":  {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql"}},
		"hookbridge/app/guard":     {nil, []string{"fiber", "fasthttp", "sqlite", "database/sql", "gobwas", "rueidis", "golang-jwt"}},
		"hookbridge/app/bridge": {[]string{"hookbridge/app/wire", "hookbridge/app/guard"},
			[]string{"fiber", "fasthttp", "gobwas", "sqlite", "database/sql", "rueidis", "golang-jwt"}},
		"hookbridge/app/callback": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/auth"},
			[]string{"fiber", "fasthttp", "gobwas", "sqlite", "database/sql", "rueidis"}},
		"hookbridge/app/callback/receiver": {[]string{"hookbridge/auth"},
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
		"hookbridge/app/e2e/soak": {[]string{"hookbridge/auth", "hookbridge/app/store/redis/redistest"},
			[]string{"fiber", "gobwas", "sqlite", "database/sql", "rueidis"}},
		"hookbridge/handlers": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/auth", "hookbridge/handlers/web", "hookbridge/handlers/contract"},
			[]string{"sqlite", "database/sql", "rueidis"}},
		"hookbridge/app/server": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/app/store/sqlite", "hookbridge/app/store/sqlite/walfile", "hookbridge/app/store/sqlite/journal",
			"hookbridge/app/store/redis", "hookbridge/app/store/local", "hookbridge/app/callback", "hookbridge/auth", "hookbridge/handlers", "hookbridge/handlers/web", "hookbridge/handlers/contract"},
			[]string{"kong"}},
		"hookbridge/app/cli": {[]string{"hookbridge/app/wire", "hookbridge/app/guard", "hookbridge/app/bridge", "hookbridge/app/store/sqlite", "hookbridge/app/store/sqlite/walfile", "hookbridge/app/store/sqlite/journal",
			"hookbridge/app/store/redis", "hookbridge/auth", "hookbridge/handlers", "hookbridge/handlers/web", "hookbridge/handlers/contract", "hookbridge/app/store/local", "hookbridge/app/server", "hookbridge/app/client", "hookbridge/app/move", "hookbridge/app/callback", "hookbridge/app/callback/receiver"}, nil},
	}
	for pkg, may := range law {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", pkg, err)
		}
		for _, dep := range strings.Fields(string(out)) {
			if strings.HasPrefix(dep, "hookbridge/") {
				if dep != pkg && !contains(may.ours, dep) {
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

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// TestALibraryIsImportedWhereItBelongs: what is used in one or two packages alone.
func TestALibraryIsImportedWhereItBelongs(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "hookbridge/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		pkg, imports, _ := strings.Cut(line, " ")
		for library, may := range map[string][]string{
			"github.com/gofiber/":           {"hookbridge/handlers"},
			"github.com/cenkalti/backoff":   {"hookbridge/app/callback"},
			"code.dny.dev/ssrf":             {"hookbridge/app/callback"},
			"github.com/go-json-experiment": {"hookbridge/app/wire", "hookbridge/auth"},
		} {
			if strings.Contains(imports, library) && !contains(may, pkg) {
				t.Errorf("%s imports %s", pkg, library)
			}
		}
	}
}

// TestTheProgramAndItsCommandsKnowOnlyTheirNeighbours: what a package itself imports of ours.
func TestTheProgramAndItsCommandsKnowOnlyTheirNeighbours(t *testing.T) {
	for pkg, may := range map[string][]string{
		"hookbridge/app":        {"hookbridge/app/cli"},
		"hookbridge/app/cli":    {"hookbridge/app/server", "hookbridge/app/callback/receiver", "hookbridge/app/client", "hookbridge/app/move", "hookbridge/app/bridge", "hookbridge/app/wire", "hookbridge/auth"},
		"hookbridge/app/server": {"hookbridge/handlers", "hookbridge/app/callback", "hookbridge/app/store/sqlite", "hookbridge/app/store/redis", "hookbridge/app/store/local", "hookbridge/app/bridge", "hookbridge/app/guard", "hookbridge/auth"},
	} {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports " "}}`, pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		for _, imported := range strings.Fields(string(out)) {
			if strings.HasPrefix(imported, "hookbridge/") && !contains(may, imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}
