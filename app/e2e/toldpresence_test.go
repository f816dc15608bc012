package e2e

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

func TestToldPresence(t *testing.T) {
	t.Run("of a machine that was killed ends, and goes on where the user is elsewhere", presenceMachineKilled)
	t.Run("that the backend refused is told again after a kill", presenceRefusedOutlivesKill)
	t.Run("does not change where the only machine restarts and the user is back in time", presenceRestart)
}

// told lists the types of what the backend heard of a user. One that it heard again after
// a kill, with the same webhook-id, counts once.
func (b *clinicBackend) told(user string) string {
	var types []string
	known := make(map[string]bool)
	for _, c := range b.of(user) {
		if !known[c.webhookID] {
			types = append(types, c.Type)
		}
		known[c.webhookID] = true
	}
	return strings.Join(types, " ")
}

// wasOnline and wasOffline are all that a backend hears of a user who came and left once.
const (
	wasOnline  = "user.online"
	wasOffline = wasOnline + " user.offline"
)

func (b *clinicBackend) wantTold(want string, users ...string) {
	b.t.Helper()
	for _, user := range users {
		if got := b.told(user); got != want {
			b.t.Errorf("the backend was told of %s: %s, want %s", user, got, want)
		}
	}
}

// onlineTold waits until the backend has heard that each user has come.
func (b *clinicBackend) onlineTold(users ...string) {
	b.t.Helper()
	for _, user := range users {
		expect.Eventually(b.t, "user.online of "+user, func() bool { return b.told(user) == wasOnline })
	}
}

// offlineTold waits until the backend has heard that a user has gone, who was last there at
// a time or later, and nothing else since the user came.
func (b *clinicBackend) offlineTold(user string, since time.Time) {
	b.t.Helper()
	off := b.hears(user, "user.offline")
	if off.Data.LastSeen.Before(since) || off.Timestamp.Sub(off.Data.LastSeen) < 10*time.Second {
		b.t.Errorf("%s was there until %v: %s", user, since, off.raw)
	}
	b.wantTold(wasOffline, user)
}

func presenceMachineKilled(t *testing.T) {
	heavy(t)
	t.Parallel()
	b := newClinicBackend(t)
	r := redistest.Start(t)
	victim := serve(t, t.TempDir(), "BRIDGE_REDIS_URL="+r.URL(), "BRIDGE_REDIS_PREFIX=e2e",
		"BRIDGE_CALLBACK_URL="+b.server.URL, "BRIDGE_CALLBACK_SECRET="+callbackSecret)
	var m machines
	for range 2 {
		m = append(m, start(t, b.settings, func(s *server.Settings) {
			s.RedisURL, s.RedisPrefix = server.Secret(r.URL()), "e2e"
			// The victim says every 3 s that it lives.
			s.Times = server.Times{RedisLease: 6 * time.Second, RedisRenew: time.Second}
		}))
	}
	users := []string{"gone", "back", "both"}
	for _, user := range users {
		victim.connect(user, "")
	}
	b.onlineTold(users...)
	both := m[0].connect("both", "")
	killed := time.Now()
	expect.NoError(t, victim.cmd.Process.Kill())
	<-victim.ended
	back := m[1].connect("back", "")
	b.offlineTold("gone", killed.Add(-5*time.Second)) // it said that it lived every 3 s
	b.wantTold(wasOnline, "back", "both")

	m[0].connect("gone", "")
	closed := time.Now()
	expect.NoError(t, both.ws.Close())
	expect.NoError(t, back.ws.Close())
	b.offlineTold("back", closed)
	b.offlineTold("both", closed)
	b.wantTold(wasOffline+" "+wasOnline, "gone")
}

func presenceRestart(t *testing.T) {
	heavy(t)
	t.Parallel()
	b := newClinicBackend(t)
	dir := t.TempDir()
	run := func() *process {
		return serve(t, dir, "BRIDGE_CALLBACK_URL="+b.server.URL, "BRIDGE_CALLBACK_SECRET="+callbackSecret)
	}
	p := run()
	p.connect("gone", "")
	p.connect("back", "")
	b.onlineTold("gone", "back")
	expect.NoError(t, p.cmd.Process.Kill())
	<-p.ended
	p = run()
	started := time.Now()
	back := p.connect("back", "")
	if off := b.hears("gone", "user.offline"); off.Timestamp.Sub(started) < 10*time.Second {
		t.Errorf("started at %v: %s", started, off.raw)
	}
	b.wantTold(wasOnline, "back")

	expect.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	expect.NoError(t, back.ws.Close())
	expect.NoError(t, p.wait(t))
	p = run()
	back = p.connect("back", "")
	closed := time.Now()
	expect.NoError(t, back.ws.Close())
	b.offlineTold("back", closed)
	b.wantTold(wasOffline, "gone")
}

func presenceRefusedOutlivesKill(t *testing.T) {
	t.Parallel()
	b := newClinicBackend(t)
	b.answers(func(w http.ResponseWriter, _ *http.Request, _ heardCallback) {
		w.WriteHeader(http.StatusInternalServerError)
	})
	dir := t.TempDir()
	run := func() *process {
		return serve(t, dir, "BRIDGE_CALLBACK_URL="+b.server.URL, "BRIDGE_CALLBACK_SECRET="+callbackSecret)
	}
	p := run()
	p.connect("patient-1", "")
	first := b.hears("patient-1", "user.online")
	expect.NoError(t, p.cmd.Process.Kill())
	<-p.ended
	b.answers(nil)
	p = run()
	p.connect("patient-1", "")
	expect.Eventually(t, "the second try", func() bool { return len(b.of("patient-1")) == 2 })
	b.wantTold(wasOnline, "patient-1")
	if again := b.of("patient-1")[1]; again.webhookID != first.webhookID || again.raw != first.raw {
		t.Errorf("%s, and %s", first.raw, again.raw)
	}
}
