package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/auth"
)

func TestRevocation(t *testing.T) {
	t.Parallel()
	t.Run("ends live sessions, refuses later ones and survives a restart", revocationEnds)
	t.Run("that meets a connect leaves no session behind", revocationMeetsConnect)
}

func issuedToken(t testing.TB, user, id string, issued time.Time) string {
	t.Helper()
	s, err := auth.SignToken(testJWTSecret, auth.Claims{User: user, ID: id, IssuedAt: issued, Expires: time.Now().Add(time.Hour)})
	expect.NoError(t, err)
	return s
}

func revocationEnds(t *testing.T) {
	heavy(t)
	t.Parallel()
	settings := testSettings(t.TempDir())
	w := startWith(t, settings)
	now := time.Now().Truncate(time.Second)
	old, young := issuedToken(t, "patient-1", "a", now.Add(-time.Hour)), issuedToken(t, "patient-1", "b", now.Add(-time.Minute))
	byID := issuedToken(t, "patient-2", "stolen", now)
	kept := issuedToken(t, "patient-2", "mine", now)
	s1, s2, s3, s4 := w.connectAs(old, ""), w.connectAs(young, ""), w.connectAs(byID, ""), w.connectAs(kept, "")
	w.done(http.MethodPost, "/v1/users/patient-1/revocations", fmt.Sprintf(`{"issuedBefore":%d}`, now.Add(-30*time.Minute).Unix()))
	w.done(http.MethodPost, "/v1/users/patient-2/revocations", `{"jti":"stolen"}`)
	if a, b := s1.closed(), s3.closed(); a != 4403 || b != 4403 {
		t.Fatalf("closed with %d, %d", a, b)
	}
	s2.settle()
	s4.settle()
	for round := range 2 {
		for name, tok := range map[string]string{"issued before": old, "by its jti": byID} {
			s, _, err := w.dial(nil, "", "bridge.v1.json")
			expect.NoError(t, err)
			s.send(map[string]string{"type": "connect", "token": tok})
			if code := s.closed(); code != 4403 {
				t.Errorf("round %d: %s: closed with %d", round, name, code)
			}
			if a := w.callAs(tok, http.MethodGet, "/v1/poll?waitMs=0", ""); a.HTTP != 403 || a.Code != "token_revoked" {
				t.Errorf("round %d: %s: poll: %d %s", round, name, a.HTTP, a.Raw)
			}
		}
		w.connectAs(young, "").settle()
		w.connectAs(kept, "").settle()
		if round == 0 {
			w.stop()
			w = startWith(t, settings)
		}
	}
	// A refresh with a revoked token is no way around it.
	s := w.connectAs(kept, "")
	s.send(map[string]string{"type": "refresh", "token": byID})
	if code := s.closed(); code != 4403 {
		t.Errorf("refresh: closed with %d", code)
	}
}

// A revocation and a connect with what it revokes, at the same time: whichever
// is first, no session lives on.
func revocationMeetsConnect(t *testing.T) {
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
