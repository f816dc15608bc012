package redis

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// peerTimeout is how long other machines may take to answer.
const peerTimeout = time.Second

// peerRequests are the requests of this machine that wait for other machines' answers.
type peerRequests struct {
	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]chan []bridge.DeliveryLog
}

func newPeerRequests() *peerRequests {
	return &peerRequests{waiting: make(map[uint64]chan []bridge.DeliveryLog)}
}

// peerRequest is what one machine asks another one, and, with the same number, the answer.
type peerRequest struct {
	Number  uint64               `json:"n"`
	Machine string               `json:"machine,omitempty"` // the machine that asks
	User    string               `json:"user,omitempty"`
	More    []string             `json:"more,omitempty"` // further users
	Logs    []bridge.DeliveryLog `json:"trails,omitempty"`
}

func (q *peerRequests) ask(machines int) (number uint64, answers chan []bridge.DeliveryLog) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	answers = make(chan []bridge.DeliveryLog, machines)
	q.waiting[q.last] = answers
	return q.last, answers
}

func (q *peerRequests) done(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, number)
}

func (q *peerRequests) answer(body string) {
	var a peerRequest
	if json.Unmarshal([]byte(body), &a) != nil {
		return // the machine that asked waits for peerTimeout at most
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if answers := q.waiting[a.Number]; answers != nil {
		select {
		case answers <- a.Logs:
		default: // there are more answers than machines that were asked
		}
	}
}

// answerPeer answers another machine's request.
func (s *Store) answerPeer(body string) {
	var q peerRequest
	h := s.hub.Load()
	if json.Unmarshal([]byte(body), &q) != nil || h == nil {
		return
	}
	logs := (*h).DeliveryLogs(q.User)
	for _, user := range q.More {
		logs = append(logs, (*h).DeliveryLogs(user)...)
	}
	b, err := json.Marshal(peerRequest{Number: q.Number, Logs: logs})
	ctx, cancel := context.WithTimeout(s.ctx, peerTimeout)
	defer cancel()
	if err == nil {
		err = s.writeAcks(ctx) // the logs tell of them
	}
	if err == nil {
		err = s.client.Do(ctx, s.client.B().Publish().Channel(s.channel()+q.Machine).Message(string(kindPeerReply)+string(b)).Build()).Error()
	}
	if err != nil && s.ctx.Err() == nil {
		s.opts.Logger.Warn("another machine's request could not be answered", "error", err)
	}
}

// Ask implements bridge.Live: each machine is asked once, for all users.
func (s *Store) Ask(ctx context.Context, users []string) ([]bridge.DeliveryLog, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.writeAcks(ctx); err != nil { // the caller has delivery logs of this machine that tell of them
		return nil, err
	}
	entries, err := repliesOf(ctx, s, users, func(user string) rueidis.Completed { return s.hgetall(s.mailboxOf(user).l) },
		(*rueidis.RedisResult).AsStrMap)
	if err != nil {
		return nil, err
	}
	now := s.Life()
	elsewhere := make(map[string][]string) // users by machine
	for i := range users {
		for session, v := range entries[i] {
			m, machine, life, err := decodePresence(session, v)
			if err != nil || life != "" && life != now || machine == s.self || !s.leases.alive(machine, m.Since) || slices.Contains(elsewhere[machine], users[i]) {
				continue // membersOf logs an entry that cannot be read
			}
			elsewhere[machine] = append(elsewhere[machine], users[i])
		}
	}
	return s.askMachines(ctx, elsewhere), nil
}

// askMachines asks each machine for the delivery logs of some users' live sessions.
func (s *Store) askMachines(ctx context.Context, users map[string][]string) (out []bridge.DeliveryLog) {
	if len(users) == 0 {
		return nil
	}
	number, answers := s.peerRequests.ask(len(users))
	defer s.peerRequests.done(number)
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	expected := 0
	for machine, list := range users {
		q := peerRequest{Number: number, Machine: s.self, User: list[0], More: list[1:]}
		b, err := json.Marshal(q)
		if err != nil { // strings and a number
			panic("redis: " + err.Error())
		}
		heard, err := s.client.Do(ctx, s.client.B().Publish().Channel(s.channel()+machine).Message(string(kindPeerRequest)+string(b)).Build()).AsInt64()
		if err == nil && (heard > 0 || s.cluster) {
			expected++
		}
	}
	for range expected {
		select {
		case some := <-answers:
			out = append(out, some...)
		case <-ctx.Done():
			s.opts.Logger.Warn("a machine did not tell in time what its sessions were given", "machines", strings.Join(slices.Sorted(maps.Keys(users)), " "))
			return out
		}
	}
	return out
}
