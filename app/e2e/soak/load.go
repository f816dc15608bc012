package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Load is what backends, users and operators do, at random.
type Load struct {
	b    *Bridges
	h    *History
	cast *Cast
	ops  atomic.Int64
	ctx  context.Context // ends with the load
	// End makes no new work begin.
	End context.CancelFunc
	// Late is closed when even what must be answered is given up.
	Late    chan struct{}
	limiter *rate.Limiter
	workers sync.WaitGroup
}

// NewLoad makes a load of at most so many operations a second.
func NewLoad(b *Bridges, cast *Cast, perSecond float64) *Load {
	l := &Load{b: b, h: b.history, cast: cast, Late: make(chan struct{}), limiter: rate.NewLimiter(rate.Limit(perSecond), 10)}
	l.ctx, l.End = context.WithCancel(context.Background())
	return l
}

// Run begins to work with so many workers, until End.
func (l *Load) Run(workers int, seed uint64) {
	for i := range workers {
		l.workers.Go(func() { l.work(rand.New(rand.NewPCG(seed, uint64(i)+1))) })
	}
}

// Wait waits until all workers have come to an end.
func (l *Load) Wait() { l.workers.Wait() }

func (l *Load) work(rnd *rand.Rand) {
	var recent []*Event // that this worker sent
	for l.limiter.Wait(l.ctx) == nil {
		l.ops.Add(1)
		switch n := rnd.IntN(1000); {
		case n < 680:
			e := l.event(rnd)
			wait := ""
			if n < 40 {
				wait = []string{"?wait=received&timeout=1s", "?wait=acked&timeout=1s"}[rnd.IntN(2)]
			}
			l.insist(rnd, e, func() { l.webhook(rnd, e, wait) })
			recent = append(recent, e)
		case n < 720:
			l.batch(rnd)
		case n < 850:
			l.send(rnd)
		case n < 890 && len(recent) > 0: // a backend that is not sure sends again
			l.webhook(rnd, recent[rnd.IntN(len(recent))], "")
		case n < 910 && len(recent) > 0:
			l.recall(rnd, recent[rnd.IntN(len(recent))])
		case n < 940:
			if d := l.cast.device(rnd); d != nil && d.reader.Transport == "websocket" {
				d.See()
			}
		case n < 960:
			if d := l.cast.device(rnd); d != nil && d.reader.Transport == "websocket" {
				d.Refresh()
			}
		case n < 966:
			l.membership(rnd)
		case n < 970:
			l.revoke(rnd)
		case n < 972:
			l.erase(rnd)
		default:
			l.ask(rnd, recent)
		}
		if len(recent) > 50 {
			recent = recent[1:]
		}
	}
}

// event makes up a webhook's event.
func (l *Load) event(rnd *rand.Rand) *Event {
	e := &Event{TTL: Forever}
	switch n := rnd.IntN(100); {
	case n < 78:
		e.To.User = l.cast.user(rnd)
	case n < 88:
		for _, i := range rnd.Perm(len(l.cast.users))[:2+rnd.IntN(4)] {
			e.To.Users = append(e.To.Users, l.cast.users[i])
		}
	case n < 96:
		e.To.Group = l.cast.groups[rnd.IntN(len(l.cast.groups))]
	default:
		e.To.All = true
	}
	switch n := rnd.IntN(100); {
	case n < 5:
		e.TTL = 0
	case n < 10:
		e.TTL = time.Duration(1+rnd.IntN(3)) * time.Second
	case n < 18 && !e.To.All:
		e.Topic = fmt.Sprintf("topic%d", rnd.IntN(5))
	}
	if rnd.IntN(10) == 0 && !e.To.All && e.TTL != 0 {
		e.Escalate = time.Second
		if e.TTL == Forever {
			e.Escalate = time.Duration(1+rnd.IntN(5)) * time.Second
		}
	}
	return l.add(rnd, e)
}

// add gives an event its number, its id and its data.
func (l *Load) add(rnd *rand.Rand, e *Event) *Event {
	l.h.Add(e)
	pad := ""
	switch n := rnd.IntN(100); {
	case n < 2:
		pad = strings.Repeat("x", 20_000)
	case n < 20:
		pad = strings.Repeat("y", rnd.IntN(2000))
	}
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	e.Data = fmt.Sprintf(`{"n":%d,"message":"%d","c":%q,"pad":%q,"f":1.50}`, e.N, e.N, canary, pad)
	if rnd.IntN(20) == 0 { // as nobody would write it
		e.Data = fmt.Sprintf(`{ "n" : %d, "message":"%d" ,"c":%q,"a":1,"a":2,"u":"\u00e9\/"}`, e.N, e.N, canary)
	}
	if e.From == "" {
		e.ID = fmt.Sprintf("s%d", e.N)
	}
	return e
}

// body is what a webhook says of an event.
func (e *Event) body() map[string]any {
	m := map[string]any{"type": eventType, "to": e.To, "data": json.RawMessage(e.Data)}
	if e.TTL != Forever {
		m["ttl"] = int(e.TTL / time.Second)
	}
	if e.Topic != "" {
		m["topic"] = e.Topic
	}
	if e.Escalate != 0 {
		m["escalate"] = int(e.Escalate / time.Second)
	}
	return m
}

// encode keeps raw data as it is, which json.Marshal does not.
func encode(m map[string]any) []byte {
	data := m["data"].(json.RawMessage)
	m["data"] = json.RawMessage(`"@"`)
	b, err := json.Marshal(m)
	if err != nil {
		panic("the soak made something that is no JSON: " + err.Error())
	}
	m["data"] = data
	return []byte(strings.Replace(string(b), `"data":"@"`, `"data":`+string(data), 1))
}

// reply is a 202's members.
type reply struct {
	ID         string          `json:"id"`
	Status     json.RawMessage `json:"status"`
	Sessions   int             `json:"sessions"`
	Duplicate  bool            `json:"duplicate"`
	Recipients int             `json:"recipients"`
	Online     int             `json:"online"`
	Problem    *struct{ Status int }
}

func (r *reply) attempt(code int) Attempt {
	a := Attempt{Code: code, Sessions: r.Sessions, Duplicate: r.Duplicate, Recipients: r.Recipients, Online: r.Online}
	if json.Unmarshal(r.Status, &a.Status) != nil {
		a.Status = "" // a problem's is a number
	}
	return a
}

// webhook posts an event once.
func (l *Load) webhook(rnd *rand.Rand, e *Event, query string) {
	a := l.h.Try(e)
	p := l.b.any(rnd)
	code, answer := l.b.post(p, "/webhooks/events"+query, e.ID, encode(e.body()))
	if code == http.StatusAccepted {
		p.answered(anEvent)
	}
	var r reply
	if code == http.StatusAccepted && json.Unmarshal(answer, &r) != nil {
		l.h.Note("not JSON", "answer to %s: %.300q", e.ID, answer)
		code = 0
	}
	l.h.Answered(e, a, r.ID, r.attempt(code))
	l.expect(code, answer, e.ID, 202, 503)
}

// expect holds an answer to what it may be; 0 stands for none.
func (l *Load) expect(code int, answer []byte, what string, may ...int) {
	if code != 0 && !slices.Contains(may, code) {
		l.h.Note("refused", "%s: %d %.500s", what, code, answer)
	}
}

// insist tries until there is a 202, or until the end of the run. Some backends
// give up at once.
func (l *Load) insist(rnd *rand.Rand, e *Event, try func()) {
	patient := rnd.IntN(5) != 0
	l.until(func() bool {
		try()
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		last := e.Attempts[len(e.Attempts)-1]
		return e.Taken() || !patient || last.Code != 0 && last.Code != http.StatusServiceUnavailable
	})
}

// until tries again, after a pause, until it is done or too late.
func (l *Load) until(done func() bool) {
	for !done() {
		select {
		case <-l.Late:
			return
		case <-time.After(300 * time.Millisecond): // a caller's own pause between two tries
		}
	}
}

// batch posts several events under one signature.
func (l *Load) batch(rnd *rand.Rand) {
	events := make([]*Event, 2+rnd.IntN(10))
	for i := range events {
		events[i] = l.event(rnd)
	}
	id := fmt.Sprintf("b%d", events[0].N)
	items := make([]string, len(events))
	for i, e := range events {
		m := e.body()
		m["id"] = e.ID
		items[i] = string(encode(m))
	}
	body := []byte(`{"events":[` + strings.Join(items, ",") + `]}`)
	l.insist(rnd, events[0], func() {
		attempts := make([]*Attempt, len(events))
		for i, e := range events {
			attempts[i] = l.h.Try(e)
		}
		code, answer := l.b.post(l.b.any(rnd), "/webhooks/events/batch", id, body)
		l.expect(code, answer, id, 202, 503)
		var results struct{ Results []reply }
		if code == http.StatusAccepted && (json.Unmarshal(answer, &results) != nil || len(results.Results) != len(events)) {
			l.h.Note("not JSON", "answer to batch %s: %.300q", id, answer)
			return
		}
		for i, e := range events {
			if code != http.StatusAccepted {
				l.h.Answered(e, attempts[i], "", Attempt{Code: code})
				continue
			}
			r := results.Results[i]
			if r.Problem != nil {
				l.expect(r.Problem.Status, answer, id+" "+e.ID, 503)
				l.h.Answered(e, attempts[i], "", Attempt{Code: r.Problem.Status})
				continue
			}
			l.h.Answered(e, attempts[i], r.ID, r.attempt(202))
		}
	})
}
