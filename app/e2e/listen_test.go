package e2e

import (
	"context"
	"strings"
	"testing"

	"hookbridge/app/cli"
	"hookbridge/app/expect"
)

func TestListen(t *testing.T) {
	t.Parallel()
	t.Run("meets send in the real program", listenMeetsSend)
}

func listenMeetsSend(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	ctx, stop := context.WithCancel(t.Context())
	var heard, said expect.Output
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, []string{"listen", "--url", w.base, "--user", "patient-42", "--jwt-secret", testJWTSecret}, cli.Streams{Out: &heard, Err: &said})
	}()
	expect.Eventually(t, "connected", func() bool { return strings.Contains(said.String(), "connected as patient-42") })
	code, out, stderr := told(t, nil, "send", "--to", "patient-42", "--id", "msg_1", "--data", `{"message":"<hello>"}`,
		"--url", w.base, "--secret", testWebhookSecret)
	if code != 0 || !strings.Contains(out, `"status":"sent"`) {
		t.Fatalf("exit %d: %s%s", code, out, stderr)
	}
	expect.Eventually(t, "printed", func() bool { return strings.Contains(heard.String(), `"data":{"message":"<hello>"}}`+"\n") })
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("listen exits with %d: %s", code, said.String())
	}
}
