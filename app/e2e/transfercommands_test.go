package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestExportAndImportSayWhatToMend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	thesis := filepath.Join(dir, "thesis.txt")
	expect.NoError(t, os.WriteFile(thesis, []byte("the only copy\n"), 0o600))
	lived, empty := t.TempDir(), t.TempDir()
	start(t, func(s *server.Settings) { s.DataDir = lived }).stop()
	finished := filepath.Join(dir, "finished.jsonl")
	if code, _, errs := told(t, nil, "export", "--data-dir", lived, "--to", finished); code != 0 {
		t.Fatal(errs)
	}
	whole, err := os.ReadFile(finished)
	expect.NoError(t, err)
	cut := filepath.Join(dir, "cut.jsonl")
	expect.NoError(t, os.WriteFile(cut, whole[:len(whole)-3], 0o600))
	bad := filepath.Join(dir, "bad.jsonl")
	expect.NoError(t, os.WriteFile(bad, append(whole, "more\n"...), 0o600))
	unwritten := filepath.Join(dir, "unwritten.jsonl")
	newer := filepath.Join(dir, "newer.jsonl")
	expect.NoError(t, os.WriteFile(newer, []byte(`{"hookbridge":"export","version":7}`+"\n"), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing to export":       {[]string{"export", "--data-dir", empty, "--to", unwritten}, "no bridge has run on this store: is BRIDGE_DATA_DIR=" + empty + " right?"},
		"onto a file":             {[]string{"export", "--data-dir", lived, "--to", thesis}, "thesis.txt: the file is there already; it is left as it is: name a new one, or remove it"},
		"finished":                {[]string{"export", "--data-dir", lived, "--to", finished}, "finished.jsonl: the file is there already"},
		"no folder for it":        {[]string{"export", "--data-dir", lived, "--to", filepath.Join(dir, "a", "b")}, "no such file"},
		"a limit of nothing":      {[]string{"export", "--mailbox-limit", "0"}, "BRIDGE_MAILBOX_LIMIT"},
		"no file":                 {[]string{"import", "--data-dir", empty, filepath.Join(dir, "none")}, "no such file"},
		"a file":                  {[]string{"import", "--data-dir", empty, thesis}, "an import wants what hookbridge export has written"},
		"half an export":          {[]string{"import", "--data-dir", empty, cut}, "incomplete: it ends after line 2; copy it again from where it was made, or export again, and run import again: it starts over"},
		"a damaged export":        {[]string{"import", "--data-dir", empty, bad}, "follows its end; copy it again"},
		"a newer export":          {[]string{"import", "--data-dir", empty, newer}, "versions up to 2"},
		"a short memory":          {[]string{"import", "--data-dir", empty, "--id-retention", "1ms", newer}, "BRIDGE_ID_RETENTION"},
		"an address that is none": {[]string{"export", "--redis-url", "http://secret@x"}, "BRIDGE_REDIS_URL"},
	} {
		code, out, errs := told(t, strings.NewReader(""), c.args...)
		if code != 1 || out != "" || !strings.HasPrefix(errs, "hookbridge: ") || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) || strings.Contains(errs, "secret") {
			t.Errorf("%s: %d %q\n%s", name, code, out, errs)
		}
	}
	if _, err := os.Stat(unwritten); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an export that failed has left a file: %v", err)
	}
	if b, err := os.ReadFile(thesis); err != nil || string(b) != "the only copy\n" {
		t.Errorf("%s %v", b, err)
	}
}

func TestAnExportIsForItsOwnerAlone(t *testing.T) {
	lived, file := t.TempDir(), filepath.Join(t.TempDir(), "store.jsonl")
	start(t, func(s *server.Settings) { s.DataDir = lived }).stop()
	if code, out, errs := told(t, nil, "export", "--data-dir", lived, "--to", file); code != 0 || out != "" {
		t.Fatal(out, errs)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestExportAndImportHaveTheSettingsOfTheStoreThatServeHas(t *testing.T) {
	t.Parallel()
	flag := regexp.MustCompile(`(?s)--[a-z-]+=?[^-]*?\(\$BRIDGE_(?:DATA_DIR|REDIS_\w+|ID_RETENTION|MAILBOX_LIMIT)\)`)
	_, serve, _ := told(t, nil, "serve", "--help")
	tidy := func(help string) (list []string) {
		for _, f := range flag.FindAllString(help, -1) {
			list = append(list, strings.Join(strings.Fields(f), " "))
		}
		return list
	}
	want := tidy(serve)
	if len(want) < 4 {
		t.Fatalf("%q", want)
	}
	for _, name := range []string{"export", "import"} {
		code, help, errs := told(t, nil, name, "--help")
		if code != 0 || !strings.Contains(help, "hookbridge import store.jsonl --redis-url") || len(regexp.MustCompile(`\$BRIDGE_`).FindAllString(help, -1)) != 7 {
			t.Fatalf("%d %s %s", code, help, errs)
		}
		for _, f := range want {
			if !slices.Contains(tidy(help), f) {
				t.Errorf("%s lacks %s", name, f)
			}
		}
	}
}

// Ctrl-C while a pipe gives nothing more.
func TestCtrlCEndsAnImportInOrder(t *testing.T) {
	heavy(t)
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	w := start(t, func(s *server.Settings) { s.DataDir = from })
	for range 300 {
		w.fireTo("patient-1", 1)
	}
	w.stop()
	_, whole, _ := told(t, nil, "export", "--data-dir", from)
	in, out, err := os.Pipe()
	expect.NoError(t, err)
	defer out.Close()
	cmd := programCommand([]string{"BRIDGE_DATA_DIR=" + to}, "import")
	var errs expect.Output
	cmd.Stdin, cmd.Stderr = in, &errs
	expect.NoError(t, cmd.Start())
	expect.NoError(t, in.Close())
	_, err = out.WriteString(whole[:len(whole)-2])
	expect.NoError(t, err)
	if len(whole) < 128<<10 { // more than a pipe holds: by now the import reads
		t.Fatalf("%d bytes", len(whole))
	}
	expect.NoError(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err == nil || !strings.HasSuffix(errs.String(), "hookbridge: stopped; run import again: it starts over\n") {
		t.Errorf("%v\n%s", err, errs.String())
	}
	if code, _, errs := told(t, strings.NewReader(whole), "import", "--data-dir", to); code != 0 {
		t.Errorf("%d %s", code, errs)
	}
	w = start(t, func(s *server.Settings) { s.DataDir = to })
	if f := w.connect("patient-1", "").hello; f.Pending != 300 {
		t.Errorf("%s", f.Raw)
	}
}
