package main

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

const (
	// soakSamples is how often memory and descriptors are read, at least each second.
	soakSamples = 100
	// soakWarmup is the share of the time after which memory counts: caches and pools fill up before.
	soakWarmup = 0.1
)

// soak publishes at a fixed rate while sessions leave and come back, and watches memory and descriptors.
func soak(r *rig) error {
	if err := r.connect(); err != nil {
		return err
	}
	if err := r.rest(); err != nil {
		return err
	}
	r.progress.now(r.state)
	duration := time.Duration(r.plan.Seconds * float64(time.Second))
	var memory measures
	s, err := r.measured(func() error {
		ctx, stop := context.WithCancelCause(r.ctx)
		defer stop(nil)
		var wg sync.WaitGroup
		var returns int
		wg.Go(func() { // an error of theirs ends the publishing too
			var err error
			if returns, err = r.churn(ctx); err != nil {
				stop(err)
			}
		})
		wg.Go(func() {
			var err error
			if memory, err = r.watch(ctx, duration); err != nil {
				stop(err)
			}
		})
		err := r.pace(ctx, int(r.plan.Seconds*float64(r.plan.Rate)))
		stop(errSoakOver)
		wg.Wait()
		if cause := context.Cause(ctx); !errors.Is(cause, errSoakOver) {
			err = cause
		}
		if err != nil {
			return err
		}
		r.measures["returns"] = float64(returns)
		return r.settle()
	})
	if err != nil {
		return err
	}
	maps.Copy(r.measures, memory)
	if err := r.account(); err != nil {
		return err
	}
	r.cost(s, r.ledger.accepted.Load(), "server_cpu_us_per_message", "load_cpu_us_per_message")
	r.measures["messages_per_s"] = float64(r.ledger.accepted.Load()) / s.took.Seconds()
	answered, first, _ := r.ledger.latencies(0)
	r.measures.quantiles("answer", answered)
	r.measures.quantiles("delivery", first)
	return nil
}

// errSoakOver ends what goes on beside the publishing.
var errSoakOver = errors.New("the soak is over")

// churn has one session after the other leave and come back at its cursor, until ctx ends.
func (r *rig) churn(ctx context.Context) (returns int, err error) {
	if r.o.Churn == 0 {
		return 0, nil
	}
	random := r.random(1)
	tick := time.NewTicker(time.Duration(float64(time.Second) / r.o.Churn))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			i := random.IntN(len(r.sessions))
			if err := r.open(i, r.sessions[i].close()); err != nil {
				return returns, err
			}
			returns++
		case <-ctx.Done():
			return returns, nil
		}
	}
}

// watch reads the server's memory and descriptors until ctx ends.
func (r *rig) watch(ctx context.Context, duration time.Duration) (measures, error) {
	if !r.target.processes.readable() {
		return nil, nil
	}
	began := time.Now()
	tick := time.NewTicker(max(min(duration/soakSamples, time.Second), pollEvery))
	defer tick.Stop()
	var first, last usage
	var most int64
	for {
		now, err := r.target.processes.usage()
		if err != nil {
			return nil, err
		}
		last, most = now, max(most, now.Resident)
		if first.Resident == 0 || time.Since(began).Seconds() < soakWarmup*duration.Seconds() {
			first = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			const mib = 1 << 20
			return measures{"resident_mib_begin": float64(first.Resident) / mib, "resident_mib_end": float64(last.Resident) / mib,
				"resident_mib_max": float64(most) / mib, "descriptors_begin": float64(first.Descriptors), "descriptors_end": float64(last.Descriptors)}, nil
		}
	}
}
