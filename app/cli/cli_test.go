package cli

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestHelp(t *testing.T) {
	t.Run("lists every command, and each setting with its variable", helpLists)
}

func TestArguments(t *testing.T) {
	t.Run("that are wrong are told, but for what may be a secret", argumentsWrong)
}

func TestInterrupt(t *testing.T) {
	t.Run("ends a command that waits for its standard input", interruptReading)
}

func interruptReading(t *testing.T) {
	for _, args := range []string{
		"send --to a --secret " + testWebhookSecret + " --data -",
		"send --to a --secret " + testWebhookSecret + " --data @-",
		"verify --secret " + testWebhookSecret + " --id msg_1 --timestamp 1 --signature v1,x --body -",
		"verify --secret " + testWebhookSecret + " --header-file - --body body.json",
		"verify --jwt-secret " + testJWTSecret + " --token -",
	} {
		in := &silent{asked: make(chan struct{}), end: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs strings.Builder
		ended := make(chan int, 1)
		go func() { ended <- Run(ctx, strings.Fields(args), Streams{In: in, Out: &out, Err: &errs}) }()
		select {
		case <-in.asked:
		case code := <-ended:
			t.Fatalf("%s: %d %s%s", args, code, out.String(), errs.String())
		}
		cancel()
		select {
		case code := <-ended:
			if code != 1 || out.String() != "" || !strings.HasSuffix(errs.String(), "stopped\n") {
				t.Errorf("%s: %d %s%s", args, code, out.String(), errs.String())
			}
		case <-time.After(expect.Patience):
			t.Errorf("%s: still reads", args)
		}
		close(in.end)
	}
}

func argumentsWrong(t *testing.T) {
	const secret = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5"
	for args, want := range map[string]string{
		"frobnicate": "unexpected argument frobnicate",
		"serve --callback-secret whsec_a, " + secret: "unexpected argument …",
		"serve --callback-secret= " + secret:         "unexpected argument …",
		"serve --callback-allow-private=" + secret:   `but got "…"`,
		"serve --log-level=" + secret:                `but got "…"`,
		"serve --callback-secert=" + secret:          "unknown flag --callback-secert",
		"serve --callback-allow-privat " + secret:    "unknown flag --callback-allow-privat",
		"receive --reply slots.json " + secret:       "unexpected argument …",
		secret:                                       "unexpected argument …",
	} {
		code, out, errs := command(t, nil, strings.Fields(args)...)
		if code != 2 || out != "" || !strings.Contains(errs, want) || strings.Contains(strings.ToLower(errs), strings.ToLower(secret)) {
			t.Errorf("%s: %d %s%s", args, code, out, errs)
		}
	}
}

func helpLists(t *testing.T) {
	var out, errs expect.Output
	if code := Run(t.Context(), []string{"--help"}, Streams{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("%d %s", code, errs.String())
	}
	for _, command := range []string{"dev", "serve", "token", "send", "listen", "receive", "verify", "export", "import"} {
		if !strings.Contains(out.String(), "\n  "+command+" ") {
			t.Errorf("--help does not list %s", command)
		}
	}
	out = expect.Output{}
	if code := Run(t.Context(), []string{"serve", "--help"}, Streams{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("%d %s", code, errs.String())
	}
	readme, err := os.ReadFile("../../README.md")
	expect.NoError(t, err)
	settings := regexp.MustCompile(`BRIDGE_[A-Z_]+`).FindAllString(out.String(), -1)
	if len(settings) < 15 {
		t.Errorf("only %d settings in --help", len(settings))
	}
	for _, s := range settings {
		if !strings.Contains(string(readme), "`"+s+"`") {
			t.Errorf("README's table lacks %s", s)
		}
	}
	for _, s := range regexp.MustCompile("`(BRIDGE_[A-Z_]+)`").FindAllStringSubmatch(string(readme), -1) {
		if !strings.Contains(out.String(), s[1]) {
			t.Errorf("README names %s, which serve does not have", s[1])
		}
	}
	if code := Run(t.Context(), []string{"frobnicate"}, Streams{Out: &out, Err: &errs}); code != 2 {
		t.Errorf("an unknown command exits with %d", code)
	}
}
