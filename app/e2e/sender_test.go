package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func secretOf(text string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(text))
}

var clinicSecret, labSecret = secretOf("clinic-secret-of-more-than-24-bytes"), secretOf("lab-secret-that-has-more-than-24-bytes")

// withSenders starts a program that knows two senders beside the environment's.
func withSenders(t *testing.T, more string, change ...func(*server.Settings)) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "senders.json")
	expect.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `{"senders":[
		{"name":"clinic","secrets":[%q],"types":["patient.*"],"to":["patient-*","group:ward-*"]},
		{"name":"lab","secrets":[%q]%s}]}`, clinicSecret, labSecret, more), 0o600))
	return start(t, append(change, func(s *server.Settings) { s.SecretsFile = path })...)
}

// as signs with another key from here on.
func (w *world) as(secret string) *world {
	w.t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	expect.NoError(w.t, err)
	c := *w
	c.signer, c.stopped = signer, true // the first one stops the program
	return &c
}

func TestASendersKeyReachesItsTypesAndTargetsAndNoOthers(t *testing.T) {
	w := withSenders(t, "")
	clinic := w.as(clinicSecret)
	for body, ok := range map[string]bool{
		`{"type":"patient.added","to":{"user":"patient-1"}}`:                true,
		`{"type":"patient.added","to":{"users":["patient-1","patient-2"]}}`: true,
		`{"type":"patient.added","to":{"group":"ward-3"}}`:                  true,
		`{"type":"lab.result","to":{"user":"patient-1"}}`:                   false,
		`{"type":"patient.added","to":{"user":"doctor-7"}}`:                 false,
		`{"type":"patient.added","to":{"users":["patient-1","doctor-7"]}}`:  false,
		`{"type":"patient.added","to":{"group":"staff"}}`:                   false,
		`{"type":"patient.added","to":{"user":"group:ward-3"}}`:             false,
		`{"type":"patient.added","to":{"all":true}}`:                        false,
	} {
		a := clinic.do(clinic.sign(w.nextID(), body, time.Now()))
		if ok && a.HTTP != 202 || !ok && (a.HTTP != 403 || a.Code != "forbidden_target") {
			t.Errorf("clinic: %s: %d %s", body, a.HTTP, a.Raw)
		}
		for _, free := range []*world{w.as(labSecret), w} {
			if a := free.do(free.sign(w.nextID(), body, time.Now())); a.HTTP != 202 {
				t.Errorf("without a reach: %s: %d %s", body, a.HTTP, a.Raw)
			}
		}
	}
	batch := `{"events":[{"id":"s1","type":"patient.added","to":{"user":"patient-1"}},{"id":"s2","type":"patient.added","to":{"user":"doctor-1"}}]}`
	if a := clinic.do(clinic.signFor("/webhooks/events/batch", "application/json", "b", batch, time.Now())); a.HTTP != 202 ||
		!strings.Contains(a.Raw, `"status":"queued"`) || !strings.Contains(a.Raw, `"forbidden_target"`) {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	if n := w.metric(`hookbridge_webhooks_total{result="accepted",sender="clinic"}`); n != 4 {
		t.Errorf("accepted of clinic: %v", n)
	}
	if n := w.metric(`hookbridge_webhooks_total{result="forbidden_target",sender="clinic"}`); n != 7 {
		t.Errorf("refused to clinic: %v", n)
	}
	if n := w.metric(`hookbridge_webhooks_total{result="accepted",sender="default"}`); n != 9 {
		t.Errorf("accepted of the environment's key: %v", n)
	}
}

func TestASenderBeyondItsRateIsToldWhenToComeBackAndOthersAreNot(t *testing.T) {
	w := withSenders(t, `,"rate":{"perSecond":0.01,"burst":3}`)
	lab := w.as(labSecret)
	for range 3 {
		lab.fireTo("patient-1", 1)
	}
	a := lab.do(lab.sign("one_more", `{"type":"t","to":{"user":"u"}}`, time.Now()))
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if a.HTTP != 429 || a.Code != "rate_limited" || err != nil || wait < 1 || wait > 100 {
		t.Errorf("%d %q %s", a.HTTP, a.Header.Get("Retry-After"), a.Raw)
	}
	w.fireTo("patient-1", 2)
	w.as(clinicSecret).fire(w.nextID(), `{"type":"patient.added","to":{"user":"patient-1"}}`)
}

func TestAnAddressThatConnectsTooOftenIsToldWhenToComeBack(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.ConnectRate = 0.01 }) // a burst of one
	tok := token(t, "patient-1", time.Hour, "")
	w.poll(tok, "?waitMs=0")
	for _, path := range []string{"/v1/poll", "/v1/stream", "/ws"} {
		a := w.callAs(tok, "GET", path, "")
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); a.HTTP != 429 || a.Code != "rate_limited" || err != nil || wait < 1 {
			t.Errorf("%s: %d %q %s", path, a.HTTP, a.Header.Get("Retry-After"), a.Raw)
		}
	}
	w.fireTo("patient-1", 1) // webhooks are no connects
}

func TestTheAddressIsTheOneThatTheProxyInFrontGives(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.ConnectRate, s.ClientIPHeader = 0.01, "X-Forwarded-For" })
	for i, c := range []struct {
		header string
		status int
	}{{"10.0.0.1", 200}, {"10.0.0.1", 429}, {"10.0.0.2", 200}, {"10.0.0.3, 10.0.0.2", 429}, {"", 200}, {"", 429}} {
		req, err := http.NewRequest("GET", w.base+"/v1/poll?waitMs=0", nil)
		expect.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token(t, "patient-1", time.Hour, ""))
		req.Header.Set("X-Forwarded-For", c.header)
		if a := w.do(req); a.HTTP != c.status {
			t.Errorf("%d: %q: %d %s", i, c.header, a.HTTP, a.Raw)
		}
	}
}

// auditLine is one line of the audit log.
type auditLine struct {
	Msg, Log, Sender, User, ID, Type, To, Session, Code, What, Act, Outcome, Status, Transport, Cursor, Of string
	TokenID                                                                                                string `json:"token_id"`
	raw                                                                                                    string
}

func auditLines(t *testing.T, path string) []auditLine {
	t.Helper()
	b, err := os.ReadFile(path)
	expect.NoError(t, err)
	var out []auditLine
	for l := range strings.Lines(string(b)) {
		a := auditLine{raw: l}
		expect.NoError(t, json.Unmarshal([]byte(l), &a))
		out = append(out, a)
	}
	return out
}

func TestTheAuditHasOneLineForEachThingThatHappened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := withSenders(t, "", func(s *server.Settings) { s.Audit = path })
	s := w.connect("patient-1", "")
	clinic := w.as(clinicSecret)
	clinic.fire("msg_a", `{"type":"patient.added","to":{"user":"patient-1"},"data":"payload-canary"}`)
	f := s.want("event")
	s.ack(f.Cursor)
	s.send(map[string]string{"type": "seen", "id": "clinic.msg_a"})
	s.send(map[string]any{"type": "send", "ref": "r", "to": map[string]string{"user": "doctor-7"}, "event": map[string]any{"type": "t"}})
	s.want("error")
	clinic.do(clinic.sign("msg_b", `{"type":"patient.added","to":{"user":"doctor-7"}}`, time.Now()))
	bad := clinic.sign("msg_c", `{}`, time.Now())
	bad.Header.Set("webhook-signature", "v1,AAAA")
	w.do(bad)
	w.callAs(token(t, "patient-1", time.Hour, ""), "GET", "/v1/events/clinic.msg_a", "")
	w.done("DELETE", "/v1/events/clinic.msg_a", "")
	s.want("recalled")
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	w.stop()
	lines := auditLines(t, path)
	count := func(what string, n int, is func(a auditLine) bool) {
		t.Helper()
		got := 0
		for _, a := range lines {
			if is(a) {
				got++
			}
		}
		if got != n {
			t.Errorf("%d lines say that %s, not %d", got, what, n)
		}
	}
	count("a session began", 1, func(a auditLine) bool {
		return a.Msg == "connected" && a.User == "patient-1" && a.Session == s.id && a.TokenID == "jti-patient-1" && a.Transport == "websocket"
	})
	count("an event was accepted", 1, func(a auditLine) bool {
		return a.Msg == "accepted" && a.Sender == "clinic" && a.ID == "clinic.msg_a" && a.Type == "patient.added" && a.To == "patient-1" && a.Status == "sent"
	})
	count("it was delivered", 1, func(a auditLine) bool {
		return a.Msg == "delivered" && a.ID == "clinic.msg_a" && a.Type == "patient.added" && a.User == "patient-1" && a.Session == s.id && a.TokenID == "jti-patient-1"
	})
	count("it was acked", 1, func(a auditLine) bool {
		return a.Msg == "acked" && a.User == "patient-1" && a.Session == s.id && a.Cursor == f.Cursor
	})
	count("it was seen", 1, func(a auditLine) bool { return a.Msg == "seen" && a.ID == "clinic.msg_a" && a.Session == s.id })
	count("a sender was refused", 1, func(a auditLine) bool {
		return a.Msg == "refused" && a.Sender == "clinic" && a.Code == "forbidden_target" && a.ID == "clinic.msg_b"
	})
	count("a signature was refused", 1, func(a auditLine) bool { return a.Msg == "refused" && a.Code == "signature_mismatch" })
	count("a user's send was refused", 1, func(a auditLine) bool {
		return a.Msg == "refused" && a.Code == "forbidden_target" && a.User == "patient-1" && a.Session == s.id
	})
	count("one without the area was refused", 1, func(a auditLine) bool {
		return a.Msg == "refused" && a.Code == "forbidden" && a.User == "patient-1" && a.TokenID == "jti-patient-1"
	})
	count("an operator recalled it", 1, func(a auditLine) bool {
		return a.Msg == "operated" && a.Act == "recall" && a.User == "operator" && a.TokenID == "jti-operator" && a.ID == "clinic.msg_a" && a.Outcome == "done"
	})
	count("the session ended", 1, func(a auditLine) bool { return a.Msg == "ended" && a.Session == s.id })
	for _, a := range lines {
		if a.Log != "audit" || strings.Contains(a.raw, "payload-canary") {
			t.Errorf("%s", a.raw)
		}
	}
}

// One sender floods, with more connections than it may have requests under way;
// another one's events are stored and delivered all the same, each in its turn.
func TestAFloodingSenderDoesNotKeepOthersOut(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := withSenders(t, "")
	lab, clinic := w.as(labSecret), w.as(clinicSecret)
	stop, flood := make(chan struct{}), sync.WaitGroup{}
	flooder := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 400}}
	for i := range 300 {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				res, err := flooder.Do(lab.sign(fmt.Sprintf("flood_%d_%d", i, n), `{"type":"t","to":{"user":"flooded"},"data":"x"}`, time.Now()))
				if err != nil {
					t.Errorf("flood: %v", err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Errorf("flood: %v", err)
				}
				res.Body.Close()
			}
		})
	}
	expect.Eventually(t, "the flood", func() bool { return w.metric(`hookbridge_webhooks_total{result="accepted",sender="lab"}`) > 1000 })
	s := w.connect("patient-1", "")
	for n := range 50 {
		clinic.fire(w.nextID(), fmt.Sprintf(`{"type":"patient.added","to":{"user":"patient-1"},"data":{"n":%d}}`, n))
		if f := s.want("event"); f.n() != n {
			t.Fatalf("%s", f.Raw)
		}
	}
	close(stop)
	flood.Wait()
	flooder.CloseIdleConnections()
}

// A session that reads nothing, over a socket or a stream, holds up nobody: it
// is let go when its queue is full, and what it missed waits for it.
func TestASlowSessionHoldsUpNobodyElse(t *testing.T) {
	heavy(t)
	w := start(t)
	slow := w.connectSlow("slow", "")
	stream := w.stream(token(t, "slow", time.Hour, ""), "", "")
	stream.want("connected")
	quick := w.connect("quick", "")
	blob := strings.Repeat("x", 60_000)
	for n := range 200 {
		a := w.fire(w.nextID(), fmt.Sprintf(`{"type":"t","to":{"users":["slow","quick"]},"data":{"n":%d,"blob":%q}}`, n, blob))
		if *a.Recipients != 2 {
			t.Fatalf("%s", a.Raw)
		}
		if f := quick.want("event"); f.n() != n {
			t.Fatalf("%s", f.Raw)
		}
	}
	// Who reads again within the grace is told 4498; who does not is cut off.
	expect.Eventually(t, "both to be let go", func() bool { return w.metric("hookbridge_queue_overflows_total") == 2 })
	for {
		if _, err := slow.read(); err != nil {
			if ce := (*websocket.CloseError)(nil); errors.As(err, &ce) && ce.Code != 4498 && ce.Code != 1006 {
				t.Errorf("socket: %v", err)
			}
			break
		}
	}
	for {
		e, err := stream.read()
		if err == nil && e.event == "close" && !strings.Contains(e.Raw, "4498") {
			t.Errorf("stream: %s", e.Raw)
		}
		if err != nil || e.event == "close" {
			break
		}
	}
	again := w.connect("slow", slow.hello.Cursor)
	for n := range 200 {
		if f := again.want("event"); f.n() != n {
			t.Fatalf("after %d: %s", n, f.Raw)
		}
	}
}
