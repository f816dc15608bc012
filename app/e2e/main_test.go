package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hookbridge/app/cli"
	"hookbridge/app/expect"
	"hookbridge/handlers/web/webtest"
)

// asProgram makes the test binary be the program, so that tests run, signal and
// kill the real thing.
const asProgram = "HOOKBRIDGE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		signal.Ignore(syscall.SIGXFSZ) // as main does
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	parallel()
	code := webtest.Main(m)
	if err := leaks(); err != nil && code == 0 {
		fmt.Printf("--- FAIL: TestMain: something lives on after the tests: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// parallel lets six tests run side by side where nobody has asked for a number: most of
// them wait for disks, for Redis and for clocks, and leave processors idle.
func parallel() {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("6"); err != nil {
			panic(err)
		}
	}
}

// heavy marks a test that takes seconds and is not run with -short.
func heavy(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
}

// leaks finds goroutines that do not end with the tests. They have as long as a test
// has for anything else: on a busy machine much of them is just about to end.
func leaks() (err error) {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for end := time.Now().Add(expect.Patience); time.Now().Before(end); {
		if err = goleak.Find( // waits for half a second
			// One clock for all servers, and each server's sweeper of idle workers,
			// which sees its end up to 10 s late.
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
			goleak.IgnoreTopFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"), // of the benchmarks' client
		); err == nil {
			return nil
		}
	}
	return err
}
