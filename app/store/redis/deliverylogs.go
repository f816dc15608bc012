package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// answerPatience is how long other machines may take to say what their sessions
// went through.
const answerPatience = time.Second

// questions are those that wait for other machines' answers.
type questions struct {
	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]chan []bridge.DeliveryLog
}

func newQuestions() *questions {
	return &questions{waiting: make(map[uint64]chan []bridge.DeliveryLog)}
}

// question is one machine's to another, and, with the same number, the answer.
type question struct {
	Number  uint64               `json:"n"`
	Machine string               `json:"machine,omitempty"` // that asks
	User    string               `json:"user,omitempty"`
	More    []string             `json:"more,omitempty"` // users beside that one
	Logs    []bridge.DeliveryLog `json:"trails,omitempty"`
}

func (q *questions) ask(machines int) (number uint64, answers chan []bridge.DeliveryLog) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	answers = make(chan []bridge.DeliveryLog, machines)
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
		case answers <- a.Logs:
		default: // more answers than machines were asked
		}
	}
}

// answerQuestion tells another machine what this one's sessions went through.
func (e *Store) answerQuestion(body string) {
	var q question
	h := e.hub.Load()
	if json.Unmarshal([]byte(body), &q) != nil || h == nil {
		return
	}
	logs := (*h).DeliveryLogs(q.User)
	for _, user := range q.More {
		logs = append(logs, (*h).DeliveryLogs(user)...)
	}
	b, err := json.Marshal(question{Number: q.Number, Logs: logs})
	if err == nil {
		ctx, cancel := context.WithTimeout(e.life, answerPatience)
		defer cancel()
		err = e.client.Do(ctx, e.client.B().Publish().Channel(e.channel()+q.Machine).Message(string(kindReply)+string(b)).Build()).Error()
	}
	if err != nil && e.life.Err() == nil {
		e.opts.Logger.Warn("another machine's question could not be answered", "error", err)
	}
}

// Ask implements bridge.Live: each machine is asked once, for all users.
func (e *Store) Ask(ctx context.Context, users []string) ([]bridge.DeliveryLog, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	cmds := make(rueidis.Commands, len(users))
	for i, user := range users {
		cmds[i] = e.client.B().Hgetall().Key(e.mailboxOf(user).l).Build()
	}
	now := e.Life()
	elsewhere := make(map[string][]string) // users by machine
	for i, r := range e.doMany(ctx, cmds) {
		entries, err := r.AsStrMap()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		for session, v := range entries {
			m, machine, life, err := memberOf(session, v)
			if err != nil || life != "" && life != now || machine == e.self || !e.leases.lives(machine, m.Since) || slices.Contains(elsewhere[machine], users[i]) {
				continue // one that cannot be read is told of by others
			}
			elsewhere[machine] = append(elsewhere[machine], users[i])
		}
	}
	return e.askMachines(ctx, elsewhere), nil
}

// DeliveryLogs implements bridge.Store.
func (e *Store) DeliveryLogs(ctx context.Context, users []string) ([][]bridge.DeliveryLog, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	out := make([][]bridge.DeliveryLog, len(users))
	cmds := make(rueidis.Commands, len(users))
	for i, user := range users {
		cmds[i] = e.client.B().Lrange().Key(e.mailboxOf(user).trails()).Start(0).Stop(-1).Build()
	}
	oldest := e.opts.Now().Add(-e.opts.IDRetention)
	for i, r := range e.doMany(ctx, cmds) {
		kept, err := r.AsStrSlice()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		for _, text := range kept {
			var log bridge.DeliveryLog
			if err := json.Unmarshal([]byte(text), &log); err != nil {
				return nil, fmt.Errorf("%w: a delivery log cannot be read: %w", bridge.ErrUnavailable, err)
			}
			if log.Ended.After(oldest) {
				out[i] = append(out[i], log)
			}
		}
		slices.SortStableFunc(out[i], func(a, b bridge.DeliveryLog) int { return a.Member.Since.Compare(b.Member.Since) })
	}
	return out, nil
}

// askMachines asks each machine for the delivery logs of some users' live sessions.
func (e *Store) askMachines(ctx context.Context, users map[string][]string) (out []bridge.DeliveryLog) {
	if len(users) == 0 {
		return nil
	}
	number, answers := e.asked.ask(len(users))
	defer e.asked.done(number)
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	expected := 0
	for machine, list := range users {
		q := question{Number: number, Machine: e.self, User: list[0], More: list[1:]}
		b, err := json.Marshal(q)
		if err != nil { // strings and a number
			panic("redis: " + err.Error())
		}
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
			e.opts.Logger.Warn("a machine did not say in time what its sessions went through", "machines", strings.Join(sorted(users), " "))
			return out
		}
	}
	return out
}
