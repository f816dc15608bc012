package e2e

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/auth"
	"hookbridge/auth/authtest"
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	t.Run("reaches the one user it is for", webhookReachesItsUser)
	t.Run("is answered with who got it", webhookReply)
	t.Run("leaves out the sessions named in except", webhookExcept)
	t.Run("is taken as proxies and libraries send it", webhookFromLibraries)
	t.Run("may use svix names, public keys and rotated secrets", webhookSignatures)
	t.Run("that is bad is told its status and what to mend", webhookRefused)
	t.Run("keeps no view of the request's buffer", webhookKeepsNoView)
}

func webhookReachesItsUser(t *testing.T) {
	t.Parallel()
	w := start(t)
	s, other := w.connect("patient-42", ""), w.connect("patient-43", "")
	a := w.fire("msg_2KWP", `{"type":"patient.added","timestamp":"2026-11-22T20:36:00Z","to":{"user":"patient-42"},"ttl":86400,
		"data":{ "doctorId":"d-7",  "message":"Dr. Silva added you" }}`)
	if a.Status != "sent" || a.Sessions != 1 || a.Duplicate || a.ID != "msg_2KWP" || a.Recipients != nil || a.Online != nil {
		t.Errorf("the reply: %s", a.Raw)
	}
	if at, err := time.Parse(time.RFC3339, a.Expires); err != nil || !strings.HasSuffix(a.Expires, "Z") || time.Until(at) > 24*time.Hour || time.Until(at) < 23*time.Hour {
		t.Errorf("expires %q: %v", a.Expires, err)
	}
	f := s.want("event")
	if f.Event.ID != "msg_2KWP" || f.Event.Type != "patient.added" || f.Event.Timestamp != "2026-11-22T20:36:00Z" || f.Replay || f.From != "" {
		t.Errorf("the event: %s", f.Raw)
	}
	if !strings.Contains(f.Raw, `"data":{ "doctorId":"d-7",  "message":"Dr. Silva added you" }`) {
		t.Errorf("the data is not byte for byte: %s", f.Raw)
	}
	other.settle() // a pong and nothing before it
}

func webhookReply(t *testing.T) {
	t.Parallel()
	w := start(t)
	if a := w.fireTo("patient-1", 1); a.Status != "queued" || a.Sessions != 0 {
		t.Errorf("nobody online: %s", a.Raw)
	}
	if a := w.fire("now", `{"type":"t","to":{"user":"patient-2"},"ttl":0}`); a.Status != "dropped" || a.Expires != "" {
		t.Errorf("nobody online and ttl 0: %s", a.Raw)
	}
	w.connect("patient-1", "")
	w.connect("patient-1", "")
	if a := w.fireTo("patient-1", 2); a.Status != "sent" || a.Sessions != 2 {
		t.Errorf("two devices: %s", a.Raw)
	}
	a := w.fire("several", `{"type":"t","to":{"users":["patient-1","patient-2","patient-1","patient-3"]}}`)
	if a.Status != "sent" || a.Sessions != 2 || *a.Recipients != 3 || *a.Online != 1 {
		t.Errorf("several users: %s", a.Raw)
	}
	a = w.fire("away", `{"type":"t","to":{"users":["patient-2","patient-3"]}}`)
	if a.Status != "queued" || *a.Online != 0 || *a.Recipients != 2 {
		t.Errorf("several users away: %s", a.Raw)
	}
	if a := w.fire("everybody", `{"type":"t","to":{"all":true}}`); a.Status != "sent" || a.Sessions != 2 {
		t.Errorf("to all: %s", a.Raw)
	}
}

func webhookExcept(t *testing.T) {
	t.Parallel()
	w := start(t)
	a, b := w.connect("patient-1", ""), w.connect("patient-1", "")
	got := w.fire("m1", fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"except":{"sessions":[%q]}}`, a.id))
	if got.Sessions != 1 {
		t.Errorf("%s", got.Raw)
	}
	b.want("event")
	a.settle()
	w.fireTo("patient-1", 2)
	if f := a.want("event"); f.n() != 2 {
		t.Errorf("%s", f.Raw)
	}
	got = w.fire("m3", fmt.Sprintf(`{"type":"t","to":{"all":true},"except":{"sessions":[%q]}}`, b.id))
	if got.Sessions != 1 {
		t.Errorf("%s", got.Raw)
	}
	a.want("event")
}

func webhookFromLibraries(t *testing.T) {
	t.Parallel()
	w := start(t)
	const zeros = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for name, edit := range map[string]func(h http.Header){
		"the good signature on a second line": func(h http.Header) {
			h["Webhook-Signature"] = []string{zeros, h.Get("Webhook-Signature")}
		},
		"on the first of three": func(h http.Header) {
			h["Webhook-Signature"] = []string{h.Get("Webhook-Signature"), zeros, "v2,x"}
		},
		"two lines that a proxy has made one": func(h http.Header) {
			h.Set("Webhook-Signature", h.Get("Webhook-Signature")+", "+zeros)
		},
		"Content-Encoding: identity":    func(h http.Header) { h.Set("Content-Encoding", "identity") },
		"Content-Encoding: Identity":    func(h http.Header) { h.Set("Content-Encoding", "Identity") },
		"an empty Content-Encoding":     func(h http.Header) { h.Set("Content-Encoding", "") },
		"identity twice":                func(h http.Header) { h.Set("Content-Encoding", "identity, identity") },
		"identity on two lines":         func(h http.Header) { h["Content-Encoding"] = []string{"identity", "identity"} },
		"signatures under svix's names": func(h http.Header) { rename(h, "Webhook-", "Svix-") },
		"those on two lines": func(h http.Header) {
			rename(h, "Webhook-", "Svix-")
			h["Svix-Signature"] = []string{zeros, h.Get("Svix-Signature")}
		},
	} {
		r := w.sign(fmt.Sprint("msg_", len(name), "_", strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r
			}
			return -1
		}, name)), `{"type":"t","to":{"user":"patient-1"}}`, time.Now())
		edit(r.Header)
		if a := w.do(r); a.HTTP != 202 || a.Duplicate {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
	for _, coding := range []string{"gzip", "identity, gzip", "br", "x"} {
		r := w.sign("msg_coded", `{"type":"t","to":{"user":"patient-1"}}`, time.Now())
		r.Header.Set("Content-Encoding", coding)
		if a := w.do(r); a.HTTP != 415 {
			t.Errorf("%s: %d %s", coding, a.HTTP, a.Raw)
		}
	}
}

func webhookSignatures(t *testing.T) {
	t.Parallel()
	private, public := authtest.NewWebhookKeyPair()
	second := authtest.NewWebhookSecret()
	w := start(t, func(s *server.Settings) {
		s.WebhookSecrets = append(s.WebhookSecrets, server.Secret(public), server.Secret(second))
	})
	const body = `{"type":"t","to":{"user":"u"}}`
	send := func(name, prefix string, h auth.Header) {
		req, err := http.NewRequest(http.MethodPost, w.base+"/webhooks/events", strings.NewReader(body))
		expect.NoError(t, err)
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		req.Header.Set(prefix+"id", h.ID)
		req.Header.Set(prefix+"timestamp", h.Timestamp)
		req.Header.Set(prefix+"signature", h.Signature)
		if a := w.do(req); a.HTTP != http.StatusAccepted {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
	for name, secret := range map[string]string{"the first": testWebhookSecret, "the second": second, "a private key": private} {
		for _, prefix := range []string{"webhook-", "svix-"} {
			h, err := auth.SignWebhook(secret, w.nextID(), time.Now(), []byte(body))
			expect.NoError(t, err)
			send(name, prefix, h)
			h.Signature = "v1,AAAA v1a,AAAA " + h.Signature // a sender that rotates signs with several keys
			send(name+" among others", prefix, h)
		}
	}
	if len(public) < ed25519.PublicKeySize {
		t.Error("no public key")
	}
}

func rename(h http.Header, from, to string) {
	for _, name := range []string{"Id", "Timestamp", "Signature"} {
		h.Set(to+name, h.Get(from+name))
		h.Del(from + name)
	}
}

func webhookRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	const canary = "canary-4711"
	good := `{"type":"t","to":{"user":"patient-1"},"data":"` + canary + `"}`
	now := time.Now()
	edit := func(f func(r *http.Request)) *http.Request {
		r := w.sign("msg_x", good, now)
		f(r)
		return r
	}
	body := func(s string) *http.Request { return w.sign("msg_x", s, now) }
	for name, c := range map[string]struct {
		req    *http.Request
		status int
		code   string
		detail string
	}{
		"no id":        {edit(func(r *http.Request) { r.Header.Del("webhook-id") }), 401, "signature_missing", "webhook-id"},
		"no timestamp": {edit(func(r *http.Request) { r.Header.Del("webhook-timestamp") }), 401, "signature_missing", "webhook-timestamp"},
		"no signature": {edit(func(r *http.Request) { r.Header.Del("webhook-signature") }), 401, "signature_missing", "webhook-signature"},
		"another secret": {edit(func(r *http.Request) {
			r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
		}), 401, "signature_mismatch", "1"},
		"other bytes":       {edit(func(r *http.Request) { r.Body = http.NoBody; r.ContentLength = 0 }), 401, "signature_mismatch", ""},
		"an id with a dot":  {w.sign("a.b", good, now), 400, "malformed", "webhook-id"},
		"an id too long":    {w.sign(strings.Repeat("a", 65), good, now), 400, "malformed", "webhook-id"},
		"no number":         {edit(func(r *http.Request) { r.Header.Set("webhook-timestamp", "today") }), 400, "malformed", "webhook-timestamp"},
		"six minutes late":  {w.sign("msg_x", good, now.Add(-6*time.Minute)), 401, "timestamp_out_of_window", "36"},
		"six minutes early": {w.sign("msg_x", good, now.Add(6*time.Minute)), 401, "timestamp_out_of_window", ""},
		"a form":            {edit(func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }), 415, "unsupported_media_type", "application/json"},
		"compressed":        {edit(func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), 415, "unsupported_media_type", "Content-Encoding"},
		"no JSON":           {body(`{"type":`), 400, "malformed", ""},
		"two values":        {body(good + good), 400, "malformed", ""},
		"no type":           {body(`{"to":{"user":"u"}}`), 422, "invalid_event", "/type"},
		"no target":         {body(`{"type":"t"}`), 422, "invalid_event", "/to"},
		"two targets":       {body(`{"type":"t","to":{"user":"u","all":true}}`), 422, "invalid_event", "/to"},
		"no user":           {body(`{"type":"t","to":{"user":""}}`), 422, "invalid_event", "/to/user"},
		"a control in it":   {body(`{"type":"t","to":{"user":"a\u0000b"}}`), 422, "invalid_event", "/to/user"},
		"a user too long":   {body(`{"type":"t","to":{"user":"` + strings.Repeat("ü", 129) + `"}}`), 422, "invalid_event", "/to/user"},
		"no users":          {body(`{"type":"t","to":{"users":[]}}`), 422, "invalid_event", "/to/users"},
		"too many users":    {body(`{"type":"t","to":{"users":[` + strings.Repeat(`"u",`, 1000) + `"u"]}}`), 422, "invalid_event", "1000"},
		"a negative ttl":    {body(`{"type":"t","to":{"user":"u"},"ttl":-1}`), 422, "invalid_event", "/ttl"},
		"too large":         {body(`{"type":"t","to":{"user":"u"},"data":"` + strings.Repeat("a", 65<<10) + `"}`), 413, "too_large", "65536"},
	} {
		a := w.do(c.req)
		if a.HTTP != c.status || a.Code != c.code || !strings.Contains(a.Detail, c.detail) {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
		if a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: Content-Type %q", name, a.Header.Get("Content-Type"))
		}
		if strings.Contains(a.Raw, canary) || a.Detail == "" {
			t.Errorf("%s: the reply repeats the payload or says nothing: %s", name, a.Raw)
		}
	}
	if a := w.fire("msg_good", good); a.Status != "queued" {
		t.Errorf("the bridge is not well afterwards: %s", a.Raw)
	}
	if strings.Contains(w.logs.String(), canary) || strings.Contains(w.logs.String(), testJWTSecret) {
		t.Error("a payload or a secret is in the log")
	}
}

// Requests of one kept-alive connection share buffers: whatever a handler kept
// of an earlier one would change under the later ones.
func webhookKeepsNoView(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	conn, err := net.Dial("tcp", w.p.Addr())
	expect.NoError(t, err)
	defer conn.Close()
	reader := bufio.NewReader(conn)
	const n = 60
	for i := range n {
		user := fmt.Sprintf("%c-user-%02d", 'a'+i%26, i)
		req := w.sign(fmt.Sprintf("%c-id-%02d", 'A'+i%26, i), fmt.Sprintf(`{"type":"type.%02d","to":{"users":[%q]},"data":"%02d-%s"}`, i, user, i, strings.Repeat("x", i)), time.Now())
		expect.NoError(t, req.Write(conn))
		res, err := http.ReadResponse(reader, req)
		expect.NoError(t, err)
		if res.StatusCode != http.StatusAccepted {
			t.Fatalf("request %d: %d", i, res.StatusCode)
		}
		var buf [1024]byte
		for {
			if _, err := res.Body.Read(buf[:]); err != nil {
				break
			}
		}
	}
	for i := range n {
		user := fmt.Sprintf("%c-user-%02d", 'a'+i%26, i)
		f := w.connect(user, "").want("event")
		if f.Event.ID != fmt.Sprintf("%c-id-%02d", 'A'+i%26, i) || f.Event.Type != fmt.Sprintf("type.%02d", i) ||
			string(f.Event.Data) != fmt.Sprintf(`"%02d-%s"`, i, strings.Repeat("x", i)) {
			t.Errorf("user %s got %s", user, f.Raw)
		}
	}
}
