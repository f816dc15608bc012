package soak

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// send has a user send to others, or to the backend: over a socket in either mode, or
// over HTTP where the user has none.
func (l *Load) send(rnd *rand.Rand) {
	d := l.cast.devices[rnd.IntN(len(l.cast.devices))]
	switch {
	case d.reader.Fresh:
		return
	case d.reader.Transport == "sse" || d.reader.Transport == "poll":
		for range 1 + rnd.IntN(3) { // one close after the other: their order is promised
			l.sendOverHTTP(rnd, d)
		}
		return
	case d.socket() == nil:
		return
	}
	e := &Event{From: d.reader.User, TTL: Forever}
	if d.reader.Transport == "plain" {
		l.sendPlain(rnd, d, e)
		return
	}
	if e.To.User = l.cast.user(rnd); rnd.IntN(5) == 0 {
		e.To = Target{Users: []string{l.cast.users[rnd.IntN(5)], l.cast.users[5+rnd.IntN(5)]}}
	}
	kind := "chat.message"
	switch rnd.IntN(10) {
	case 0:
		e.Topic = fmt.Sprintf("chat%d", rnd.IntN(3))
	case 1, 2, 3, 4, 5, 6:
		e.To, kind = Target{Backend: true}, sentType
	}
	l.add(rnd, e)
	event := map[string]any{"type": kind, "data": json.RawMessage(e.Data)}
	if e.Topic != "" {
		event["topic"] = e.Topic
	}
	l.insist(rnd, e, func() {
		a := l.h.Try(e)
		answered := make(chan struct{})
		sent := d.Send(e, encode(event), func(answer Attempt, id string) {
			l.h.Answered(e, a, id, answer)
			if answer.Code != 0 && answer.Code != 202 && answer.Code != 503 && answer.Code != 429 {
				l.h.Note("refused", "%s sent event %d: %d", d.reader.Name, e.N, answer.Code)
			}
			close(answered)
		})
		if sent {
			select {
			case <-answered:
			case <-time.After(patience): // its connection says no more; a later answer still counts
			}
		}
	})
}

// sendOverHTTP sends to the backend.
func (l *Load) sendOverHTTP(rnd *rand.Rand, d *Device) {
	token, _, err := l.b.Token(d.reader.User, time.Hour)
	if err != nil {
		l.h.Note("harness", "%v", err)
		return
	}
	e := l.add(rnd, &Event{From: d.reader.User, To: Target{Backend: true}, TTL: Forever})
	event := encode(map[string]any{"type": sentType, "data": json.RawMessage(e.Data)})
	body := fmt.Sprintf(`{"ref":"r%d","to":{"backend":true},"event":%s}`, e.N, event)
	l.insist(rnd, e, func() {
		a := l.h.Try(e)
		p := l.b.any(rnd)
		code, answer := l.b.call(p, token, http.MethodPost, "/v1/sends", body)
		if code == http.StatusAccepted {
			p.answered(aSend)
		}
		l.expect(code, answer, e.From+" sent", 202, 429, 503)
		var r reply
		if code == http.StatusAccepted && json.Unmarshal(answer, &r) != nil {
			l.h.Note("not JSON", "answer to what %s sent: %.300q", e.From, answer)
			code = 0
		}
		l.h.Answered(e, a, r.ID, r.attempt(code))
	})
}

// sendPlain sends what gets no answer.
func (l *Load) sendPlain(rnd *rand.Rand, d *Device, e *Event) {
	e.To.User = l.cast.user(rnd)
	l.h.Add(e)
	l.h.mu.Lock()
	e.Data = fmt.Sprintf(`{"message":"%d"}`, e.N)
	l.h.mu.Unlock()
	l.h.Try(e)
	if s := d.socket(); s != nil {
		_ = s.write(map[string]string{"toUserId": e.To.User, "message": fmt.Sprint(e.N)}) // it may or may not have been sent
	}
}

// operate makes an operator's call until it is answered; false where it was too
// late, or there was nothing to do.
func (l *Load) operate(rnd *rand.Rand, method, path, body string) bool {
	done := false
	l.until(func() bool {
		code, answer := l.b.call(l.b.any(rnd), l.b.admin, method, path, body)
		l.expect(code, answer, method+" "+path, 204, 404, 503)
		done = code == http.StatusNoContent
		return code != 0 && code != http.StatusServiceUnavailable
	})
	return done
}

func (l *Load) recall(rnd *rand.Rand, e *Event) {
	op := l.h.Recall(e)
	if l.operate(rnd, http.MethodDelete, "/v1/events/"+e.ID, "") {
		l.h.Finish(op)
	}
}

func (l *Load) membership(rnd *rand.Rand) {
	user, group, add := l.cast.user(rnd), l.cast.groups[rnd.IntN(len(l.cast.groups))], rnd.IntN(3) != 0
	method := http.MethodPut
	if !add {
		method = http.MethodDelete
	}
	op := l.h.Enroll(user, group, add)
	if l.operate(rnd, method, "/v1/groups/"+group+"/members/"+user, "") {
		l.h.Finish(op)
	}
}

func (l *Load) revoke(rnd *rand.Rand) {
	d := l.cast.devices[rnd.IntN(len(l.cast.devices))]
	id := d.TokenID()
	if id == "" {
		return
	}
	if rnd.IntN(3) == 0 { // only the sessions end
		l.operate(rnd, http.MethodDelete, "/v1/users/"+d.reader.User+"/sessions", "")
		return
	}
	op := l.h.Revoke(d.reader.User, id)
	if l.operate(rnd, http.MethodPost, "/v1/users/"+d.reader.User+"/revocations", fmt.Sprintf(`{"jti":%q}`, id)) {
		l.h.Finish(op)
	}
}

func (l *Load) erase(rnd *rand.Rand) {
	user := l.cast.erased[rnd.IntN(len(l.cast.erased))]
	op := l.h.Erase(user)
	if l.operate(rnd, http.MethodDelete, "/v1/users/"+user, "") {
		l.h.Finish(op)
	}
}

// ask reads what operators read. What it says of users is not looked at, only that it is
// answered.
func (l *Load) ask(rnd *rand.Rand, recent []*Event) {
	path := "/v1/users/" + l.cast.user(rnd) + []string{"/presence", "/sessions"}[rnd.IntN(2)]
	switch n := rnd.IntN(20); {
	case n == 0:
		path = "/v1/users/" + l.cast.user(rnd) + "/export"
	case n < 10 && len(recent) > 0:
		l.look(rnd, recent[rnd.IntN(len(recent))])
		return
	}
	code, answer := l.b.call(l.b.any(rnd), l.b.admin, http.MethodGet, path, "")
	l.expect(code, answer, "GET "+path, 200, 404, 503)
}

// look reads what became of an event.
func (l *Load) look(rnd *rand.Rand, e *Event) {
	path := "/v1/events/" + e.ID
	code, answer := l.b.call(l.b.any(rnd), l.b.admin, http.MethodGet, path, "")
	l.expect(code, answer, "GET "+path, 200, 404, 503)
	if code != http.StatusOK {
		return
	}
	var told struct {
		Recipients []struct{ User, Status string }
	}
	if json.Unmarshal(answer, &told) != nil {
		l.h.Note("not JSON", "answer to GET %s: %.300q", path, answer)
		return
	}
	statuses := map[string]string{}
	for _, r := range told.Recipients {
		statuses[r.User] = r.Status
	}
	l.h.looked(e.N, statuses)
}

// LookBack reads what became of some of all events, once nothing happens any more.
func (l *Load) LookBack(seed uint64, n int) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	l.h.mu.Lock()
	var known []*Event
	for _, e := range l.h.Events {
		if e.ID != "" && !e.To.Backend {
			known = append(known, e)
		}
	}
	l.h.mu.Unlock()
	for range min(n, len(known)) {
		l.look(rnd, known[rnd.IntN(len(known))])
	}
}
