package wire

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// official is what the official library builds, and what it means here.
type official struct {
	name       string
	extensions map[string]any
	time       time.Time
	media      string
	data       any
	want       Event
}

var officials = []official{
	{"an object to a user", map[string]any{"touser": "patient-42"}, cloudNow.Add(-time.Minute), event.ApplicationJSON,
		map[string]any{"doctorId": "d-7", "message": "<Dr. Silva> añadió & é 😀"},
		Event{To: Target{User: "patient-42"}, TTL: -1}},
	{"bytes of JSON to a group, with a topic", map[string]any{"togroup": "ward-3", "topic": "care-team"}, cloudNow, event.ApplicationJSON,
		[]byte(`{"b":1.0,"a":[ "\u00e9",1e3 ]}`),
		Event{To: Target{Group: "ward-3"}, Topic: "care-team", TTL: -1}},
	{"nothing to all", map[string]any{"toall": true}, time.Time{}, "", nil,
		Event{To: Target{All: true}, TTL: -1}},
	{"text that expires", map[string]any{"touser": "u", "expirytime": cloudNow.Add(90 * time.Second)}, cloudNow, event.TextPlain,
		"line\nand \"é\"",
		Event{To: Target{User: "u"}, TTL: 90 * time.Second}},
	{"an image, and extensions unknown here", map[string]any{"touser": "u", "traceparent": "00-4bf9", "sequence": 7, "flag": false}, cloudNow, "image/png",
		[]byte{0x89, 'P', 'N', 'G', 0, 0xff},
		Event{To: Target{User: "u"}, TTL: -1}},
	{"JSON of another kind, kept for very long", map[string]any{"touser": "Ana Gómez", "expirytime": "9999-12-31T23:59:59Z"},
		time.Date(2026, 11, 22, 20, 36, 0, 123456789, time.FixedZone("", 3600)), "application/fhir+json", []byte(`[{"resourceType":"Patient"}]`),
		Event{To: Target{User: "Ana Gómez"}, TTL: MaxTTLSeconds * time.Second}},
}

func (o *official) build(t *testing.T, id string) event.Event {
	t.Helper()
	e := event.New()
	e.SetID(id)
	e.SetSource("/clinic/é?a=b#c")
	e.SetType("patient.added")
	if !o.time.IsZero() {
		e.SetTime(o.time)
	}
	for name, value := range o.extensions {
		e.SetExtension(name, value)
	}
	if o.media != "" {
		if err := e.SetData(o.media, o.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	return e
}

// check compares with what was built; data is what the event's data become here.
func (o *official) check(t *testing.T, mode string, got CloudEvent, data []byte) {
	t.Helper()
	e := got.Event
	if e.Type != "patient.added" || e.To.User != o.want.To.User || e.To.Group != o.want.To.Group || e.To.All != o.want.To.All ||
		e.To.Users != nil || e.TTL != o.want.TTL || e.Topic != o.want.Topic || !e.Timestamp.Equal(o.time) {
		t.Errorf("%s, %s: %+v", o.name, mode, e)
	}
	if !bytes.Equal(e.Data, data) {
		t.Errorf("%s, %s: data became %s, want %s", o.name, mode, e.Data, data)
	}
}

// expectedData is the data of an event as clients here see it: JSON as it is,
// text as a string, all else in base64.
func (o *official) expectedData(e event.Event) []byte {
	switch raw := e.Data(); {
	case o.media == "":
		return nil
	case isJSON(o.media):
		return raw
	case o.media == event.TextPlain:
		return appendString(nil, string(raw))
	default:
		text, err := event.New().MarshalJSON() // any event: only the error matters
		_ = text
		_ = err
		return fmt.Appendf(nil, "%q", encodeBase64(raw))
	}
}

// written is the request that the library's HTTP binding makes.
func written(t *testing.T, ctx func(*testing.T) *http.Request) (*http.Request, []byte) {
	t.Helper()
	req := ctx(t)
	if req.Body == nil {
		return req, nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	return req, body
}
