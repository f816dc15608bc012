package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func TestEvent(t *testing.T) {
	t.Run("keeps its data byte for byte", eventKeepsData)
	t.Run("with a wrong member is refused by that member's place, without its value", eventWrongMember)
	t.Run("that is not one JSON value is malformed", eventMalformed)
}

func eventKeepsData(t *testing.T) {
	data := `{ "b":1.0, "a":[ "\u00e9", 1e3 ],"b":2 }`
	e, err := DecodeEvent([]byte(`{"type":"patient.added","timestamp":"2026-11-22T20:36:00Z","to":{"user":"patient-42"},
		"ttl":86400,"topic":"care-team","except":{"sessions":["ses_1"]},"extra":{"x":1},"data":` + data + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Type != "patient.added" || e.To.User != "patient-42" || e.TTL != 24*time.Hour || e.Topic != "care-team" ||
		len(e.Except) != 1 || !e.Timestamp.Equal(time.Date(2026, 11, 22, 20, 36, 0, 0, time.UTC)) {
		t.Errorf("%+v", e)
	}
	if string(e.Data) != data {
		t.Errorf("data became %s", e.Data)
	}
}

func eventWrongMember(t *testing.T) {
	const canary = "canary-7391"
	for body, want := range map[string]string{
		`{"to":{"user":"u"}}`:                                           "/type",
		`{"type":"a b","to":{"user":"u"}}`:                              "/type",
		`{"type":"` + strings.Repeat("a", 129) + `","to":{"user":"u"}}`: "/type",
		`{"type":7,"to":{"user":"u"}}`:                                  "/type",
		`{"type":"a"}`:                                                  "/to",
		`{"type":"a","to":"` + canary + `"}`:                            "/to",
		`{"type":"a","to":{}}`:                                          "/to",
		`{"type":"a","to":{"user":"u","all":true}}`:                     "/to",
		`{"type":"a","to":{"user":["` + canary + `"]}}`:                 "/to/user",
		`{"type":"a","to":{"users":"` + canary + `"}}`:                  "/to/users",
		`{"type":"a","to":{"users":["a",7]}}`:                           "/to/users",
		`{"type":"a","to":{"all":false}}`:                               "/to/all",
		`{"type":"a","to":{"all":"` + canary + `"}}`:                    "/to/all",
		`{"type":"a","to":{"user":"u"},"ttl":-1}`:                       "/ttl",
		`{"type":"a","to":{"user":"u"},"ttl":"60"}`:                     "/ttl",
		`{"type":"a","to":{"user":"u"},"ttl":1.5}`:                      "/ttl",
		`{"type":"a","to":{"user":"u"},"ttl":99999999999}`:              "/ttl",
		`{"type":"a","to":{"user":"u"},"timestamp":"` + canary + `"}`:   "/timestamp",
		`{"type":"a","to":{"user":"u"},"timestamp":7}`:                  "/timestamp",
		`{"type":"a","to":{"user":"u"},"topic":""}`:                     "/topic",
		`{"type":"a","to":{"user":"u"},"except":["` + canary + `"]}`:    "/except",
		`{"type":"a","to":{"user":"u"},"to":{"user":"` + canary + `"}}`: "/to is given twice",
		`{"type":"a","to":{"user":"u"},"type":"b"}`:                     "/type is given twice",
		`{"type":"a","to":{"user":"u","user":"` + canary + `"}}`:        "/to",
		`["` + canary + `"]`:                                            "JSON object",
	} {
		_, err := DecodeEvent([]byte(body))
		var d *DecodeError
		if !errors.As(err, &d) || d.Syntax || !strings.Contains(d.Detail, want) || strings.Contains(d.Detail, canary) {
			t.Errorf("%s: %v, want one about %s", body, err, want)
		}
	}
}

func eventMalformed(t *testing.T) {
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for _, body := range []string{
		``, ` `, `{`, `{"type":"a"`, `{"type":"a",}`, `{"type":"a","to":{"user":"u"}} {}`, `{"type":"a","to":{"user":"u"}}x`,
		"{\"type\":\"a\",\"to\":{\"user\":\"\xff\"}}", `{"type":"a","data":` + deep + `}`, `nul`, "\ufeff{}", `{"type":"a","data":{]}}`,
	} {
		_, err := DecodeEvent([]byte(body))
		var d *DecodeError
		if !errors.As(err, &d) || !d.Syntax {
			t.Errorf("%.60q: %v", body, err)
		}
	}
}

// What is read without a decoder is what the decoder would have read.
func FuzzShortcuts(f *testing.F) {
	for _, v := range []string{`"patient-42"`, `"caf\u00e9"`, `"café"`, `"a\"b"`, `"half \ud800"`, `""`, `null`, `{"user":"u"}`, ` {"user" : "u" } `,
		`{"user":"u","user":"v"}`, `{"user":""}`, `{"user":null}`, `{"user":"u","x":{"a":1,"a":2}}`, `{"us\u0065r":"u"}`, `{"user":["u"]}`, `{}`} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if CheckData(v) != nil {
			return
		}
		v = bytes.Trim(v, " \t\r\n")
		var slowly string
		if s, ok := plainString(v); ok && (json.Unmarshal(v, &slowly) != nil || s != slowly) {
			t.Errorf("%q is read as %q, and not as %q", v, s, slowly)
		}
		user, ok := onlyUser(v)
		if to, err := decodeAnyTarget(v, true); ok && (err != nil || !reflect.DeepEqual(to, Target{User: user})) {
			t.Errorf("%q is read as to %q, and not as %+v, %v", v, user, to, err)
		}
	})
}

// BenchmarkDecodeEvent reads an event of common size.
func BenchmarkDecodeEvent(b *testing.B) {
	body := []byte(`{"type":"patient.added","timestamp":"2026-11-22T20:36:00Z","to":{"user":"patient-42"},"data":{"patientId":"p-123","name":"Ada \"Countess\" Lovelace","note":"` +
		strings.Repeat("a note of some length, ", 10) + `","visits":[1,2,3,{"at":"2026-11-22"}]}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEvent(body); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(`{"type":"patient.added","to":{"user":"u"},"ttl":60,"data":{"a":1}}`))
	f.Add([]byte(`{"type":"a","to":{"users":["a","b"]},"except":{"sessions":["s"]},"timestamp":"2026-11-22T20:36:00Z"}`))
	f.Add([]byte(`{"to":{"all":true},"type":"x","data":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEvent(b)
		if err != nil {
			return
		}
		if !validType(e.Type) || !bytes.Contains(b, e.Data) {
			t.Errorf("%q decoded to %+v", b, e)
		}
		frame := append(AppendEventHead(nil, []byte("t.1.1"), true), tailOf("someone", AppendEventObject(nil, "id", e.Type, time.Unix(0, 0), e.Data))...)
		if !jsontext.Value(frame).IsValid(jsontext.AllowDuplicateNames(true)) {
			t.Errorf("%q made the frame %q", b, frame)
		}
	})
}
