package redis

import (
	"context"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// selfDeliveries are the appends of this machine that wait for their own message. A
// machine delivers a message that it published itself when the message comes back over its
// channel, so that its sessions get all messages in one order. Only then is it known how
// many sessions took the message.
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

// expect registers a message that is about to be published.
func (s *selfDeliveries) expect(m *bridge.Message) *selfDelivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	d := &selfDelivery{token: s.last, m: m, heard: make(chan int, 1)}
	s.waiting[d.token] = d
	return d
}

// forget ends the wait for d, which may be nil.
func (s *selfDeliveries) forget(d *selfDelivery) {
	if d == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, d.token)
}

// message returns the message with a token; nil if nobody waits for it any more.
func (s *selfDeliveries) message(token uint64) *bridge.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.waiting[token]; d != nil {
		return d.m
	}
	return nil
}

// delivered tells whoever waits for the message with a token how many sessions took it.
func (s *selfDeliveries) delivered(token uint64, sessions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.waiting[token]; d != nil {
		delete(s.waiting, token)
		d.heard <- sessions
	}
}

// disconnected ends all waits: the channel is not heard any more.
func (s *selfDeliveries) disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, d := range s.waiting {
		delete(s.waiting, token)
		close(d.heard)
	}
}

// wait returns how many sessions took the message; false if that is not known.
func (s *selfDeliveries) wait(ctx context.Context, d *selfDelivery) (sessions int, ok bool) {
	select {
	case sessions, ok = <-d.heard: // usually it is here already
		return sessions, ok
	default:
	}
	select {
	case sessions, ok = <-d.heard:
	case <-time.After(selfDeliveryTimeout):
	case <-ctx.Done():
	}
	s.forget(d)
	return sessions, ok
}
