package handlers

import (
	"context"
	"crypto/sha256"
	"mime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// publishTimeout is how long an event may wait for the store: well under the 15
// to 30 s that senders of webhooks wait for us.
const publishTimeout = 10 * time.Second

const (
	pathEvents = "/webhooks/events"
	pathBatch  = "/webhooks/events/batch"
)

// webhookRequest is a webhook whose signature holds.
type webhookRequest struct {
	verified auth.Verified
	sender   *sender
	body     []byte
	form     form
	wait     bridge.Wait
}

// form is how the events stand in a request.
type form uint8

const (
	formEvent       form = iota // one event, ours
	formBatch                   // {"events":[…]}
	formCloud                   // one CloudEvent in the structured mode
	formCloudBatch              // a JSON array of CloudEvents
	formCloudBinary             // one CloudEvent with its attributes in headers
)

func (f form) several() bool { return f == formBatch || f == formCloudBatch }

// webhook takes signed events. The signature is checked over the raw bytes
// before anything of them is parsed.
func (s *Server) webhook(c *fiber.Ctx) error {
	if s.o.Bridge.Draining() {
		return s.fromDomain(c, bridge.ErrDraining)
	}
	d, p, ok := s.receive(c)
	if !ok {
		return s.problem(c, p)
	}
	if d.wait.For != "" {
		caller, stop := s.caller(c)
		defer stop()
		d.wait.Caller = caller
	}
	reports, problems, err := s.reports(c, &d)
	if err != nil {
		return s.refuseWebhook(c, &d, bridge.ProblemOf(err))
	}
	if wait := d.sender.admit(len(reports)); wait > 0 {
		s.countWebhook(&d, wire.CodeRateLimited, 1)
		return s.limited(c, "this sender's rate is used up", wait)
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	if d.form != formEvent {
		// What was signed once is taken once: the ce- headers are not signed, and
		// an event of ours must not come again as something else.
		err := s.o.Bridge.Claim(ctx, d.sender.Sender, d.verified.ID, claimDigest(c, &d), d.verified.Timestamp, s.readsAsEvent(d.body))
		if err != nil {
			return s.refuseWebhook(c, &d, bridge.ProblemOf(err))
		}
	}
	published, err := s.publish(ctx, &d, reports)
	if err != nil {
		return s.refuseWebhook(c, &d, bridge.ProblemOf(err))
	}
	if !d.form.several() {
		if err := published[0].Err; err != nil {
			return s.refuseWebhook(c, &d, bridge.ProblemOf(err))
		}
		s.countWebhook(&d, "accepted", 1)
		return s.accepted(c, reply(published[0].Outcome))
	}
	return s.accepted(c, s.results(&d, reports, problems, published))
}

func (s *Server) publish(ctx context.Context, d *webhookRequest, reports []bridge.PublishRequest) ([]bridge.Published, error) {
	leave, err := d.sender.enter(ctx)
	if err != nil {
		return nil, err
	}
	if d.wait.For != "" {
		leave = sync.OnceFunc(leave)
		d.wait.Stored = leave // who only waits does not stand in the way of other events
	}
	defer leave()
	return s.o.Bridge.PublishMany(ctx, reports, d.wait), nil
}

func (s *Server) accepted(c *fiber.Ctx, body []byte) error {
	c.Status(fiber.StatusAccepted)
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(body)
}

// receive checks all that can be checked without reading the body as JSON.
func (s *Server) receive(c *fiber.Ctx) (d webhookRequest, p wire.Problem, ok bool) {
	d.form, p, ok = formOf(c)
	limit := s.o.Bridge.MaxBytes()
	if d.form.several() {
		limit = s.o.MaxBatchBytes
	}
	// The raw body, and not Fiber's Body: that would unpack compressed bytes,
	// which nobody signed, past every limit.
	var err error
	if early(&c.Request().Header) == "" {
		if d.body, err = s.readBody(c, limit); err != nil {
			return d, problemOf(err), false
		}
	}
	header := signatureHeader(func(name string) string { return strings.Clone(headerValue(&c.Request().Header, name)) })
	if d.verified, err = s.o.Webhooks.Verify(header, d.body, s.now()); err != nil {
		return d, fromSignature(err), false
	}
	s.prove(c)
	d.sender = s.senders[d.verified.Key-1]
	if !ok { // told only to those who can sign
		return d, p, false
	}
	d.wait, p, ok = waitOf(c)
	return d, p, ok
}

// encoded tells a body that is not sent as it is; identity is no encoding (RFC 9110
// §8.4.1).
func encoded(c *fiber.Ctx) bool {
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderContentEncoding) {
		for coding := range strings.SplitSeq(string(line), ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}

// formOf reads the form off the path and the headers; the bytes must come as
// they were signed.
func formOf(c *fiber.Ctx) (form, wire.Problem, bool) {
	batch := c.Path() == pathBatch
	if encoded(c) {
		return formEvent, wire.NewProblem(wire.CodeUnsupportedMedia, "send the body without a Content-Encoding"), false
	}
	media, _, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	switch {
	case media == wire.CloudEventMediaType:
		return formCloud, wire.Problem{}, true
	case media == wire.CloudEventBatchMediaType:
		return formCloudBatch, wire.Problem{}, true
	case wire.IsBinaryCloudEvent(cloudAttribute(c)):
		return formCloudBinary, wire.Problem{}, true
	case err != nil || media != fiber.MIMEApplicationJSON:
		return formEvent, wire.NewProblem(wire.CodeUnsupportedMedia,
			"set Content-Type: application/json, or "+wire.CloudEventMediaType+", or "+wire.CloudEventBatchMediaType), false
	case batch:
		return formBatch, wire.Problem{}, true
	}
	return formEvent, wire.Problem{}, true
}

// cloudAttribute looks CloudEvents attributes up in the headers.
func cloudAttribute(c *fiber.Ctx) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		v := c.Request().Header.Peek("ce-" + name)
		return string(v), v != nil
	}
}

// defaultWait is how long ?wait= waits without a timeout of its own.
const defaultWait = 5 * time.Second

// waitOf reads ?wait= and &timeout=.
func waitOf(c *fiber.Ctx) (w bridge.Wait, p wire.Problem, ok bool) {
	level, timeout := strings.Clone(c.Query("wait")), c.Query("timeout")
	switch w.For = bridge.Status(level); w.For {
	case "":
		if timeout != "" {
			return w, wire.NewProblem(wire.CodeMalformed, "timeout needs wait=received or wait=acked beside it"), false
		}
		return w, p, true
	case bridge.StatusReceived, bridge.StatusAcked:
	default:
		return w, wire.NewProblem(wire.CodeMalformed, "wait must be received or acked"), false
	}
	w.Timeout = defaultWait
	if timeout != "" {
		d, err := time.ParseDuration(timeout)
		if err != nil || d < 0 || d > bridge.MaxWait {
			return w, wire.NewProblem(wire.CodeMalformed, "timeout must be a duration like 5s, at most "+bridge.MaxWait.String()), false
		}
		w.Timeout = d
	}
	return w, p, true
}

// reports decodes the events of a request. Of several, those that cannot be
// taken have a problem in their place and no report.
func (s *Server) reports(c *fiber.Ctx, d *webhookRequest) (reports []bridge.PublishRequest, problems []item, err error) {
	one := func(id string, digest [sha256.Size]byte, e wire.Event) bridge.PublishRequest {
		return bridge.PublishRequest{ID: id, Timestamp: d.verified.Timestamp, Digest: digest, Event: e, Sender: d.sender.Sender}
	}
	switch d.form {
	case formEvent:
		e, err := wire.DecodeEvent(d.body)
		return []bridge.PublishRequest{one(d.verified.ID, sha256.Sum256(d.body), e)}, nil, err
	case formCloud:
		e, err := wire.DecodeCloudEvent(d.body, s.now())
		return []bridge.PublishRequest{one(e.ID, sha256.Sum256(d.body), e.Event)}, nil, err
	case formCloudBinary:
		e, err := wire.DecodeBinaryCloudEvent(cloudAttribute(c), strings.Clone(c.Get(fiber.HeaderContentType)), d.body, s.now())
		return []bridge.PublishRequest{one(e.ID, binaryDigest(c, d.body), e.Event)}, nil, err
	}
	var items []wire.BatchItem
	if d.form == formBatch {
		items, err = wire.DecodeBatch(d.body)
	} else {
		items, err = wire.DecodeCloudEventBatch(d.body, s.now())
	}
	problems = make([]item, len(items))
	for i, it := range items {
		problems[i].ID = d.sender.EventID(it.ID)
		switch {
		case it.Err != nil:
			problems[i].problem(bridge.ProblemOf(it.Err))
		case len(it.Raw) > s.o.Bridge.MaxBytes():
			problems[i].problem(tooLarge(s.o.Bridge.MaxBytes()))
		default:
			reports = append(reports, one(it.ID, sha256.Sum256(it.Raw), it.Event))
		}
	}
	return reports, problems, err
}

// binaryDigest covers the attributes too: they are what the event is, though
// only the body is signed.
func binaryDigest(c *fiber.Ctx, body []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range []string{"specversion", "id", "source", "type", "time", "touser", "togroup", "toall", "topic", "expirytime"} {
		v, _ := cloudAttribute(c)(name)
		h.Write([]byte(v))
		h.Write([]byte{0})
	}
	h.Write(body)
	h.Sum(sum[:0])
	return sum
}

// claimDigest covers all that a request says.
func claimDigest(c *fiber.Ctx, d *webhookRequest) [sha256.Size]byte {
	body := sha256.Sum256(d.body)
	if d.form == formCloudBinary {
		body = binaryDigest(c, d.body)
	}
	return sha256.Sum256(append(body[:], byte(d.form)))
}

// readsAsEvent reports whether the same bytes could have come as one event.
func (s *Server) readsAsEvent(body []byte) bool {
	if len(body) > s.o.Bridge.MaxBytes() {
		return false
	}
	_, err := wire.DecodeEvent(body)
	return err == nil
}

// item is one result of a batch that could not be taken.
type item struct {
	ID      string        `json:"id,omitempty"`
	Problem *wire.Problem `json:"problem"`
}

func (i *item) problem(p wire.Problem) { i.Problem = &p }

// results puts what was published and what was refused into the request's order.
func (s *Server) results(d *webhookRequest, reports []bridge.PublishRequest, items []item, published []bridge.Published) []byte {
	out := []byte(`{"results":[`)
	next := 0
	for i := range items {
		if i > 0 {
			out = append(out, ',')
		}
		it := &items[i]
		if it.Problem == nil {
			p := &published[next]
			next++
			if p.Err == nil {
				s.countWebhook(d, "accepted", 1)
				out = append(out, reply(p.Outcome)...)
				continue
			}
			it.problem(bridge.ProblemOf(p.Err))
		}
		s.auditWebhook(d, it.Problem.Code, it.ID)
		out = append(out, wire.Encode(it)...)
	}
	return append(out, `]}`...)
}

// countWebhook counts under the sender's name, never its key.
func (s *Server) countWebhook(d *webhookRequest, status string, n int) {
	s.webhooks.WithLabelValues(d.sender.Name, status).Add(float64(n))
}

// refuseWebhook refuses what a known sender sent.
func (s *Server) refuseWebhook(c *fiber.Ctx, d *webhookRequest, p wire.Problem) error {
	s.auditWebhook(d, p.Code, d.sender.EventID(d.verified.ID))
	c.Locals(auditedKey, true)
	return s.problem(c, p)
}

// reply is the 202 reply to one event, member by member: it is written for each
// that is accepted.
func reply(o bridge.Outcome) []byte {
	b := make([]byte, 0, 160)
	b = append(append(b, `{"id":`...), wire.Encode(o.ID)...)
	b = append(append(append(b, `,"status":"`...), o.Status...), `","sessions":`...)
	b = strconv.AppendInt(b, int64(o.Sessions), 10)
	b = strconv.AppendBool(append(b, `,"duplicate":`...), o.Duplicate)
	if !o.Expires.IsZero() { // absent where nothing is stored
		b = append(append(append(b, `,"expires":"`...), wire.Time(o.Expires)...), '"')
	}
	if o.Several {
		b = strconv.AppendInt(append(b, `,"recipients":`...), int64(o.Recipients), 10)
		b = strconv.AppendInt(append(b, `,"online":`...), int64(o.Online), 10)
	}
	return append(b, '}')
}

// limitOf says how large a body may be: only a batch may be larger than an event.
func (s *Server) limitOf(path, media string) int {
	switch {
	case path == pathBatch, path == pathEvents && strings.HasPrefix(strings.ToLower(media), wire.CloudEventBatchMediaType):
		return s.o.MaxBatchBytes
	case path == pathEvents:
		return s.o.Bridge.MaxBytes()
	}
	return maxRequestBytes
}
