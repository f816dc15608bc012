package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// dialers open sessions at the same time.
	dialers = 64
	// quietFor ends the wait for messages when none has come for so long.
	quietFor = 3 * time.Second
	// repeatsWithin is how long a repetition of the last message is waited for.
	repeatsWithin = 100 * time.Millisecond
	// restAtMost and restStep bound the wait for a server that still works off what was before.
	restAtMost = 5 * time.Second
	restStep   = 250 * time.Millisecond
	// restShare is the share of one processor that a resting server may use.
	restShare = 0.05
)

// usage is what processes have used and hold.
type usage struct {
	CPU         time.Duration
	Resident    int64 // bytes
	Descriptors int
}

// rig is what one run of a scenario needs.
type rig struct {
	ctx      context.Context
	o        options
	plan     plannedRun
	target   *target
	progress *progress
	ledger   *ledger
	dialer   dialer
	sender   *sender
	measures measures

	sessions  []*session  // by the user's number; nil: not connected
	receivers []*receiver // by the user's number
	dropped   atomic.Int64
	whyGone   atomic.Pointer[error] // of the first session that the server ended
}

func newRig(ctx context.Context, o options, plan plannedRun, t *target, p *progress) *rig {
	l := newLedger()
	socket := *t.url.JoinPath("/ws")
	socket.Scheme = map[string]string{"http": "ws", "https": "wss"}[t.url.Scheme]
	r := &rig{ctx: ctx, o: o, plan: plan, target: t, progress: p, ledger: l, measures: measures{},
		dialer:   dialer{url: socket.String(), jwtSecret: t.jwtSecret, spread: t.onLoopback(), acks: plan.Acks, ledger: l},
		sender:   newSender(t.url, t.webhookSecret, l, plan.Bytes, plan.Sessions),
		sessions: make([]*session, plan.Sessions), receivers: make([]*receiver, plan.Sessions)}
	for i := range r.receivers {
		r.receivers[i] = &receiver{}
	}
	return r
}

// random is the choice of users by one publisher; the same for the same seed.
func (r *rig) random(stream int) *rand.Rand { return rand.New(rand.NewPCG(r.o.Seed, uint64(stream))) }

func (r *rig) publisher() *publisher { return &publisher{sender: r.sender} }

// open connects user number i, after a cursor or as a new device, and reads from then on.
func (r *rig) open(i int, after []byte) error {
	s, err := r.dialer.dial(r.ctx, i, r.receivers[i], after)
	if err != nil {
		return err
	}
	r.sessions[i] = s
	go func() {
		s.read()
		if !s.closing.Load() {
			r.whyGone.CompareAndSwap(nil, &s.err)
			r.dropped.Add(1)
		}
	}()
	return nil
}

// connect opens all sessions.
func (r *rig) connect() error {
	var next, open atomic.Int64
	r.progress.now(func() string { return fmt.Sprintf("%d of %d sessions are connected", open.Load(), len(r.sessions)) })
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range min(dialers, len(r.sessions)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(r.sessions) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := r.open(i, nil); err != nil {
					cancel(err)
					return
				}
				open.Add(1)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// close ends all sessions.
func (r *rig) close() {
	var wg sync.WaitGroup
	for _, s := range r.sessions {
		if s != nil {
			wg.Go(func() { s.close() })
		}
	}
	wg.Wait()
	r.sender.http.CloseIdleConnections()
}

// rest waits until the server has worked off what was before, so that it does not count with what comes.
func (r *rig) rest() error {
	if !r.target.processes.readable() {
		return r.pause(time.Second)
	}
	for end := time.Now().Add(restAtMost); time.Now().Before(end); {
		before, err := r.target.processes.usage()
		if err != nil {
			return err
		}
		if err := r.pause(restStep); err != nil {
			return err
		}
		after, err := r.target.processes.usage()
		if err != nil {
			return err
		}
		if (after.CPU - before.CPU).Seconds() <= restShare*restStep.Seconds() {
			return nil
		}
	}
	return nil
}

func (r *rig) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// spent is what the server and the load have used for something.
type spent struct {
	server, load time.Duration
	known        bool // whether the server's is known
	took         time.Duration
}

// measured runs f and returns what was used meanwhile.
func (r *rig) measured(f func() error) (s spent, err error) {
	load, loadErr := ownCPU()
	s.known = r.target.processes.readable()
	var before, after usage
	if s.known {
		if before, err = r.target.processes.usage(); err != nil {
			return s, err
		}
	}
	began := time.Now()
	if err := f(); err != nil {
		return s, err
	}
	s.took = time.Since(began)
	if s.known {
		if after, err = r.target.processes.usage(); err != nil {
			return s, err
		}
		s.server = after.CPU - before.CPU
	}
	if loadErr == nil {
		load2, err := ownCPU()
		if err != nil {
			return s, err
		}
		s.load = load2 - load
	}
	return s, nil
}

// settle waits until all accepted messages have arrived, or none has for quietFor, and then for what comes
// after them: repetitions, and acks.
func (r *rig) settle() error {
	last, since := r.ledger.delivered.Load(), time.Now()
	for !r.ledger.settled() && time.Since(since) < quietFor {
		if err := r.pause(pollEvery); err != nil {
			return err
		}
		if n := r.ledger.delivered.Load(); n != last {
			last, since = n, time.Now()
		}
	}
	after := repeatsWithin
	if r.plan.Acks {
		after += ackEvery
	}
	return r.pause(after)
}

// account puts the exact counts into the measures, and fails where nothing was accepted.
func (r *rig) account() error {
	l := r.ledger
	if p := l.failure.Load(); p != nil && l.accepted.Load() == 0 {
		return *p
	}
	if l.accepted.Load() == 0 {
		return errors.New("no message was accepted")
	}
	for name, n := range map[string]int64{"accepted": l.accepted.Load(), "failed": l.failed.Load(), "delivered": l.delivered.Load(),
		"lost": l.lost(), "doubled": l.doubled.Load(), "disordered": l.disordered.Load(), "stray": l.stray.Load(),
		"gaps": l.gaps.Load(), "dropped": r.dropped.Load()} {
		r.measures[name] = float64(n)
	}
	return nil
}

// trouble tells of the first failed publish and the first session that the server ended.
func (r *rig) trouble() (out []string) {
	if p := r.ledger.failure.Load(); p != nil {
		out = append(out, fmt.Sprintf("%d publishes failed; the first: %v", r.ledger.failed.Load(), *p))
	}
	if p := r.whyGone.Load(); p != nil {
		out = append(out, fmt.Sprintf("%d sessions were ended by the server; the first: %v", r.dropped.Load(), *p))
	}
	return out
}

// state is the line of progress while messages are published.
func (r *rig) state() string {
	l := r.ledger
	s := fmt.Sprintf("%d messages accepted, %d delivered", l.accepted.Load(), l.delivered.Load())
	for _, c := range []struct {
		n    int64
		what string
	}{{l.failed.Load(), "failed"}, {l.doubled.Load(), "doubled"}, {l.disordered.Load(), "out of order"}, {r.dropped.Load(), "sessions dropped"}} {
		if c.n > 0 {
			s += fmt.Sprintf(", %d %s", c.n, c.what)
		}
	}
	return s
}

// cost puts CPU a unit (a message, a connect, a delivery) into the measures.
func (r *rig) cost(s spent, units int64, server, load string) {
	if units == 0 {
		return
	}
	if s.known {
		r.measures[server] = s.server.Seconds() * 1e6 / float64(units)
	}
	if s.load > 0 {
		r.measures[load] = s.load.Seconds() * 1e6 / float64(units)
	}
}
