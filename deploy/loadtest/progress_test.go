package main

import (
	"strings"
	"testing"

	"hookbridge/app/expect"
)

func TestProgress(t *testing.T) {
	t.Run("is one line that is redrawn on a terminal", func(t *testing.T) {
		var out expect.Output
		p := newProgress(&out, true)
		p.begin("unicast")
		p.now(func() string { return "7 messages" })
		expect.Eventually(t, "it is drawn and drawn again", func() bool { return strings.Count(out.String(), "\r") > 1 })
		p.stop()
		if s := out.String(); !strings.HasPrefix(s, "unicast\n\r") || !strings.HasSuffix(s, " \r") || strings.Count(s, "\n") != 1 {
			t.Errorf("%q", s)
		}
	})
	t.Run("is plain lines elsewhere", func(t *testing.T) {
		var out expect.Output
		p := newProgress(&out, false)
		p.begin("unicast")
		p.now(func() string { return "7 messages" })
		p.show()
		p.stop()
		if s := out.String(); !strings.HasPrefix(s, "unicast\n") || !strings.HasSuffix(s, "7 messages\n") || strings.Contains(s, "\r") {
			t.Errorf("%q", s)
		}
	})
}
