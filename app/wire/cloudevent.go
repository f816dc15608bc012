package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Media types of CloudEvents 1.0 (https://github.com/cloudevents/spec, v1.0.2).
const (
	CloudEventMediaType      = "application/cloudevents+json"
	CloudEventBatchMediaType = "application/cloudevents-batch+json"
)

// cloud collects the attributes of a CloudEvent, in either mode.
type cloud struct {
	now         time.Time
	place       func(name string) string // how an error names an attribute
	id, source  string
	version     string
	contentType string
	targets     int
	ends        bool // there is an expirytime
	event       Event
}

func newCloud(now time.Time, place func(string) string) *cloud {
	return &cloud{now: now, place: place, event: Event{TTL: -1}}
}

// attribute takes one attribute; names it does not know are ignored.
func (c *cloud) attribute(name, value string) error {
	switch name {
	case "specversion":
		c.version = value
	case "id":
		c.id = value
	case "source":
		c.source = value
	case "type":
		if c.event.Type = value; !validType(value) {
			return badMember(c.place(name), "must be 1 to 128 characters A-Z a-z 0-9 _ . -")
		}
	case "time":
		t, err := parseTime(value)
		if err != nil {
			return badMember(c.place(name), "must be an RFC 3339 time, like 2026-11-22T20:36:00Z")
		}
		c.event.Timestamp = t
	case "datacontenttype":
		c.contentType = value
	case "touser":
		c.targets++
		c.event.To.User = value
		if value == "" {
			return badMember(c.place(name), "is empty")
		}
	case "togroup":
		c.targets++
		c.event.To.Group = value
		if value == "" {
			return badMember(c.place(name), "is empty")
		}
	case "toall":
		c.targets++
		c.event.To.All = true
		if value != "true" {
			return badMember(c.place(name), "must be true")
		}
	case "topic":
		c.event.Topic = value
		if value == "" || utf8.RuneCountInString(value) > MaxTopicChars {
			return badMember(c.place(name), "must be a string of 1 to 128 characters")
		}
	case "escalate":
		n, ok := parseWhole([]byte(value))
		if !ok || n < 1 || n > MaxTTLSeconds {
			return badMember(c.place(name), "must be whole seconds from 1 to the event's end")
		}
		c.event.Escalate = time.Duration(n) * time.Second
	case "expirytime":
		c.ends = true
		t, err := parseTime(value)
		if err != nil {
			return badMember(c.place(name), "must be an RFC 3339 time, like 2026-11-23T20:36:00Z")
		}
		// Bounded before rounding up, since Sub saturates for a time far away.
		left := min(t.Sub(c.now), MaxTTLSeconds*time.Second)
		if left <= 0 {
			c.event.Past, left = c.place(name), 0
		}
		c.event.TTL = (left + time.Second - 1) / time.Second * time.Second
	}
	return nil
}

// finish checks that all required attributes are there, and makes the item's id of source
// and id, which together identify a CloudEvent.
func (c *cloud) finish(raw []byte) (Item, error) {
	switch {
	case c.version == "":
		return Item{}, badMember(c.place("specversion"), `is missing: "1.0"`)
	case c.version != "1.0":
		return Item{}, badMember(c.place("specversion"), `must be "1.0"`)
	case c.id == "":
		return Item{}, badMember(c.place("id"), "is missing or empty")
	case c.source == "":
		return Item{}, badMember(c.place("source"), "is missing or empty")
	case c.event.Type == "":
		return Item{}, badMember(c.place("type"), "is missing: name the kind of event, like patient.added")
	case c.targets != 1:
		return Item{}, badMember(c.place("touser"), fmt.Sprintf("or togroup or toall: exactly one extension attribute must say whom it is for; there are %d", c.targets))
	}
	if c.ends { // how long it has left depends on when it comes, and a repeat has less than the first had
		c.event.Escalate = min(c.event.Escalate, c.event.TTL)
	}
	sum := sha256.Sum256([]byte(c.source + "\x00" + c.id))
	id := "ce_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
	return Item{ID: id, Raw: raw, Event: c.event}, nil
}

// isJSON reports whether a content type is JSON. CloudEvents data without one is JSON.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"))
}

// DecodeCloudEvent reads the structured mode. Its error is a *DecodeError.
func DecodeCloudEvent(body []byte, now time.Time) (Item, error) {
	c := newCloud(now, structuredPlace)
	var data, data64 jsontext.Value
	err := readEnvelope(body, MaxDepth+aroundData, structuredPlace, func(name string, v jsontext.Value) error {
		switch name {
		case "data":
			data = v.Clone()
		case "data_base64":
			if !absent(v) {
				data64 = v.Clone()
			}
		default:
			return c.member(name, v)
		}
		return nil
	})
	if err != nil {
		return Item{}, err
	}
	if err := c.structuredData(data, data64); err != nil {
		return Item{}, err
	}
	return c.finish(body)
}

// member takes an attribute from JSON: a string, a number or a boolean. Null means that
// it is absent (CloudEvents JSON format §2.2).
func (c *cloud) member(name string, value jsontext.Value) error {
	switch value.Kind() {
	case '"':
		var s string
		if err := json.Unmarshal(value, &s); err != nil {
			return badMember(c.place(name), "is not a string in UTF-8")
		}
		return c.attribute(name, s)
	case 't', 'f', '0':
		return c.attribute(name, string(value))
	case 'n':
		return nil
	}
	return badMember(c.place(name), "must be a string, a number or a boolean")
}

// structuredPlace names a member in errors. An unknown name is the sender's own text,
// which errors do not repeat.
func structuredPlace(name string) string {
	switch name {
	case "data", "data_base64", "datacontenttype":
		return "/" + name
	}
	if name == escalateAttribute || slices.Contains(binaryAttributes, name) {
		return "/" + name
	}
	return "an extension attribute"
}

func (c *cloud) structuredData(data, data64 jsontext.Value) error {
	switch {
	case data64 != nil && data != nil && !absent(data):
		return badMember("/data_base64", "cannot stand beside data")
	case data64 == nil:
		c.event.Data = data
	default:
		var text string
		if data64.Kind() != '"' || json.Unmarshal(data64, &text) != nil {
			return badMember("/data_base64", "must be a string")
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return badMember("/data_base64", "must be base64")
		}
		if !isJSON(c.contentType) || c.contentType == "" {
			c.event.Data = data64
			return nil
		}
		if err := CheckData(raw); err != nil {
			return badMember("/data_base64", "is not the JSON that datacontenttype says it is, or nested too deeply")
		}
		c.event.Data = raw
	}
	return nil
}

// DecodeCloudEventBatch reads the batched mode, a JSON array, which may be empty.
func DecodeCloudEventBatch(body []byte, now time.Time) ([]Item, error) {
	if skip := (skipper{b: body}); skip.peek() != '[' {
		return nil, &DecodeError{Syntax: true, Detail: "the body is not one JSON array of CloudEvents"}
	}
	items, err := split(body, "the batch")
	if err != nil {
		return nil, err
	}
	for i := range items {
		item, err := DecodeCloudEvent(items[i].Raw, now)
		items[i] = Item{ID: item.ID, Raw: items[i].Raw, Event: item.Event, Err: err}
		items[i].Err = within(fmt.Sprintf("/%d", i), items[i].Err)
	}
	return whollyJSON(items)
}

// binaryAttributes are the attributes that the binary mode reads from headers. Stores keep
// digests over them in this order, so that it must not change.
var binaryAttributes = []string{"specversion", "id", "source", "type", "time", "touser", "togroup", "toall", "topic", "expirytime"}

// escalateAttribute came later: it is part of the digest only where an event has it.
const escalateAttribute = "escalate"

// IsBinaryCloudEvent recognises the binary mode by its ce-specversion header.
func IsBinaryCloudEvent(attribute func(name string) (string, bool)) bool {
	_, ok := attribute("specversion")
	return ok
}

// DecodeBinaryCloudEvent reads the binary mode. attribute returns the value of a ce-
// header, percent-encoded as it came (HTTP binding §3.1.3.2); the body is the data. The
// item's Raw begins with the attributes, so that its digest covers them: the signature
// covers the body alone.
func DecodeBinaryCloudEvent(attribute func(name string) (string, bool), contentType string, body []byte, now time.Time) (Item, error) {
	c := newCloud(now, func(name string) string { return "header ce-" + name })
	raw := make([]byte, 0, len(body)+256)
	take := func(name, value string) error {
		value, err := url.PathUnescape(unquote(value))
		if err != nil || !utf8.ValidString(value) {
			return badMember(c.place(name), "is not percent-encoded UTF-8")
		}
		return c.attribute(name, value)
	}
	for _, name := range binaryAttributes {
		value, ok := attribute(name)
		raw = append(append(raw, value...), 0)
		if !ok {
			continue
		}
		if err := take(name, value); err != nil {
			return Item{}, err
		}
	}
	if value, ok := attribute(escalateAttribute); ok {
		raw = append(append(raw, value...), 0)
		if err := take(escalateAttribute, value); err != nil {
			return Item{}, err
		}
	}
	switch {
	case len(body) == 0:
	case isJSON(contentType):
		if err := CheckData(body); err != nil {
			return Item{}, err
		}
		c.event.Data = bytes.Clone(body)
	case strings.HasPrefix(strings.ToLower(contentType), "text/") && utf8.Valid(body):
		c.event.Data = AppendString(nil, string(body))
	default:
		c.event.Data = AppendString(nil, base64.StdEncoding.EncodeToString(body))
	}
	return c.finish(append(raw, body...))
}

// unquote removes the double quotes around a whole header value, which older versions of
// the HTTP binding asked for.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out = append(out, s[i])
	}
	return string(out)
}
