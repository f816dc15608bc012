package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"mime"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// publishTimeout is how long an event may wait for the store: well under the 15
// to 30 s that senders of webhooks wait for us.
const publishTimeout = 10 * time.Second

// webhook takes a signed event. The signature is checked over the raw bytes
// before anything of them is parsed.
func (s *Server) webhook(c *fiber.Ctx) error {
	if s.o.Bridge.Draining() {
		return s.fromDomain(c, bridge.ErrDraining)
	}
	// BodyRaw and not Body: Body would unpack compressed bytes, which nobody
	// signed, past every limit. The copy outlives the request's buffers.
	body := bytes.Clone(c.Request().Body())
	if len(body) > s.o.Bridge.MaxBytes() {
		return s.problem(c, s.tooLarge())
	}
	verified, err := s.o.Webhooks.Verify(signatureHeader(c), body, s.now())
	if err != nil {
		return s.problem(c, fromSignature(err))
	}
	if p, ok := checkMedia(c); !ok {
		return s.problem(c, p)
	}
	event, err := wire.DecodeEvent(body)
	if err != nil {
		return s.fromDomain(c, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	outcome, err := s.o.Bridge.Publish(ctx, bridge.Report{
		ID: verified.ID, Timestamp: verified.Timestamp, Digest: sha256.Sum256(body), Event: event,
	})
	if err != nil {
		return s.fromDomain(c, err)
	}
	c.Status(fiber.StatusAccepted)
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(reply(outcome))
}

// signatureHeader copies the three headers of Standard Webhooks, under either
// of their names. A request that mixes the names has none of them whole.
func signatureHeader(c *fiber.Ctx) auth.Header {
	get := func(prefix string) auth.Header {
		return auth.Header{
			ID:        strings.Clone(c.Get(prefix + "id")),
			Timestamp: strings.Clone(c.Get(prefix + "timestamp")),
			Signature: strings.Clone(c.Get(prefix + "signature")),
		}
	}
	h := get("webhook-")
	if h == (auth.Header{}) {
		return get("svix-")
	}
	return h
}

// checkMedia wants JSON that came as it was signed.
func checkMedia(c *fiber.Ctx) (wire.Problem, bool) {
	if c.Get(fiber.HeaderContentEncoding) != "" {
		return wire.NewProblem(wire.CodeUnsupportedMedia, "send the body without a Content-Encoding"), false
	}
	media, _, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || media != fiber.MIMEApplicationJSON {
		return wire.NewProblem(wire.CodeUnsupportedMedia, "set Content-Type: application/json"), false
	}
	return wire.Problem{}, true
}

// accepted is the 202 reply to one event.
type accepted struct {
	ID         string `json:"id"`
	Status     string `json:"status"`
	Sessions   int    `json:"sessions"`
	Duplicate  bool   `json:"duplicate"`
	Expires    string `json:"expires,omitempty"` // absent where nothing is stored
	Recipients *int   `json:"recipients,omitempty"`
	Online     *int   `json:"online,omitempty"`
}

func reply(o bridge.Outcome) []byte {
	a := accepted{ID: o.ID, Status: string(o.Status), Sessions: o.Sessions, Duplicate: o.Duplicate}
	if !o.Expires.IsZero() {
		a.Expires = wire.Time(o.Expires)
	}
	if o.Several {
		a.Recipients, a.Online = &o.Recipients, &o.Online
	}
	b, err := json.Marshal(a)
	if err != nil { // strings, numbers and a bool
		panic("handlers: " + err.Error())
	}
	return b
}
