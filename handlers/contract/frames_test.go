package contract_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"encoding/json"

	"hookbridge/app/wire"
	"hookbridge/handlers/contract/check"
)

func TestFrames(t *testing.T) {
	t.Run("of the server are refused when a member is wrong", framesOfServer)
	t.Run("of a client may have unknown members", framesOfClient)
	t.Run("to a plain client are only those of the plain mode", framesOfPlainMode)
}

const golden = "../../app/wire/testdata/"

func checker(t *testing.T) *check.Checker {
	t.Helper()
	k, err := check.New()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// frames reads the golden frames whose names begin so.
func frames(t *testing.T, prefix string) map[string]object {
	t.Helper()
	files, err := filepath.Glob(golden + prefix + "*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(prefix, files, err)
	}
	out := make(map[string]object)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var o object
		if err := wire.Decode(b, &o); err != nil {
			t.Fatal(f, err)
		}
		out[filepath.Base(f)] = o
	}
	return out
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// optional are the members that a server's frame may come without.
var optional = map[string][]string{
	"error": {"ref"}, "event": {"replay", "from"}, "gap": {"after"}, "result": {"ref", "duplicate"},
	"response": {"ref"},
}

// anything are the members that may be any JSON.
var anything = map[string]string{"response": "data"}

func framesOfServer(t *testing.T) {
	k := checker(t)
	for name, frame := range frames(t, "server_") {
		if err := k.ServerFrame(encode(t, frame)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for member, value := range frame {
			changed := func(v any) []byte {
				o := make(object)
				for m, old := range frame {
					o[m] = old
				}
				if o[member] = v; v == nil {
					delete(o, member)
				}
				return encode(t, o)
			}
			var wrong any = "wrong"
			if _, text := value.(string); text {
				wrong = 7
			}
			if anything[frame["type"].(string)] != member && k.ServerFrame(changed(wrong)) == nil {
				t.Errorf("%s: %s may be of another type", name, member)
			}
			may := slices.Contains(optional[frame["type"].(string)], member)
			if err := k.ServerFrame(changed(nil)); (err == nil) != may {
				t.Errorf("%s without %s: %v", name, member, err)
			}
		}
		frame["more"] = 1
		if k.ServerFrame(encode(t, frame)) == nil {
			t.Errorf("%s: another member fits", name)
		}
	}
}

func framesOfClient(t *testing.T) {
	k := checker(t)
	for name, frame := range frames(t, "client_") {
		frame["more"] = 1
		if err := k.ClientFrame(encode(t, frame)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		frame["type"] = "else"
		if k.ClientFrame(encode(t, frame)) == nil {
			t.Errorf("%s: a type that is not known fits", name)
		}
	}
}

func framesOfPlainMode(t *testing.T) {
	k := checker(t)
	for name, frame := range frames(t, "plain_message") {
		if err := k.PlainServerFrame(encode(t, frame)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		frame["more"] = 1
		if k.PlainServerFrame(encode(t, frame)) == nil {
			t.Errorf("%s: another member fits", name)
		}
	}
	for name, frame := range frames(t, "server_") {
		raw := encode(t, frame)
		if err := k.PlainServerFrame(raw); (err == nil) != strings.HasPrefix(name, "server_error") {
			t.Errorf("%s: %v", name, err)
		}
	}
	event := frames(t, "server_event")["server_event.json"]["event"]
	if err := k.PlainServerFrame(encode(t, event)); err != nil {
		t.Errorf("an event alone: %v", err)
	}
}
