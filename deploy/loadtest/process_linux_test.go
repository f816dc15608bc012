package main

import (
	"os"
	"os/exec"
	"testing"

	"hookbridge/app/expect"
)

func TestProcessesCountWithTheirChildren(t *testing.T) {
	cmd := exec.Command("sh", "-c", "cat; :")
	in, err := cmd.StdinPipe()
	expect.NoError(t, err)
	expect.NoError(t, cmd.Start())
	p := processes{cmd.Process.Pid}
	expect.Eventually(t, "the shell has started another", func() bool {
		all, err := p.withChildren()
		expect.NoError(t, err)
		return len(all) == 2
	})
	u, err := p.usage()
	expect.NoError(t, err)
	if u.Resident == 0 || u.Descriptors == 0 {
		t.Errorf("%+v", u)
	}
	expect.NoError(t, in.Close())
	expect.NoError(t, cmd.Wait())
	if _, err := p.usage(); err == nil {
		t.Error("a process that has ended has no usage")
	}
	own, err := processes{os.Getpid()}.usage()
	expect.NoError(t, err)
	if own.Resident == 0 {
		t.Errorf("%+v", own)
	}
}
