package webtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The client as a package of npm. The first test that needs packages of the registry
// installs them into the build folder, once for each lockfile.

// webDir is the folder of the package's sources, and buildDir the one for what is
// made from them.
var webDir, buildDir = sync.OnceValue(func() string { return goList("-f", "{{.Dir}}", "hookbridge/handlers/web") }),
	sync.OnceValue(func() string { return filepath.Join(goList("-m", "-f", "{{.Dir}}"), "build", "npm") })

func goList(args ...string) string {
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		panic("go list: " + err.Error())
	}
	return strings.TrimSpace(string(out))
}

// Run runs a command in a folder and returns what it printed; it ends the test
// where the command fails.
func Run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Stderr = dir, &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.Bytes())
	}
	return string(out)
}

// modules is what package-lock.json names, installed.
var modules = sync.OnceValues(func() (string, error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "", errors.New("no npm in PATH; install it: apt-get install nodejs npm")
	}
	var sum []byte
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join(webDir(), name))
		if err != nil {
			return "", err
		}
		sum = append(sum, b...)
	}
	hash := sha256.Sum256(sum)
	dir := filepath.Join(buildDir(), hex.EncodeToString(hash[:8]))
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, "node_modules"), nil
	}
	if err := os.MkdirAll(buildDir(), 0o755); err != nil {
		return "", err
	}
	// Made beside and then renamed: tests of another package may do the same now.
	temp, err := os.MkdirTemp(buildDir(), "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		if err := copySource(name, temp); err != nil {
			return "", err
		}
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = temp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w (it needs the npm registry, or a mirror that npm is set to)\n%s", err, out)
	}
	if err := os.Rename(temp, dir); err != nil {
		if _, other := os.Stat(dir); other != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "node_modules"), nil
})

// Sources is a copy of the package's sources, in which npm's scripts run.
func Sources(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	LinkModules(t, dir)
	entries, err := os.ReadDir(webDir())
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if err == nil && (e.Name() == "LICENSE" || slices.Contains([]string{".js", ".json", ".md", ".npmrc"}, ext)) {
			err = copySource(e.Name(), dir)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copySource copies one of the package's files into a folder.
func copySource(name, dir string) error {
	b, err := os.ReadFile(filepath.Join(webDir(), name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), b, 0o644)
}

// LinkModules puts what package-lock.json names into a folder, as if it were installed there.
func LinkModules(t testing.TB, dir string) {
	t.Helper()
	installed, err := modules()
	if err == nil {
		err = os.Symlink(installed, filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// packed is the package as npm pack makes it, once a test binary.
var packed struct {
	once    sync.Once
	tarball []byte
	err     error
}

// App is a new app, a folder with these files, that has installed the client as
// npm pack makes it. TypeScript, React and the package ws are there too.
func App(t testing.TB, files map[string]string) string {
	t.Helper()
	packed.once.Do(func() {
		sources := Sources(t)
		out := strings.TrimSpace(Run(t, sources, "npm", "pack", "--silent"))
		packed.tarball, packed.err = os.ReadFile(filepath.Join(sources, out[strings.LastIndexByte(out, '\n')+1:]))
	})
	if packed.err != nil || packed.tarball == nil {
		t.Fatalf("npm pack made nothing: %v", packed.err)
	}
	outer := t.TempDir()
	tarball := filepath.Join(outer, "client.tgz")
	if err := os.WriteFile(tarball, packed.tarball, 0o644); err != nil {
		t.Fatal(err)
	}
	LinkModules(t, outer) // found from below, as those of a monorepo are
	dir := filepath.Join(outer, "app")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files["package.json"] = `{"name":"app","version":"1.0.0","private":true,"type":"module"}`
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	Run(t, dir, "npm", "install", "--offline", "--no-audit", "--no-fund", "--silent", tarball)
	return dir
}

// Compile compiles an app's files by TypeScript's strictest rules into out/, the
// declarations of the client too. Options come after those.
func Compile(t testing.TB, app string, args ...string) {
	t.Helper()
	strict := []string{"--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--target", "es2022", "--outDir", "out"}
	Run(t, app, filepath.Join(app, "..", "node_modules", ".bin", "tsc"), append(strict, args...)...)
}

// Bundle makes one file for browsers of an app's file, and returns it.
func Bundle(t testing.TB, app, entry string, args ...string) string {
	t.Helper()
	args = append([]string{entry, "--bundle", "--target=es2022", `--define:process.env.NODE_ENV="development"`}, args...)
	return Run(t, app, filepath.Join(app, "..", "node_modules", ".bin", "esbuild"), args...)
}
