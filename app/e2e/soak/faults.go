package soak

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processFaults are what can happen to a bridge process on any store.
func processFaults(all []*Process) []Fault {
	victim := func(s Step) *Process { return all[s.Victim%len(all)] }
	killAt := func(kind string) Fault {
		return Fault{Name: "kill-at-" + kind, Weight: 2, Most: time.Second, Do: func(s Step, hold func(time.Duration)) {
			victim(s).KillAt(kind)
			hold(s.Hold)
			victim(s).Release()
			victim(s).await()
		}}
	}
	return []Fault{
		killAt(anEvent), killAt(aSend), killAt(anAck),
		{Name: "kill", Weight: 4, Most: time.Second, Do: func(s Step, hold func(time.Duration)) {
			victim(s).Hold(syscall.SIGKILL)
			hold(s.Hold)
			victim(s).Release()
			victim(s).await()
		}},
		{Name: "term", Weight: 2, Most: time.Second, Do: func(s Step, hold func(time.Duration)) {
			victim(s).Hold(syscall.SIGTERM)
			hold(s.Hold)
			victim(s).Release()
			victim(s).await()
		}},
		{Name: "stop", Weight: 3, Least: 100 * time.Millisecond, Most: 3 * time.Second, Do: stopAndGo(victim)},
		{Name: "stoplong", Weight: 1, Least: 25 * time.Second, Most: 40 * time.Second, Do: stopAndGo(victim)},
	}
}

func stopAndGo(victim func(Step) *Process) func(Step, func(time.Duration)) {
	return func(s Step, hold func(time.Duration)) {
		victim(s).Signal(syscall.SIGSTOP)
		hold(s.Hold)
		victim(s).Signal(syscall.SIGCONT)
	}
}

// await waits until the process serves, for as long as a start may take; where it
// does not, the end of the run finds it out.
func (p *Process) await() {
	for range 600 {
		if p.Serving() {
			return
		}
		time.Sleep(50 * time.Millisecond) // a poll of the supervisor's word
	}
}

// embedded is a bridge on the embedded store: one process and its folder.
type embedded struct {
	h    *History
	p    *Process
	data string
	back string // where the last backup is

	kept, lost Moment // of that backup; lost is 0 without one
}

// lanes are the faults of the embedded store.
func (e *embedded) lanes() []Lane {
	process := processFaults([]*Process{e.p})
	process = append(process, Fault{Name: "restore", Weight: 3, Rewinds: true, Least: 20 * time.Millisecond, Most: 4 * time.Second, Do: e.restore})
	disk := []Fault{{Name: "diskfull", Weight: 1, Least: 500 * time.Millisecond, Most: 5 * time.Second, Do: func(s Step, hold func(time.Duration)) {
		e.p.LimitFiles(uint64(4096 << (5 * s.Victim))) // at once, or only for the larger file
		hold(s.Hold)
		e.p.LimitFiles(unix.RLIM_INFINITY)
	}}}
	return []Lane{{"process", process}, {"disk", disk}}
}

// restore puts a backup back: one that is made now, before the hold, or the last one.
func (e *embedded) restore(s Step, hold func(time.Duration)) {
	if s.Victim == 0 || e.lost == 0 {
		if err := e.backup(); err != nil {
			e.h.Note("harness", "backup: %v", err)
			e.p.Signal(syscall.SIGCONT)
			return
		}
	}
	hold(s.Hold)
	done := e.h.rewound(e.kept, e.lost)
	e.p.Hold(syscall.SIGKILL)
	if err := errors.Join(replace(e.back, e.data, "bridge.db"), replace(e.back, e.data, "bridge.journal")); err != nil {
		e.h.Note("harness", "restore: %v", err)
	}
	done() // nothing serves now, and the older copy will
	e.p.Release()
	e.p.await()
}

// backup copies the files of a process that stands still: what a disk would hold
// after a crash.
func (e *embedded) backup() error {
	kept := e.h.Now()
	if err := e.p.freeze(); err != nil {
		return err
	}
	if err := errors.Join(replace(e.data, e.back, "bridge.db"), replace(e.data, e.back, "bridge.journal")); err != nil {
		return err
	}
	e.kept, e.lost = kept, e.h.Now()
	e.p.Signal(syscall.SIGCONT)
	return nil
}

// freeze stops a process, and returns when each of its threads stands still.
func (p *Process) freeze() error {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	p.Signal(syscall.SIGSTOP)
	return still(cmd.Process.Pid)
}

// still waits until each thread of a process that was sent SIGSTOP has stopped.
func still(pid int) error {
	for range 1000 {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		running := 0
		for _, stat := range stats {
			b, err := os.ReadFile(stat)
			if err != nil {
				continue // a thread that has ended
			}
			_, rest, _ := strings.Cut(string(b), ") ")
			if !strings.HasPrefix(rest, "T") {
				running++
			}
		}
		if running == 0 {
			return nil
		}
		time.Sleep(time.Millisecond) // a poll of the kernel's word
	}
	return fmt.Errorf("process %d does not stop", pid)
}

// replace makes what is in one folder and begins with a name be the same in another.
func replace(from, to, name string) error {
	old, err := filepath.Glob(filepath.Join(to, name+"*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !strings.HasPrefix(rel, name) || strings.HasSuffix(rel, "-shm"):
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
}
