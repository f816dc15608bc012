package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"hookbridge/app/bridge"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	t.Run("that is killed has lost nothing that was acknowledged", processIsKilled)
	t.Run("that comes second is refused, and told what to do", processIsSecond)
	t.Run("refuses a file of a newer version", processIsOlder)
}

// childEnv makes this test binary act as another process on the folder it names.
const childEnv = "BRIDGE_TEST_CHILD_DIR"

func child(t *testing.T, test, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	return cmd
}

// TestChildAppends is the process that processIsKilled kills: it prints every id that
// has been acknowledged until then, and acks it.
func TestChildAppends(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("only runs as the child of another test")
	}
	e := open(t, Options{Dir: dir})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				m := message(fmt.Sprintf("msg_%d_%d", w, i), fmt.Sprintf("u%d", i%7), 200, inAnHour())
				if i%10 == 0 {
					m.To = bridge.Target{All: true}
				}
				r, err := e.Append(context.Background(), m)
				if err == nil && len(r.Recipients) == 1 {
					to := r.Recipients[0]
					err = e.AckLater(context.Background(), to.User, "ses_1", e.Life(), bridge.Position{Mailbox: to.Seq})
				}
				if err != nil {
					fmt.Println("ERROR", err)
					return
				}
				if _, err := fmt.Printf("stored %s\n", m.ID); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

func processIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	dir := t.TempDir()
	stored := map[string]bool{}
	for round := range 3 {
		cmd := child(t, "TestChildAppends", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		killed := false
		for n := 0; lines.Scan(); n++ {
			line := lines.Text()
			if strings.HasPrefix(line, "ERROR") {
				t.Fatal(line)
			}
			if id, ok := strings.CutPrefix(line, "stored "); ok {
				stored[id] = true
			}
			if n == 300*(round+1) {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				killed = true
			}
		}
		if err := cmd.Wait(); err == nil || !killed {
			t.Fatalf("the child ended by itself: %v", err)
		}
		e := open(t, Options{Dir: dir})
		read := map[string]bool{}
		for u := range 7 {
			user := fmt.Sprintf("u%d", u)
			p, err := e.Read(t.Context(), user, e.Life(), bridge.Position{}, 100_000, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range p.Deliveries {
				if d.Mailbox != uint64(i+1) || p.Lost() != (bridge.Lost{}) {
					t.Fatalf("%s: place %d is the %d. message, lost %+v", user, d.Mailbox, i+1, p.Lost())
				}
				read[d.Message.ID] = true
			}
			if acked := number(t, e, "SELECT ifnull(max(acked_mail), 0) FROM users WHERE user = '"+user+"'"); acked > int64(len(p.Deliveries)) {
				t.Fatalf("%s has acked %d of %d", user, acked, len(p.Deliveries))
			}
		}
		for id := range stored {
			m := message(id, "somebody else", 0, inAnHour())
			if _, err := e.Append(t.Context(), m); err == nil {
				t.Fatalf("the id %s was acknowledged and is not known", id)
			}
			if !strings.HasSuffix(id, "0") && !read[id] {
				t.Fatalf("%s was acknowledged and is not in its mailbox", id)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged messages survived three kills", len(stored))
}

// TestChildOpens is the process that processIsSecond starts: it prints why the folder
// cannot be opened.
func TestChildOpens(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("only runs as the child of another test")
	}
	e, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	fmt.Println("opened", e.Epoch(), e.Close())
}

func processIsSecond(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	out, err := child(t, "TestChildOpens", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"refused:", dir, fmt.Sprintf("pid %d", os.Getpid()), "stop that one"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil {
		t.Error("a second store in this process was let in")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err = child(t, "TestChildOpens", dir).Output(); err != nil || !strings.Contains(string(out), "opened "+e.Epoch()) {
		t.Errorf("after the first has closed: %q, %v", out, err)
	}
}

func processIsOlder(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	if err := e.writer.sql.conn.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "schema version 99") || !strings.Contains(err.Error(), "run the newer program") {
		t.Fatalf("got %v", err)
	}
	if f, err := lockDir(dir); err != nil {
		t.Fatalf("the refused Open kept the lock: %v", err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
