package e2e

import (
	"encoding/base64"
	"encoding/json"
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

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestSender(t *testing.T) {
	t.Parallel()
	t.Run("reaches its types and targets, and no others", senderReach)
	t.Run("beyond its rate is told when to come back, and others are not", senderRate)
	t.Run("has its rate counted in events, in all forms", senderRateOfEvents)
	t.Run("that floods keeps nobody out", senderFlood)
}

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

func senderReach(t *testing.T) {
	t.Parallel()
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

func senderRate(t *testing.T) {
	t.Parallel()
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

func senderRateOfEvents(t *testing.T) {
	heavy(t)
	t.Parallel()
	for _, form := range []string{"batch", "cloud batch"} {
		w := withSenders(t, `,"rate":{"perSecond":1,"burst":5}`)
		lab := w.as(labSecret)
		var items []string
		for i := range 1000 {
			if form == "batch" {
				items = append(items, fmt.Sprintf(`{"id":"i%d","type":"t","to":{"user":"u"}}`, i))
			} else {
				items = append(items, fmt.Sprintf(`{"specversion":"1.0","id":"i%d","source":"/s","type":"t","touser":"u"}`, i))
			}
		}
		media, body := "application/json", `{"events":[`+strings.Join(items, ",")+`]}`
		if form == "cloud batch" {
			media, body = "application/cloudevents-batch+json", "["+strings.Join(items, ",")+"]"
		}
		if a := lab.do(lab.signFor("/webhooks/events/batch", media, "b0", body, time.Now())); a.HTTP != 202 {
			t.Fatalf("%s: %d %s", form, a.HTTP, a.Raw)
		}
		for i := range 4 {
			a := lab.do(lab.signFor("/webhooks/events/batch", media, fmt.Sprintf("b%d", i+1), body, time.Now()))
			if wait := json.Number(a.Header.Get("Retry-After")); a.HTTP != 429 || len(wait) < 3 {
				t.Errorf("%s, once more: %d, %s", form, a.HTTP, wait)
			}
		}
		if a := lab.do(lab.sign("one", `{"type":"t","to":{"user":"u"}}`, time.Now())); a.HTTP != 429 {
			t.Errorf("%s, then one event: %d", form, a.HTTP)
		}
		if a := w.do(w.sign("other", `{"type":"t","to":{"user":"u"}}`, time.Now())); a.HTTP != 202 {
			t.Errorf("another sender: %s", a.Raw)
		}
	}
}

// One sender floods, with more connections than it may have requests under way;
// another one's events are stored and delivered all the same, each in its turn.
func senderFlood(t *testing.T) {
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
