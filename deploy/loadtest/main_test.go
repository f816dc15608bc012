package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hookbridge/app/cli"
	"hookbridge/app/expect"
)

// asProgram makes the test binary be the program that is measured, so that nothing is built a second time.
const asProgram = "HOOKBRIDGE_LOADTEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" && os.Getenv(asProgram) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	if err := os.Setenv(asProgram, "1"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// load runs the program with these arguments and returns its exit code and what it said.
func load(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e expect.Output
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// measure runs one scenario, one round, and returns its figures.
func measure(t *testing.T, args ...string) measures {
	t.Helper()
	file := filepath.Join(t.TempDir(), "result.json")
	code, out, errs := load(t, append(args, "--program", os.Args[0], "--json", file)...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
	}
	d := readDocument(t, file)
	if len(d.Results) != 1 || len(d.Results[0].Rounds) != 1 {
		t.Fatalf("one run of one round was asked for: %s", out)
	}
	return d.Results[0].Rounds[0]
}

func readDocument(t *testing.T, file string) (d document) {
	t.Helper()
	b, err := os.ReadFile(file)
	expect.NoError(t, err)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	expect.NoError(t, dec.Decode(&d))
	return d
}

// exactly compares counts, and wants 0 of all that must not happen.
func exactly(t *testing.T, m measures, want map[string]float64) {
	t.Helper()
	for _, f := range figures {
		if _, given := want[f.name]; f.exact && !given && f.name != "dropped" {
			want[f.name] = 0
		}
	}
	want["dropped"] = 0
	for name, n := range want {
		if got, ok := m[name]; !ok || got != n {
			t.Errorf("%s: %v, want %v", name, got, n)
		}
	}
}

// has wants figures that are there and more than 0.
func has(t *testing.T, m measures, names ...string) {
	t.Helper()
	for _, name := range names {
		if m[name] <= 0 {
			t.Errorf("%s: %v", name, m[name])
		}
	}
}

func TestScenario(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		m := measure(t, "idle", "--sessions", "20", "--rest", "10ms")
		if m["dropped"] != 0 {
			t.Errorf("%v sessions were dropped", m["dropped"])
		}
		has(t, m, "connects_per_s")
	})
	t.Run("unicast", func(t *testing.T) {
		m := measure(t, "unicast", "--sessions", "20", "--publishers", "4", "--duration", "200ms")
		exactly(t, m, map[string]float64{"delivered": m["accepted"]})
		has(t, m, "accepted", "messages_per_s", "delivery_ms_p50", "delivery_ms_max", "answer_ms_p50")
	})
	t.Run("unicast over Redis", func(t *testing.T) {
		m := measure(t, "unicast", "--sessions", "20", "--publishers", "4", "--duration", "200ms", "--redis")
		exactly(t, m, map[string]float64{"delivered": m["accepted"]})
		has(t, m, "accepted")
	})
	t.Run("paced", func(t *testing.T) {
		m := measure(t, "paced", "--sessions", "20", "--rate", "200", "--duration", "500ms")
		exactly(t, m, map[string]float64{"accepted": 100, "delivered": 100})
		has(t, m, "delivery_ms_p50", "delivery_ms_p99_9")
	})
	t.Run("toall", func(t *testing.T) {
		m := measure(t, "toall", "--sessions", "30", "--messages", "5")
		exactly(t, m, map[string]float64{"accepted": 5, "delivered": 150})
		has(t, m, "all_have_it_ms_p50")
	})
	t.Run("toall without acks", func(t *testing.T) {
		m := measure(t, "toall", "--sessions", "3", "--messages", "2", "--no-acks")
		exactly(t, m, map[string]float64{"accepted": 2, "delivered": 6})
	})
	t.Run("resume", func(t *testing.T) {
		m := measure(t, "resume", "--sessions", "5", "--messages", "40")
		exactly(t, m, map[string]float64{"accepted": 5 * 41, "delivered": 5 * 41})
		has(t, m, "resume_ms_p50", "resume_ms_max")
	})
	t.Run("soak", func(t *testing.T) {
		m := measure(t, "soak", "--sessions", "10", "--rate", "100", "--duration", "1s", "--churn", "50")
		exactly(t, m, map[string]float64{"accepted": 100, "delivered": 100})
		has(t, m, "returns")
	})
}

func TestServer(t *testing.T) {
	t.Run("that runs already is measured by its address and process", func(t *testing.T) {
		o := options{Bytes: 200}
		target, err := startTarget(t.Context(), o, 100, os.Args[0])
		expect.NoError(t, err)
		defer func() { expect.NoError(t, target.stop()) }()
		file := filepath.Join(t.TempDir(), "result.json")
		code, out, errs := load(t, "paced", "--sessions", "5", "--rate", "100", "--duration", "200ms", "--json", file, "--url", target.url.String(),
			"--webhook-secret", ownWebhookSecret, "--jwt-secret", ownJWTSecret)
		if code != 0 || !strings.Contains(out, "are left out") {
			t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
		}
		exactly(t, readDocument(t, file).Results[0].Rounds[0], map[string]float64{"accepted": 20, "delivered": 20})
		for _, wrong := range []struct{ flag, value, hint string }{
			{"--webhook-secret", "whsec_d3JvbmctIHdyb25nLSB3cm9uZy0gd3Jvbmct", "BRIDGE_WEBHOOK_SECRETS"},
			{"--jwt-secret", "another secret of 32 bytes or more, wrong", "BRIDGE_JWT_SECRET"},
		} {
			code, _, errs := load(t, "paced", "--sessions", "5", "--rate", "100", "--duration", "100ms", "--url", target.url.String(),
				"--webhook-secret", ownWebhookSecret, "--jwt-secret", ownJWTSecret, wrong.flag, wrong.value)
			if code != 1 || !strings.Contains(errs, wrong.hint) || strings.Contains(errs, wrong.value) {
				t.Errorf("%s: exit code %d, %s", wrong.flag, code, errs)
			}
		}
	})
	t.Run("that is not there is said so", func(t *testing.T) {
		code, _, errs := load(t, "idle", "--sessions", "1", "--url", "http://127.0.0.1:1", "--webhook-secret", ownWebhookSecret, "--jwt-secret", ownJWTSecret)
		if code != 1 || !strings.Contains(errs, "cannot be reached") {
			t.Errorf("exit code %d, %s", code, errs)
		}
	})
	t.Run("that ends instead of starting has its last words told", func(t *testing.T) {
		code, _, errs := load(t, "idle", "--sessions", "1", "--program", "/bin/false")
		if code != 1 || !strings.Contains(errs, "ended instead of starting") {
			t.Errorf("exit code %d, %s", code, errs)
		}
	})
	t.Run("has all its files removed and its processes ended", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		target, err := startTarget(t.Context(), options{Redis: true}, 10, os.Args[0])
		expect.NoError(t, err)
		expect.NoError(t, target.stop())
		for _, c := range target.started {
			if c.cmd.ProcessState == nil {
				t.Errorf("%s lives on", c.name)
			}
		}
		left, err := os.ReadDir(os.TempDir())
		expect.NoError(t, err)
		if len(left) > 0 {
			t.Errorf("%v stays behind", left)
		}
	})
}

func TestInterrupt(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var out, errs expect.Output
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"idle", "--sessions", "1", "--rest", "1h", "--program", os.Args[0]}, &out, &errs)
	}()
	expect.Eventually(t, "it has begun", func() bool { return strings.Contains(errs.String(), "idle, 1 sessions") })
	stop()
	if code := <-ended; code != 1 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
}
