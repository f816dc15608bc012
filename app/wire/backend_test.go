package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestBackendSend(t *testing.T) {
	t.Run("over HTTP", backendSendOverHTTP)
	t.Run("is a plain message without an address", backendSendPlain)
}

func TestEscalate(t *testing.T) {
	t.Run("is whole seconds, and null is none", func(t *testing.T) {
		for text, want := range map[string]time.Duration{`1`: time.Second, `6e1`: time.Minute, `null`: 0} {
			e, err := DecodeEvent([]byte(`{"type":"a","to":{"user":"u"},"escalate":` + text + `}`))
			if err != nil || e.Escalate != want {
				t.Errorf("%s: %s %v", text, e.Escalate, err)
			}
		}
	})
	t.Run("is refused by its place where it is wrong, also in a batch and in a send", func(t *testing.T) {
		for _, text := range []string{`0`, `-1`, `1.5`, `"60"`, `true`, `31536001`, `{}`} {
			event := `{"type":"a","to":{"user":"u"},"escalate":` + text + `}`
			_, err := DecodeEvent([]byte(event))
			items, whole := DecodeBatch([]byte(`{"events":[` + strings.Replace(event, "{", `{"id":"m",`, 1) + `]}`))
			_, send := DecodeSend(&Send{To: []byte(`{"user":"u"}`), Event: []byte(event)})
			if whole != nil || !about(err, "/escalate") || !about(items[0].Err, "/events/0/escalate") || !about(send, "/event/escalate") {
				t.Errorf("%s: %v; %v %v; %v", text, err, whole, items, send)
			}
		}
		if _, err := DecodeEvent([]byte(`{"type":"a","to":{"user":"u"},"escalate":1,"escalate":2}`)); !about(err, "/escalate is given twice") {
			t.Error(err)
		}
	})
	t.Run("is an extension attribute of a CloudEvent, in both modes, and no later than the event's end", func(t *testing.T) {
		for members, want := range map[string]time.Duration{
			`,"escalate":60`:   time.Minute,
			`,"escalate":"60"`: time.Minute,
			`,"escalate":null`: 0,
			`,"escalate":60,"expirytime":"2026-11-22T20:36:30Z"`: 30 * time.Second,
			`,"escalate":60,"expirytime":"2026-11-22T20:35:00Z"`: 0, // only good as a repeat
		} {
			if e := mustCloud(t, cloudHead+`,"touser":"u"`+members+`}`).Event; e.Escalate != want {
				t.Errorf("%s: %s", members, e.Escalate)
			}
		}
		plain, err := DecodeBinaryCloudEvent(binaryWith(nil), "", nil, cloudNow)
		with, errWith := DecodeBinaryCloudEvent(binaryWith(map[string]string{"escalate": "60"}), "", nil, cloudNow)
		if err != nil || errWith != nil || with.Event.Escalate != time.Minute {
			t.Fatal(err, errWith, with.Event.Escalate)
		}
		if string(plain.Raw) != "1.0\x001\x00/clinic\x00patient.added\x00\x00u\x00\x00\x00\x00\x00" {
			t.Errorf("the digest of an event without it has changed: %q", plain.Raw)
		}
		if string(with.Raw) != string(plain.Raw)+"60\x00" {
			t.Errorf("its digest covers %q", with.Raw)
		}
		for _, text := range []string{"0", "x", "1.5", "-3", ""} {
			_, structured := DecodeCloudEvent([]byte(cloudHead+`,"touser":"u","escalate":"`+text+`"}`), cloudNow)
			_, binary := DecodeBinaryCloudEvent(binaryWith(map[string]string{"escalate": text}), "", nil, cloudNow)
			if !about(structured, "/escalate") || !about(binary, "header ce-escalate") {
				t.Errorf("%q: %v; %v", text, structured, binary)
			}
		}
	})
}

// about tells whether an error is of an event that cannot be taken, about a place.
func about(err error, place string) bool {
	var d *DecodeError
	return errors.As(err, &d) && !d.Syntax && strings.HasPrefix(d.Detail, place)
}

func TestBackendFrame(t *testing.T) {
	t.Run("names the backend, or leaves that to the event's type", func(t *testing.T) {
		for to, want := range map[string]string{`{"backend":true}`: "", `{"backend":"clinic"}`: "clinic", `{"backend":"true","user":null}`: "true"} {
			e, err := DecodeSend(&Send{To: []byte(to), Event: []byte(`{"type":"visit.confirmed","data":{"a":1.0}}`)})
			if err != nil || e.To.Backend == nil || *e.To.Backend != want || string(e.Data) != `{"a":1.0}` {
				t.Errorf("%s: %+v %v", to, e, err)
			}
		}
		for to, place := range map[string]string{
			`{"backend":false}`: "/to/backend", `{"backend":""}`: "/to/backend", `{"backend":7}`: "/to/backend", `{"backend":["x"]}`: "/to/backend",
			`{"backend":true,"user":"u"}`: "/to must have exactly one", `{"backend":null}`: "/to must have exactly one",
		} {
			if _, err := DecodeSend(&Send{To: []byte(to), Event: []byte(`{"type":"a"}`)}); !about(err, place) {
				t.Errorf("%s: %v", to, err)
			}
		}
	})
	t.Run("has no member that means nothing to a backend", func(t *testing.T) {
		for member, place := range map[string]string{`"ttl":0`: "/event/ttl", `"topic":"x"`: "/event/topic", `"escalate":1`: "/event/escalate"} {
			event := []byte(`{"type":"a",` + member + `}`)
			_, send := DecodeSend(&Send{To: []byte(`{"backend":true}`), Event: event})
			_, request := DecodeRequest(&Request{Event: event})
			if !about(send, place) || !about(request, place) {
				t.Errorf("%s: %v; %v", member, send, request)
			}
		}
	})
	t.Run("is refused by the place of what is wrong in it", func(t *testing.T) {
		for event, place := range map[string]string{
			``: "/event is missing", `null`: "/event is missing", `[]`: "/event: the event must be a JSON object", `{}`: "/event/type is missing",
			`{"type":"a b"}`: "/event/type must be", `{"type":"a","data":1,"data":2}`: "/event/data is given twice", `{"type":"a","ttl":-1}`: "/event/ttl must be",
		} {
			_, send := DecodeSend(&Send{To: []byte(`{"backend":true}`), Event: []byte(event)})
			_, request := DecodeRequest(&Request{Event: []byte(event)})
			if !about(send, place) || !about(request, place) {
				t.Errorf("%s: %v; %v", event, send, request)
			}
		}
	})
	t.Run("is refused in a webhook", func(t *testing.T) {
		if _, err := DecodeEvent([]byte(`{"type":"a","to":{"backend":true}}`)); !about(err, "/to must have exactly one of user, users, group, all; it has 0") {
			t.Error(err)
		}
	})
	t.Run("reads as its golden file says", func(t *testing.T) {
		for name, want := range map[string]ClientFrame{
			"client_send_backend": {Type: TypeSend, Ref: "c2", Body: &Send{Ref: "c2", To: []byte(`{"backend":true}`), Event: []byte(`{"type":"visit.confirmed","data":{"visit":7}}`)}},
			"client_request":      {Type: TypeRequest, Ref: "q1", Body: &Request{Ref: "q1", Event: []byte(`{"type":"slots.list","data":{"doctor":"d-7"}}`), TimeoutMs: 5000}},
		} {
			got, err := Parse(golden(t, name))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		if s, err := ParsePlainSend(golden(t, "plain_send_backend")); err != nil || s.ToUserID != "" || string(s.Message) != `"I am here"` {
			t.Errorf("%+v %v", s, err)
		}
	})
	t.Run("is answered as its golden file says, and a response carries the backend's bytes", func(t *testing.T) {
		failed := NewProblem(CodeBackendFailed, "the backend answered 500: it is no 2xx")
		failed.BackendStatus = 500
		for name, f := range map[string]Frame{
			"server_response":             Response{"q1", 200, []byte(`{"slots":["09:30"]}`)}.Frame(),
			"server_result_backend":       Result{Ref: "c2", ID: "msg_9Q", Status: "queued"}.Frame(),
			"server_error_backend_failed": Error{"q1", failed}.Frame(),
		} {
			if string(f.Head) != string(golden(t, name)) {
				t.Errorf("%s:\n got %s\nwant %s", name, f.Head, golden(t, name))
			}
		}
		if f := (Response{"", 204, []byte("\r\n\t [1.0, {\"a\":1,\"a\":2}] \n")}).Frame(); string(f.Head) != `{"type":"response","status":204,"data":[1.0, {"a":1,"a":2}]}` {
			t.Errorf("%s", f.Head)
		}
	})
}

func TestRequest(t *testing.T) {
	t.Run("takes 5 s unless it says otherwise, and 30 s at most", func(t *testing.T) {
		for member, want := range map[string]time.Duration{``: 5 * time.Second, `,"timeoutMs":null`: 5 * time.Second, `,"timeoutMs":1`: time.Millisecond, `,"timeoutMs":3e4`: 30 * time.Second} {
			f, err := Parse([]byte(`{"type":"request","ref":"q","event":{"type":"a"}` + member + `}`))
			if err != nil || f.Body.(*Request).Timeout() != want {
				t.Errorf("%s: %+v %v", member, f, err)
			}
			if _, d, err := ParseRequest([]byte(`{"event":{"type":"a"}` + member + `}`)); err != nil || d != want {
				t.Errorf("over HTTP, %s: %s %v", member, d, err)
			}
		}
		for _, ms := range []string{`0`, `-1`, `30001`, `1.5`, `"5000"`, `[]`} {
			if f, err := Parse([]byte(`{"type":"request","ref":"q","event":{"type":"a"},"timeoutMs":` + ms + `}`)); !errors.Is(err, ErrBadMembers) || f.Ref != "q" {
				t.Errorf("%s: %+v %v", ms, f, err)
			}
			if _, _, err := ParseRequest([]byte(`{"event":{"type":"a"},"timeoutMs":` + ms + `}`)); !about(err, "/timeoutMs") {
				t.Errorf("over HTTP, %s: %v", ms, err)
			}
		}
	})
	t.Run("may name a backend, and no user", func(t *testing.T) {
		e, err := DecodeRequest(&Request{To: []byte(`{"backend":"clinic"}`), Event: []byte(`{"type":"a"}`)})
		if err != nil || *e.To.Backend != "clinic" {
			t.Errorf("%+v %v", e, err)
		}
		for to, place := range map[string]string{`{"user":"u"}`: "/to must be", `{"all":true}`: "/to must be", `7`: "/to must be an object"} {
			if _, err := DecodeRequest(&Request{To: []byte(to), Event: []byte(`{"type":"a"}`)}); !about(err, place) {
				t.Errorf("%s: %v", to, err)
			}
		}
		if _, err := DecodeRequest(&Request{}); !about(err, "/event is missing") {
			t.Error(err)
		}
	})
}

func backendSendOverHTTP(t *testing.T) {
	ref, e, err := ParseSend([]byte(`{"ref":"c1","to":{"backend":true},"event":{"type":"a","data":{"x":1,"x":2}}}`))
	if err != nil || ref != "c1" || e.To.Backend == nil || string(e.Data) != `{"x":1,"x":2}` {
		t.Fatalf("%q %+v %v", ref, e, err)
	}
	for body, place := range map[string]string{
		`{"ref":7,"to":{"backend":true},"event":{"type":"a"}}`: "/ref", `{"event":{"type":"a"}}`: "/to", `{"to":{"backend":true}}`: "/event",
		`{"to":{"backend":true},"event":{"type":"a"},"event":{"type":"b"}}`: "/event is given twice",
	} {
		if _, _, err := ParseSend([]byte(body)); !about(err, place) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func backendSendPlain(t *testing.T) {
	for text, want := range map[string]bool{
		`{"message":"x"}`: true, `{"toUserId":null,"message":{"a":1}}`: true,
		`{"toUserId":"","message":"x"}`: false, `{"toUserId":7,"message":"x"}`: false, `{"token":"t","message":"x"}`: false, `{"toUserId":null}`: false,
	} {
		s, err := ParsePlainSend([]byte(text))
		if (err == nil) != want || s.ToUserID != "" {
			t.Errorf("%s: %+v %v", text, s, err)
		}
	}
}
