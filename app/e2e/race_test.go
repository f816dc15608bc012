package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

// An event may be taken back while it is on its way: stored, queued, half
// replayed, just written. Whoever was handed it is told; nobody else is.
func TestARecallThatMeetsTheDeliveryIsToldToThoseWhoHadTheEventAndToNobodyElse(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 100 })
	live := w.connect("patient-1", "")
	const rounds = 60
	var joined []*session
	for round := range rounds {
		id := w.nextID()
		var wg sync.WaitGroup
		var late *session
		wg.Go(func() { w.fire(id, fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, round)) })
		wg.Go(func() {
			for w.call(http.MethodDelete, "/v1/events/"+id, "").HTTP != 204 { // not stored yet
			}
		})
		wg.Go(func() { late = w.connect("patient-1", "") })
		wg.Wait()
		joined = append(joined, late)
	}
	w.fire("msg_last", `{"type":"t","to":{"user":"patient-1"}}`)
	for i, s := range append(joined, live) {
		had := make(map[string]bool)
		for {
			f := s.next()
			if f.Type == "gap" {
				t.Fatalf("session %d: %s", i, f.Raw)
			}
			if f.Type == "recalled" {
				if !had[f.ID] {
					t.Fatalf("session %d is told of %s and never had it", i, f.ID)
				}
				delete(had, f.ID)
			}
			if f.Event.ID == "msg_last" {
				break
			}
			if f.Type == "event" {
				had[f.Event.ID] = true
			}
		}
		if len(had) > 0 {
			t.Fatalf("session %d was not told of %v", i, had)
		}
		expect.NoError(t, s.ws.Close())
	}
}

// A revocation and a connect with what it revokes, at the same time: whichever
// is first, no session lives on.
func TestARevocationThatMeetsAConnectLeavesNoSessionBehind(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	for round := range 60 {
		user := fmt.Sprintf("patient-%d", round)
		tok := issuedToken(t, user, "stolen", time.Now().Add(-time.Minute))
		other := issuedToken(t, user, "mine", time.Now())
		body := `{"jti":"stolen"}`
		if round%2 == 1 {
			body = fmt.Sprintf(`{"issuedBefore":%d}`, time.Now().Add(-30*time.Second).Unix())
		}
		refreshed := w.connectAs(other, "")
		s, _, err := w.dial(nil, "", "bridge.v1.json")
		expect.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() { w.done(http.MethodPost, "/v1/users/"+user+"/revocations", body) })
		wg.Go(func() { s.send(map[string]string{"type": "connect", "token": tok}) })
		wg.Go(func() { refreshed.send(map[string]string{"type": "refresh", "token": tok}) })
		wg.Wait()
		if a, b := s.closed(), refreshed.closed(); a != 4403 || b != 4403 {
			t.Fatalf("round %d: closed with %d, %d", round, a, b)
		}
	}
}

// Two sessions more than may be, coming at once: the limit holds when they are
// in, and those who stay are the newest.
func TestSessionsThatComeAtOnceNeverStayMoreThanTheLimit(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 2 })
	for range 10 {
		var wg sync.WaitGroup
		all := make([]*session, 6)
		for i := range all {
			s, _, err := w.dial(nil, "", "bridge.v1.json")
			expect.NoError(t, err)
			all[i] = s.pump()
			wg.Go(func() { s.send(map[string]string{"type": "connect", "token": token(t, "patient-1", time.Hour, "")}) })
		}
		wg.Wait()
		var p presenceReply
		expect.Eventually(t, "the limit", func() bool { w.get("/v1/users/patient-1/presence", &p); return p.Sessions == 2 })
		for _, s := range all {
			expect.NoError(t, s.ws.Close())
		}
		w.sessions(0)
	}
}
