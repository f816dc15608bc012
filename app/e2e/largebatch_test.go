package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/server"
)

func TestLargeBatch(t *testing.T) {
	t.Run("holds up no other webhook", largeBatchHoldsUpNobody)
}

// A batch of many events to many users each goes on for a while. A plain webhook that
// comes meanwhile is answered, and delivered, before the batch is.
func largeBatchHoldsUpNobody(t *testing.T) {
	heavy(t)
	onBoth(t, func(t *testing.T, change ...func(*server.Settings)) {
		// A machine that is busy with other things may take longer over these 18,000
		// messages than a sender would wait.
		w := start(t, append(change, func(s *server.Settings) { s.Times.Publish = 2 * time.Minute })...)
		w.client.Timeout = 2 * time.Minute
		var users strings.Builder
		for i := range 300 {
			fmt.Fprintf(&users, `,"user-%d"`, i)
		}
		var events strings.Builder
		const n = 60
		for i := range n {
			fmt.Fprintf(&events, `,{"id":"batch_%d","type":"t","to":{"users":["first"%s]},"data":{"n":%d}}`, i, users.String(), i)
		}
		first, patient := w.connect("first", ""), w.connect("patient-1", "")
		batch := w.signFor("/webhooks/events/batch", "application/json", "batch", `{"events":[`+events.String()[1:]+`]}`, time.Now())
		var answered atomic.Bool
		done := make(chan answer, 1)
		go func() {
			a := w.do(batch)
			answered.Store(true)
			done <- a
		}()
		first.want("event") // the batch has begun
		if a := w.fireTo("patient-1", 7); a.HTTP != http.StatusAccepted || a.Status != "sent" {
			t.Errorf("%s", a.Raw)
		}
		if answered.Load() {
			t.Error("the batch was answered first")
		}
		if f := patient.want("event"); f.n() != 7 {
			t.Errorf("%s", f.Raw)
		}
		a := <-done
		if a.HTTP != http.StatusAccepted || strings.Count(a.Raw, `"recipients":301`) != n {
			t.Errorf("%d %.300s … %s", a.HTTP, a.Raw, a.Raw[max(0, len(a.Raw)-600):])
		}
		for i := 1; i < n; i++ {
			if f := first.want("event"); f.n() != i {
				t.Fatalf("after %d: %s", i-1, f.Raw)
			}
		}
	})
}
