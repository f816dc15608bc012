package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	testWebhookSecret = "whsec_Y2xpLXdlYmhvb2stc2VjcmV0LW9mLTMyLWJ5dGVzISE="
	testJWTSecret     = "cli-jwt-secret-that-is-long-enough-for-hs256"
)

// TestMain takes away the settings of whoever runs the tests.
func TestMain(m *testing.M) {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "BRIDGE_") || strings.HasPrefix(name, "FLY_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	code := m.Run()
	if err := leaks(); err != nil && code == 0 {
		fmt.Printf("--- FAIL: TestMain: something lives on after the tests: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// leaks finds goroutines that do not end with the tests, a minute after them: on a busy
// machine much of them is just about to end.
func leaks() (err error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if err = goleak.Find(); err == nil { // waits for half a second
			return nil
		}
	}
	return err
}

// command runs the program's command line.
func command(t *testing.T, in io.Reader, args ...string) (code int, out, err string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), args, Streams{In: in, Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// silent is a standard input from which nothing comes.
type silent struct {
	asked, end chan struct{}
	once       sync.Once
}

func (s *silent) Read([]byte) (int, error) {
	s.once.Do(func() { close(s.asked) })
	<-s.end
	return 0, io.EOF
}
