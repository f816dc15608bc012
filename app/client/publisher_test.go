package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"hookbridge/app/client/clienttest"
	"hookbridge/app/expect"
	"hookbridge/app/wire"
	"hookbridge/auth/authtest"
)

func TestPublisher(t *testing.T) {
	t.Run("tries again with the same id where the bridge is busy or gone", publisherRetries)
	t.Run("gives up", publisherGivesUp)
	t.Run("ends with its context", publisherEnds)
	t.Run("tells what the bridge said", publisherTells)
	t.Run("sends what it is told", publisherSends)
	t.Run("sends an event's escalation", publisherEscalates)
	t.Run("sends a batch that", publisherBatch)
	t.Run("has options that are checked", publisherOptions)
}

func TestRetryAfter(t *testing.T) {
	t.Run("is seconds or a date", retryAfterParses)
}

var (
	answers = clienttest.Answers
	problem = clienttest.Problem
)

// testPublisher does not wait, and notes how long it would have.
func testPublisher(t *testing.T, o PublisherOptions) (*Publisher, *[]time.Duration) {
	t.Helper()
	p, err := NewPublisher(o)
	expect.NoError(t, err)
	var waits []time.Duration
	p.sleep = func(ctx context.Context, d time.Duration) error {
		waits = append(waits, d)
		return ctx.Err()
	}
	p.jitter = func(most time.Duration) time.Duration { return most / 2 }
	return p, &waits
}

// visit is an event, and visitBody how it is sent.
var visit = PublishRequest{ID: "msg_1", Type: "visit.moved", To: Target{User: "a"}, Data: json.RawMessage(`{"a": "<1>"}`)}

const visitBody = `{"type":"visit.moved","to":{"user":"a"},"data":{"a": "<1>"}}`

func publisherRetries(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}
	const reply = `{"id":"clinic.msg_1","status":"sent","sessions":2,"duplicate":true,"expires":"2026-11-23T20:36:00Z","recipients":3,"online":1}`
	r := clienttest.NewReceiver(t, secret,
		answers(503, problem(wire.CodeDraining), "Retry-After", "3"), answers(429, "", "Retry-After", "7"), hangUp,
		answers(500, "<html>"), answers(202, reply+"\n"))
	var said []string
	p, waits := testPublisher(t, PublisherOptions{URL: r.URL, Secret: secret,
		OnRetry: func(err error, in time.Duration) { said = append(said, fmt.Sprintf("%v in %s", err, in)) }})
	result, err := p.Publish(t.Context(), visit)
	want := PublishResult{ID: "clinic.msg_1", Status: StatusSent, Sessions: 2, Recipients: 3, Online: 1, Duplicate: true,
		Expires: time.Date(2026, 11, 23, 20, 36, 0, 0, time.UTC), Raw: []byte(reply)}
	if err != nil || !reflect.DeepEqual(result, want) {
		t.Fatalf("%+v, %v", result, err)
	}
	if got := fmt.Sprint(*waits); got != "[3s 7s 2.5s 4.5s]" {
		t.Errorf("waited %s", got)
	}
	for i, w := range r.Taken() {
		if w.Refused != nil || w.ID != "msg_1" || w.Body != visitBody || w.URI != "/webhooks/events" {
			t.Errorf("try %d: %+v", i+1, w)
		}
	}
	if n := len(r.Taken()); n != 5 {
		t.Errorf("%d tries", n)
	}
	for _, want := range []string{"503 draining", "mend this", "cannot be reached", "not the bridge's", "in 3s"} {
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("%q is not said in:\n%s", want, said)
		}
	}
}

func publisherGivesUp(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		tries  int
		want   string
	}{
		"after six tries":              {answers(503, problem(wire.CodeUnavailable)), 6, "given up after 6 tries"},
		"at once where told to wait":   {answers(503, problem(wire.CodeUnavailable), "Retry-After", "3600"), 1, "given up after 1 tries"},
		"when the waits add up":        {answers(429, problem(wire.CodeRateLimited), "Retry-After", "50"), 3, "given up after 3 tries"},
		"at once where it is refused":  {answers(422, problem(wire.CodeInvalidEvent)), 1, "422 invalid_event: The event is not valid: mend this"},
		"at once where it is another":  {answers(409, problem(wire.CodeIDConflict)), 1, "409 id_conflict"},
		"at once where nothing speaks": {answers(404, "not here"), 1, "not the bridge's"},
		"at once where it is led away": {answers(307, "", "Location", "/elsewhere"), 1, "307"},
		"at once where it is stored":   {answers(202, "hello"), 1, "its reply cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			r := clienttest.NewReceiver(t, secret, c.answer)
			p, _ := testPublisher(t, PublisherOptions{URL: r.URL, Secret: secret})
			_, err := p.Publish(t.Context(), visit)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := len(r.Taken()); n != c.tries {
				t.Errorf("%d tries, want %d", n, c.tries)
			}
		})
	}
}

func publisherEnds(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	r := clienttest.NewReceiver(t, secret, answers(503, ""))
	ctx, cancel := context.WithCancel(t.Context())
	p, _ := testPublisher(t, PublisherOptions{URL: r.URL, Secret: secret})
	p.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, err := p.Publish(ctx, visit); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func publisherTells(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	r := clienttest.NewReceiver(t, secret, answers(503, `{"code":"unavailable","title":"a\u001b[2Jb"}`, "Retry-After", "3600"))
	p, _ := testPublisher(t, PublisherOptions{URL: r.URL, Secret: secret})
	_, err := p.Publish(t.Context(), visit)
	var refused *ProblemError
	if !errors.As(err, &refused) || refused.Status != 503 || refused.Problem.Code != wire.CodeUnavailable || refused.RetryAfter != time.Hour {
		t.Errorf("got %#v", refused)
	}
	if strings.Contains(err.Error(), "\x1b") {
		t.Errorf("said %q", err.Error())
	}
}

func publisherSends(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	seconds := func(n time.Duration) *time.Duration { n *= time.Second; return &n }
	at := time.Date(2026, 11, 22, 20, 36, 0, 0, time.FixedZone("", 3600))
	for name, c := range map[string]struct {
		r         PublishRequest
		body, uri string // an error where uri is empty
	}{
		"to one":     {PublishRequest{Type: "t", To: Target{User: "a,b"}}, `{"type":"t","to":{"user":"a,b"}}`, "/webhooks/events"},
		"to some":    {PublishRequest{Type: "t", To: Target{Users: []string{"a", "<b>"}}, TTL: seconds(60)}, `{"type":"t","to":{"users":["a","<b>"]},"ttl":60}`, "/webhooks/events"},
		"to a group": {PublishRequest{Type: "t", To: Target{Group: "g"}, TTL: seconds(0)}, `{"type":"t","to":{"group":"g"},"ttl":0}`, "/webhooks/events"},
		"to all": {PublishRequest{Type: "t", To: Target{All: true}, Topic: "x", Except: []string{"ses_1"}, Timestamp: at, Data: json.RawMessage(" 1.0\n")},
			`{"type":"t","timestamp":"2026-11-22T19:36:00Z","to":{"all":true},"topic":"x","except":{"sessions":["ses_1"]},"data":1.0}`, "/webhooks/events"},
		"and waits":      {PublishRequest{Type: "t", To: Target{User: "a"}, WaitFor: StatusAcked}, `{"type":"t","to":{"user":"a"}}`, "/webhooks/events?wait=acked"},
		"and waits less": {PublishRequest{Type: "t", To: Target{User: "a"}, WaitFor: StatusReceived, WaitAtMost: seconds(10)}, `{"type":"t","to":{"user":"a"}}`, "/webhooks/events?timeout=10s&wait=received"},

		"nobody":           {PublishRequest{Type: "t"}, "exactly one of", ""},
		"two kinds":        {PublishRequest{Type: "t", To: Target{User: "a", All: true}}, "exactly one of", ""},
		"no UTF-8":         {PublishRequest{Type: "t", To: Target{User: "\xff"}}, "UTF-8", ""},
		"a bad id":         {PublishRequest{ID: "a b", Type: "t", To: Target{User: "a"}}, "webhook-id", ""},
		"half a second":    {PublishRequest{Type: "t", To: Target{User: "a"}, TTL: new(time.Duration(1))}, "whole seconds", ""},
		"members in data":  {PublishRequest{Type: "t", To: Target{User: "a"}, Data: json.RawMessage(`1,"topic":"x"`)}, "Data cannot be sent", ""},
		"waits for ever":   {PublishRequest{Type: "t", To: Target{User: "a"}, WaitFor: StatusAcked, WaitAtMost: seconds(31)}, "at most 30s", ""},
		"waits for nobody": {PublishRequest{Type: "t", To: Target{User: "a"}, WaitAtMost: seconds(1)}, "needs WaitFor", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := clienttest.NewReceiver(t, secret, answers(202, `{"status":"queued"}`))
			p, _ := testPublisher(t, PublisherOptions{URL: r.URL + "/webhooks/events", Secret: secret})
			_, err := p.Publish(t.Context(), c.r)
			taken := r.Taken()
			if c.uri == "" {
				if err == nil || !strings.Contains(err.Error(), c.body) || len(taken) > 0 {
					t.Errorf("got %v, sent %v", err, taken)
				}
				return
			}
			if err != nil || len(taken) != 1 || taken[0].Refused != nil || taken[0].Body != c.body || taken[0].URI != c.uri || !strings.HasPrefix(taken[0].ID, "msg_") {
				t.Errorf("got %v, sent %+v", err, taken)
			}
		})
	}
}

func publisherEscalates(t *testing.T) {
	r := PublishRequest{Type: "visit.due", To: Target{User: "a"}, Escalate: 2 * time.Minute}
	if b, err := r.encode(""); err != nil || !strings.Contains(string(b), `"escalate":120`) {
		t.Errorf("%s %v", b, err)
	}
	for _, d := range []time.Duration{-time.Second, 1500 * time.Millisecond} {
		r.Escalate = d
		if _, err := r.encode(""); err == nil {
			t.Errorf("%s is taken", d)
		}
	}
}

func publisherBatch(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	t.Run("has a result for each event", func(t *testing.T) {
		r := clienttest.NewReceiver(t, secret, answers(503, ""),
			answers(202, `{"results":[{"id":"msg_1","status":"acked"},{"id":"msg_2","problem":{"status":422,"code":"invalid_event"}}]}`))
		p, _ := testPublisher(t, PublisherOptions{URL: r.URL, Secret: secret})
		other := visit
		other.ID = "msg_2"
		results, err := p.PublishBatch(t.Context(), []PublishRequest{visit, other})
		if err != nil || len(results) != 2 || results[0].ID != "msg_1" || results[0].Status != StatusAcked || results[0].Problem != nil ||
			results[1].ID != "msg_2" || results[1].Problem == nil || results[1].Problem.Code != wire.CodeInvalidEvent {
			t.Fatalf("%+v, %v", results, err)
		}
		taken := r.Taken()
		want := `{"events":[{"id":"msg_1",` + visitBody[1:] + `,{"id":"msg_2",` + visitBody[1:] + `]}`
		if len(taken) != 2 || taken[0] != taken[1] || taken[0].Refused != nil || taken[0].Body != want || taken[0].URI != "/webhooks/events/batch" {
			t.Errorf("sent %+v", taken)
		}
	})
	for name, c := range map[string]struct {
		r           PublishRequest
		reply, want string
	}{
		"waits for nobody":        {PublishRequest{Type: "t", To: Target{User: "a"}, WaitFor: StatusAcked}, "{}", "cannot wait"},
		"names the event":         {PublishRequest{Type: "t"}, "{}", "event 0: the event must be to"},
		"needs all results":       {visit, `{"results":[]}`, "0 results for 1 events"},
		"needs results":           {visit, `hello`, "cannot be read"},
		"needs results of a kind": {visit, `{"results":[1]}`, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			r := clienttest.NewReceiver(t, secret, answers(202, c.reply))
			p, _ := testPublisher(t, PublisherOptions{URL: r.URL, Secret: secret})
			if _, err := p.PublishBatch(t.Context(), []PublishRequest{c.r}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func publisherOptions(t *testing.T) {
	secret := authtest.NewWebhookSecret()
	_, public := authtest.NewWebhookKeyPair()
	for name, o := range map[string]PublisherOptions{
		"no secret": {URL: "http://b"}, "a public key": {URL: "http://b", Secret: public}, "no URL": {Secret: secret},
		"a URL of another": {URL: "bridge:8080", Secret: secret},
	} {
		if _, err := NewPublisher(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func retryAfterParses(t *testing.T) {
	now := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "soon": 0, "Sun, 22 Nov 2026 20:01:00 GMT": time.Minute,
		"Sun, 22 Nov 2026 19:00:00 GMT": 0, "99999999999999999999": 0, "2000000000": (1 << 20) * time.Second,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
