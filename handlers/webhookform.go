package handlers

import (
	"crypto/sha256"
	"mime"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
	"github.com/valyala/fasthttp"

	"hookbridge/app/wire"
)

// form is one of the ways in which events are written in a webhook.
type form struct {
	// number tells the forms apart in the digests of claims. Stores keep those, so
	// it never changes.
	number  byte
	several bool // it holds a list of events, and the reply a result for each
	decode  func(r *webhookRequest) ([]wire.Item, error)
}

var (
	// formEvent is one event of ours.
	formEvent = &form{number: 0, decode: func(r *webhookRequest) ([]wire.Item, error) {
		e, err := wire.DecodeEvent(r.body)
		return []wire.Item{{ID: r.verified.ID, Raw: r.body, Event: e}}, err
	}}
	// formBatch is {"events":[…]}.
	formBatch = &form{number: 1, several: true, decode: func(r *webhookRequest) ([]wire.Item, error) {
		return wire.DecodeBatch(r.body)
	}}
	// formCloud is one CloudEvent in the structured mode.
	formCloud = &form{number: 2, decode: func(r *webhookRequest) ([]wire.Item, error) {
		item, err := wire.DecodeCloudEvent(r.body, r.now)
		return []wire.Item{item}, err
	}}
	// formCloudBatch is a JSON array of CloudEvents.
	formCloudBatch = &form{number: 3, several: true, decode: func(r *webhookRequest) ([]wire.Item, error) {
		return wire.DecodeCloudEventBatch(r.body, r.now)
	}}
	// formCloudBinary is one CloudEvent with its attributes in headers.
	formCloudBinary = &form{number: 4, decode: func(r *webhookRequest) ([]wire.Item, error) {
		item, err := wire.DecodeBinaryCloudEvent(cloudAttribute(r.header), contentType(r.header), r.body, r.now)
		return []wire.Item{item}, err
	}}
)

// formOf reads the form off the path and the headers. Where its error says why the
// request cannot be taken, the form still tells how large the body may be.
func formOf(path string, h *fasthttp.RequestHeader) (*form, error) {
	if encoded(h) {
		return formEvent, errEncoded
	}
	media := utils.UnsafeString(h.ContentType())
	if media != fiber.MIMEApplicationJSON {
		media, _, _ = mime.ParseMediaType(media) // empty where it is none
	}
	switch {
	case media == wire.CloudEventMediaType:
		return formCloud, nil
	case media == wire.CloudEventBatchMediaType:
		return formCloudBatch, nil
	case wire.IsBinaryCloudEvent(cloudAttribute(h)):
		return formCloudBinary, nil
	case media != fiber.MIMEApplicationJSON:
		return formEvent, wire.NewProblem(wire.CodeUnsupportedMedia,
			"set Content-Type: application/json, or "+wire.CloudEventMediaType+", or "+wire.CloudEventBatchMediaType)
	case path == pathBatch:
		return formBatch, nil
	}
	return formEvent, nil
}

// limit is how large the body may be, bytes.
func (f *form) limit(s *Server) int {
	if f.several {
		return s.o.MaxBatchBytes
	}
	return s.o.Bridge.MaxBytes()
}

// claim is the digest of all that a request of this form says.
func (f *form) claim(body []byte, items []wire.Item) [sha256.Size]byte {
	if !f.several {
		body = items[0].Raw
	}
	sum := sha256.Sum256(body)
	return sha256.Sum256(append(sum[:], f.number))
}

// limitOf is how large the body of a request may be, bytes.
func (s *Server) limitOf(path string, h *fasthttp.RequestHeader) int {
	switch path {
	case pathEvents, pathBatch:
	case pathSends, pathRequests:
		return s.o.Bridge.MaxBytes()
	default:
		return maxRequestBytes
	}
	f, _ := formOf(path, h) // a request with the wrong headers is refused once its sender is known
	return f.limit(s)
}

// encoded tells whether a body was compressed, or otherwise encoded; identity is no
// encoding (RFC 9110 §8.4.1).
func encoded(h *fasthttp.RequestHeader) bool {
	for _, line := range h.PeekAll(fiber.HeaderContentEncoding) {
		for coding := range strings.SplitSeq(string(line), ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}

// contentType is a copy of a request's Content-Type.
func contentType(h *fasthttp.RequestHeader) string { return string(h.ContentType()) }

// cloudAttribute looks CloudEvents attributes up in the headers.
func cloudAttribute(h *fasthttp.RequestHeader) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		v := h.Peek("ce-" + name)
		return string(v), v != nil
	}
}
