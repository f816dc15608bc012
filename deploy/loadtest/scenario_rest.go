package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// resumePublishers fill the mailboxes of those who are away; what they do is not measured.
const resumePublishers = 16

// resumePause is between a user who has come back and the next: in life they do not find a server that is
// just busy with another. It has repetitions of the last message come to light too.
const resumePause = 50 * time.Millisecond

// idle connects sessions and lets them rest.
func idle(r *rig) error {
	known := r.target.processes.readable()
	var before, after, rested usage
	var err error
	if known {
		if before, err = r.target.processes.usage(); err != nil {
			return err
		}
	}
	s, err := r.measured(r.connect)
	if err != nil {
		return err
	}
	n := len(r.sessions)
	r.cost(s, int64(n), "server_cpu_us_per_connect", "load_cpu_us_per_connect")
	r.measures["connects_per_s"] = float64(n) / s.took.Seconds()
	r.progress.now(func() string { return fmt.Sprintf("%d sessions rest for %s", n, r.o.Rest) })
	if known {
		if after, err = r.target.processes.usage(); err != nil {
			return err
		}
	}
	if err := r.pause(r.o.Rest); err != nil {
		return err
	}
	if known {
		if rested, err = r.target.processes.usage(); err != nil {
			return err
		}
		r.measures["resident_bytes_per_session"] = float64(rested.Resident-before.Resident) / float64(n)
		if r.o.Rest > 0 {
			r.measures["idle_cpu_percent"] = 100 * (rested.CPU - after.CPU).Seconds() / r.o.Rest.Seconds()
		}
	}
	r.measures["dropped"] = float64(r.dropped.Load())
	return nil
}

// resume has each user see one message and leave. When all have missed the planned number, they come back
// one after the other, each at its cursor.
func resume(r *rig) error {
	cursors, err := r.leave()
	if err != nil {
		return err
	}
	if err := r.miss(); err != nil {
		return err
	}
	if err := r.rest(); err != nil {
		return err
	}
	var back atomic.Int64
	r.progress.now(func() string { return fmt.Sprintf("%d of %d users have come back", back.Load(), len(cursors)) })
	spans := make([]int64, 0, len(cursors))
	s, err := r.measured(func() error {
		for i, cursor := range cursors {
			began, had := r.ledger.now(), r.ledger.delivered.Load()
			if err := r.open(i, cursor); err != nil {
				return err
			}
			want := had + int64(r.plan.Messages)
			for end := time.Now().Add(quietFor); r.ledger.delivered.Load() < want && time.Now().Before(end); {
				if err := r.pause(time.Millisecond); err != nil {
					return err
				}
			}
			spans = append(spans, r.receivers[i].lastAt.Load()-began)
			back.Add(1)
			if err := r.pause(resumePause); err != nil {
				return err
			}
			r.sessions[i].close()
			r.sessions[i] = nil
		}
		return r.settle()
	})
	if err != nil {
		return err
	}
	if err := r.account(); err != nil {
		return err
	}
	r.cost(s, int64(len(cursors)*r.plan.Messages), "server_cpu_us_per_message", "load_cpu_us_per_message")
	r.measures.quantiles("resume", spans)
	return nil
}

// leave has each user connect, see one message and go; it returns where each has left.
func (r *rig) leave() ([][]byte, error) {
	if err := r.connect(); err != nil {
		return nil, err
	}
	p := r.publisher()
	for i := range r.sessions {
		if _, ok := p.publish(i, 0); !ok {
			return nil, *r.ledger.failure.Load()
		}
	}
	if err := r.settle(); err != nil {
		return nil, err
	}
	cursors := make([][]byte, len(r.sessions))
	for i, s := range r.sessions {
		cursors[i] = s.close()
		r.sessions[i] = nil
	}
	return cursors, nil
}

// miss fills the mailboxes, one message to each user before the second to any, as in life.
func (r *rig) miss() error {
	r.progress.now(func() string {
		return fmt.Sprintf("%d messages stored for users who are away", r.ledger.accepted.Load())
	})
	n := len(r.sessions)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range resumePublishers {
		wg.Go(func() {
			p := r.publisher()
			for i := int(next.Add(1)) - 1; i < n*r.plan.Messages && r.ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				p.publish(i%n, 0)
			}
		})
	}
	wg.Wait()
	if p := r.ledger.failure.Load(); p != nil {
		return *p
	}
	return r.ctx.Err()
}
