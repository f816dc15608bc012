package soak

import (
	"fmt"
	"slices"
)

// Add writes a new event down and gives it its number.
func (h *History) Add(e *Event) *Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.N = len(h.Events)
	h.Events = append(h.Events, e)
	switch {
	case e.To.Backend:
		h.Sends = append(h.Sends, e)
	case e.To.User != "":
		h.ForUser[e.To.User] = append(h.ForUser[e.To.User], e)
	case e.To.Users != nil:
		for _, u := range e.To.Users {
			h.ForUser[u] = append(h.ForUser[u], e)
		}
	default:
		h.Wide = append(h.Wide, e)
	}
	return e
}

// Try writes down that a request is about to be made.
func (h *History) Try(e *Event) *Attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &Attempt{Start: h.Now(), End: Never}
	e.Attempts = append(e.Attempts, a)
	return a
}

// Answered writes down what came back. Code 0 means that nothing did.
func (h *History) Answered(e *Event, a *Attempt, id string, answer Attempt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if answer.Code == 0 {
		return
	}
	answer.Start, answer.End = a.Start, h.Now()
	*a = answer
	if e.ID == "" {
		e.ID = id
	}
}

// Erase, Revoke, Recall and Enroll write down that an operator's act is about to
// be tried.
func (h *History) Erase(user string) *Op { return h.begin(&h.Erasures, Op{User: user}) }

func (h *History) Revoke(user, token string) *Op {
	return h.begin(&h.Revocations, Op{User: user, Token: token})
}

func (h *History) Recall(e *Event) *Op { return h.begin(&e.Recalls, Op{}) }

// Enroll is a membership of a group that begins (add) or ends.
func (h *History) Enroll(user, group string, add bool) *Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := &Op{User: user, Add: add, Start: h.Now(), End: Never}
	m := Member{user, group}
	h.Memberships[m] = append(h.Memberships[m], op)
	return op
}

func (h *History) begin(list *[]*Op, op Op) *Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Start, op.End = h.Now(), Never
	*list = append(*list, &op)
	return &op
}

// Finish writes down that it was answered.
func (h *History) Finish(op *Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.End = h.Now()
}

// NewReader adds a client.
func (h *History) NewReader(r Reader) *Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Readers = append(h.Readers, &r)
	return &r
}

// Dial writes down that a reader is about to connect.
func (h *History) Dial(r *Reader, proc int, token, after string) *Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &Conn{Reader: r, Proc: proc, Token: token, After: after, Dialed: h.Now(), Ended: Never}
	r.Conns = append(r.Conns, c)
	return c
}

// Note keeps a finding that was made on the spot.
func (h *History) Note(kind, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Notes = append(h.Notes, Finding{Kind: kind, At: h.Now(), Text: fmt.Sprintf(format, args...)})
}

// heard writes down what came over a connection.
func (h *History) heard(c *Conn, f *frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.Now()
	c.Heard = now
	if c.Connected == 0 && f.Type != "error" && f.Type != "close" { // plain mode has no frame that says so
		c.Connected = now
	}
	switch f.Type {
	case "gap":
		c.Items = append(c.Items, Item{Kind: Gapped, At: now, Pos: ParseCursor(f.Cursor), After: ParseCursor(f.After), Reason: f.Reason})
	case "recalled":
		c.Items = append(c.Items, Item{Kind: Recalled, N: -1, At: now})
	case "event":
		n := f.number()
		it := Item{Kind: Saw, N: n, At: now, Pos: ParseCursor(f.Cursor)}
		if n < 0 || n >= len(h.Events) {
			it.N = -1
			h.Notes = append(h.Notes, Finding{Kind: "unknown event", At: now, Text: fmt.Sprintf("%s saw what nobody sent: %.300s", c.Reader.Name, f.raw)})
		} else if e := h.Events[n]; f.is(e) {
			e.Seen++
		} else {
			e.Seen++
			h.Notes = append(h.Notes, Finding{Kind: "altered", At: now, Text: fmt.Sprintf("%s (%s) was sent from %q %s and saw %.400s", c.Reader.Name, c.Reader.Transport, e.From, e.Data, f.raw)})
		}
		c.Items = append(c.Items, it)
	}
}

// ended writes down that a connection is over.
func (h *History) ended(c *Conn, code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.Ended, c.Code = h.Now(), code
}

// acked writes down that a client is about to send an ack; what it returns, that the
// ack was answered.
func (h *History) acked(user, cursor string) (answered func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.Acks[user])
	h.Acks[user] = append(h.Acks[user], Ack{At: h.Now(), Answered: Never, Pos: ParseCursor(cursor)})
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.Acks[user][i].Answered = h.Now()
	}
}

// called writes down that a callback came to the backend; what it returns, that it was
// answered, or nobody waits for that any more.
func (h *History) called(c *Callback) (ended func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.At, c.Ended = h.Now(), Never
	c.Caused = c.timestamp.Sub(h.Began)
	if !c.lastSeen.IsZero() {
		c.LastSeen = c.lastSeen.Sub(h.Began)
	}
	h.Callbacks = append(h.Callbacks, c)
	if c.Type == "message.sent" {
		if _, again := h.Tried[c.N]; !again {
			h.Tried[c.N] = c.At
		}
		if _, again := h.Heard[c.N]; !again && c.Taken {
			h.Heard[c.N] = c.At
		}
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		c.Ended = h.Now()
	}
}

// looked writes down what an operator was told of an event's recipients.
func (h *History) looked(n int, statuses map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for user, status := range statuses {
		h.Looks = append(h.Looks, Look{n, user, status, h.Now()})
	}
}

// rests writes down that nothing is owed any more, and that the clients are to leave.
func (h *History) rests() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Rest = h.Now()
}

// polled writes down that a poll was answered.
func (h *History) polled(c *Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.Connected, c.Heard = h.Now(), h.Now()
}

// renewed writes down that a connection is about to be given another token.
func (h *History) renewed(c *Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.Renewed = true
}

// allThere tells whether every reader has been connected.
func (h *History) allThere() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.Readers {
		if !slices.ContainsFunc(r.Conns, func(c *Conn) bool { return c.Connected != 0 }) {
			return false
		}
	}
	return true
}
