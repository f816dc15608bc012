package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	t.Run("are written at a bounded rate, and the rest is counted", refusalsAreBounded)
}

func TestSessionLimit(t *testing.T) {
	t.Run("ends polls before others", sessionLimitEndsPolls)
}

func refusalsAreBounded(t *testing.T) {
	var logged, audited bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	var later []func()
	r := newRefusals(slog.New(slog.NewJSONHandler(&logged, nil)), NewAudit(slog.New(slog.NewJSONHandler(&audited, nil))))
	r.now = func() time.Time { return now }
	r.after = func(_ time.Duration, f func()) { later = append(later, f) }
	written := 0
	for range 3 { // seconds
		for range 500 {
			if r.Write("signature_mismatch") {
				written++
			}
		}
		if !r.Write("4401") {
			t.Error("one kind keeps another from being written")
		}
		now = now.Add(time.Second)
	}
	if written != 3*refusalsPerSecond {
		t.Errorf("%d were written", written)
	}
	if len(later) != 1 {
		t.Fatalf("%d summaries are to come", len(later))
	}
	later[0]()
	for name, b := range map[string]*bytes.Buffer{"the log": &logged, "the audit log": &audited} {
		var line struct {
			Code    string
			Omitted int
		}
		if strings.Count(b.String(), "\n") != 1 || json.Unmarshal(b.Bytes(), &line) != nil || line.Code != "signature_mismatch" || line.Omitted != 1500-written {
			t.Errorf("%s: %s", name, b)
		}
	}
	r.Flush()
	if strings.Count(logged.String(), "\n") != 1 {
		t.Errorf("what was told is told again: %s", logged.String())
	}
	for i := range 10 * maxRefusalKinds {
		r.Write(fmt.Sprint(i))
	}
	if len(r.kinds) > maxRefusalKinds {
		t.Errorf("%d kinds are remembered", len(r.kinds))
	}
	var none *Refusals
	if !none.Write("x") {
		t.Error("without a limit there is one")
	}
}

func sessionLimitEndsPolls(t *testing.T) {
	pick := func(limit int, transports ...string) string {
		list := make([]Member, len(transports))
		for i, tr := range transports {
			list[i] = Member{Transport: tr, Session: fmt.Sprintf("%s %d", tr, i)}
		}
		var out []string
		for _, m := range surplus(list, limit) {
			out = append(out, m.Session)
		}
		return strings.Join(out, ", ")
	}
	for _, c := range []struct {
		limit int
		list  []string
		want  string
	}{
		{3, []string{"websocket", "poll"}, ""},
		{2, []string{"websocket", "poll", "websocket"}, "poll 1"},
		{2, []string{"websocket", "websocket", "poll"}, "poll 2"},
		{1, []string{"websocket", "poll", "sse", "poll"}, "poll 1, poll 3, websocket 0"},
		{2, []string{"poll", "poll", "poll"}, "poll 0"},
		{1, []string{"websocket", "sse"}, "websocket 0"},
	} {
		if got := pick(c.limit, c.list...); got != c.want {
			t.Errorf("of %v, with a limit of %d, %q make room", c.list, c.limit, got)
		}
	}
}
