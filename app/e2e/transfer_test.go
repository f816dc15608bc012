package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/cli"
	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

func TestTransfer(t *testing.T) {
	t.Parallel()
	t.Run("to Redis and back is noticed by nobody", transferBothWays)
	t.Run("goes through a pipe", transferByPipe)
	t.Run("that broke off is no store and starts over", transferStartsOver)
	t.Run("says what to mend", transferSaysWhatToMend)
	t.Run("has the store's settings that serve has", transferSettings)
	t.Run("leaves a file for its owner alone", transferOwner)
	t.Run("ends in order on Ctrl-C", transferInterrupted)
}

// carriage is a store that the tests carry things from and to.
type carriage struct {
	name  string
	flags []string
	set   func(*server.Settings)
}

func onFile(dir string) carriage {
	return carriage{"SQLite", []string{"--data-dir", dir}, func(s *server.Settings) { s.DataDir = dir }}
}

func inRedis(url, prefix string) carriage {
	return carriage{"Redis", []string{"--redis-url", url, "--redis-prefix", prefix},
		func(s *server.Settings) { s.RedisURL, s.RedisPrefix = server.Secret(url), prefix }}
}

// told runs a command and returns what it wrote to each stream.
func told(t *testing.T, in io.Reader, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e expect.Output
	code = cli.Run(t.Context(), args, cli.Streams{In: in, Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// carry moves a store by a file.
func carry(t *testing.T, from, to carriage) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "store.jsonl")
	for _, args := range [][]string{
		append([]string{"export", "--to", file}, from.flags...), append([]string{"import", file}, to.flags...),
	} {
		if code, _, errs := told(t, nil, args...); code != 0 || !strings.Contains(errs, "ported ") || !strings.Contains(errs, ", in ") {
			t.Fatalf("%s: %d\n%s", args[0], code, errs)
		}
	}
}

const (
	toCarried = `{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`
	twice     = `{"type":"t","to":{"users":["patient-1","away"]},"data":{"n":50}}`
)

// life is what has happened in a store before it is carried.
type life struct {
	stolen   string // a token that was revoked
	cursor   string // of patient-1, before what waits
	waiting  []int  // what patient-1 has not had
	detained int    // of one who was away
}

func lived(t *testing.T, w *world) *life {
	t.Helper()
	l := &life{stolen: issuedToken(t, "patient-2", "stolen", time.Now())}
	w.done(http.MethodPut, "/v1/groups/ward/members/patient-1", "")
	w.done(http.MethodPut, "/v1/groups/ward/members/away", "")
	s := w.connect("patient-1", "")
	for i := range 4 {
		w.fire(fmt.Sprintf("live-%d", i), fmt.Sprintf(toCarried, i))
		l.cursor = s.want("event").Cursor
	}
	s.ack(l.cursor)
	s.settle()
	w.done(http.MethodPost, "/v1/users/patient-2/revocations", `{"jti":"stolen"}`)
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	for i := range 6 {
		w.fire(fmt.Sprintf("late-%d", i), fmt.Sprintf(toCarried, 10+i))
	}
	w.done(http.MethodDelete, "/v1/events/late-2", "")
	w.fire("grouped", `{"type":"t","to":{"group":"ward"},"data":{"n":20}}`)
	w.fire("all", `{"type":"t","to":{"all":true},"data":{"n":30}}`)
	w.fire("twice", twice)
	l.waiting, l.detained = []int{10, 11, 13, 14, 15, 20, 30, 50}, 2
	return l
}

// goesOn holds a store that was carried against the life it had before.
func (l *life) goesOn(t *testing.T, w *world) {
	t.Helper()
	s := w.connect("patient-1", l.cursor)
	if !s.hello.Resumed || s.hello.Pending != len(l.waiting) {
		t.Fatalf("%s", s.hello.Raw)
	}
	got := map[int]bool{}
	for range l.waiting {
		f := s.next()
		if f.Type != "event" {
			t.Fatalf("%s", f.Raw)
		}
		got[f.n()] = true
	}
	for _, n := range l.waiting {
		if !got[n] {
			t.Errorf("%d did not come", n)
		}
	}
	// Without a cursor, the ack is what counts.
	if f := w.connect("patient-1", "").hello; f.Pending != len(l.waiting) {
		t.Errorf("what was acked is not: %s", f.Raw)
	}
	if f := w.connect("away", "").hello; f.Pending != l.detained {
		t.Errorf("one who was away: %s", f.Raw)
	}
	if a := w.fire("twice", twice); !a.Duplicate || *a.Recipients != 2 {
		t.Errorf("%s", a.Raw)
	}
	if a := w.do(w.sign("live-1", fmt.Sprintf(toCarried, 77), time.Now())); a.HTTP != http.StatusConflict {
		t.Errorf("another event by a known id: %d %s", a.HTTP, a.Raw)
	}
	if a := w.fire("late-2", fmt.Sprintf(toCarried, 12)); !a.Duplicate {
		t.Errorf("a recalled event: %s", a.Raw)
	}
	var e eventReply
	if w.get("/v1/events/live-3", &e); len(e.Recipients) != 1 || e.Recipients[0].Status != "acked" || len(e.Recipients[0].Sessions) != 1 || e.Recipients[0].Sessions[0].AckedAt == "" {
		t.Errorf("an event's fate: %+v", e)
	}
	late, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	late.send(map[string]string{"type": "connect", "token": l.stolen})
	if code := late.closed(); code != 4403 {
		t.Errorf("a revoked token: closed with %d", code)
	}
	// Life goes on, for the group too.
	a := w.fire(fmt.Sprintf("after-%d", len(l.waiting)), `{"type":"t","to":{"group":"ward"},"data":{"n":60}}`)
	if *a.Recipients != 2 || a.Sessions != 3 {
		t.Errorf("%s", a.Raw)
	}
	if f := s.want("event"); f.n() != 60 {
		t.Errorf("%s", f.Raw)
	}
	l.waiting, l.detained = append(l.waiting, 60), l.detained+1
}

func transferBothWays(t *testing.T) {
	heavy(t)
	t.Parallel()
	r := redistest.Start(t)
	stops := []carriage{onFile(t.TempDir()), inRedis(r.URL(), "one"), onFile(t.TempDir()), inRedis(r.URL(), "two"), inRedis(r.URL(), "three"), onFile(t.TempDir())}
	w := start(t, stops[0].set)
	l := lived(t, w)
	w.stop()
	for i, to := range stops[1:] {
		carry(t, stops[i], to)
		w = start(t, to.set)
		l.goesOn(t, w)
		w.stop()
	}
}

// By real processes, through a pipe, the way the help says.
func transferByPipe(t *testing.T) {
	t.Parallel()
	r, dir := redistest.Start(t), t.TempDir()
	w := start(t, onFile(dir).set)
	l := lived(t, w)
	w.stop()
	in, out, err := os.Pipe()
	expect.NoError(t, err)
	export := programCommand([]string{"BRIDGE_DATA_DIR=" + dir}, "export")
	load := programCommand([]string{"BRIDGE_REDIS_URL=" + r.URL(), "BRIDGE_REDIS_PREFIX=piped"}, "import")
	var errs, more expect.Output
	export.Stdout, export.Stderr, load.Stdin, load.Stderr = out, &errs, in, &more
	expect.NoError(t, export.Start())
	expect.NoError(t, load.Start())
	expect.NoError(t, out.Close())
	expect.NoError(t, in.Close())
	if err := export.Wait(); err != nil || !strings.HasPrefix(errs.String(), "exported ") {
		t.Errorf("%v %s", err, errs.String())
	}
	if err := load.Wait(); err != nil || !strings.HasPrefix(more.String(), "imported ") {
		t.Errorf("%v %s", err, more.String())
	}
	l.goesOn(t, start(t, inRedis(r.URL(), "piped").set))
}

func transferStartsOver(t *testing.T) {
	heavy(t)
	t.Parallel()
	r := redistest.Start(t)
	from := onFile(t.TempDir())
	w := start(t, from.set)
	l := lived(t, w)
	for i := range 700 { // more than a section
		w.fire(w.uniqueID(), fmt.Sprintf(`{"type":"t","to":{"user":"other-%d"},"data":1}`, i%5))
	}
	w.stop()
	file := filepath.Join(t.TempDir(), "store.jsonl")
	if code, _, errs := told(t, nil, append([]string{"export", "--to", file}, from.flags...)...); code != 0 {
		t.Fatal(errs)
	}
	whole, err := os.ReadFile(file)
	expect.NoError(t, err)
	for _, to := range []carriage{onFile(t.TempDir()), inRedis(r.URL(), "half")} {
		code, _, errs := told(t, bytes.NewReader(whole[:len(whole)/2]), append([]string{"import"}, to.flags...)...)
		if code != 1 || !strings.Contains(errs, "incomplete") || !strings.Contains(errs, "run import again: it starts over") {
			t.Fatalf("%s: %d %s", to.name, code, errs)
		}
		s := testSettings(t.TempDir())
		to.set(&s)
		if p, err := server.NewProgram(context.Background(), s, nil, s.Logger(os.Stderr, true)); err == nil || !strings.Contains(err.Error(), "run `hookbridge import` again") {
			t.Errorf("%s: a bridge starts on half a store: %v, %v", to.name, p, err)
		}
		if code, _, errs := told(t, nil, append([]string{"export"}, to.flags...)...); code != 1 || !strings.Contains(errs, "run `hookbridge import` again") {
			t.Errorf("%s: half a store is exported: %s", to.name, errs)
		}
		if code, _, errs := told(t, nil, append([]string{"import", file}, to.flags...)...); code != 0 || !strings.HasPrefix(errs, "imported ") {
			t.Fatalf("%s: %d %s", to.name, code, errs)
		}
		if code, _, errs := told(t, nil, append([]string{"import", file}, to.flags...)...); code != 1 || !strings.Contains(errs, "imported already") {
			t.Errorf("%s: once more: %d %s", to.name, code, errs)
		}
		w := start(t, to.set)
		have := *l
		have.goesOn(t, w)
		for _, name := range []string{"export", "import"} {
			if code, _, errs := told(t, strings.NewReader(""), append([]string{name}, to.flags...)...); code != 1 || name == "export" && !strings.Contains(errs, "stop") {
				t.Errorf("%s: %s beside a bridge: %d %s", to.name, name, code, errs)
			}
		}
		w.stop()
	}
}

func transferSaysWhatToMend(t *testing.T) {
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
		"a newer export":          {[]string{"import", "--data-dir", empty, newer}, "versions up to 3"},
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

func transferSettings(t *testing.T) {
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

func transferOwner(t *testing.T) {
	t.Parallel()
	lived, file := t.TempDir(), filepath.Join(t.TempDir(), "store.jsonl")
	start(t, func(s *server.Settings) { s.DataDir = lived }).stop()
	if code, out, errs := told(t, nil, "export", "--data-dir", lived, "--to", file); code != 0 || out != "" {
		t.Fatal(out, errs)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// Ctrl-C while a pipe gives nothing more.
func transferInterrupted(t *testing.T) {
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
