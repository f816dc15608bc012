package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

func TestBatch(t *testing.T) {
	t.Run("keeps its order, its ids and each item's bytes", batchKeeps)
	t.Run("names what is wrong with an item in its place, and takes the others", batchBadItem)
	t.Run("keeps the valid id of an item that is refused", batchRefusedID)
	t.Run("leaves the same id twice to the store", batchSameID)
	t.Run("measures each item by itself", batchLargeItem)
	t.Run("that is none is refused as a whole", batchNotOne)
}

const goodItem = `{"id":"msg_a","type":"patient.added","to":{"user":"u"},"data":{"n":1}}`

// refused returns what a decoder says is wrong, and fails where it says nothing.
func refused(t *testing.T, err error) *DecodeError {
	t.Helper()
	var d *DecodeError
	if !errors.As(err, &d) {
		t.Fatalf("got %v, want a DecodeError", err)
	}
	return d
}

func mustBatch(t *testing.T, body string) []Item {
	t.Helper()
	items, err := DecodeBatch([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func batchKeeps(t *testing.T) {
	var raws []string
	for i := range MaxBatchEvents {
		raws = append(raws, fmt.Sprintf(`{ "type":"t.%d", "id":"msg_%d","to":{"user":"u%d"},"data":{"b":1.0,"a": %d} }`, i, i, i%7, i))
	}
	items := mustBatch(t, `{"note":[1],"events": [`+strings.Join(raws, " ,\n")+`] , "more":null}`)
	if len(items) != MaxBatchEvents {
		t.Fatalf("%d items", len(items))
	}
	for i, it := range items {
		if it.Err != nil || it.ID != fmt.Sprintf("msg_%d", i) || it.Event.Type != fmt.Sprintf("t.%d", i) || string(it.Raw) != raws[i] {
			t.Fatalf("item %d: %q %+v %v", i, it.ID, it.Event, it.Err)
		}
		if want := fmt.Sprintf(`{"b":1.0,"a": %d}`, i); string(it.Event.Data) != want {
			t.Fatalf("item %d: data became %s", i, it.Event.Data)
		}
	}
}

func batchBadItem(t *testing.T) {
	const canary = "canary-5120"
	for item, want := range map[string]string{
		`{"type":"t","to":{"user":"u"}}`:                                               "/events/1/id ",
		`{"id":"","type":"t","to":{"user":"u"}}`:                                       "/events/1/id ",
		`{"id":7,"type":"t","to":{"user":"u"}}`:                                        "/events/1/id ",
		`{"id":null,"type":"t","to":{"user":"u"}}`:                                     "/events/1/id ",
		`{"ID":"msg_b","type":"t","to":{"user":"u"}}`:                                  "/events/1/id ",
		`{"id":"` + canary + `!","type":"t","to":{"user":"u"}}`:                        "/events/1/id ",
		`{"id":"` + strings.Repeat("a", 65) + `","type":"t","to":{"user":"u"}}`:        "/events/1/id ",
		`{"id":"msg_b","type":"t","to":{"user":"u"},"id":"msg_c"}`:                     "/events/1/id ",
		`{"id":"msg_b","type":"t","to":{"user":"u"},"id":"msg_b"}`:                     "/events/1/id ",
		`{"id":"msg_b","to":{"user":"u"}}`:                                             "/events/1/type ",
		`{"id":"msg_b","type":"t"}`:                                                    "/events/1/to ",
		`{"id":"msg_b","type":"t","to":{"user":["` + canary + `"]}}`:                   "/events/1/to/user ",
		`{"id":"msg_b","type":"t","to":{"user":"u"},"ttl":-1,"data":"` + canary + `"}`: "/events/1/ttl ",
		`{"id":"msg_b","type":"t","to":{"user":"u"},"type":"` + canary + `"}`:          "/events/1/type is given twice",
		`"` + canary + `"`:   "/events/1: the event must be a JSON object",
		`null`:               "/events/1: the event must be a JSON object",
		`[` + goodItem + `]`: "/events/1: the event must be a JSON object",
	} {
		items := mustBatch(t, `{"events":[`+goodItem+`,`+item+`,`+goodItem+`]}`)
		if len(items) != 3 || items[0].Err != nil || items[2].Err != nil || items[2].ID != "msg_a" {
			t.Errorf("%s: the others are %+v", item, items)
			continue
		}
		d := refused(t, items[1].Err)
		if !strings.HasPrefix(d.Detail, want) || d.Syntax || strings.Contains(d.Detail, canary) {
			t.Errorf("%s: %q (syntax %v), want %q", item, d.Detail, d.Syntax, want)
		}
	}
}

func batchRefusedID(t *testing.T) {
	items := mustBatch(t, `{"events":[{"id":"msg_b","type":"no type!","to":{"user":"u"}},{"id":"no id!","to":7}]}`)
	if items[0].ID != "msg_b" || items[0].Err == nil || items[1].ID != "" || items[1].Err == nil {
		t.Errorf("%+v", items)
	}
}

func batchSameID(t *testing.T) {
	items := mustBatch(t, `{"events":[`+goodItem+`,`+goodItem+`,{"id":"msg_a","type":"other","to":{"user":"u"}}]}`)
	for i, it := range items {
		if it.Err != nil || it.ID != "msg_a" {
			t.Errorf("item %d: %q, %v", i, it.ID, it.Err)
		}
	}
	if !bytes.Equal(items[0].Raw, items[1].Raw) || bytes.Equal(items[0].Raw, items[2].Raw) {
		t.Error("the digests would not tell a repeat from a conflict")
	}
}

func batchLargeItem(t *testing.T) {
	large := `{"id":"msg_b","type":"t","to":{"user":"u"},"data":"` + strings.Repeat("x", 100_000) + `"}`
	items := mustBatch(t, `{"events":[`+goodItem+`,`+large+`]}`)
	if len(items[0].Raw) != len(goodItem) || len(items[1].Raw) != len(large) || items[1].Err != nil {
		t.Errorf("%d and %d bytes, %v", len(items[0].Raw), len(items[1].Raw), items[1].Err)
	}
}

func batchNotOne(t *testing.T) {
	full := strings.Repeat(goodItem+",", MaxBatchEvents)
	for body, want := range map[string]struct {
		syntax bool
		detail string
	}{
		``:                                     {true, "ends too early"},
		`{`:                                    {true, "ends too early"},
		`events`:                               {true, "not JSON"},
		`{"events":[` + goodItem:               {true, "ends too early"},
		`{"events":[` + goodItem + `,]}`:       {true, "not JSON"},
		`{"events":[{]}]}`:                     {true, "not JSON"},
		`{"events":[` + goodItem + `]} {}`:     {true, "goes on"},
		`{"events":[` + goodItem + `]}x`:       {true, "goes on"},
		"{\"events\":[\"\xff\"]}":              {true, "not UTF-8"},
		`{"events":[` + goodItem + `,nul]}`:    {true, "/events/1: the body is not JSON"},
		"{\"events\":[],\"\xff\":1}":           {true, "not UTF-8"},
		`{"events":[` + goodItem + `],"x":01}`: {true, "goes on"},
		`{"events":[` + goodItem + ` ` + goodItem + `]}`: {true, "not JSON"},
		`[` + goodItem + `]`:                             {false, `{"events":[…]}`},
		`"events"`:                                       {false, `{"events":[…]}`},
		`{}`:                                             {false, "/events must be a list"},
		`{"Events":[` + goodItem + `]}`:                  {false, "/events must be a list"},
		`{"events":null}`:                                {false, "/events must be a list"},
		`{"events":{"0":` + goodItem + `}}`:              {false, "/events must be a list"},
		`{"events":[]}`:                                  {false, "/events is empty"},
		`{"events":[` + goodItem + `],"events":[` + goodItem + `]}`: {false, "/events is given twice"},
		`{"events":[],"events":[` + goodItem + `]}`:                 {false, "/events is given twice"},
		`{"events":[` + full + goodItem + `]}`:                      {false, "more than 1000"},
	} {
		items, err := DecodeBatch([]byte(body))
		if d := refused(t, err); d.Syntax != want.syntax || !strings.Contains(d.Detail, want.detail) || items != nil {
			t.Errorf("%.60q: %d items, syntax %v: %s", body, len(items), d.Syntax, d.Detail)
		}
	}
}

// checkItems holds what every batch that is taken must be.
func checkItems(t *testing.T, body []byte, items []Item, validID func(string) bool) {
	if len(items) > MaxBatchEvents {
		t.Errorf("%d items", len(items))
	}
	from := 0
	for i, it := range items {
		at := bytes.Index(body[from:], it.Raw)
		if at < 0 || len(it.Raw) == 0 {
			t.Fatalf("item %d is not a stretch of the body in its order: %q", i, it.Raw)
		}
		from += at + len(it.Raw)
		if it.Err != nil {
			refused(t, it.Err)
			continue
		}
		if !validID(it.ID) {
			t.Errorf("item %d has the id %q", i, it.ID)
		}
		checkEvent(t, it.Raw, it.ID, it.Event)
	}
}

// checkEvent holds what every event that is taken must be: it names one target,
// and makes a frame.
func checkEvent(t *testing.T, source []byte, id string, e Event) {
	t.Helper()
	targets := 0
	for _, set := range []bool{e.To.User != "", e.To.Users != nil, e.To.Group != "", e.To.All} {
		if set {
			targets++
		}
	}
	if !validType(e.Type) || targets != 1 || e.TTL < -1 || e.TTL > MaxTTLSeconds*time.Second {
		t.Errorf("%q decoded to %+v", source, e)
	}
	object := AppendEventObject(nil, id, e.Type, time.Unix(0, 0), e.Data)
	frame := append(AppendEventHead(nil, []byte("t.1.1"), false), tailOf("", object)...)
	if !jsontext.Value(frame).IsValid(jsontext.AllowDuplicateNames(true)) {
		t.Errorf("%q made the frame %q", source, frame)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	for _, seed := range []string{
		`{"events":[` + goodItem + `,{"id":"msg_b","type":"t","to":{"all":true}}]}`,
		`{"events":[{"id":"a","id":"b","type":"t","to":{"user":"u"}}]}`,
		`{"events":[null,1,"",[],{},{"id":"\u006dsg"}]}`,
		`{"events":[],"events":null}`, `{"events":[` + goodItem + `]}]`, `[[[[`, `{"\u0065vents":[` + goodItem + `]}`,
		`{"events":[{"id":"a","type":"t","to":{"users":[]},"ttl":31536000,"data":1e999}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := DecodeBatch(b)
		if err != nil {
			if refused(t, err); items != nil {
				t.Errorf("%q has both items and an error", b)
			}
			return
		}
		if len(items) == 0 {
			t.Errorf("%q is an empty batch", b)
		}
		checkItems(t, b, items, ValidID)
	})
}
