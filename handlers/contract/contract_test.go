package contract_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"hookbridge/app/wire"
	"hookbridge/handlers/contract"
)

func TestDocuments(t *testing.T) {
	t.Run("name the standard that they follow", documentsNameStandard)
	t.Run("have references that resolve", documentsResolve)
	t.Run("have schemas that compile", documentsCompile)
	t.Run("mean the same by a name", documentsAgree)
	t.Run("allow no unknown member in what the bridge sends", documentsAreClosed)
	t.Run("have the problem codes of the code", documentsProblemCodes)
	t.Run("have close codes that the code knows", documentsCloseCodes)
}

func TestOpenAPI(t *testing.T) {
	t.Run("has whole operations", openAPIOperations)
	t.Run("has a problem for each error", openAPIErrors)
}

func TestAsyncAPI(t *testing.T) {
	t.Run("has channels and operations that fit together", asyncAPIChannels)
}

// object is a JSON object of a document.
type object = map[string]any

// documents reads both. A name that stands twice in an object is an error.
func documents(t *testing.T) map[string]object {
	t.Helper()
	docs := make(map[string]object)
	for name, raw := range map[string][]byte{"openapi.json": contract.OpenAPI, "asyncapi.json": contract.AsyncAPI} {
		var doc object
		if err := wire.Decode(raw, &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		docs[name] = doc
	}
	return docs
}

func documentsNameStandard(t *testing.T) {
	docs := documents(t)
	for name, want := range map[string]object{
		"openapi.json":  {"openapi": "3.1.0", "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema"},
		"asyncapi.json": {"asyncapi": "3.0.0"},
	} {
		for member, value := range want {
			if docs[name][member] != value {
				t.Errorf("%s: %s is %v", name, member, docs[name][member])
			}
		}
		if name == "openapi.json" && docs[name]["servers"] == nil {
			t.Errorf("%s: no servers, which some tools do not take", name)
		}
		info := docs[name]["info"].(object)
		for _, member := range []string{"title", "version", "description"} {
			if info[member] == "" || info[member] == nil {
				t.Errorf("%s: info has no %s", name, member)
			}
		}
	}
}

// walk visits every object of a document with its JSON pointer.
func walk(at string, v any, visit func(at string, o object)) {
	switch v := v.(type) {
	case object:
		visit(at, v)
		for _, name := range slices.Sorted(maps.Keys(v)) {
			walk(at+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), v[name], visit)
		}
	case []any:
		for i, e := range v {
			walk(at+"/"+strconv.Itoa(i), e, visit)
		}
	}
}

// resolve follows a reference within a document; false where it leads nowhere.
func resolve(doc object, ref string) (any, bool) {
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil, false
	}
	var at any = doc
	for step := range strings.SplitSeq(path, "/") {
		o, isObject := at.(object)
		if at, ok = o[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]; !isObject || !ok {
			return nil, false
		}
	}
	return at, true
}

func documentsResolve(t *testing.T) {
	for name, doc := range documents(t) {
		n := 0
		walk("#", doc, func(at string, o object) {
			ref, ok := o["$ref"].(string)
			if !ok {
				return
			}
			n++
			if _, ok := resolve(doc, ref); !ok {
				t.Errorf("%s %s: %s leads nowhere", name, at, ref)
			}
		})
		if n < 20 {
			t.Errorf("%s: only %d references were found", name, n)
		}
	}
}

func documentsCompile(t *testing.T) {
	for name, doc := range documents(t) {
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft2020)
		if err := c.AddResource(name, doc); err != nil {
			t.Fatal(err)
		}
		schemas := doc["components"].(object)["schemas"].(object)
		for schema := range schemas { // those that nothing refers to, too
			if _, err := c.Compile(name + "#/components/schemas/" + schema); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(schemas) < 15 {
			t.Errorf("%s: only %d schemas were found", name, len(schemas))
		}
	}
}

// methods that a path may have (OpenAPI 3.1 §4.8.9).
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

func openAPIOperations(t *testing.T) {
	doc := documents(t)["openapi.json"]
	schemes := doc["components"].(object)["securitySchemes"].(object)
	ids := make(map[any]string)
	for path, item := range doc["paths"].(object) {
		for method, o := range item.(object) {
			at, op := strings.ToUpper(method)+" "+path, o.(object)
			if !slices.Contains(methods, method) {
				t.Errorf("%s: no such method", at)
			}
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] != "" {
				t.Errorf("%s: operationId %q is empty or that of %q", at, id, ids[id])
			}
			ids[id] = at
			responses, _ := op["responses"].(object)
			if len(responses) == 0 {
				t.Errorf("%s has no responses", at)
			}
			for status, r := range responses {
				if !regexp.MustCompile(`^[1-5][0-9][0-9]$`).MatchString(status) {
					t.Errorf("%s: status %q", at, status)
				}
				if text, _ := follow(doc, r)["description"].(string); text == "" {
					t.Errorf("%s: %s is not described", at, status)
				}
			}
			for _, needs := range op["security"].([]any) {
				for scheme := range needs.(object) {
					if schemes[scheme] == nil {
						t.Errorf("%s: there is no security scheme %q", at, scheme)
					}
				}
			}
			checkPathParameters(t, doc, at, path, op)
		}
	}
	if len(ids) < 20 {
		t.Errorf("only %d operations were found", len(ids))
	}
}

// follow is the object itself, or what it refers to.
func follow(doc object, v any) object {
	o := v.(object)
	if ref, ok := o["$ref"].(string); ok {
		at, _ := resolve(doc, ref)
		return at.(object)
	}
	return o
}

func checkPathParameters(t *testing.T, doc object, at, path string, op object) {
	t.Helper()
	var want, got []string
	for _, m := range regexp.MustCompile(`\{([^}]+)\}`).FindAllStringSubmatch(path, -1) {
		want = append(want, m[1])
	}
	parameters, _ := op["parameters"].([]any)
	for _, p := range parameters {
		o := follow(doc, p)
		name, place := o["name"].(string), o["in"]
		if o["schema"] == nil {
			t.Errorf("%s: parameter %s has no schema", at, name)
		}
		switch place {
		case "path":
			got = append(got, name)
			if o["required"] != true {
				t.Errorf("%s: %s stands in the path and is not required", at, name)
			}
		case "query", "header":
		default:
			t.Errorf("%s: parameter %s stands in %v", at, name, place)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("%s: the path has %v, the parameters %v", at, want, got)
	}
}

func openAPIErrors(t *testing.T) {
	doc := documents(t)["openapi.json"]
	for path, item := range doc["paths"].(object) {
		for method, op := range item.(object) {
			for status, r := range op.(object)["responses"].(object) {
				if status < "400" || method == "head" {
					continue
				}
				content, _ := follow(doc, r)["content"].(object)
				media, _ := content[wire.ProblemMediaType].(object)
				if len(content) != 1 || !reflect.DeepEqual(media["schema"], object{"$ref": "#/components/schemas/Problem"}) {
					t.Errorf("%s %s: %s is no problem: %v", method, path, status, content)
				}
			}
		}
	}
}

func documentsAgree(t *testing.T) {
	docs := documents(t)
	mine := docs["openapi.json"]["components"].(object)["schemas"].(object)
	n := 0
	for name, other := range docs["asyncapi.json"]["components"].(object)["schemas"].(object) {
		if mine[name] == nil {
			continue
		}
		n++
		if !reflect.DeepEqual(mine[name], other) {
			t.Errorf("%s differs", name)
		}
	}
	if n < 5 {
		t.Errorf("only %d names are shared", n)
	}
}

// closed checks that every object that a schema describes member by member has
// no others.
func closed(t *testing.T, doc object, at string, v any, seen map[string]bool) {
	t.Helper()
	walk(at, v, func(at string, o object) {
		if ref, ok := o["$ref"].(string); ok && !seen[ref] {
			seen[ref] = true
			target, _ := resolve(doc, ref)
			closed(t, doc, ref, target, seen)
		}
		if _, ok := o["properties"].(object); ok && o["type"] == "object" && o["additionalProperties"] != false {
			t.Errorf("%s may have members that are not described", at)
		}
	})
}

func documentsAreClosed(t *testing.T) {
	docs := documents(t)
	seen := make(map[string]bool)
	for path, item := range docs["openapi.json"]["paths"].(object) {
		for method, op := range item.(object) {
			closed(t, docs["openapi.json"], method+" "+path, op.(object)["responses"], seen)
		}
	}
	for kind, op := range docs["openapi.json"]["webhooks"].(object) {
		closed(t, docs["openapi.json"], kind, op.(object)["post"].(object)["requestBody"], seen)
	}
	async := docs["asyncapi.json"]
	for name, op := range async["operations"].(object) {
		if op.(object)["action"] == "send" { // the bridge sends
			closed(t, async, name, op.(object)["messages"], make(map[string]bool))
		}
	}
	if !seen["#/components/schemas/Problem"] || !seen["#/components/schemas/Accepted"] {
		t.Error("the replies were not found")
	}
}

func asyncAPIChannels(t *testing.T) {
	doc := documents(t)["asyncapi.json"]
	carried := make(map[string]bool)
	for name, o := range doc["operations"].(object) {
		op := o.(object)
		if op["action"] != "send" && op["action"] != "receive" {
			t.Errorf("%s: action %v", name, op["action"])
		}
		channel := op["channel"].(object)["$ref"].(string)
		messages := op["messages"].([]any)
		if len(messages) == 0 {
			t.Errorf("%s has no messages", name)
		}
		for _, m := range messages {
			ref := m.(object)["$ref"].(string)
			if !strings.HasPrefix(ref, channel+"/messages/") {
				t.Errorf("%s: %s is not in its channel", name, ref)
			}
			carried[ref] = true
			at, _ := resolve(doc, ref)
			if follow(doc, at)["payload"] == nil {
				t.Errorf("%s: %s has no payload", name, ref)
			}
		}
	}
	for name, c := range doc["channels"].(object) {
		for m := range c.(object)["messages"].(object) {
			if ref := "#/channels/" + name + "/messages/" + m; !carried[ref] {
				t.Errorf("%s is in no operation", ref)
			}
		}
	}
}

// constants reads the values of a file's constants whose names begin so.
func constants(t *testing.T, file, prefix string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			out = append(out, strings.Trim(lit.Value, `"`))
		}
		return true
	})
	return out
}

func documentsProblemCodes(t *testing.T) {
	known := constants(t, "../../app/wire/problem.go", "Code")
	if len(known) < 20 {
		t.Fatalf("found %v", known)
	}
	for name, doc := range documents(t) {
		enum, _ := resolve(doc, "#/components/schemas/Problem/properties/code/enum")
		var documented []string
		for _, c := range enum.([]any) {
			documented = append(documented, c.(string))
			if p := wire.NewProblem(c.(string), ""); p.Code != c {
				t.Errorf("%s: the code knows no %s", name, c)
			}
		}
		for _, c := range known {
			if !slices.Contains(documented, c) {
				t.Errorf("%s does not know %s", name, c)
			}
		}
	}
}

func documentsCloseCodes(t *testing.T) {
	known := constants(t, "../../app/wire/close.go", "Close")
	at, _ := resolve(documents(t)["asyncapi.json"], "#/channels/socket/x-close-codes")
	codes := at.(object)
	if len(codes) < 10 {
		t.Fatalf("found %v", codes)
	}
	for code, what := range codes {
		if !slices.Contains(known, code) || what == "" {
			t.Errorf("%s: %q", code, what)
		}
	}
}
