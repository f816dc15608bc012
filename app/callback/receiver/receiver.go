// Package receiver is a backend for developers and tests: it takes the callbacks and
// requests of a bridge, checks their signatures, answers requests, and can pass all on
// to a program that is still in the making.
package receiver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"time"

	"hookbridge/app/callback/neterror"
	"hookbridge/auth"
)

const (
	// MaxBytes is the largest body that is taken, and the largest reply that is passed
	// back, bytes: more than a bridge sends.
	MaxBytes = 8 << 20
	// forwardTimeout is how long the program behind may take: as long as the bridge waits
	// at most.
	forwardTimeout = 30 * time.Second
)

// Options are the settings of a Receiver. Secrets is required.
type Options struct {
	// Secrets are whsec_… or whpk_… keys, any of which may have signed.
	Secrets []string
	// Forward is the http or https URL to which everything with a good signature is
	// passed on, byte for byte with its headers; the status and body of its reply become
	// ours. Empty: callbacks are answered with 204.
	Forward string
	// Answer makes the JSON that requests are answered with. Nil: they are passed on, or
	// answered with {} where there is no Forward.
	Answer func() ([]byte, error)
	// OnReceived is told of everything with a good signature, on the goroutine of its
	// request. May be nil.
	OnReceived func(Received)
	// OnProblem is told why something was refused, or could not be answered or passed
	// on. May be nil.
	OnProblem func(error)
}

// Received is a callback or a request of a bridge.
type Received struct {
	ID   string // its webhook-id: the same when a callback is sent again
	Type string // event.acked, …, or request
	Body []byte // all of it, as it was signed
}

// Receiver is a handler of HTTP requests.
type Receiver struct {
	o        Options
	webhooks *auth.Webhooks
	forward  *httputil.ReverseProxy // nil without Forward
	via      string                 // marks what was passed on, in the header Via
}

// ErrForward is the error of New for a Forward that is not an http or https URL.
var ErrForward = errors.New("it must be an address like http://127.0.0.1:3000/hook")

// New checks the options. Its errors repeat nothing of a secret.
func New(o Options) (*Receiver, error) {
	webhooks, err := auth.NewWebhooks(o.Secrets)
	if err != nil {
		return nil, err
	}
	if o.OnReceived == nil {
		o.OnReceived = func(Received) {}
	}
	if o.OnProblem == nil {
		o.OnProblem = func(error) {}
	}
	r := &Receiver{o: o, webhooks: webhooks, via: "1.1 hookbridge-" + rand.Text()}
	if o.Forward == "" {
		return r, nil
	}
	to, err := url.Parse(o.Forward)
	if err != nil || to.Hostname() == "" || to.Scheme != "http" && to.Scheme != "https" {
		return nil, ErrForward
	}
	if port, err := strconv.ParseUint(to.Port(), 10, 16); to.Port() != "" && (err != nil || port == 0) {
		return nil, ErrForward
	}
	r.forward = &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			target := *to
			p.Out.URL, p.Out.Host = &target, ""
			p.Out.Header.Add("Via", r.via)
		},
		Transport:      &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		ModifyResponse: bounded,
		ErrorHandler:   r.notForwarded,
	}
	return r, nil
}

// replyError is the error of a reply that cannot be passed back. It quotes nothing of it.
type replyError string

// Error implements error.
func (e replyError) Error() string { return string(e) }

// bounded refuses a reply that is too long, or whose status is none.
func bounded(resp *http.Response) error {
	if resp.StatusCode < 200 {
		return replyError(fmt.Sprintf("its reply has the status %d", resp.StatusCode))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if len(b) > MaxBytes {
		return replyError(fmt.Sprintf("its reply is longer than %d bytes", MaxBytes))
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

// notForwarded answers for the program behind. The error itself may quote what that has
// replied, and its URL may have a password in it.
func (r *Receiver) notForwarded(w http.ResponseWriter, req *http.Request, err error) {
	why := neterror.Class(err)
	if reply, ok := errors.AsType[replyError](err); ok {
		why = reply.Error()
	} else if req.Context().Err() != nil { // whichever of the two gave up
		why = "it took longer than the bridge waits"
	}
	r.refuse(w, http.StatusBadGateway, fmt.Errorf("the program that callbacks are forwarded to has not answered: %s", why))
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		r.refuse(w, http.StatusMethodNotAllowed, errors.New("not a POST: callbacks come by POST"))
		return
	}
	if slices.Contains(req.Header.Values("Via"), r.via) {
		r.refuse(w, http.StatusLoopDetected, errors.New("what was forwarded has come back: it must be forwarded to another program than this one"))
		return
	}
	h := auth.Header{ID: req.Header.Get("webhook-id"), Timestamp: req.Header.Get("webhook-timestamp"), Signature: req.Header.Get("webhook-signature")}
	if err := h.Check(time.Now()); err != nil {
		r.refuse(w, statusOf(err), err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MaxBytes))
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		r.refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is longer than %d bytes", tooLong.Limit))
		return
	}
	if err != nil {
		r.refuse(w, http.StatusBadRequest, errors.New("the body ended too early"))
		return
	}
	if _, err := r.webhooks.Verify(h, body, time.Now()); err != nil {
		r.refuse(w, statusOf(err), err)
		return
	}
	var envelope struct {
		Type string `json:"type"`
	}
	// Not by wire's rules: data has whatever users send, such as names that stand twice.
	if err := json.Unmarshal(body, &envelope); err != nil || envelope.Type == "" {
		r.refuse(w, http.StatusBadRequest, errors.New("the signature is good, but the body is no callback: it must be a JSON object with a type"))
		return
	}
	r.o.OnReceived(Received{ID: h.ID, Type: envelope.Type, Body: body})
	r.respond(w, req, envelope.Type, body)
}

func (r *Receiver) respond(w http.ResponseWriter, req *http.Request, typ string, body []byte) {
	switch {
	case typ == "request" && (r.o.Answer != nil || r.forward == nil):
		answer, err := []byte("{}"), error(nil)
		if r.o.Answer != nil {
			answer, err = r.o.Answer()
		}
		if err != nil {
			r.refuse(w, http.StatusInternalServerError, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // a bridge that has gone asks for nothing
	case r.forward != nil:
		ctx, cancel := context.WithTimeout(req.Context(), forwardTimeout)
		defer cancel()
		out := req.WithContext(ctx)
		out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		r.forward.ServeHTTP(w, out)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// refuse answers with a status and a line that says why.
func (r *Receiver) refuse(w http.ResponseWriter, status int, why error) {
	r.o.OnProblem(why)
	http.Error(w, why.Error(), status)
}

// statusOf is the status for a signature that was refused.
func statusOf(err error) int {
	if bad, ok := errors.AsType[*auth.SignatureError](err); ok && bad.Reason == auth.ReasonMalformed {
		return http.StatusBadRequest
	}
	return http.StatusUnauthorized
}
