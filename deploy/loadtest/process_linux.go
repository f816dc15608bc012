package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc, which is the same on every Linux that Go runs on.
const ticksPerSecond = 100

// processes are the server's: the given ones and all that they have started.
type processes []int

// readable reports whether CPU and memory of processes can be read on this system.
func (p processes) readable() bool { return len(p) > 0 }

// why says why nothing can be read.
func (processes) why() string {
	return "the server's CPU and memory are left out: give its process with --pid"
}

// usage reads what the processes have used so far.
func (p processes) usage() (u usage, err error) {
	all, err := p.withChildren()
	if err != nil {
		return u, err
	}
	for _, pid := range all {
		one, err := usageOf(pid)
		if errors.Is(err, os.ErrNotExist) { // a child that has just ended
			continue
		}
		if err != nil {
			return u, err
		}
		u.CPU += one.CPU
		u.Resident += one.Resident
		u.Descriptors += one.Descriptors
	}
	return u, nil
}

// withChildren adds the children's children and so on.
func (p processes) withChildren() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if fields, err := statOf(pid); err == nil { // else it has just ended
				parent, _ := strconv.Atoi(fields[1]) // the kernel writes a number
				children[parent] = append(children[parent], pid)
			}
		}
	}
	out := make([]int, 0, len(p))
	for _, pid := range p {
		if _, err := statOf(pid); err != nil {
			return nil, fmt.Errorf("the server's process %d has ended, or --pid is wrong: %w", pid, err)
		}
		out = append(out, pid)
	}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i]]...)
	}
	return out, nil
}

// statOf is /proc/PID/stat from the state on, which is member 0.
func statOf(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name before it may hold anything
	if len(fields) < 13 {
		return nil, fmt.Errorf("/proc/%d/stat has a form that is not known", pid)
	}
	return fields, nil
}

func usageOf(pid int) (u usage, err error) {
	fields, err := statOf(pid)
	if err != nil {
		return u, err
	}
	for _, f := range fields[11:13] { // utime and stime
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			if err != nil {
				return u, err
			}
			u.Resident = kib << 10
		}
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.Descriptors = len(open)
	return u, err
}
