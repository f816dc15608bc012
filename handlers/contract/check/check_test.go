package check

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hookbridge/handlers/contract"
)

func TestCheck(t *testing.T) {
	t.Run("resolves every reference and schema", checkResolves)
	t.Run("finds operations named once, with who may call them", checkOperations)
	t.Run("takes the golden frames", checkGoldenFrames)
	t.Run("refuses what does not fit", checkRefuses)
}

func checker(t *testing.T) *Checker {
	t.Helper()
	k, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func checkResolves(t *testing.T) {
	k := checker(t) // compiles all that is used
	if n := len(k.Routes()); n < 25 {
		t.Errorf("%d routes", n)
	}
	for name, raw := range map[string][]byte{"openapi": contract.OpenAPI, "asyncapi": contract.AsyncAPI} {
		var doc any
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatal(name, err)
		}
		for _, m := range regexp.MustCompile(`"\$ref": "#/([^"]+)"`).FindAllSubmatch(raw, -1) {
			at := doc
			for _, step := range strings.Split(string(m[1]), "/") {
				at, _ = at.(map[string]any)[step]
			}
			if at == nil {
				t.Errorf("%s: %s leads nowhere", name, m[1])
			}
		}
	}
}

func checkOperations(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Summary     string
			Security    []map[string][]string
			Tags        []string
		}
	}
	if err := json.Unmarshal(contract.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for path, item := range doc.Paths {
		for method, op := range item {
			if op.OperationID == "" || seen[op.OperationID] || op.Summary == "" || op.Security == nil || len(op.Tags) != 1 {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			seen[op.OperationID] = true
		}
	}
}

func checkGoldenFrames(t *testing.T) {
	k := checker(t)
	files, err := filepath.Glob("../../../app/wire/testdata/*.json")
	if err != nil || len(files) < 15 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		switch name := filepath.Base(f); {
		case strings.HasPrefix(name, "client_"):
			err = k.ClientFrame(b)
		case strings.HasPrefix(name, "server_"):
			err = k.ServerFrame(b)
		case name == "plain_message.json":
			err = k.PlainServerFrame(b)
		}
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func checkRefuses(t *testing.T) {
	k := checker(t)
	for _, f := range []string{
		`{"type":"connected"}`, `{"type":"pong","more":1}`, `{"type":"gap","cursor":"x","reason":"lost"}`, `{"type":"else"}`, `[]`, `{`,
		`{"type":"event","cursor":"x","replay":false,"event":{"id":"a","type":"t","timestamp":"2026-11-22T20:36:00Z"}}`,
		`{"type":"event","cursor":"x","event":{"id":"a","type":"t","timestamp":"today","data":1}}`,
	} {
		if k.ServerFrame([]byte(f)) == nil {
			t.Errorf("%s fits", f)
		}
	}
	good := func() Exchange {
		return Exchange{Method: "GET", Path: "/v1/users/u/presence", Status: 200, ReplyHeader: http.Header{"Content-Type": {"application/json"}},
			Reply: []byte(`{"user":"u","online":false,"sessions":0}`)}
	}
	if err := k.Exchange(good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(x *Exchange){
		"another status":   func(x *Exchange) { x.Status = 418 },
		"another path":     func(x *Exchange) { x.Path = "/v1/people" },
		"another type":     func(x *Exchange) { x.ReplyHeader.Set("Content-Type", "text/html") },
		"a missing member": func(x *Exchange) { x.Reply = []byte(`{"user":"u","online":false}`) },
		"one more member":  func(x *Exchange) { x.Reply = []byte(`{"user":"u","online":false,"sessions":0,"secret":1}`) },
		"a wrong member":   func(x *Exchange) { x.Reply = []byte(`{"user":"u","online":"no","sessions":0}`) },
		"no JSON":          func(x *Exchange) { x.Reply = []byte(`u`) },
		"a 503 that does not say when": func(x *Exchange) {
			x.Status, x.Reply = 503, []byte(`{"type":"urn:hookbridge:problem:draining","title":"t","status":503,"code":"draining"}`)
			x.ReplyHeader.Set("Content-Type", "application/problem+json")
		},
		"a body with a 204": func(x *Exchange) { x.Method, x.Path, x.Status = "DELETE", "/v1/users/u", 204 },
		"a bad request taken": func(x *Exchange) {
			x.Method, x.Path, x.Body, x.Reply = "POST", "/v1/presence", []byte(`{"users":[]}`), []byte(`{"users":[]}`)
			x.Header = http.Header{"Content-Type": {"application/json"}}
		},
	} {
		x := good()
		change(&x)
		if k.Exchange(x) == nil {
			t.Errorf("%s fits", name)
		}
	}
}
