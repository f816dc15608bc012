package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestToldAck(t *testing.T) {
	t.Run("that was answered or told of survives a kill", ackToldSurvivesKill)
}

// No backend hears of these acks, so that the store may write them later.
func ackToldSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	acked := func(id string) bool {
		return strings.Contains(p.call(http.MethodGet, "/v1/events/"+id, "").Raw, `"status":"acked"`)
	}
	for i, c := range []struct {
		told string
		ack  func(user, id, body string)
	}{
		{"a reply", func(user, _, _ string) {
			tok := token(t, user, time.Hour, "")
			var page struct{ Cursor string }
			expect.NoError(t, json.Unmarshal([]byte(p.callAs(tok, http.MethodGet, "/v1/poll?waitMs=0", "").Raw), &page))
			if a := p.callAs(tok, http.MethodPost, "/v1/acks", fmt.Sprintf(`{"cursor":%q}`, page.Cursor)); a.HTTP != http.StatusNoContent {
				t.Fatalf("%d %s", a.HTTP, a.Raw)
			}
		}},
		{"a receipt", func(user, id, _ string) {
			s := p.connect(user, "")
			s.ack(s.want("event").Cursor)
			expect.Eventually(t, "the ack", func() bool { return acked(id) })
		}},
		{"a repeated webhook", func(user, id, body string) {
			s := p.connect(user, "")
			s.ack(s.want("event").Cursor)
			expect.Eventually(t, "the ack", func() bool { return p.fire(id, body).Status == "acked" })
		}},
	} {
		user, id := fmt.Sprint("patient-", i), fmt.Sprint("ack_", i)
		body := fmt.Sprintf(`{"type":"t","to":{"user":%q}}`, user)
		p.fire(id, body)
		c.ack(user, id, body)
		expect.NoError(t, p.cmd.Process.Kill())
		<-p.ended
		p = serve(t, dir)
		if !acked(id) {
			t.Errorf("an ack of which %s told is lost", c.told)
		}
	}
}
