package soak

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/store/redis/redistest"
)

// shared is bridges on one Redis: a primary, a replica that follows it through a
// proxy of its own, and a proxy before each bridge.
type shared struct {
	t         testing.TB
	h         *History
	processes []*Process
	primary   *redistest.Server
	replica   *redistest.Server
	link      *redistest.Proxy   // between the two
	doors     []*redistest.Proxy // one a bridge
	back      string             // where the last backup is

	kept, lost Moment // of that backup; lost is 0 without one
}

// startShared starts Redis for so many bridges.
func startShared(t testing.TB, h *History, bridges int) *shared {
	s := &shared{t: t, h: h, primary: redistest.Start(t), replica: redistest.Start(t), back: t.TempDir()}
	s.link = redistest.NewProxy(t, s.primary.Addr)
	for range bridges {
		s.doors = append(s.doors, redistest.NewProxy(t, s.primary.Addr))
	}
	s.follow()
	return s
}

// follow makes the replica follow the primary, and waits until it does.
func (s *shared) follow() {
	host, port, err := net.SplitHostPort(s.link.Addr())
	if err != nil {
		s.t.Error(err)
		return
	}
	s.link.Aim(s.primary.Addr)
	s.link.Mend()
	s.link.Drop()
	s.tell(s.replica, "REPLICAOF", host, port)
	s.caughtUp()
}

// tell asks a server until it answers: one that has just started, or changes its
// role, does not yet.
func (s *shared) tell(r *redistest.Server, args ...string) (answer string) {
	expect.Eventually(s.t, "an answer to "+args[0], func() bool {
		var err error
		answer, err = r.Try(args...)
		return err == nil
	})
	return answer
}

// offset is how far a server is in the stream of writes.
func (s *shared) offset(r *redistest.Server) int {
	n, err := strconv.Atoi(r.Info("replication", "master_repl_offset"))
	if err != nil {
		return -1
	}
	return n
}

// caughtUp waits until the replica has all that the primary has now.
func (s *shared) caughtUp() {
	expect.Eventually(s.t, "the replica to follow", func() bool { return s.replica.Info("replication", "master_link_status") == "up" })
	want := -1
	expect.Eventually(s.t, "the primary's offset", func() bool { want = s.offset(s.primary); return want >= 0 })
	expect.Eventually(s.t, "the replica to catch up", func() bool { return s.offset(s.replica) >= want })
}

// lanes are the faults of the distributed store.
func (s *shared) lanes() []Lane {
	store := []Fault{
		{Name: "redis-kill", Weight: 3, Most: 2 * time.Second, Do: func(step Step, hold func(time.Duration)) {
			s.primary.Kill()
			hold(step.Hold)
			s.primary.Restart()
		}},
		{Name: "redis-stop", Weight: 2, Least: 100 * time.Millisecond, Most: 5 * time.Second, Do: func(step Step, hold func(time.Duration)) {
			s.primary.Pause()
			hold(step.Hold)
			s.primary.Continue()
		}},
		{Name: "redis-client-pause", Weight: 1, Least: 100 * time.Millisecond, Most: 3 * time.Second, Do: func(step Step, hold func(time.Duration)) {
			s.tell(s.primary, "CLIENT", "PAUSE", strconv.Itoa(int(step.Hold.Milliseconds())), "ALL")
			hold(step.Hold)
		}},
		{Name: "scripts-flushed", Weight: 2, Most: time.Millisecond, Do: func(Step, func(time.Duration)) {
			s.tell(s.primary, "SCRIPT", "FLUSH")
		}},
		{Name: "cut-off", Weight: 3, Least: 100 * time.Millisecond, Most: 8 * time.Second, Do: func(step Step, hold func(time.Duration)) {
			door := s.doors[step.Victim]
			door.Cut()
			hold(step.Hold)
			if step.Hold > 2*time.Second { // what was on its way is lost, or comes late
				door.Drop()
			}
			door.Mend()
		}},
		{Name: "dropped", Weight: 2, Most: time.Millisecond, Do: func(step Step, _ func(time.Duration)) { s.doors[step.Victim].Drop() }},
		{Name: "failover", Weight: 2, Most: time.Second, Do: s.failover},
		{Name: "lagging-failover", Weight: 2, Rewinds: true, Least: 20 * time.Millisecond, Most: 4 * time.Second, Do: s.laggingFailover},
		{Name: "redis-restore", Weight: 2, Rewinds: true, Least: 20 * time.Millisecond, Most: 4 * time.Second, Do: s.restore},
	}
	return []Lane{{"process", processFaults(s.processes)}, {"store", store}}
}

// failover makes the replica the primary, in order: nothing is lost.
func (s *shared) failover(step Step, hold func(time.Duration)) {
	s.tell(s.primary, "CLIENT", "PAUSE", "60000", "WRITE")
	s.caughtUp()
	s.promote()
	hold(step.Hold)
	s.demote()
}

// laggingFailover loses the primary while the replica lags behind it.
func (s *shared) laggingFailover(step Step, hold func(time.Duration)) {
	kept := s.h.Now()
	s.caughtUp()
	s.link.Cut()
	hold(50 * time.Millisecond) // what the proxy had read before it was cut
	lost := s.h.Now()
	hold(step.Hold)
	done := s.h.rewound(kept, lost)
	s.promote()
	done()
	s.demote()
}

// promote ends the primary, and sends the bridges to the replica.
func (s *shared) promote() {
	s.primary.Kill()
	s.link.Drop()
	s.tell(s.replica, "REPLICAOF", "NO", "ONE")
	s.primary, s.replica = s.replica, s.primary
	for _, door := range s.doors {
		door.Aim(s.primary.Addr)
		door.Drop()
	}
}

// demote starts the former primary as the new one's replica.
func (s *shared) demote() {
	s.replica.Restart()
	s.follow()
}

// written returns a moment at which all that Redis had answered was in its file. While the
// disk is busy, Redis holds writes back for up to two seconds (redis.conf, appendfsync).
func (s *shared) written() (at Moment) {
	expect.Eventually(s.t, "Redis to have written what it holds back", func() bool {
		at = s.h.Now()
		return s.primary.Info("persistence", "aof_buffer_length") == "0"
	})
	return at
}

// restore puts a backup of Redis back: one that is made now, before the hold, or
// the last one.
func (s *shared) restore(step Step, hold func(time.Duration)) {
	if step.Victim == 0 || s.lost == 0 {
		kept := s.written()
		s.primary.Pause()
		err := still(s.primary.Pid())
		if err == nil {
			err = replace(s.primary.Dir, s.back, "appendonlydir")
		}
		lost := s.h.Now()
		s.primary.Continue()
		if err != nil {
			s.h.Note("harness", "backup: %v", err)
			return
		}
		s.kept, s.lost = kept, lost
	}
	hold(step.Hold)
	done := s.h.rewound(s.kept, s.lost)
	s.primary.Kill()
	if err := replace(s.back, s.primary.Dir, "appendonlydir"); err != nil {
		s.h.Note("harness", "restore: %v", err)
	}
	done() // nothing serves now, and the older copy will
	s.primary.Restart()
	s.follow()
}

// newShared starts the bridges, too.
func newShared(t testing.TB, h *History, more ...string) *shared {
	s := startShared(t, h, 2)
	for i, door := range s.doors {
		p, err := StartProcess(i, h, settings(append(more, "BRIDGE_REDIS_URL="+door.URL(), "BRIDGE_REDIS_PREFIX=soak")...))
		if err != nil {
			t.Fatal(err)
		}
		s.processes = append(s.processes, p)
	}
	return s
}

// mend ends what a fault may have left.
func (s *shared) mend() {
	for _, p := range s.processes {
		p.Signal(syscall.SIGCONT)
		p.Release()
	}
	for _, door := range s.doors {
		door.Mend()
	}
}

// newEmbedded starts a bridge on the embedded store.
func newEmbedded(t testing.TB, h *History, more ...string) *embedded {
	dir := t.TempDir()
	t.Cleanup(func() { // the processes have ended by then
		if to := os.Getenv("SOAK_KEEP"); to != "" && t.Failed() {
			if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
				t.Error(err)
			}
		}
	})
	e := &embedded{h: h, data: filepath.Join(dir, "data"), back: filepath.Join(dir, "backup")}
	p, err := StartProcess(0, h, settings(append(more, "BRIDGE_DATA_DIR="+e.data)...))
	if err != nil {
		t.Fatal(err)
	}
	e.p = p
	return e
}

func (e *embedded) mend() {
	e.p.Signal(syscall.SIGCONT)
	e.p.Release()
}
