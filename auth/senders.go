package auth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxSenderName   = 64
	maxPatternChars = 128
)

// Sender is a named holder of webhook keys, and what it may send.
type Sender struct {
	Name    string
	Secrets []string
	Types   []string // patterns of event types; nil: any
	To      []string // patterns of whom; nil: anybody
	Rate    float64  // events a second; 0: no limit
	Burst   int      // events at once, where there is a rate
}

// String names the sender and keeps its secrets.
func (s Sender) String() string { return "sender " + s.Name }

// LogValue keeps the secrets out of logs.
func (s Sender) LogValue() slog.Value { return slog.StringValue(s.Name) }

type senderFile struct {
	Senders []senderEntry `json:"senders"`
}

type senderEntry struct {
	Name    string   `json:"name"`
	Secrets []string `json:"secrets"`
	Types   patterns `json:"types"`
	To      patterns `json:"to"`
	Rate    *struct {
		PerSecond float64 `json:"perSecond"`
		Burst     int     `json:"burst"`
	} `json:"rate"`
}

// patterns is a list that may be absent but not null: null comes from templates with
// nothing to fill in, and would allow all.
type patterns []string

// UnmarshalJSON implements json.Unmarshaler.
func (p *patterns) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return errors.New("a list of patterns is null")
	}
	return json.Unmarshal(b, (*[]string)(p))
}

// ParseSenders reads a file of senders:
//
//	{"senders":[{"name":"clinic","secrets":["whsec_…"],"types":["patient.*"],
//	 "to":["patient-*","group:ward-*"],"rate":{"perSecond":50,"burst":100}}]}
//
// Names it does not know are refused: a slip in "types" must not open
// everything. Its errors never repeat a secret.
func ParseSenders(b []byte) ([]Sender, error) {
	var f senderFile
	if err := json.Unmarshal(withoutBOM(b), &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, fileFault(err, "senders", "a sender has name, secrets, types, to and rate")
	}
	if len(f.Senders) == 0 {
		return nil, errors.New(`no senders: it must be {"senders":[{"name":"…","secrets":["whsec_…"]}]}`)
	}
	out := make([]Sender, 0, len(f.Senders))
	names, secrets := make(map[string]bool), make(map[string]bool)
	for i, e := range f.Senders {
		s, err := e.sender(secrets)
		if err == nil && names[e.Name] {
			err = errors.New("name is given to another sender, too")
		}
		if err != nil {
			return nil, fmt.Errorf("sender %d: %w", i+1, err)
		}
		names[e.Name] = true
		out = append(out, s)
	}
	if len(secrets) > maxWebhookKeys {
		return nil, fmt.Errorf("%d secrets; at most %d are allowed over all senders", len(secrets), maxWebhookKeys)
	}
	return out, nil
}

// fileFault says where a file of senders or issuers is wrong, and repeats no value.
func fileFault(err error, of, members string) error {
	var syn *jsontext.SyntacticError
	var sem *json.SemanticError
	switch {
	case errors.As(err, &syn) && errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("a member is given twice, at byte %d", syn.ByteOffset)
	case errors.As(err, &syn) && syn.ByteOffset == 0 && errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file is empty")
	case errors.As(err, &syn):
		return fmt.Errorf("not JSON: syntax error at byte %d", syn.ByteOffset)
	case errors.As(err, &sem) && errors.Is(err, json.ErrUnknownName):
		place := string(sem.JSONPointer)
		if !likeMember(sem.JSONPointer.LastToken()) {
			place = "a name in " + cmp.Or(string(sem.JSONPointer.Parent()), "the file")
		}
		return fmt.Errorf("%s is no member known here; %s", place, members)
	case errors.As(err, &sem):
		return fmt.Errorf("%s has the wrong type%s", cmp.Or(string(sem.JSONPointer), "the whole"), wanted(sem.GoType))
	}
	return fmt.Errorf("not a file of %s", of)
}

// wanted is the JSON that a Go type is read from, for an error.
func wanted(t reflect.Type) string {
	if t == nil {
		return ""
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return ": it must be a string"
	case reflect.Slice:
		return ": it must be a list, in [ ]"
	case reflect.Struct:
		return ": it must be an object, in { }"
	case reflect.Bool:
		return ": it must be true or false"
	case reflect.Int:
		return ": it must be a whole number"
	case reflect.Float64:
		return ": it must be a number"
	}
	return ""
}

// withoutBOM removes the byte order mark with which some editors begin a file.
func withoutBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\ufeff")) }

// likeMember reports whether an error may repeat a name, because it cannot be a key in the
// wrong place.
func likeMember(s string) bool {
	return s != "" && len(s) <= 16 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func (e *senderEntry) sender(known map[string]bool) (Sender, error) {
	s := Sender{Name: e.Name, Secrets: e.Secrets, Types: e.Types, To: e.To}
	if !validSenderName(e.Name) {
		return s, fmt.Errorf("name must be 1 to %d characters A-Z a-z 0-9 _ . -", maxSenderName)
	}
	if len(e.Secrets) == 0 {
		return s, errors.New("secrets must list one secret at least")
	}
	for i, secret := range e.Secrets {
		mac, public, err := parseSecret(secret)
		if err != nil {
			return s, fmt.Errorf("secret %d %w", i+1, err)
		}
		key := fmt.Sprintf("%q %q", mac, public) // one key can be spelt with and without padding
		if known[key] {
			return s, fmt.Errorf("secret %d stands in the file twice: each key has one name", i+1)
		}
		known[key] = true
	}
	for _, list := range []struct {
		member string
		patterns
	}{{"types", e.Types}, {"to", e.To}} {
		if list.patterns != nil && len(list.patterns) == 0 {
			return s, fmt.Errorf("%s is empty: leave it out to allow all", list.member)
		}
		if slices.ContainsFunc(list.patterns, func(p string) bool { return p == "" || utf8.RuneCountInString(p) > maxPatternChars }) {
			return s, fmt.Errorf("%s: a pattern has 1 to %d characters", list.member, maxPatternChars)
		}
	}
	if e.Rate == nil {
		return s, nil
	}
	s.Rate, s.Burst = e.Rate.PerSecond, e.Rate.Burst
	if !(s.Rate > 0) || s.Rate > 1e6 {
		return s, errors.New("rate/perSecond must be above 0 and at most 1000000")
	}
	if s.Burst == 0 {
		s.Burst = int(math.Ceil(s.Rate))
	}
	if s.Burst < 1 || s.Burst > 1e6 {
		return s, errors.New("rate/burst must be from 1 to 1000000")
	}
	return s, nil
}

func validSenderName(s string) bool {
	return s != "" && len(s) <= maxSenderName && firstNotAlphanumeric(s, "_.-") < 0
}

// NewSenderWebhooks makes the checker over all senders' secrets, in order, and
// names the sender of each key: that of Verified.Key k stands at k-1.
func NewSenderWebhooks(senders []Sender) (*Webhooks, []string, error) {
	var secrets, names []string
	for _, s := range senders {
		for _, secret := range s.Secrets {
			secrets, names = append(secrets, secret), append(names, s.Name)
		}
	}
	w, err := NewWebhooks(secrets)
	return w, names, err
}
