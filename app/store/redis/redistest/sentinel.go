package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbridge/app/expect"
)

// Watched names the set of servers that a sentinel of StartSentinel watches.
const Watched = "watched"

// StartSentinel starts a sentinel that makes a replica the primary when the
// primary is gone. It returns what a store is opened with.
func StartSentinel(t testing.TB, primary *Server) (url string) {
	t.Helper()
	host, port, err := net.SplitHostPort(primary.Addr)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "sentinel.conf") // it writes into it
	text := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 1\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 3000\n",
		Watched, host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Addr: freeAddr(t), Dir: filepath.Dir(conf)}
	s.args = []string{conf, "--sentinel", "--bind", "127.0.0.1", "--loglevel", "warning"}
	t.Cleanup(s.Kill)
	s.begin()
	expect.Eventually(t, "the sentinel to know the replica", func() bool {
		out, err := s.Try("SENTINEL", "REPLICAS", Watched)
		return err == nil && strings.Contains(out, "master-link-status\nok")
	})
	return s.URL() + "?master_set=" + Watched
}
