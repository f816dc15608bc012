package sqlite

import (
	"reflect"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestRestart(t *testing.T) {
	t.Parallel()
	t.Run("keeps what is known of people", restartKeepsPeople)
}

func TestRecalledPayload(t *testing.T) {
	t.Parallel()
	t.Run("leaves the files with the next checkpoint", recalledPayloadLeaves)
}

func restartKeepsPeople(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	now := time.Now().UTC().Truncate(time.Millisecond)
	m := bridge.Member{User: "ada", Session: "ses_1", Transport: "websocket", Since: now, TokenID: "t1",
		Groups: []string{"by-token"}, Until: now.Add(time.Hour)}
	if _, err := e.Enter(t.Context(), m, ""); err != nil {
		t.Fatal(err)
	}
	at := bridge.Position{Mailbox: 3, Broadcast: 1}
	log := bridge.DeliveryLog{Member: m, Ended: now.Add(time.Hour), From: bridge.Position{Mailbox: 1},
		Sent: []bridge.Mark{{Place: at, At: now}}, Received: []bridge.Mark{{Place: at, At: now}}, Acked: []bridge.Mark{{Place: at, At: now}},
		Skips:    []bridge.Skip{{First: bridge.Position{Mailbox: 2}, Last: bridge.Position{Mailbox: 2}}},
		Unstored: []bridge.Unstored{{ID: "msg_p", Frame: 1, Sent: now, Received: now}}}
	expect.NoError(t, e.Exit(t.Context(), log))
	expect.NoError(t, e.SetMember(t.Context(), "set", "ada", true))
	expect.NoError(t, e.SetMember(t.Context(), "left", "ada", true))
	expect.NoError(t, e.SetMember(t.Context(), "left", "ada", false))
	expect.NoError(t, e.Revoke(t.Context(), "ada", bridge.Revocation{TokenID: "t1"}))
	expect.NoError(t, e.Revoke(t.Context(), "ada", bridge.Revocation{IssuedBefore: now}))
	expect.NoError(t, e.Revoke(t.Context(), "ada", bridge.Revocation{IssuedBefore: now.Add(-time.Hour)})) // the latest counts
	expect.NoError(t, e.Close())

	e = open(t, Options{Dir: dir})
	for _, token := range []struct {
		user, id string
		issued   time.Time
		want     bool
	}{
		{"ada", "t1", now.Add(time.Hour), true}, {"ada", "t2", now.Add(-time.Minute), true}, {"ada", "", time.Time{}, true},
		{"ada", "t2", now, false}, {"bob", "t1", now.Add(-time.Minute), false},
	} {
		if got, err := e.Revoked(t.Context(), token.user, token.id, token.issued); err != nil || got != token.want {
			t.Errorf("%+v: %v, %v", token, got, err)
		}
	}
	if g, err := e.Groups(t.Context(), "ada"); err != nil || !reflect.DeepEqual(g, []string{"set"}) {
		t.Errorf("groups %v, %v", g, err)
	}
	if logs, err := e.DeliveryLogs(t.Context(), []string{"ada"}); err != nil || len(logs[0]) != 1 || !reflect.DeepEqual(logs[0][0], log) {
		t.Errorf("delivery logs %+v, %v; want %+v", logs, err, log)
	}
	seen, err := e.LastSeen(t.Context(), []string{"ada", "bob"})
	if err != nil || !seen[0].Equal(log.Ended) || !seen[1].IsZero() {
		t.Errorf("last seen %v, %v", seen, err)
	}
}

func recalledPayloadLeaves(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	to := bridge.Target{Users: []string{"ada", "bob"}}
	for id, size := range map[string]int{"small": 60, "large": 20_000} {
		mustAppend(t, e, spelling(id, "canary-"+id, size, inAnHour(), to))
		mustAppend(t, e, message("beside-"+id, "ada", 100, inAnHour()))
	}
	expect.NoError(t, e.checkpoints.truncate())
	for _, id := range []string{"small", "large"} {
		if len(where(files(t, dir), "canary-"+id)) == 0 {
			t.Fatalf("%s is not there to be recalled", id)
		}
		expect.NoError(t, e.Recall(t.Context(), id))
	}
	expect.NoError(t, e.checkpoints.truncate())
	if found := where(files(t, dir), "canary-"); len(found) > 0 {
		t.Errorf("there are copies in %v", found)
	}
}
