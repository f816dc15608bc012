package wire

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/go-json-experiment/json"
)

func TestOfficialCloudEvents(t *testing.T) {
	t.Run("mean the same in all three modes", officialModes)
	t.Run("may be percent-encoded as the specification says", officialPercentEncoding)
	t.Run("that the official library refuses are refused", officialRefusals)
}

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
	// Without what is percent-encoded in a URI: in the binary mode the library
	// leaves the % as it is, against the binding (§3.1.3.2), so that no receiver
	// can tell it from an encoding.
	e.SetSource("/clinic?a=b#c")
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

// expectedData is the data of an event as clients here see it: JSON as it is,
// text as a string, all else in base64.
func (o *official) expectedData(e event.Event) []byte {
	switch raw := e.Data(); {
	case o.media == "":
		return nil
	case isJSON(o.media):
		return raw
	case o.media == event.TextPlain:
		return AppendString(nil, string(raw))
	default:
		return AppendString(nil, base64.StdEncoding.EncodeToString(raw))
	}
}

func (o *official) check(t *testing.T, mode string, e Event, data []byte) {
	t.Helper()
	if e.Type != "patient.added" || e.To.User != o.want.To.User || e.To.Group != o.want.To.Group || e.To.All != o.want.To.All ||
		e.To.Users != nil || e.TTL != o.want.TTL || e.Topic != o.want.Topic || !e.Timestamp.Equal(o.time) {
		t.Errorf("%s, %s: %+v", o.name, mode, e)
	}
	if !bytes.Equal(e.Data, data) {
		t.Errorf("%s, %s: data became %s, want %s", o.name, mode, e.Data, data)
	}
}

// received brings a request over the wire, where headers' names have no case.
func received(t *testing.T, req *http.Request, err error) (*http.Request, []byte) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got, body
}

func attributes(h http.Header) func(string) (string, bool) {
	return func(name string) (string, bool) {
		values := h.Values("ce-" + name)
		if len(values) == 0 {
			return "", false
		}
		return values[0], true
	}
}

const endpoint = "http://bridge.example/webhooks/events"

func officialModes(t *testing.T) {
	var events []event.Event
	var ids []string
	for i, o := range officials {
		e := o.build(t, fmt.Sprintf("A-é-%d", i))
		events = append(events, e)
		want := o.expectedData(e)

		req, err := cehttp.NewHTTPRequestFromEvent(binding.WithForceStructured(t.Context()), endpoint, e)
		req, body := received(t, req, err)
		if got := req.Header.Get("Content-Type"); got != CloudEventMediaType {
			t.Fatalf("%s: the structured mode came as %s", o.name, got)
		}
		structured, err := DecodeCloudEvent(body, cloudNow)
		if err != nil {
			t.Fatalf("%s: %v in %s", o.name, err, body)
		}
		o.check(t, "structured", structured.Event, want)
		ids = append(ids, structured.ID)

		req, err = cehttp.NewHTTPRequestFromEvent(binding.WithForceBinary(t.Context()), endpoint, e)
		req, body = received(t, req, err)
		if !IsBinaryCloudEvent(attributes(req.Header)) {
			t.Fatalf("%s: the binary mode was not told by %v", o.name, req.Header)
		}
		binary, err := DecodeBinaryCloudEvent(attributes(req.Header), req.Header.Get("Content-Type"), body, cloudNow)
		if err != nil {
			t.Fatalf("%s: %v in %v", o.name, err, req.Header)
		}
		o.check(t, "binary", binary.Event, want)
		if binary.ID != structured.ID {
			t.Errorf("%s: the id is %s and %s", o.name, structured.ID, binary.ID)
		}
	}

	req, err := cehttp.NewHTTPRequestFromEvents(t.Context(), endpoint, events)
	req, body := received(t, req, err)
	if got := req.Header.Get("Content-Type"); got != CloudEventBatchMediaType {
		t.Fatalf("the batch came as %s", got)
	}
	items, err := DecodeCloudEventBatch(body, cloudNow)
	if err != nil || len(items) != len(events) {
		t.Fatalf("%d items, %v", len(items), err)
	}
	seen := make(map[string]bool)
	for i, it := range items {
		if it.Err != nil || it.ID != ids[i] || seen[it.ID] {
			t.Errorf("item %d: %s, %v; want %s", i, it.ID, it.Err, ids[i])
		}
		seen[it.ID] = true
		officials[i].check(t, "batch", it.Event, officials[i].expectedData(events[i]))
	}
}

// The Go library puts UTF-8 into headers as it is; others follow the binding and encode
// it.
func officialPercentEncoding(t *testing.T) {
	o := &officials[5]
	e := o.build(t, `100%20 "é" 😀`)
	e.SetSource("/clínica?a=b") // the library writes í as %C3%AD
	structured, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want, err := DecodeCloudEvent(structured, cloudNow)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			if c := s[i]; c <= ' ' || c == '"' || c == '%' || c > '~' {
				fmt.Fprintf(&b, "%%%02x", c)
			} else {
				b.WriteByte(c)
			}
		}
		return b.String()
	}
	h := map[string]string{"specversion": "1.0", "id": encode(e.ID()), "source": encode(e.Source()), "type": encode(e.Type()),
		"touser": encode("Ana Gómez"), "time": encode(e.Time().Format(time.RFC3339Nano)), "expirytime": "9999-12-31T23%3A59:59Z"}
	got, err := DecodeBinaryCloudEvent(headers(h), o.media, e.Data(), cloudNow)
	if err != nil {
		t.Fatal(err)
	}
	o.check(t, "percent-encoded", got.Event, e.Data())
	if got.ID != want.ID {
		t.Errorf("the id is %s and %s", want.ID, got.ID)
	}
}

func officialRefusals(t *testing.T) {
	good := officials[0].build(t, "1")
	for _, name := range []string{"specversion", "id", "source", "type"} {
		b, err := good.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, name)
		if b, err = json.Marshal(fields); err != nil {
			t.Fatal(err)
		}
		var theirs event.Event
		if err := theirs.UnmarshalJSON(b); err == nil && theirs.Validate() == nil {
			t.Fatalf("the oracle takes an event without %s", name)
		}
		if e, err := DecodeCloudEvent(b, cloudNow); err == nil {
			t.Errorf("without %s: %+v", name, e)
		}
	}
}
