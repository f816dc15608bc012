package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestJSON(t *testing.T) {
	t.Run("is taken byte for byte by every decoder", jsonTaken)
	t.Run("that is malformed or too deep is refused by every decoder", jsonRefused)
	t.Run("that is too deep in one item costs no other item", jsonTooDeepItem)
	t.Run("with a name twice in the envelope is refused", jsonDuplicateName)
	t.Run("has null for absent, and whole numbers in any notation", jsonNullAndNumbers)
	t.Run("in data goes out as it came", jsonDataUnchanged)
}

// oddData is what RFC 8259 allows and JSON libraries differ about.
var oddData = []string{
	`{"a":1,"a":2}`, `{"message":"x","message":"y"}`, `{"":{"":0,"":1}}`,
	`"caf\ud83d"`, `"\udc00\ud83d"`, `{"\ud83d":"\uDEAD"}`, `{"message":"cut \ud83d"}`, `"\ud83d\ude00"`, `"\u0000\/"`,
	`1e999`, `-0.0E+00`, `123456789012345678901234567890`, `null`, `""`, `"` + "\u2028\u2029\ufeff" + `"`,
	"{ \"a\" :\r\n\t[ 1 ,\n2 ]\r}", "[\n\n]", `[[],{},[{}]]`,
	strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth),
	strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth),
	`"` + strings.Repeat("[{", 5*MaxDepth) + `"`, // brackets in a string are no depth
}

// tooDeep is JSON by its grammar, but not taken.
var tooDeep = []string{
	strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1),
	strings.Repeat("[", 9_998) + strings.Repeat("]", 9_998),
	strings.Repeat(`[`, 30_000) + strings.Repeat("]", 30_000),
}

// noJSON is what the grammar does not know, though some readers take it.
var noJSON = []string{
	``, ` `, `nul`, `NaN`, `-`, `01`, `1.`, `.5`, `+1`, `0x1`, `1e`, `'a'`, `"a`, `"\x"`, `"\u12"`, "\"\n\"", "\"\t\"", `{]`, `[}`,
	`[1,]`, `{"a":1,}`, `{"a"}`, `{a:1}`, `{1:1}`, `[1 2]`, `1 2`, `/**/1`, "\ufeff1", "\"\xff\"", "\"\xed\xa0\xbd\"", "\"\xc0\x80\"", "\v1", `{"a":1}}`,
}

// waysIn are how data comes in; each returns the data as it is kept.
func waysIn(data string) map[string]func() ([]byte, error) {
	batch := func(items []Item, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		if len(items) != 3 || items[0].Err != nil || items[2].Err != nil {
			return nil, fmt.Errorf("the others suffered: %v", items)
		}
		return items[1].Event.Data, items[1].Err
	}
	const cloud = `{"specversion":"1.0","id":"1","source":"/c","type":"t","touser":"u"`
	binary := func(name string) (string, bool) {
		v, ok := map[string]string{"specversion": "1.0", "id": "1", "source": "/c", "type": "t", "touser": "u"}[name]
		return v, ok
	}
	now := time.Now()
	return map[string]func() ([]byte, error){
		"event": func() ([]byte, error) {
			e, err := DecodeEvent([]byte(`{"type":"t","data":` + data + `,"to":{"user":"u"}}`))
			return e.Data, err
		},
		"batch": func() ([]byte, error) {
			return batch(DecodeBatch([]byte(`{"events":[` + goodItem + `,{"id":"msg_b","type":"t","data":` + data + `,"to":{"user":"u"}},` + goodItem + `]}`)))
		},
		"CloudEvent": func() ([]byte, error) {
			e, err := DecodeCloudEvent([]byte(cloud+`,"data":`+data+`}`), now)
			return e.Event.Data, err
		},
		"CloudEvent in base64": func() ([]byte, error) {
			e, err := DecodeCloudEvent([]byte(cloud+`,"datacontenttype":"application/json","data_base64":"`+base64.StdEncoding.EncodeToString([]byte(data))+`"}`), now)
			return e.Event.Data, err
		},
		"CloudEvent in headers": func() ([]byte, error) {
			e, err := DecodeBinaryCloudEvent(binary, "application/json", []byte(data), now)
			return e.Event.Data, err
		},
		"CloudEvents": func() ([]byte, error) {
			return batch(DecodeCloudEventBatch([]byte(`[`+cloud+`},`+cloud+`,"data":`+data+`},`+cloud+`}]`), now))
		},
		"send": func() ([]byte, error) {
			f, err := Parse([]byte(`{"type":"send","to":{"user":"u"},"event":{"type":"t","data":` + data + `}}`))
			if err != nil {
				return nil, err
			}
			e, err := DecodeSend(f.Body.(*Send))
			return e.Data, err
		},
	}
}

func jsonTaken(t *testing.T) {
	for _, data := range oddData {
		for way, in := range waysIn(data) {
			if got, err := in(); err != nil || string(got) != data {
				t.Errorf("%s, %.60s: %.60s, %v", way, data, got, err)
			}
		}
	}
}

func jsonRefused(t *testing.T) {
	for _, data := range append(noJSON, tooDeep...) {
		for way, in := range waysIn(data) {
			if way == "CloudEvent in headers" && data == "" {
				continue // no body is no data
			}
			_, err := in()
			var bad *DecodeError
			if !errors.As(err, &bad) && !errors.Is(err, ErrNotFrame) && !errors.Is(err, ErrBadMembers) || bad != nil && !bad.Syntax && way != "CloudEvent in base64" {
				t.Errorf("%s, %.60q: %v", way, data, err)
			}
		}
	}
}

func jsonTooDeepItem(t *testing.T) {
	for _, data := range tooDeep {
		items := mustBatch(t, `{"events":[`+goodItem+`,{"id":"msg_b","type":"t","to":{"user":"u"},"data":`+data+`},`+goodItem+`]}`)
		if len(items) != 3 || items[0].Err != nil || items[2].Err != nil {
			t.Fatalf("%.60s: %v", data, items)
		}
		if d := refused(t, items[1].Err); !d.Syntax || !strings.HasPrefix(d.Detail, "/events/1: ") || items[1].ID != "msg_b" {
			t.Errorf("%.60s: %q, %+v", data, items[1].ID, d)
		}
	}
}

func jsonDuplicateName(t *testing.T) {
	for _, body := range []string{
		`{"type":"t","to":{"user":"u"},"data":1,"data":1}`,
		`{"type":"t","to":{"user":"u"},"ttl":null,"ttl":5}`,
		`{"type":"t","to":{"user":"u"},"\u0074ype":"t"}`,
		`{"type":"t","to":{"user":"u"},"later":1,"later":2}`,
		`{"type":"t","to":{"user":"u","user":"u"}}`,
		`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"i":1,"type":"t","to":{"user":"u"}}`,
	} {
		_, err := DecodeEvent([]byte(body))
		if d := refused(t, err); d.Syntax || strings.Contains(d.Detail, "later") {
			t.Errorf("%s: %+v", body, d)
		}
	}
	for in, want := range map[string]error{
		`{"type":"ack","cursor":"a","cursor":"b"}`:                ErrBadMembers,
		`{"type":"ping","x":1,"x":2}`:                             ErrBadMembers,
		`{"type":"send","to":1,"to":1,"event":{}}`:                ErrBadMembers,
		`{"type":"ack","type":"ack","cursor":"a"}`:                ErrNotFrame,
		`{"type":"seen","id":"caf\ud83d"}`:                        ErrBadMembers,
		`{"type":"send","ref":"\ud83d","to":{},"event":{}}`:       ErrBadMembers,
		`{"type":"caf\ud83d"}`:                                    ErrUnknownType,
		`{"type":"ping","x":"\ud83d","y":{"a":1,"a":2}}`:          nil,
		`{"type":"connect","token":null,"after":null,"ref":null}`: nil,
		`{"type":"ack","cursor":"c","ref":{}}`:                    nil,
		`{"type":"ping","x":` + tooDeep[2] + `}`:                  ErrBadMembers,
		`{"type":"send","\u0074ype":"x","x":` + tooDeep[2] + `}`:  ErrNotFrame,
		`{"x":` + tooDeep[2] + `}`:                                ErrNotFrame,
		`{"type":"ping","x":` + tooDeep[2] + `]`:                  ErrNotFrame,
		tooDeep[2]:                                                ErrNotFrame,
	} {
		if _, err := Parse([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%.60s: %v, want %v", in, err, want)
		}
	}
	for in, want := range map[string]error{
		`{"toUserId":"u","message":"a","message":"b"}`:    ErrBadMembers,
		`{"toUserId":"u","message":"a","more":` + "\xff}": ErrNotFrame,
		`["toUserId"]`: ErrNotFrame,
		`{"toUserId":"u","message":` + tooDeep[2] + `}`: ErrBadMembers,
		tooDeep[2]: ErrNotFrame,
	} {
		if _, err := ParsePlainSend([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", in, err, want)
		}
	}
}

func jsonNullAndNumbers(t *testing.T) {
	for body, ttl := range map[string]time.Duration{
		`"ttl":null,"topic":null,"timestamp":null,"except":null`: -1,
		`"except":{"sessions":null}`:                             -1,
		`"ttl":60.0`:                                             time.Minute,
		`"ttl":6e1`:                                              time.Minute,
		`"ttl":0.6E+2`:                                           time.Minute,
		`"ttl":600000e-4`:                                        time.Minute,
		`"ttl":-0`:                                               0,
		`"ttl":0e99999999999999999999`:                           0,
		`"ttl":-0.000`:                                           0,
	} {
		e, err := DecodeEvent([]byte(`{"type":"t","to":{"user":"u","users":null,"group":null,"all":null},` + body + `}`))
		if err != nil || e.TTL != ttl || e.To.User != "u" || e.Topic != "" {
			t.Errorf("%s: %+v, %v", body, e, err)
		}
	}
	for _, ttl := range []string{`60.5`, `5e-1`, `1e-400`, `1e400`, `1e99999999999999999999`, `1.5e-9223372036854775808`, `"60"`, `true`, `[60]`, `-60.0`, `31536001`} {
		_, err := DecodeEvent([]byte(`{"type":"t","to":{"user":"u"},"ttl":` + ttl + `}`))
		if d := refused(t, err); !strings.HasPrefix(d.Detail, "/ttl ") {
			t.Errorf("%s: %s", ttl, d.Detail)
		}
	}
	for body, want := range map[string]string{
		`{"type":null,"to":{"user":"u"}}`:     "/type is missing",
		`{"type":"t","to":null}`:              "/to is missing",
		`{"type":"t","to":{"user":null}}`:     "/to must have exactly one",
		`{"type":"t","to":{"user":"\ud83d"}}`: "/to ",
	} {
		_, err := DecodeEvent([]byte(body))
		if d := refused(t, err); !strings.HasPrefix(d.Detail, want) {
			t.Errorf("%s: %s", body, d.Detail)
		}
	}
	f, err := Parse([]byte(`{"type":"send","to":null,"event":{"type":"t","topic":null}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeSend(f.Body.(*Send)); !strings.HasPrefix(refused(t, err).Detail, "/to is missing") {
		t.Error(err)
	}
	ce, err := DecodeCloudEvent([]byte(`{"specversion":"1.0","id":"1","source":"/c","type":"t","touser":"u","togroup":null,"data":1,"data_base64":null}`), time.Now())
	if err != nil || string(ce.Event.Data) != "1" {
		t.Errorf("%+v, %v", ce, err)
	}
}

// spaced is JSON whose line breaks have become spaces.
func spaced(b []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, b)
}

func jsonDataUnchanged(t *testing.T) {
	for _, data := range oddData {
		event := AppendEventObject(nil, "msg_1", "t", time.Unix(0, 0), []byte(data))
		want := data
		if data == `{"message":"x","message":"y"}` {
			want = `"y"` // as in JavaScript
		} else if data == `{"message":"cut \ud83d"}` {
			want = `"cut \ud83d"`
		}
		if got, want := string(PlainMessage("a", "b", event)), `{"fromUserId":"a","toUserId":"b","message":`+want+`}`; got != want {
			t.Errorf("plain: %.80s, want %.80s", got, want)
		}
		m := ExportMessage{Cursor: "c", Expires: "e", Event: event}
		c := ExportCallback{ID: "i", Backend: "b", Body: []byte(`{"data":` + data + `}`)}
		for _, line := range [][]byte{m.Line(), c.Line()} {
			if !bytes.Contains(line, spaced([]byte(data))) || bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
				t.Errorf("export: %.80s", line)
			}
		}
	}
}

// FuzzData compares what each way in takes with the standard library's reading of
// the grammar, and what they keep with what came.
func FuzzData(f *testing.F) {
	for _, data := range append(append(oddData, noJSON...), tooDeep...) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data string) {
		v := skipper{b: []byte(data)}
		valid := json.Valid([]byte(data)) && v.depth() <= MaxDepth && CheckData([]byte(data)) == nil
		if !valid && CheckData([]byte(data)) == nil {
			t.Errorf("%q is taken", data)
		}
		for way, in := range waysIn(data) {
			got, err := in()
			if err != nil {
				if valid {
					t.Errorf("%s refuses %q: %v", way, data, err)
				}
				continue
			}
			if !valid {
				continue // "1,\"x\":2" is no value, but well inside an object
			}
			if strings.Trim(string(got), " \t\r\n") != strings.Trim(data, " \t\r\n") {
				t.Errorf("%s: %q became %q", way, data, got)
			}
		}
	})
}
