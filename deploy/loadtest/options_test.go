package main

import (
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	t.Run("that cannot be meant are refused with what to give instead", func(t *testing.T) {
		for _, wrong := range []struct{ args, says string }{
			{"unicats", "idle, paced, resume, soak, toall, unicast"},
			{"--publishers 0", "from 1 to"},
			{"--bytes 10", "from 64 to"},
			{"--rounds 0", "1 or more"},
			{"--sessions=-1", "must not be negative"},
			{"--pid 1", "needs --url"},
			{"--url http://127.0.0.1:1 --redis", "leave out"},
			{"--url 127.0.0.1:8080", "like http://127.0.0.1:8080"},
			{"--url http://127.0.0.1:1", "BRIDGE_WEBHOOK_SECRETS"},
		} {
			t.Setenv("BRIDGE_WEBHOOK_SECRETS", "")
			code, _, errs := load(t, strings.Fields(wrong.args)...)
			if code != 2 || !strings.Contains(errs, wrong.says) {
				t.Errorf("%s: exit code %d, %s", wrong.args, code, errs)
			}
		}
	})
	t.Run("are listed by --help, with each scenario", func(t *testing.T) {
		code, out, _ := load(t, "--help")
		for name := range scenarios {
			if code != 0 || !strings.Contains(out, "\n"+name+": ") {
				t.Errorf("exit code %d, %s is not explained:\n%s", code, name, out)
			}
		}
	})
	t.Run("make one run a scenario, and one for each number of publishers", func(t *testing.T) {
		o := options{Publishers: []int{1, 64}, Rate: 100, Sessions: 7}
		var runs []string
		for _, p := range o.plan() {
			runs = append(runs, p.String())
		}
		want := "idle, 7 sessions|unicast, 7 sessions, 1 publishers|unicast, 7 sessions, 64 publishers|paced, 7 sessions, 100 messages a second|" +
			"toall, 7 sessions, 20 messages|resume, 7 sessions, 100 messages"
		if got := strings.Join(runs, "|"); got != want {
			t.Error(got)
		}
	})
}
