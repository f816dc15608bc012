package redis

import (
	"context"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// echoes are the appends that wait until this machine has heard, over its
// channel and so in the order of all, the message that it published itself. Only
// then is it known to how many sessions the message went.
type selfDeliveries struct {
	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]*selfDelivery
}

type selfDelivery struct {
	token uint64
	m     *bridge.Message
	heard chan int // how many sessions took it; closed when it will not be heard
}

// selfDeliveryTimeout is how long a message may take from its script to its channel.
const selfDeliveryTimeout = 2 * time.Second

func newSelfDeliveries() *selfDeliveries {
	return &selfDeliveries{waiting: make(map[uint64]*selfDelivery)}
}

func (e *selfDeliveries) expect(m *bridge.Message) *selfDelivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	w := &selfDelivery{token: e.last, m: m, heard: make(chan int, 1)}
	e.waiting[w.token] = w
	return w
}

func (e *selfDeliveries) forget(w *selfDelivery) {
	if w == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.waiting, w.token)
}

// message is what the append with a token has published; nil where it waits no longer.
func (e *selfDeliveries) message(token uint64) *bridge.Message {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w := e.waiting[token]; w != nil {
		return w.m
	}
	return nil
}

// hear tells the append that waits, if one does.
func (e *selfDeliveries) hear(token uint64, sessions int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w := e.waiting[token]; w != nil {
		delete(e.waiting, token)
		w.heard <- sessions
	}
}

// lost lets all go: the channel is not heard any more.
func (e *selfDeliveries) lost() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for token, w := range e.waiting {
		delete(e.waiting, token)
		close(w.heard)
	}
}

// wait returns how many sessions took the message; false where that is not known.
func (e *selfDeliveries) wait(ctx context.Context, w *selfDelivery) (sessions int, ok bool) {
	select {
	case sessions, ok = <-w.heard: // as a rule it is here already
		return sessions, ok
	default:
	}
	timer := time.NewTimer(selfDeliveryTimeout)
	defer timer.Stop()
	select {
	case sessions, ok = <-w.heard:
	case <-timer.C:
	case <-ctx.Done():
	}
	e.forget(w)
	return sessions, ok
}
