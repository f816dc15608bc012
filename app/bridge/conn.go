package bridge

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/wire"
)

// Kind is what a Conn reads.
type Kind uint8

// The kinds of things a peer sends that a session acts on.
const (
	KindText     Kind = iota + 1 // one whole message
	KindBinary                   // one whole message; its payload is not read
	KindPong                     // the payload of a pong
	KindPing                     // a ping; the Conn has not answered it
	KindClose                    // the peer closes; the payload is its code and reason, both checked, or empty
	KindFragment                 // a part of a text message that is not whole yet
)

// Errors of Conn.Read. Any other error means that the connection is lost.
var (
	ErrFrameTooLarge = errors.New("message larger than the read limit")
	ErrProtocol      = errors.New("the peer broke RFC 6455")
	ErrNotUTF8       = errors.New("a text message or a close reason that is not UTF-8")
	ErrSlowMessage   = errors.New("a message that was begun and did not come in time")
	ErrCrowded       = errors.New("too many bytes are coming from connections without a token")
)

// Resumer is who reads a Conn that was parked.
type Resumer interface{ Resume() }

// Conn is what a socket must be able to do. Read is called by one goroutine and
// Write by one writer at a time; Read may run beside it. WriteClose, ExpireWrite,
// Abort and Remote may be called at any time; nothing is written after a close
// frame.
type Conn interface {
	// Read blocks until the next message, fragment of one, or control frame:
	// one that comes inside a fragmented message is returned at once. The
	// payload is valid until the next Read or Park. It answers nothing by itself, and
	// returns no frame after KindClose, KindBinary or one of the errors above.
	Read() (Kind, []byte, error)
	// Park may be called where Read may, instead of waiting in Read. True: there is
	// nothing to read, and reading is over for the caller's goroutine; once there is
	// something, or the connection has ended, Resume is called on another goroutine,
	// which reads from then on. False: go on with Read, which may block.
	// A Conn is parked with the same r each time.
	Park(r Resumer) bool
	// AppendText, AppendPing and AppendPong append one whole frame to b, ready
	// for Write. What they are given is valid until they return.
	AppendText(b []byte, f wire.Frame) []byte
	AppendPing(b []byte, payload []byte) []byte
	AppendPong(b []byte, payload []byte) []byte
	// Write writes frames that were appended, in one go, before the deadline.
	Write(frames []byte, deadline time.Time) error
	// WriteClose sends a close frame, then waits until the deadline at most
	// for the reader to see the peer's, and ends the connection. Read returns
	// no later than that.
	WriteClose(code wire.CloseCode, reason string, deadline time.Time)
	// Limit sets the largest message that Read takes, bytes.
	Limit(maxBytes int)
	// Abort ends the connection at once, without a close frame.
	Abort()
	// ExpireWrite makes a Write that is under way fail at t.
	ExpireWrite(t time.Time)
	// Remote is the peer's address, for logs.
	Remote() string
}

// TryWriter is a Conn that can also write without waiting. Its session writes a message
// to few on the goroutine that hands it over, and leaves to Write what TryWrite did not
// take.
type TryWriter interface {
	Conn
	// TryWrite writes as many bytes of frames as the socket takes at once, and returns
	// how many those are. It never waits, and may be called under locks. It is called
	// by the one writer, as Write is.
	TryWrite(frames []byte) (n int, err error)
}

// Authenticator tells who a token belongs to.
type Authenticator interface {
	// Authenticate checks a token and returns whose it is. Its error's text
	// says what is wrong with the token, without any part of it. It wraps
	// ErrUnauthorized, or ErrUnavailable where the keys cannot be had now.
	Authenticate(ctx context.Context, token string) (Identity, error)
}
