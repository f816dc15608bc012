package bridge_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// patient is a session in memory that keeps its frames as they are written.
type patient struct {
	*line
	mu     sync.Mutex // guards frames
	frames []string
}

func (p *patient) Write(frames []byte, _ time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range bytes.Lines(frames) {
		p.frames = append(p.frames, strings.TrimSpace(string(f)))
	}
	return nil
}

// TryWrite takes all: memory has always room.
func (p *patient) TryWrite(frames []byte) (int, error) {
	return len(frames), p.Write(frames, time.Time{})
}

// got takes the frames that came since the last time.
func (p *patient) got() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, p.frames = p.frames, nil
	return out
}

// code is a frame's type, with its ref, and the code of its problem.
func code(frame string) string {
	var f struct {
		Type, Ref string
		Problem   struct{ Code string }
		Duplicate bool
	}
	if json.Unmarshal([]byte(frame), &f) != nil {
		return frame
	}
	out := f.Type + " " + f.Ref
	if f.Problem.Code != "" {
		out += " " + f.Problem.Code
	}
	if f.Duplicate {
		out += " duplicate"
	}
	return out
}

func codes(frames []string) []string {
	out := []string{}
	for _, f := range frames {
		out = append(out, code(f))
	}
	return out
}

// rights are those of the patients of these tests.
const rights = `{"send":["*"],"backend":["visit.*","slots.*","message","other.*","result.*"]}`

func patientOf(user string) *bridge.Identity {
	id := &bridge.Identity{User: user, Expires: time.Now().Add(1000 * time.Hour)}
	id.Policy, _ = bridge.ParsePolicy([]byte(rights)) // a constant that is right
	return id
}

// join opens a session.
func join(b *bridge.Bridge, user string, h ...bridge.Handshake) *patient {
	p := &patient{line: newLine()}
	hs := bridge.Handshake{Identity: patientOf(user)}
	if len(h) > 0 {
		hs = h[0]
		hs.Identity = patientOf(user)
	}
	if !hs.Plain {
		p.in <- `{"type":"connect"}`
	}
	b.Accept(p, hs)
	return p
}
