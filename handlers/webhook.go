package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
	"github.com/valyala/fasthttp"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// publishTimeout is how long an event may wait for the store: well below the 15 to 30 s
// after which senders of webhooks give up.
const publishTimeout = 10 * time.Second

// webhookRequest is a webhook whose signature holds.
type webhookRequest struct {
	verified auth.Verified
	sender   *sender
	header   *fasthttp.RequestHeader
	body     []byte
	form     *form
	now      time.Time // when it was here whole
	wait     bridge.Wait
}

// webhook takes signed events. The signature is checked over the raw bytes
// before anything of them is parsed.
func (s *Server) webhook(c *fiber.Ctx) error {
	if s.o.Bridge.Draining() {
		return bridge.ErrDraining
	}
	r, err := s.receive(c)
	if err != nil {
		return err
	}
	items, err := r.form.decode(r)
	if err != nil {
		return s.refuseWebhook(c, r, err)
	}
	requests := s.requests(r, items)
	if wait := r.sender.admit(len(requests)); wait > 0 {
		s.countWebhook(r, wire.CodeRateLimited)
		return s.limited(c, "this sender's rate is used up", wait)
	}
	ctx := s.publishing.context()
	if r.form != formEvent {
		// The same signed bytes are taken once: the ce- headers are not signed, and an
		// event must not come again in another form.
		err := s.o.Bridge.Claim(ctx, r.sender.Sender, r.verified.ID, r.form.claim(r.body, items), r.verified.Timestamp, s.readsAsEvent(r.body))
		if err != nil {
			return s.refuseWebhook(c, r, err)
		}
	}
	if r.wait.For != "" {
		caller, stop := s.caller(c)
		defer stop()
		r.wait.Caller = caller
	}
	published, err := s.publish(ctx, r, requests)
	if err != nil {
		return s.refuseWebhook(c, r, err)
	}
	if r.form.several {
		return replyAccepted(c, s.results(r, items, published))
	}
	if err := published[0].Err; err != nil {
		return s.refuseWebhook(c, r, err)
	}
	r.sender.accepted().Inc()
	return replyAccepted(c, reply(published[0].Outcome))
}

func replyAccepted(c *fiber.Ctx, body []byte) error {
	c.Status(fiber.StatusAccepted)
	c.Response().Header.SetContentType(fiber.MIMEApplicationJSON)
	return c.Send(body)
}

// receive checks all that can be checked without reading the body as JSON.
func (s *Server) receive(c *fiber.Ctx) (*webhookRequest, error) {
	r := &webhookRequest{header: &c.Request().Header}
	var formErr, err error
	r.form, formErr = formOf(c.Path(), r.header)
	// The raw body, and not Fiber's Body: that would unpack compressed bytes,
	// which nobody signed, past every limit.
	if early(r.header) == "" {
		if r.body, err = s.readBody(c, r.form.limit(s)); err != nil {
			return nil, err
		}
	}
	r.now = s.now()
	header := signatureHeader(func(name string) string { return strings.Clone(headerValue(r.header, name)) })
	if r.verified, err = s.o.Webhooks.Verify(header, r.body, r.now); err != nil {
		return nil, signatureProblem(err)
	}
	markAuthenticated(c)
	r.sender = s.senders[r.verified.Key-1]
	if formErr != nil { // told only to those who can sign
		return nil, formErr
	}
	r.wait, err = waitOf(c)
	return r, err
}

// requests makes the publish requests of the items that can be taken, and notes in
// the others why they cannot.
func (s *Server) requests(r *webhookRequest, items []wire.Item) []bridge.PublishRequest {
	requests := make([]bridge.PublishRequest, 0, len(items))
	for i := range items {
		it := &items[i]
		if most := s.o.Bridge.MaxBytes(); r.form.several && len(it.Raw) > most && it.Err == nil {
			it.Err = tooLarge(most)
		}
		if it.Err == nil {
			requests = append(requests, bridge.PublishRequest{ID: it.ID, Timestamp: r.verified.Timestamp,
				Digest: sha256.Sum256(it.Raw), Event: it.Event, Sender: r.sender.Sender})
		}
	}
	return requests
}

// publish waits for one of the sender's slots, which is free for the next request
// once the events are stored, and publishes.
func (s *Server) publish(ctx context.Context, r *webhookRequest, requests []bridge.PublishRequest) ([]bridge.Published, error) {
	leave, err := r.sender.enter(ctx)
	if err != nil {
		return nil, err
	}
	if r.wait.For != "" {
		leave = sync.OnceFunc(leave)
		r.wait.Stored = leave
	}
	defer leave()
	return s.o.Bridge.PublishMany(ctx, requests, r.wait), nil
}

// readsAsEvent reports whether the same bytes could have come as one event.
func (s *Server) readsAsEvent(body []byte) bool {
	if len(body) > s.o.Bridge.MaxBytes() {
		return false
	}
	_, err := wire.DecodeEvent(body)
	return err == nil
}

// defaultWait is how long ?wait= waits without a timeout of its own.
const defaultWait = 5 * time.Second

// waitOf reads ?wait= and &timeout=.
func waitOf(c *fiber.Ctx) (w bridge.Wait, err error) {
	level, timeout := strings.Clone(c.Query("wait")), c.Query("timeout")
	switch w.For = bridge.Status(level); w.For {
	case "":
		if timeout != "" {
			return w, wire.NewProblem(wire.CodeMalformed, "timeout needs wait=received or wait=acked beside it")
		}
		return w, nil
	case bridge.StatusReceived, bridge.StatusAcked:
	default:
		return w, wire.NewProblem(wire.CodeMalformed, "wait must be received or acked")
	}
	w.Timeout = defaultWait
	if timeout != "" {
		d, err := time.ParseDuration(timeout)
		if err != nil || d < 0 || d > bridge.MaxWait {
			return w, wire.NewProblem(wire.CodeMalformed, "timeout must be a duration like 5s, at most "+bridge.MaxWait.String())
		}
		w.Timeout = d
	}
	return w, nil
}

// results are the results of a list of events, in its order. published has those of
// the items without an error.
func (s *Server) results(r *webhookRequest, items []wire.Item, published []bridge.Published) []byte {
	out := []byte(`{"results":[`)
	for i := range items {
		if i > 0 {
			out = append(out, ',')
		}
		err := items[i].Err
		if err == nil {
			p := published[0]
			published = published[1:]
			if err = p.Err; err == nil {
				r.sender.accepted().Inc()
				out = append(out, reply(p.Outcome)...)
				continue
			}
		}
		p, id := bridge.ProblemOf(err), r.sender.EventID(items[i].ID)
		s.auditWebhook(r, p.Code, id)
		out = append(out, wire.Encode(struct {
			ID      string       `json:"id,omitempty"`
			Problem wire.Problem `json:"problem"`
		}{id, p})...)
	}
	return append(out, `]}`...)
}

// statusAccepted is the metric's label of an event that was taken; that of another
// is its problem's code.
const statusAccepted = "accepted"

// countWebhook counts an event that was not accepted under the sender's name, never its
// key.
func (s *Server) countWebhook(r *webhookRequest, status string) {
	s.webhooks.WithLabelValues(r.sender.Name, status).Inc()
}

// auditWebhook counts an event that a known sender was refused, and writes it to the
// audit log.
func (s *Server) auditWebhook(r *webhookRequest, code, id string) {
	s.countWebhook(r, code)
	s.o.Bridge.Audit().Refused(code, "webhook", slog.String("sender", r.sender.Name), slog.String("id", id))
}

// refuseWebhook refuses what a known sender sent.
func (s *Server) refuseWebhook(c *fiber.Ctx, r *webhookRequest, err error) error {
	p := bridge.ProblemOf(err)
	s.auditWebhook(r, p.Code, r.sender.EventID(r.verified.ID))
	c.Locals(auditedKey, true)
	return p
}

// reply is the 202 reply to one event, member by member: it is written for each
// that is accepted.
func reply(o bridge.Outcome) []byte {
	b := make([]byte, 0, 160)
	b = wire.AppendString(append(b, `{"id":`...), o.ID)
	b = append(append(append(b, `,"status":"`...), o.Status...), `","sessions":`...)
	b = strconv.AppendInt(b, int64(o.Sessions), 10)
	b = strconv.AppendBool(append(b, `,"duplicate":`...), o.Duplicate)
	if !o.Expires.IsZero() { // absent where nothing is stored
		b = append(wire.AppendTime(append(b, `,"expires":"`...), o.Expires), '"')
	}
	if o.Several {
		b = strconv.AppendInt(append(b, `,"recipients":`...), int64(o.Recipients), 10)
		b = strconv.AppendInt(append(b, `,"online":`...), int64(o.Online), 10)
	}
	return append(b, '}')
}

// headerValue is a header's value, as long as the request is there. Several lines of
// a signature are one list, with spaces between (RFC 9110 §5.2), as a proxy or a
// library may have split it.
func headerValue(h *fasthttp.RequestHeader, name string) string {
	if strings.HasSuffix(name, "-signature") {
		if lines := h.PeekAll(name); len(lines) > 1 {
			return string(bytes.Join(lines, []byte(" ")))
		}
	}
	return utils.UnsafeString(h.Peek(name))
}

// signatureHeader copies the three headers of Standard Webhooks, under either
// of their names. A request that mixes the names has none of them whole.
func signatureHeader(get func(name string) string) auth.Header {
	h := auth.Header{ID: get("webhook-id"), Timestamp: get("webhook-timestamp"), Signature: get("webhook-signature")}
	if h == (auth.Header{}) {
		h = auth.Header{ID: get("svix-id"), Timestamp: get("svix-timestamp"), Signature: get("svix-signature")}
	}
	return h
}
