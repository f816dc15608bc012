// Package check holds requests, replies and frames against the contract. It is
// for tests.
package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"hookbridge/handlers/contract"
)

// Checker knows both documents. It may be used by many goroutines at once.
type Checker struct {
	doc        map[string]any
	operations []operation
	client     []*jsonschema.Schema
	server     []*jsonschema.Schema
	plain      []*jsonschema.Schema
	webhooks   map[string]*jsonschema.Schema // by their type
}

// operation is one method of one path.
type operation struct {
	method   string
	path     string
	segments []string
	requests map[string]*jsonschema.Schema // by media type
	replies  map[int]reply
}

type reply struct {
	bodies  map[string]*jsonschema.Schema // by media type; nil: no body
	headers map[string]*jsonschema.Schema // those that must be there
}

// New compiles every schema of both documents.
func New() (*Checker, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	docs := make(map[string]map[string]any)
	for name, raw := range map[string][]byte{"openapi.json": contract.OpenAPI, "asyncapi.json": contract.AsyncAPI} {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := c.AddResource(name, doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		docs[name] = doc.(map[string]any)
	}
	k := &Checker{doc: docs["openapi.json"]}
	for path, item := range k.doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			o, err := k.operation(c, path, method, op.(map[string]any))
			if err != nil {
				return nil, err
			}
			k.operations = append(k.operations, o)
		}
	}
	k.webhooks = make(map[string]*jsonschema.Schema)
	for kind := range k.doc["webhooks"].(map[string]any) {
		schema, err := c.Compile("openapi.json#/webhooks/" + escape(kind) + "/post/requestBody/content/" + escape("application/json") + "/schema")
		if err != nil {
			return nil, err
		}
		k.webhooks[kind] = schema
	}
	channels := docs["asyncapi.json"]["operations"].(map[string]any)
	for name, list := range map[string]*[]*jsonschema.Schema{
		"receiveClientFrame": &k.client, "sendServerFrame": &k.server, "sendPlainFrame": &k.plain,
	} {
		for _, m := range channels[name].(map[string]any)["messages"].([]any) {
			ref := m.(map[string]any)["$ref"].(string)
			schema, err := c.Compile("asyncapi.json#/components/schemas/" + ref[strings.LastIndex(ref, "/")+1:])
			if err != nil {
				return nil, err
			}
			*list = append(*list, schema)
		}
	}
	return k, nil
}

func (k *Checker) operation(c *jsonschema.Compiler, path, method string, op map[string]any) (operation, error) {
	o := operation{method: strings.ToUpper(method), path: path, segments: strings.Split(path, "/"), replies: map[int]reply{}}
	at := "openapi.json#/paths/" + escape(path) + "/" + method
	if body, ok := op["requestBody"].(map[string]any); ok {
		var err error
		if o.requests, err = bodies(c, at+"/requestBody", body); err != nil {
			return o, err
		}
	}
	for status, r := range op["responses"].(map[string]any) {
		n, err := strconv.Atoi(status)
		if err != nil {
			return o, fmt.Errorf("%s: status %q", at, status)
		}
		where, def := at+"/responses/"+status, r.(map[string]any)
		if ref, ok := def["$ref"].(string); ok {
			where = "openapi.json" + ref
			def = k.doc["components"].(map[string]any)["responses"].(map[string]any)[ref[strings.LastIndex(ref, "/")+1:]].(map[string]any)
		}
		rep := reply{headers: map[string]*jsonschema.Schema{}}
		if rep.bodies, err = bodies(c, where, def); err != nil {
			return o, err
		}
		headers, _ := def["headers"].(map[string]any)
		for name := range headers {
			if rep.headers[name], err = c.Compile(where + "/headers/" + name + "/schema"); err != nil {
				return o, err
			}
		}
		o.replies[n] = rep
	}
	return o, nil
}

func bodies(c *jsonschema.Compiler, at string, def map[string]any) (map[string]*jsonschema.Schema, error) {
	content, ok := def["content"].(map[string]any)
	if !ok {
		return nil, nil
	}
	out := make(map[string]*jsonschema.Schema, len(content))
	for media := range content {
		schema, err := c.Compile(at + "/content/" + escape(media) + "/schema")
		if err != nil {
			return nil, err
		}
		out[media] = schema
	}
	return out, nil
}

// escape writes a name as a step of a JSON pointer in a URL (RFC 6901 §6).
func escape(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D", "+", "%2B").Replace(s)
}

// Routes lists what is documented: a method, a space, a path.
func (k *Checker) Routes() []string {
	var out []string
	for _, o := range k.operations {
		out = append(out, o.method+" "+o.path)
	}
	slices.Sort(out)
	return out
}

// Exchange is a request and its reply.
type Exchange struct {
	Method, Path string // without the query, as it was sent
	Header       http.Header
	Body         []byte
	Status       int
	ReplyHeader  http.Header
	Reply        []byte
}

// Exchange holds a request that was taken, and any reply, against the contract.
func (k *Checker) Exchange(x Exchange) error {
	o, ok := k.find(x.Method, x.Path)
	if !ok {
		if x.Status == http.StatusNotFound || x.Status == http.StatusMethodNotAllowed {
			return nil // what is not documented is not there
		}
		return fmt.Errorf("%s %s is not documented and gives %d", x.Method, x.Path, x.Status)
	}
	fail := func(what string, err error) error {
		return fmt.Errorf("%s %s: %d: %s: %w", o.method, o.path, x.Status, what, err)
	}
	r, ok := o.replies[x.Status]
	if !ok {
		return fail("status", errors.New("not documented"))
	}
	for name, schema := range r.headers {
		var v any = x.ReplyHeader.Get(name)
		if n, err := strconv.Atoi(x.ReplyHeader.Get(name)); err == nil {
			v = n
		}
		if err := schema.Validate(v); err != nil {
			return fail("header "+name, err)
		}
	}
	if x.Method != http.MethodHead {
		if err := match(r.bodies, x.ReplyHeader.Get("Content-Type"), x.Reply); err != nil {
			return fail("reply", err)
		}
		var p struct{ Status int }
		if x.Status >= 400 && (json.Unmarshal(x.Reply, &p) != nil || p.Status != x.Status) {
			return fail("reply", errors.New("the problem's status is another one"))
		}
	}
	binary := x.Header.Get("ce-specversion") != "" // its attributes stand in the header
	if x.Status < 300 && o.requests != nil && !binary {
		if err := match(o.requests, x.Header.Get("Content-Type"), x.Body); err != nil {
			return fail("request", err)
		}
	}
	return nil
}

func (k *Checker) find(method, path string) (operation, bool) {
	segments := strings.Split(path, "/")
	for _, o := range k.operations {
		if o.method == method && slices.EqualFunc(o.segments, segments, func(want, got string) bool {
			return want == got || strings.HasPrefix(want, "{") && got != ""
		}) {
			return o, true
		}
	}
	return operation{}, false
}

func match(bodies map[string]*jsonschema.Schema, contentType string, body []byte) error {
	if bodies == nil {
		if len(body) > 0 {
			return fmt.Errorf("%d bytes where none are documented", len(body))
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("content type %q: %w", contentType, err)
	}
	schema, ok := bodies[media]
	if !ok {
		return fmt.Errorf("content type %s; documented are %v", media, slices.Sorted(maps.Keys(bodies)))
	}
	switch {
	case media == "application/x-ndjson":
		for line := range bytes.Lines(body) {
			if err := validate(schema, line); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(media, "text/"):
		return nil
	}
	return validate(schema, body)
}

func validate(schema *jsonschema.Schema, raw []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

// ServerFrame holds a frame of the bridge against the contract.
func (k *Checker) ServerFrame(raw []byte) error { return oneOf(k.server, raw) }

// ClientFrame holds a client's frame against the contract.
func (k *Checker) ClientFrame(raw []byte) error { return oneOf(k.client, raw) }

// PlainServerFrame holds what the bridge sends to a plain client against it.
func (k *Checker) PlainServerFrame(raw []byte) error { return oneOf(k.plain, raw) }

// Webhook holds the body of a callback or of a request, as a backend gets it, against
// the contract.
func (k *Checker) Webhook(raw []byte) error {
	var head struct{ Type string }
	if err := json.Unmarshal(raw, &head); err != nil {
		return err
	}
	schema := k.webhooks[head.Type]
	if schema == nil {
		return fmt.Errorf("there is no webhook %q", head.Type)
	}
	return validate(schema, raw)
}

// oneOf holds a frame against the schema whose type it is, or against each if it has none.
func oneOf(schemas []*jsonschema.Schema, raw []byte) error {
	frame, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	members, _ := frame.(map[string]any) // what has no type fails below
	given, typed := members["type"]
	failure, known := fmt.Errorf("there is no frame of type %v", given), false
	for _, s := range schemas {
		t := s.Properties["type"]
		own := t != nil && t.Const != nil && typed && *t.Const == given
		if t != nil && t.Const != nil && typed && !own {
			continue // it would fail, and tell of everything that is wrong with it
		}
		err := s.Validate(frame)
		if err == nil {
			return nil
		}
		if !known {
			failure, known = err, own
		}
	}
	return failure
}
