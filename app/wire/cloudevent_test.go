package wire

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestCloudEvent(t *testing.T) {
	t.Run("is identified by source and id together", cloudIdentity)
	t.Run("with a wrong attribute is refused by that name, without its value", cloudWrongAttribute)
	t.Run("may have unknown extensions", cloudExtensions)
	t.Run("expires after whole seconds from its arrival, and a year at most", cloudExpiry)
	t.Run("that has expired already says so", cloudExpired)
	t.Run("keeps its data as its content type says", cloudData)
	t.Run("in binary mode keeps its body as its content type says", binaryBody)
	t.Run("in binary mode has its headers unquoted and percent-decoded once", binaryHeaders)
	t.Run("in binary mode is refused by the name of a missing or wrong header", binaryWrongHeader)
	t.Run("in a batch keeps its order, and is taken beside bad ones", cloudBatch)
}

var cloudNow = time.Date(2026, 11, 22, 20, 36, 0, 0, time.UTC)

// cloudHead is a CloudEvent without its end.
const cloudHead = `{"specversion":"1.0","id":"1","source":"/clinic","type":"patient.added"`

var cloudID = regexp.MustCompile(`^ce_[a-z2-7]{32}$`)

func mustCloud(t *testing.T, body string) Item {
	t.Helper()
	e, err := DecodeCloudEvent([]byte(body), cloudNow)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return e
}

func headers(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := pairs[name]
		return v, ok
	}
}

// binaryWith is a good event in the binary mode, with some headers set anew.
func binaryWith(change map[string]string) func(string) (string, bool) {
	h := map[string]string{"specversion": "1.0", "id": "1", "source": "/clinic", "type": "patient.added", "touser": "u"}
	for name, value := range change {
		h[name] = value
	}
	return headers(h)
}

func cloudIdentity(t *testing.T) {
	id := func(source, id string) string {
		return mustCloud(t, `{"specversion":"1.0","id":"`+id+`","source":"`+source+`","type":"t","touser":"u"}`).ID
	}
	first := id("/clinic", "1")
	if !cloudID.MatchString(first) || !ValidID(first) {
		t.Errorf("the id is %q", first)
	}
	for _, other := range []string{id("/clinic", "2"), id("/lab", "1"), id("/clinic1", ""+"1"), id("/clini", "c1")} {
		if other == first {
			t.Error("two identities share an id")
		}
	}
	if again := mustCloud(t, `{"touser":"v","type":"other","source":"/clinic","id":"1","specversion":"1.0","data":1}`).ID; again != first {
		t.Errorf("the id covers more than source and id: %s, %s", again, first)
	}
	if e, err := DecodeBinaryCloudEvent(binaryWith(nil), "", nil, cloudNow); err != nil || e.ID != first {
		t.Errorf("in the binary mode it is %q, %v", e.ID, err)
	}
}

func cloudWrongAttribute(t *testing.T) {
	const canary = "canary-8846"
	const to = `,"touser":"u"`
	for body, want := range map[string]string{
		`{"id":"1","source":"/c","type":"t","touser":"u"}`:                                   "/specversion is missing",
		`{"specversion":null,"id":"1","source":"/c","type":"t","touser":"u"}`:                "/specversion is missing",
		`{"specversion":"0.3","id":"1","source":"/c","type":"t","touser":"u"}`:               "/specversion must be",
		`{"specversion":"` + canary + `","id":"1","source":"/c","type":"t","touser":"u"}`:    "/specversion must be",
		`{"specversion":"1.0","source":"/c","type":"t","touser":"u"}`:                        "/id is missing",
		`{"specversion":"1.0","id":"","source":"/c","type":"t","touser":"u"}`:                "/id is missing or empty",
		`{"specversion":"1.0","id":"1","type":"t","touser":"u"}`:                             "/source is missing",
		`{"specversion":"1.0","id":"1","source":"","type":"t","touser":"u"}`:                 "/source is missing or empty",
		`{"specversion":"1.0","id":"1","source":"/c","touser":"u"}`:                          "/type is missing",
		`{"specversion":"1.0","id":"1","source":"/c","type":"","touser":"u"}`:                "/type must be",
		`{"specversion":"1.0","id":"1","source":"/c","type":"` + canary + ` ","touser":"u"}`: "/type must be",
		cloudHead + `}`:                                                 "/touser or togroup or toall",
		cloudHead + to + `,"togroup":"g"}`:                              "/touser or togroup or toall",
		cloudHead + to + `,"toall":true}`:                               "/touser or togroup or toall",
		cloudHead + `,"touser":""}`:                                     "/touser is empty",
		cloudHead + `,"togroup":""}`:                                    "/togroup is empty",
		cloudHead + `,"touser":["` + canary + `"]}`:                     "/touser must be a string",
		cloudHead + `,"toall":false}`:                                   "/toall must be true",
		cloudHead + `,"toall":"` + canary + `"}`:                        "/toall must be true",
		cloudHead + to + `,"topic":""}`:                                 "/topic must be",
		cloudHead + to + `,"topic":"` + strings.Repeat("é", 129) + `"}`: "/topic must be",
		cloudHead + to + `,"time":"` + canary + `"}`:                    "/time must be",
		cloudHead + to + `,"expirytime":"` + canary + `"}`:              "/expirytime must be",
		cloudHead + to + `,"touser":"` + canary + `"}`:                  "/touser is given twice",
		cloudHead + to + `,"data":1,"data":2}`:                          "/data is given twice",
		cloudHead + to + `,"data":1,"data_base64":"AAAA"}`:              "/data_base64 cannot stand beside data",
		cloudHead + to + `,"data_base64":"` + canary + `!"}`:            "/data_base64 must be base64",
		cloudHead + to + `,"data_base64":7}`:                            "/data_base64 must be a string",
		cloudHead + to + `,"datacontenttype":"application/json","data_base64":"` + base64.StdEncoding.EncodeToString([]byte("{"+canary)) + `"}`: "/data_base64 is not the JSON",
		cloudHead + to + `,"` + canary + `":{"a":1}}`:              "an extension attribute must be a string",
		cloudHead + to + `,"` + canary + `":1,"` + canary + `":2}`: "an extension attribute is given twice",
		`["` + canary + `"]`: "JSON object",
	} {
		e, err := DecodeCloudEvent([]byte(body), cloudNow)
		if d := refused(t, err); d.Syntax || !strings.Contains(d.Detail, want) || strings.Contains(d.Detail, canary) || e.ID != "" {
			t.Errorf("%s: %s, want one about %s", body, d.Detail, want)
		}
	}
}

func cloudExtensions(t *testing.T) {
	e := mustCloud(t, cloudHead+`,"touser":"u","subject":"s","dataschema":"urn:x","traceparent":"00-1","sequence":7,"flag":false,"none":null,"toUser":"v","data":{"a":1}}`)
	if e.Event.To.User != "u" || string(e.Event.Data) != `{"a":1}` || e.Event.TTL != -1 || !e.Event.Timestamp.IsZero() {
		t.Errorf("%+v", e.Event)
	}
}

func cloudExpiry(t *testing.T) {
	for at, want := range map[string]time.Duration{
		"2026-11-22T20:36:00.000000001Z": time.Second,
		"2026-11-22T20:36:01Z":           time.Second,
		"2026-11-22T20:37:00.5Z":         61 * time.Second,
		"2026-11-22T21:36:30+01:00":      30 * time.Second,
		"2027-11-22T20:36:00Z":           MaxTTLSeconds * time.Second,
		"2027-11-22T20:36:01Z":           MaxTTLSeconds * time.Second,
		// Further away than a Duration reaches.
		"2400-01-01T00:00:00Z": MaxTTLSeconds * time.Second,
		"9999-12-31T23:59:59Z": MaxTTLSeconds * time.Second,
	} {
		if got := mustCloud(t, cloudHead+`,"touser":"u","expirytime":"`+at+`"}`).Event.TTL; got != want {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}

func cloudExpired(t *testing.T) {
	for at, past := range map[string]string{"2026-11-22T20:35:59Z": "/expirytime", "2026-11-22T20:36:00Z": "/expirytime", "2026-11-22T20:36:00.1Z": ""} {
		if e := mustCloud(t, cloudHead+`,"touser":"u","expirytime":"`+at+`"}`).Event; e.Past != past || (e.TTL == 0) != (past != "") {
			t.Errorf("%s: %+v", at, e)
		}
	}
}

func cloudData(t *testing.T) {
	for rest, want := range map[string]string{
		``:                              "",
		`,"data":null`:                  `null`,
		`,"data":{ "b":1.0,"b":[1e3] }`: `{ "b":1.0,"b":[1e3] }`,
		`,"datacontenttype":"text/plain","data":"é\u00e9"`:                               `"é\u00e9"`,
		`,"data_base64":"AP8="`:                                                          `"AP8="`,
		`,"datacontenttype":"image/png","data_base64":"AP8="`:                            `"AP8="`,
		`,"datacontenttype":"application/json","data_base64":"eyJhIjoxLCJhIjoyfQ=="`:     `{"a":1,"a":2}`,
		`,"datacontenttype":"application/fhir+json; charset=utf-8","data_base64":"WzFd"`: `[1]`,
	} {
		if got := mustCloud(t, cloudHead+`,"touser":"u"`+rest+`}`).Event.Data; string(got) != want {
			t.Errorf("%s: data became %s, want %s", rest, got, want)
		}
	}
}

func binaryBody(t *testing.T) {
	for _, c := range []struct{ contentType, body, want string }{
		{"application/json", ``, ""},
		{"application/json", `{ "b":1.0,"b":2 }`, `{ "b":1.0,"b":2 }`},
		{"", `[1]`, `[1]`},
		{"Application/FHIR+JSON; charset=utf-8", `{}`, `{}`},
		{"text/plain", "a\n\"é\"", `"a\n\"é\""`},
		{"text/plain", "\xff", `"/w=="`},
		{"image/png", "\x00\xff", `"AP8="`},
		{"not a type", "{}", `"e30="`},
	} {
		e, err := DecodeBinaryCloudEvent(binaryWith(nil), c.contentType, []byte(c.body), cloudNow)
		if err != nil || string(e.Event.Data) != c.want {
			t.Errorf("%s %q: %s, %v; want %s", c.contentType, c.body, e.Event.Data, err, c.want)
		}
	}
	_, err := DecodeBinaryCloudEvent(binaryWith(nil), "application/json", []byte(`{"canary`), cloudNow)
	if d := refused(t, err); !d.Syntax || strings.Contains(d.Detail, "canary") {
		t.Errorf("%+v", d)
	}
}

func binaryHeaders(t *testing.T) {
	for value, want := range map[string]string{
		"patient-42":                      "patient-42",
		"Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀", // the specification's own example
		"%C3%A9":                          "é",
		"é":                               "é", // as some senders put it
		"a%2520b":                         "a%20b",
		"a+b":                             "a+b",
		`%22a%22`:                         `"a"`,
		`"a b"`:                           "a b",
		`"a \"b\" \\"`:                    `a "b" \`,
		`"%E2%82%AC"`:                     "€",
		`5"`:                              `5"`,
		`"`:                               `"`,
	} {
		e, err := DecodeBinaryCloudEvent(binaryWith(map[string]string{"touser": value}), "", nil, cloudNow)
		if err != nil || e.Event.To.User != want {
			t.Errorf("%s became %q, %v; want %q", value, e.Event.To.User, err, want)
		}
	}
	for _, value := range []string{"50%", "%zz", "%C3", "\xff", "%ff"} {
		_, err := DecodeBinaryCloudEvent(binaryWith(map[string]string{"touser": value}), "", nil, cloudNow)
		if d := refused(t, err); d.Detail != "header ce-touser is not percent-encoded UTF-8" {
			t.Errorf("%q: %s", value, d.Detail)
		}
	}
}

func binaryWrongHeader(t *testing.T) {
	const canary = "canary-2267"
	for name, want := range map[string]string{"id": "header ce-id", "source": "header ce-source", "type": "header ce-type", "touser": "header ce-touser"} {
		good := binaryWith(nil)
		without := func(n string) (string, bool) {
			if n == name {
				return "", false
			}
			return good(n)
		}
		if _, err := DecodeBinaryCloudEvent(without, "", nil, cloudNow); !strings.HasPrefix(refused(t, err).Detail, want) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for name, value := range map[string]string{"specversion": canary, "time": canary, "expirytime": canary, "toall": canary, "type": canary + " "} {
		_, err := DecodeBinaryCloudEvent(binaryWith(map[string]string{name: value}), "", nil, cloudNow)
		if d := refused(t, err); !strings.HasPrefix(d.Detail, "header ce-"+name) || strings.Contains(d.Detail, canary) {
			t.Errorf("%s: %s", name, d.Detail)
		}
	}
	if IsBinaryCloudEvent(headers(map[string]string{"id": "1"})) || !IsBinaryCloudEvent(headers(map[string]string{"specversion": "0.3"})) {
		t.Error("the binary mode is not told by ce-specversion alone")
	}
}

func cloudBatch(t *testing.T) {
	good := cloudHead + `,"touser":"u","data":{ "a":1 }}`
	items, err := DecodeCloudEventBatch([]byte(" [ "+good+`, {"specversion":"1.0"}, "canary-1", `+good+"]\n"), cloudNow)
	if err != nil || len(items) != 4 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	if items[0].Err != nil || items[3].Err != nil || items[0].ID != items[3].ID || string(items[0].Raw) != good {
		t.Errorf("%+v", items)
	}
	for i, want := range map[int]string{1: "/1/id is missing or empty", 2: "/2: the event must be a JSON object"} {
		if d := refused(t, items[i].Err); d.Detail != want || items[i].ID != "" {
			t.Errorf("item %d: %q %s", i, items[i].ID, d.Detail)
		}
	}
	if items, err := DecodeCloudEventBatch([]byte(`[]`), cloudNow); err != nil || len(items) != 0 {
		t.Errorf("an empty batch, which the format allows: %v, %v", items, err)
	}
	for _, body := range []string{``, `[`, good, `[` + good, `[` + good + `]]`, `[` + good + `,]`, `nul`} {
		items, err := DecodeCloudEventBatch([]byte(body), cloudNow)
		if d := refused(t, err); !d.Syntax || items != nil {
			t.Errorf("%.40q: %+v", body, d)
		}
	}
	_, err = DecodeCloudEventBatch([]byte(`[`+strings.Repeat(good+",", MaxBatchEvents)+good+`]`), cloudNow)
	if d := refused(t, err); d.Syntax || !strings.Contains(d.Detail, "more than 1000") {
		t.Errorf("%+v", d)
	}
}

func FuzzDecodeCloudEvent(f *testing.F) {
	for _, seed := range []string{
		cloudHead + `,"touser":"u","data":{"a":1}}`, cloudHead + `,"toall":true,"data_base64":"AP8=","datacontenttype":"image/png"}`,
		cloudHead + `,"togroup":"g","datacontenttype":"application/json","data_base64":"ew=="}`,
		cloudHead + `,"touser":"\ud83d\ude00","expirytime":"9999-12-31T23:59:59Z"}`, cloudHead + `,"touser":"u","expirytime":"0000-01-01T00:00:00Z"}`,
		cloudHead + `,"touser":"u","data":1,"data_base64":null}`, cloudHead + `,"touser":1e3,"id":true}`, `[{}]`, `{"":{}}`, "{\"\xff\":1}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeCloudEvent(b, cloudNow)
		items, berr := DecodeCloudEventBatch(append(append([]byte("["), b...), ']'), cloudNow)
		if err != nil {
			refused(t, err)
			return
		}
		if !cloudID.MatchString(e.ID) {
			t.Errorf("%q has the id %q", b, e.ID)
		}
		checkEvent(t, b, e.ID, e.Event)
		// What is an event by itself is the same event in a batch.
		if berr != nil || len(items) != 1 || items[0].Err != nil || items[0].ID != e.ID || !bytes.Equal(items[0].Event.Data, e.Event.Data) {
			t.Errorf("%q in a batch: %+v, %v", b, items, berr)
		}
	})
}

func FuzzDecodeCloudEventBatch(f *testing.F) {
	f.Add([]byte(`[` + cloudHead + `,"touser":"u"},null,{"specversion":1.0},[]]`))
	f.Add([]byte(" [ ]\n"))
	f.Add([]byte(`[{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := DecodeCloudEventBatch(b, cloudNow)
		if err != nil {
			refused(t, err)
			return
		}
		checkItems(t, b, items, cloudID.MatchString)
	})
}

func FuzzDecodeBinaryCloudEvent(f *testing.F) {
	f.Add("1", "/clinic", "patient.added", "u", "2026-11-23T20:36:00Z", "application/json", []byte(`{"a":1}`))
	f.Add(`"1\`, "%E2%82%AC", "t", `"\"`, "9999-12-31T23:59:59Z", "text/plain", []byte("\xff"))
	f.Add("%", "%00", "t%2Et", "%0a", "", "image/png", []byte("\x00\n"))
	f.Fuzz(func(t *testing.T, id, source, kind, user, expiry, contentType string, body []byte) {
		h := map[string]string{"specversion": "1.0", "id": id, "source": source, "type": kind, "touser": user}
		if expiry != "" {
			h["expirytime"] = expiry
		}
		e, err := DecodeBinaryCloudEvent(headers(h), contentType, body, cloudNow)
		if err != nil {
			refused(t, err)
			return
		}
		if !cloudID.MatchString(e.ID) {
			t.Errorf("the id %q", e.ID)
		}
		checkEvent(t, body, e.ID, e.Event)
	})
}
