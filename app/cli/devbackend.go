package cli

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"hookbridge/app/callback/receiver"
	"hookbridge/app/server"
	"hookbridge/app/wire"
)

// devBackend takes dev's callbacks and requests, on an address of its own as a clinic's
// backend would, and remembers them for the page.
type devBackend struct {
	url    string
	heard  *server.DemoCallbacks
	server *http.Server
	served chan error
}

// newDevBackend listens; forward may name a program of the developer's, which gets all
// of it too, and answers the requests.
func newDevBackend(secret, forward string) (*devBackend, error) {
	b := &devBackend{heard: &server.DemoCallbacks{}, served: make(chan error, 1)}
	o := receiver.Options{
		Secrets: []string{secret}, Forward: forward,
		OnReceived: func(r receiver.Received) { b.heard.Add(r.ID, r.Body) },
		OnProblem:  func(err error) { fmt.Fprintln(os.Stderr, "callback:", err) },
	}
	if forward == "" {
		o.Answer = func() ([]byte, error) { return freeSlots(time.Now()), nil }
	}
	r, err := receiver.New(o)
	if errors.Is(err, receiver.ErrForward) {
		return nil, fmt.Errorf("--forward: %w", err)
	}
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.url = "http://" + ln.Addr().String()
	b.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(os.Stderr, "", 0)}
	go func() { b.served <- b.server.Serve(ln) }()
	return b, nil
}

// stop ends what is under way, too.
func (b *devBackend) stop() error {
	err := b.server.Close()
	if served := <-b.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// freeSlots is the answer to the page's request: times of the day after.
func freeSlots(now time.Time) []byte {
	var slots []string
	for _, minute := range []int{9*60 + 30, 11 * 60, 14*60 + 15} {
		slots = append(slots, time.Date(now.Year(), now.Month(), now.Day()+1, 0, minute, 0, 0, now.Location()).Format(time.RFC3339))
	}
	return wire.Encode(struct {
		Slots []string `json:"slots"`
	}{slots})
}
