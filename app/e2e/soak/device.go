package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Device is a client that keeps itself connected, as apps do: it resumes with its
// last cursor, acks, and gets a new token when its own is no good.
type Device struct {
	b      *Bridges
	reader *Reader
	acks   int // how many events it gathers before it acks; 0: it does not
	calm   *atomic.Bool
	goes   bool // it stays away for long, again and again

	rnd *rand.Rand // of the goroutine that runs it

	mu      sync.Mutex // guards what follows
	cursor  string
	token   string
	tokenID string
	live    *socket
	unacked int
	acked   string
	lastID  string // of the last event it saw
	pending int    // of a fresh device: what it was promised
	got     int    // and has
	enough  func() // ends the connection of a fresh device
}

// NewDevice makes one; Run runs it.
func NewDevice(b *Bridges, r *Reader, acks int, calm *atomic.Bool, seed uint64) *Device {
	return &Device{b: b, reader: r, acks: acks, calm: calm, rnd: rand.New(rand.NewPCG(seed, uint64(len(r.Name))))}
}

// Run connects again and again until ctx ends.
func (d *Device) Run(ctx context.Context) {
	h := d.b.history
	for ctx.Err() == nil {
		token, id, err := d.currentToken()
		if err != nil {
			h.Note("harness", "token of %s: %v", d.reader.User, err)
			return
		}
		p := d.b.any(d.rnd)
		c := h.Dial(d.reader, p.n, id, d.resume())
		connection, end := context.WithCancel(ctx)
		d.mu.Lock()
		d.enough, d.pending, d.got = end, -1, 0
		d.mu.Unlock()
		timer := time.AfterFunc(d.stay(), func() {
			if !d.calm.Load() || d.reader.Fresh {
				end()
			}
		})
		var code int
		switch d.reader.Transport {
		case "sse":
			code = d.overStream(connection, c, p, token)
		case "poll":
			code = d.poll(c, p, token)
		default:
			code = d.overWebSocket(connection, c, p, token)
		}
		timer.Stop()
		end()
		d.finish(c, code)
		d.pause(ctx, c)
	}
}

// stay is how long a connection is to last.
func (d *Device) stay() time.Duration {
	if d.reader.Fresh {
		return 5 * time.Second
	}
	return 500*time.Millisecond + time.Duration(d.rnd.ExpFloat64()*float64(10*time.Second))
}

func (d *Device) pause(ctx context.Context, c *Conn) {
	wait := time.Duration(20+d.rnd.IntN(100)) * time.Millisecond
	switch {
	case d.reader.Fresh:
		wait = time.Duration(1000+d.rnd.IntN(4000)) * time.Millisecond
	case d.reader.Transport == "poll" && c.Connected != 0:
		wait = 0
	case d.goes: // half of the times for longer than the debounce of user.offline
		wait = time.Duration(2000+d.rnd.IntN(5000)) * time.Millisecond
		if d.rnd.IntN(2) == 0 {
			wait += debounce
		}
	case d.rnd.IntN(7) == 0: // now and then it stays away for longer
		wait = time.Duration(d.rnd.IntN(6000)) * time.Millisecond
	}
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// finish writes the end of a connection down, and does what its code asks for.
func (d *Device) finish(c *Conn, code int) {
	h := d.b.history
	d.mu.Lock()
	switch code {
	case 4401, 4403:
		d.token = ""
	case 4410: // the user was erased: so is what the app keeps
		d.cursor, d.acked, d.unacked, d.token = "", "", 0, ""
	}
	whole := d.reader.Fresh && d.pending >= 0 && d.got >= d.pending
	d.mu.Unlock()
	switch code {
	case 0, 1000, 1001, 1006, 1011, 1012, 1013, 4401, 4403, 4408, 4410, 4498:
	default:
		h.Note("close code", "%s was closed with %d", d.reader.describe(), code)
	}
	h.mu.Lock()
	c.Whole = whole
	h.mu.Unlock()
	h.ended(c, code)
}

func (d *Device) currentToken() (token, id string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.token == "" {
		life := time.Hour
		if d.rnd.IntN(5) == 0 {
			life = time.Duration(4+d.rnd.IntN(10)) * time.Second
		}
		if d.token, d.tokenID, err = d.b.Token(d.reader.User, life); err != nil {
			return "", "", err
		}
	}
	return d.token, d.tokenID, nil
}

// TokenID is the id of the token that it connects with now.
func (d *Device) TokenID() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tokenID
}

func (d *Device) resume() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reader.Fresh || d.reader.Transport == "plain" {
		return ""
	}
	return d.cursor
}

// heard is told of each frame, after it has been written down.
func (d *Device) heard(f *frame) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch f.Type {
	case "connected":
		d.pending = f.Pending
		if d.cursor == "" {
			d.cursor = f.Cursor
		}
	case "event":
		if f.Cursor != "" {
			d.cursor = f.Cursor
		}
		d.lastID = f.Event.ID
		d.unacked++
		d.got++
	case "gap":
		d.cursor = f.Cursor
	}
	if d.reader.Fresh && d.pending >= 0 && d.got >= d.pending && d.enough != nil {
		d.enough()
	}
}

// toAck is a cursor that is due to be acked, once.
func (d *Device) toAck() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.acks == 0 || d.unacked < d.acks || d.cursor == d.acked {
		return ""
	}
	d.unacked, d.acked = 0, d.cursor
	return d.cursor
}

func (d *Device) setLive(s *socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = s
}

// socket is the connection over which the device can send now; nil without one.
func (d *Device) socket() *socket {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live
}

// Send sends an event of the device's user over its socket; false where it has none.
func (d *Device) Send(e *Event, event []byte, done func(Attempt, string)) bool {
	s := d.socket()
	if s == nil {
		return false
	}
	ref := fmt.Sprintf("r%d", e.N)
	to, err := json.Marshal(e.To)
	if err != nil {
		d.b.history.Note("harness", "%v", err)
		return false
	}
	s.send(ref, fmt.Appendf(nil, `{"type":"send","ref":%q,"to":%s,"event":%s}`, ref, to, event), done)
	return true
}

// Refresh gives the connection a new token.
func (d *Device) Refresh() {
	s := d.socket()
	if s == nil {
		return
	}
	token, id, err := d.b.Token(d.reader.User, time.Hour)
	if err != nil {
		d.b.history.Note("harness", "%v", err)
		return
	}
	if s.refresh(token) != nil {
		return
	}
	d.mu.Lock()
	d.token, d.tokenID = token, id
	d.mu.Unlock()
}

// See tells that the user saw the last event.
func (d *Device) See() {
	d.mu.Lock()
	s, id := d.live, d.lastID
	d.mu.Unlock()
	if s != nil && id != "" {
		_ = s.write(map[string]string{"type": "seen", "id": id}) // it ends with the connection
	}
}
