package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// answerPatience is how long other machines may take to say what their sessions
// went through.
const answerPatience = time.Second

// questions are those that wait for other machines' answers.
type questions struct {
	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]chan []bridge.Trail
}

func newQuestions() *questions { return &questions{waiting: make(map[uint64]chan []bridge.Trail)} }

// question is one machine's to another, and, with the same number, the answer.
type question struct {
	Number  uint64         `json:"n"`
	Machine string         `json:"machine,omitempty"` // that asks
	User    string         `json:"user,omitempty"`
	Trails  []bridge.Trail `json:"trails,omitempty"`
}

func (q *questions) ask(machines int) (number uint64, answers chan []bridge.Trail) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	answers = make(chan []bridge.Trail, machines)
	q.waiting[q.last] = answers
	return q.last, answers
}

func (q *questions) done(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, number)
}

func (q *questions) answer(body string) {
	var a question
	if json.Unmarshal([]byte(body), &a) != nil {
		return // whoever waits for it waits no longer than answerPatience
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if answers := q.waiting[a.Number]; answers != nil {
		select {
		case answers <- a.Trails:
		default: // more answers than machines were asked
		}
	}
}

// answerQuestion tells another machine what this one's sessions went through.
func (e *Engine) answerQuestion(body string) {
	var q question
	l := e.listener.Load()
	if json.Unmarshal([]byte(body), &q) != nil || l == nil {
		return
	}
	b, err := json.Marshal(question{Number: q.Number, Trails: (*l).Trails(q.User)})
	if err == nil {
		ctx, cancel := context.WithTimeout(e.life, answerPatience)
		defer cancel()
		err = e.client.Do(ctx, e.client.B().Publish().Channel(e.channel()+q.Machine).Message(string(kindReply)+string(b)).Build()).Error()
	}
	if err != nil && e.life.Err() == nil {
		e.opts.Logger.Warn("another machine's question could not be answered", "error", err)
	}
}

// Trails implements bridge.Registry. Machines that do not answer in time are
// left out.
func (e *Engine) Trails(ctx context.Context, user string) ([]bridge.Trail, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	b := e.mailboxOf(user)
	replies := e.client.DoMulti(ctx, e.client.B().Lrange().Key(b.trails()).Start(0).Stop(-1).Build(), e.client.B().Hvals().Key(b.l).Build())
	kept, err := replies[0].AsStrSlice()
	if err = e.fault(ctx, err); err != nil {
		return nil, err
	}
	live, err := replies[1].AsStrSlice()
	if err = e.fault(ctx, err); err != nil {
		return nil, err
	}
	var out []bridge.Trail
	oldest := e.opts.Now().Add(-e.opts.IDRetention)
	for _, text := range kept {
		var t bridge.Trail
		if err := json.Unmarshal([]byte(text), &t); err != nil {
			return nil, fmt.Errorf("%w: a trail cannot be read: %w", bridge.ErrUnavailable, err)
		}
		if t.Ended.After(oldest) {
			out = append(out, t)
		}
	}
	if l := e.listener.Load(); l != nil {
		out = append(out, (*l).Trails(user)...)
	}
	elsewhere := make(map[string]bool)
	for _, v := range live {
		if machine := v[:min(len(v), machineNameLen)]; machine != e.self && e.leases.lives(machine) {
			elsewhere[machine] = true
		}
	}
	out = append(out, e.trailsElsewhere(ctx, user, elsewhere)...)
	sortTrails(out)
	return out, nil
}

func (e *Engine) trailsElsewhere(ctx context.Context, user string, machines map[string]bool) (out []bridge.Trail) {
	if len(machines) == 0 {
		return nil
	}
	number, answers := e.asked.ask(len(machines))
	defer e.asked.done(number)
	b, err := json.Marshal(question{Number: number, Machine: e.self, User: user})
	if err != nil { // two strings and a number
		panic("redis: " + err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	expected := 0
	for machine := range machines {
		heard, err := e.client.Do(ctx, e.client.B().Publish().Channel(e.channel()+machine).Message(string(kindQuestion)+string(b)).Build()).AsInt64()
		if err == nil && (heard > 0 || e.cluster) {
			expected++
		}
	}
	for range expected {
		select {
		case some := <-answers:
			out = append(out, some...)
		case <-ctx.Done():
			e.opts.Logger.Warn("a machine did not say in time what its sessions went through", "machines", strings.Join(names(machines), " "))
			return out
		}
	}
	return out
}

func names(set map[string]bool) (out []string) {
	for n := range set {
		out = append(out, n)
	}
	return out
}
