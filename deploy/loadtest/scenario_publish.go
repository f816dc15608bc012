package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// pacedPublishers send what is due; where all are busy, it waits, and its latency grows.
	pacedPublishers = 64
	// toAllPause is between a message to all and the next.
	toAllPause = 50 * time.Millisecond
	// toAllPatience is how long a message to all may take.
	toAllPatience = 10 * time.Second
)

// unicast has each publisher send to random users, the next message as soon as the last is answered.
func unicast(r *rig) error {
	return r.deliver(func() error {
		end := time.Now().Add(time.Duration(r.plan.Seconds * float64(time.Second)))
		var wg sync.WaitGroup
		for i := range r.plan.Publishers {
			wg.Go(func() {
				p, random := r.publisher(), r.random(i)
				for time.Now().Before(end) && r.ctx.Err() == nil {
					p.publish(random.IntN(r.plan.Sessions), 0)
				}
			})
		}
		wg.Wait()
		return r.ctx.Err()
	})
}

// paced sends at a fixed rate.
func paced(r *rig) error {
	return r.deliver(func() error { return r.pace(r.ctx, int(r.plan.Seconds*float64(r.plan.Rate))) })
}

// pace hands out total messages at the planned rate whatever the server does, and waits for the answers.
func (r *rig) pace(ctx context.Context, total int) error {
	type task struct {
		due  int64
		user int
	}
	tasks := make(chan task, r.plan.Rate) // a second of them, more than 64 publishers ever owe
	var wg sync.WaitGroup
	for range pacedPublishers {
		wg.Go(func() {
			p := r.publisher()
			for t := range tasks {
				p.publish(t.user, t.due)
			}
		})
	}
	defer wg.Wait()
	defer close(tasks)
	random := r.random(0)
	first, step := r.ledger.now(), int64(time.Second)/int64(r.plan.Rate)
	for i := range total {
		due := first + int64(i)*step
		sleepUntil(due, r.ledger)
		select {
		case tasks <- task{due, random.IntN(r.plan.Sessions)}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// deliver connects all users, publishes, and accounts for each message.
func (r *rig) deliver(publish func() error) error {
	if err := r.connect(); err != nil {
		return err
	}
	if err := r.rest(); err != nil {
		return err
	}
	r.progress.now(r.state)
	var took time.Duration
	s, err := r.measured(func() error {
		began := time.Now()
		if err := publish(); err != nil {
			return err
		}
		took = time.Since(began)
		return r.settle()
	})
	if err != nil {
		return err
	}
	if err := r.account(); err != nil {
		return err
	}
	accepted := r.ledger.accepted.Load()
	r.cost(s, accepted, "server_cpu_us_per_message", "load_cpu_us_per_message")
	r.measures["messages_per_s"] = float64(accepted) / took.Seconds()
	answered, first, _ := r.ledger.latencies(0)
	r.measures.quantiles("answer", answered)
	r.measures.quantiles("delivery", first)
	return nil
}

// toAll sends one message after the other to all sessions.
func toAll(r *rig) error {
	if err := r.connect(); err != nil {
		return err
	}
	if err := r.rest(); err != nil {
		return err
	}
	r.progress.now(r.state)
	s, err := r.measured(func() error {
		p := r.publisher()
		for range r.plan.Messages {
			m, ok := p.publish(everyone, 0)
			if !ok {
				return fmt.Errorf("a message to all was not taken: %w", *r.ledger.failure.Load())
			}
			for end := time.Now().Add(toAllPatience); m.deliveries.Load() < m.want.Load() && time.Now().Before(end); {
				if err := r.pause(time.Millisecond); err != nil {
					return err
				}
			}
			if err := r.pause(toAllPause); err != nil {
				return err
			}
		}
		return r.settle()
	})
	if err != nil {
		return err
	}
	if err := r.account(); err != nil {
		return err
	}
	r.cost(s, r.ledger.owed.Load(), "server_cpu_us_per_delivery", "load_cpu_us_per_delivery")
	answered, _, last := r.ledger.latencies(0)
	r.measures.quantiles("answer", answered)
	r.measures.quantiles("all_have_it", last)
	return nil
}
