package wire

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFrame(t *testing.T) {
	t.Run("of a client is parsed as its golden file says", frameOfClient)
	t.Run("of the server is written as its golden file says", frameOfServer)
	t.Run("of an event is a head and a tail that sessions share", frameOfEvent)
	t.Run("that is none is refused unlike one with wrong members", frameNotOne)
	t.Run("in plain mode is read and written as its golden file says", framePlain)
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b)
}

func frameOfClient(t *testing.T) {
	const token = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"
	for name, want := range map[string]ClientFrame{
		"client_connect": {Type: TypeConnect, Body: &Connect{Token: token, After: "k3f9a1b2.17.5"}},
		"client_ack":     {Type: TypeAck, Body: &Ack{Cursor: "k3f9a1b2.19.5"}},
		"client_seen":    {Type: TypeSeen, Body: &Seen{ID: "msg_2KWP"}},
		"client_send": {Type: TypeSend, Ref: "c1", Body: &Send{Ref: "c1", To: []byte(`{"user":"patient-42"}`),
			Event: []byte(`{"type":"chat.message","data":{"message":"hello"}}`)}},
		"client_refresh": {Type: TypeRefresh, Body: &Refresh{Token: token}},
		"client_ping":    {Type: TypePing, Body: &Ping{}},
	} {
		got, err := Parse(golden(t, name))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func frameOfServer(t *testing.T) {
	p := NewProblem(CodeForbiddenTarget, "the token's send rights do not cover this target")
	for name, frame := range map[string]Frame{
		"server_connected": Connected{"ses_8H", "patient-42", "k3f9a1b2.17.5", true, 2, 25000,
			Time(time.Date(2026, 11, 22, 21, 36, 0, 0, time.UTC)), 65536}.Frame(),
		"server_result":         Result{Ref: "c1", ID: "msg_3AB", Status: "sent", Sessions: 1}.Frame(),
		"server_error":          Error{"c1", p}.Frame(),
		"server_gap":            Gap{"k3f9a1b2.17.5", "k3f9a1b2.40.5", "expired"}.Frame(),
		"server_recalled":       Recalled{"msg_2KWP"}.Frame(),
		"server_token_expiring": TokenExpiring{60000}.Frame(),
		"server_refreshed":      Refreshed{"2026-11-22T22:36:00Z"}.Frame(),
		"server_reconnect":      Reconnect{4210, "draining"}.Frame(),
		"server_pong":           Pong{}.Frame(),
	} {
		if got := frame.Head; string(got) != string(golden(t, name)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, golden(t, name))
		}
	}
}

func tailOf(from string, event []byte) []byte {
	tail, _ := EventTail(from, event)
	return tail
}

func frameOfEvent(t *testing.T) {
	at := time.Date(2026, 11, 22, 21, 36, 0, 0, time.FixedZone("", 3600))
	event := AppendEventObject(nil, "msg_3AB", "chat.message", at, []byte(`{"message":"hello"}`))
	got := append(AppendEventHead(nil, []byte("k3f9a1b2.19.5"), false), tailOf("doctor-7", event)...)
	if want := golden(t, "server_event"); string(got) != string(want) {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	tail, event := NewEventTail("", "msg_2KWP", "patient.added", at, []byte(`{"doctorId":"d-7","message":"Dr. Silva added you"}`))
	got = append(AppendEventHead(nil, []byte("k3f9a1b2.18.5"), true), tail...)
	if want := golden(t, "server_event_replay"); string(got) != string(want) {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if string(tail) != string(tailOf("", event)) || &event[0] != &tail[len(tail)-1-len(event)] {
		t.Error("the event is not a part of the tail")
	}
}

func frameNotOne(t *testing.T) {
	for in, want := range map[string]error{
		``:                                   ErrNotFrame,
		`hello`:                              ErrNotFrame,
		`[]`:                                 ErrNotFrame,
		`{}`:                                 ErrNotFrame,
		`{"type":7}`:                         ErrNotFrame,
		`{"type":""}`:                        ErrNotFrame,
		`{"Type":"ping"}`:                    ErrNotFrame,
		`{"type":"ping"}x`:                   ErrNotFrame,
		`{"type":"ping","type":"ack"}`:       ErrNotFrame,
		"{\"type\":\"\xff\"}":                ErrNotFrame,
		`{"type":"dance","ref":"r"}`:         ErrUnknownType,
		`{"type":"ack","cursor":7}`:          ErrBadMembers,
		`{"type":"seen","id":[]}`:            ErrBadMembers,
		`{"type":"send","ref":{},"to":1}`:    ErrBadMembers,
		`{"type":"connect","token":true}`:    ErrBadMembers,
		`{"type":"ping","more":{"a":[1,2]}}`: nil,
	} {
		if _, err := Parse([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", in, err, want)
		}
	}
	for in, want := range map[string]string{
		`{"type":"ack","cursor":7}`:                                                       "/cursor must be a string",
		`{"type":"send","ref":{},"to":1}`:                                                 "/ref must be a string",
		`{"type":"request","timeoutMs":0,"event":{"type":"a"}}`:                           "/timeoutMs must be whole milliseconds from 1 to 30000",
		`{"type":"ack","cursor":"a","cursor":"b"}`:                                        "/cursor is given twice",
		`{"type":"ping","canary":1,"canary":2}`:                                           "a member that is not known here is given twice",
		`{"type":"ping","x":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`: "data may have 500 levels",
	} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrBadMembers) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%.60s: %v, want %q", in, err, want)
		}
	}
	if f, _ := Parse([]byte(`{"type":"dance","ref":"r"}`)); f.Ref != "r" {
		t.Error("the ref of an unknown frame is lost")
	}
}

func framePlain(t *testing.T) {
	s, err := ParsePlainSend(golden(t, "plain_send"))
	if err != nil || s.ToUserID != "patient-42" || string(s.Message) != `"hello"` {
		t.Fatalf("%+v, %v", s, err)
	}
	event := AppendEventObject(nil, "msg_1", PlainType, time.Now(), PlainData(s.Message))
	if got, want := PlainMessage("doctor-7", "patient-42", event), golden(t, "plain_message"); string(got) != string(want) {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if token, err := ParsePlainToken(golden(t, "plain_token")); err != nil || !strings.HasPrefix(token, "eyJ") {
		t.Errorf("%q, %v", token, err)
	}
	for data, want := range map[string]string{
		`[1]`: `[1]`, `{"text":"x"}`: `{"text":"x"}`, `{"message":{"a":1}}`: `{"a":1}`, ``: `null`,
	} {
		event := AppendEventObject(nil, "msg_1", "t", time.Now(), []byte(data))
		if got := string(PlainMessage("a", "b", event)); got != `{"fromUserId":"a","toUserId":"b","message":`+want+`}` {
			t.Errorf("data %s: %s", data, got)
		}
	}
}

// BenchmarkParse reads the frame that apps send most.
func BenchmarkParse(b *testing.B) {
	frame := []byte(`{"type":"ack","cursor":"0a1b2c3d.1234.56.k3j2h1"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 15 {
		f.Fatal("golden frames are missing", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if frame, err := Parse(b); err == nil {
			if frame.Type == "" || frame.Body == nil {
				t.Errorf("%q parsed to %+v", b, frame)
			}
			if s, ok := frame.Body.(*Send); ok {
				_, _ = DecodeSend(s) // must not panic
			}
		}
		_, _ = ParsePlainSend(b)
		_, _ = ParsePlainToken(b)
		_ = PlainMessage("a", "b", b)
	})
}
