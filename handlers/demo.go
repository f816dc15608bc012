package handlers

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/oklog/ulid/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// Demo is the page's own small backend, as a clinic has one: it signs webhooks and sends
// them to the bridge over HTTP. It trusts everybody who opens the page. Therefore only the
// dev command serves it, on loopback.
type Demo struct {
	BridgeURL     string // where to send webhooks, "http://127.0.0.1:8080"
	WebhookSecret string
	TokenSecret   string
	Client        *http.Client
	Callbacks     *DemoCallbacks
}

// demoTokenLife is short, so that one can watch the page refresh its token.
const demoTokenLife = 10 * time.Minute

// demoEscalate is after how many seconds without an ack the clinic would phone.
const demoEscalate = 10

// demoHost refuses requests to a host that is not this machine. The page of another site may
// have a name that leads here (DNS rebinding), and to the browser that is its own server: it
// must get no token.
func demoHost(c *fiber.Ctx) error {
	if !isLoopbackHost(string(c.Request().Host())) {
		return wire.NewProblem(wire.CodeForbidden, "this is for the page on this machine: open it at http://localhost or http://127.0.0.1, with the port")
	}
	return c.Next()
}

// isLoopbackHost reports whether a Host header names this machine: as localhost, a name under
// it (RFC 6761) or a loopback address.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && a.Unmap().IsLoopback()
}

// demoToken gives the page a token, as a login would.
func (s *Server) demoToken(c *fiber.Ctx) error {
	var in struct {
		User string `json:"user"`
	}
	if err := s.demoJSON(c, &in); err != nil || bridge.CheckUserID(in.User) != nil {
		return wire.NewProblem(wire.CodeMalformed, `send {"user":"patient-42"}`)
	}
	expires := s.now().Add(demoTokenLife)
	claims := auth.Claims{User: in.User, ID: ulid.Make().String(), IssuedAt: s.now(), Expires: expires}
	claims.Rights = []byte(`{"backend":["visit.*","slots.*"]}`)
	if strings.HasPrefix(in.User, "doctor-") {
		claims.Rights = []byte(`{"send":["*"]}`)
	}
	token, err := auth.SignToken(s.o.Demo.TokenSecret, claims)
	if err != nil {
		return err
	}
	return s.json(c, struct {
		Token     string `json:"token"`
		ExpiresAt string `json:"expiresAt"`
	}{token, wire.Time(expires)})
}

// demoJSON reads what the page sends.
func (s *Server) demoJSON(c *fiber.Ctx, into any) error {
	body, err := s.readBody(c, s.o.Bridge.MaxBytes())
	if err != nil {
		return err
	}
	return wire.Decode(body, into)
}

// demoPatient is what a clinic's backend does after it has added a patient.
func (s *Server) demoPatient(c *fiber.Ctx) error {
	var in struct {
		Doctor  string `json:"doctor"`
		Patient string `json:"patient"`
		Name    string `json:"name"`
	}
	if err := s.demoJSON(c, &in); err != nil || in.Patient == "" || in.Doctor == "" {
		return wire.NewProblem(wire.CodeMalformed, `send {"doctor":"doctor-7","patient":"patient-42","name":"…"}`)
	}
	return s.fire(c, demoEvent{"patient.added", demoTarget{User: in.Patient}, demoEscalate,
		demoData{Doctor: in.Doctor, Name: in.Name, Message: in.Doctor + " added you"}})
}

// demoAnnouncement tells everybody something.
func (s *Server) demoAnnouncement(c *fiber.Ctx) error {
	var in struct {
		Message string `json:"message"`
	}
	if err := s.demoJSON(c, &in); err != nil || in.Message == "" {
		return wire.NewProblem(wire.CodeMalformed, `send {"message":"…"}`)
	}
	return s.fire(c, demoEvent{"announcement", demoTarget{All: true}, 0, demoData{Message: in.Message}})
}

type demoEvent struct {
	Type     string     `json:"type"`
	To       demoTarget `json:"to"`
	Escalate int        `json:"escalate,omitzero"` // seconds
	Data     demoData   `json:"data"`
}

type demoTarget struct {
	User string `json:"user,omitempty"`
	All  bool   `json:"all,omitzero"`
}

type demoData struct {
	Doctor  string `json:"doctorId,omitempty"`
	Name    string `json:"name,omitempty"`
	Message string `json:"message"`
}

// fired tells the page what was sent; what the bridge answered follows as "reply".
type fired struct {
	ID      string       `json:"id"`
	Status  int          `json:"status"`
	Request firedRequest `json:"request"`
}

type firedRequest struct {
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// fire signs a webhook and sends it to the bridge.
func (s *Server) fire(c *fiber.Ctx, event demoEvent) error {
	body := wire.Encode(event)
	id := "msg_" + ulid.Make().String()
	signed, err := auth.SignWebhook(s.o.Demo.WebhookSecret, id, s.now(), body)
	if err != nil {
		return err
	}
	headers := map[string]string{
		"content-type": fiber.MIMEApplicationJSON, "webhook-id": signed.ID,
		"webhook-timestamp": signed.Timestamp, "webhook-signature": signed.Signature,
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.PublishTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.Demo.BridgeURL+"/webhooks/events", bytes.NewReader(body))
	if err != nil {
		return err
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	res, err := s.o.Demo.Client.Do(req)
	if err != nil {
		return wire.NewProblem(wire.CodeUnavailable, "the bridge did not answer its own demo")
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return err
	}
	told := wire.Encode(fired{ID: id, Status: res.StatusCode, Request: firedRequest{headers, string(body)}})
	// The reply is put in as it came.
	return s.jsonBytes(c, slices.Concat(told[:len(told)-1], []byte(`,"reply":`), answer, []byte("}")))
}
