package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Names of the steps of Diagnose, in their order. StepHint steps follow a failed
// StepMatch: each is one change under which the signature would match.
const (
	StepHeaders   = "headers"
	StepID        = "webhook-id"
	StepTimestamp = "webhook-timestamp"
	StepClock     = "clock"
	StepSignature = "webhook-signature"
	StepMatch     = "match"
	StepHint      = "hint"
)

// Step is one check of a diagnosis. Detail says what was found, or what to mend.
type Step struct {
	Name   string
	OK     bool
	Detail string
}

// Diagnose checks a webhook as Verify does, but continues after a failure as far as it
// can. Where no signature matches, it looks for a usual mistake that explains it. It is
// for a person at a terminal, since it hashes the body many times.
func (w *Webhooks) Diagnose(h Header, body []byte, now time.Time) []Step {
	steps := []Step{step(StepHeaders, h.checkPresent(), "all three signature headers are here")}
	if h.ID != "" {
		steps = append(steps, step(StepID, checkID(h.ID), "has the right form"))
	}
	if h.Timestamp != "" {
		at, err := parseTimestamp(h.Timestamp)
		steps = append(steps, step(StepTimestamp, err, "is "+at.UTC().Format(time.RFC3339)))
		if err == nil {
			steps = append(steps, step(StepClock, checkWindow(at, now),
				fmt.Sprintf("%.0f s from this clock; %.0f s are allowed", now.Sub(at).Abs().Seconds(), MaxSkew.Seconds())))
		}
	}
	if h.Signature == "" {
		return steps
	}
	sigs, err := parseSignatures(h.Signature)
	steps = append(steps, step(StepSignature, err, fmt.Sprintf("%d v1, %d v1a, %d of other versions, %d not base64 of the right length",
		sigs.nmac, sigs.ned, sigs.unknown, sigs.illFormed())))
	if key := w.match(&sigs, h.ID, h.Timestamp, body); key > 0 {
		return append(steps, Step{StepMatch, true, fmt.Sprintf("key %d of %d signed this body", key, len(w.keys))})
	}
	if err == nil {
		steps = append(steps, Step{StepMatch, false, w.mismatch(&sigs)})
	}
	for _, detail := range w.hints(h, &sigs, body) {
		steps = append(steps, Step{StepHint, false, detail})
	}
	return steps
}

func step(name string, err error, found string) Step {
	if err != nil {
		return Step{name, false, err.Error()}
	}
	return Step{name, true, found}
}

// variant is one mistake in the body, the key or the signed text; what tells the sender
// about it. The first of each list is the standard's way, with an empty what.
type variant[T any] struct {
	what string
	is   T
}

// signedForm is a way to lay out the signed text.
type signedForm func(id, timestamp string, body []byte) []byte

var signedForms = []variant[signedForm]{
	{"", signedText},
	{"the timestamp is signed in other digits than the header has", nil}, // filled in by hints
	{"the body alone is signed; sign id.timestamp.body", func(_, _ string, b []byte) []byte { return b }},
	{"timestamp.body is signed; sign id.timestamp.body", func(_, ts string, b []byte) []byte {
		return append([]byte(ts+"."), b...)
	}},
	{"id and timestamp are signed in the wrong order; sign id.timestamp.body", func(id, ts string, b []byte) []byte {
		return append([]byte(ts+"."+id+"."), b...)
	}},
	{"id, timestamp and body are signed without full stops between", func(id, ts string, b []byte) []byte {
		return append([]byte(id+ts), b...)
	}},
}

// hints looks for one mistake with which a signature matches, then for two, and returns
// the first that it finds.
func (w *Webhooks) hints(h Header, sigs *signatures, body []byte) []string {
	macs, eds, spelled := looseSignatures(h.Signature, sigs)
	if len(macs)+len(eds) == 0 {
		return nil
	}
	forms := slices.Clone(signedForms)
	forms[1].is = func(id, ts string, b []byte) []byte { return signedText(id, otherTimestamp(ts), b) }
	bodies := bodyVariants(body)
	for _, changes := range []int{0, 1, 2} {
		for _, f := range forms {
			for _, b := range bodies {
				text := f.is(h.ID, h.Timestamp, b.is)
				for i := range w.keys {
					for _, k := range w.keys[i].variants() {
						found := said(f.what, b.what, k.what)
						if len(found) == changes && k.is(text, macs, eds) {
							return said(append(found, spelled)...)
						}
					}
				}
			}
		}
	}
	return nil
}

// said drops the empty texts.
func said(whats ...string) []string {
	var out []string
	for _, s := range whats {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// otherTimestamp turns milliseconds into seconds and seconds into milliseconds.
func otherTimestamp(ts string) string {
	if len(ts) >= 13 {
		return ts[:len(ts)-3]
	}
	return ts + "000"
}

// variants are the ways in which a sender may have misread a key. Each reports whether
// one of the signatures of text was made with it.
func (k *webhookKey) variants() []variant[func(text []byte, macs, eds [][]byte) bool] {
	type matcher = func(text []byte, macs, eds [][]byte) bool
	if k.secret == nil {
		return []variant[matcher]{{"", func(text []byte, _, eds [][]byte) bool {
			return slices.ContainsFunc(eds, func(sig []byte) bool { return ed25519.Verify(k.public, text, sig) })
		}}}
	}
	with := func(secret []byte) matcher {
		return func(text []byte, macs, _ [][]byte) bool { return anyMAC(secret, text, macs) }
	}
	padded := base64.StdEncoding.EncodeToString(k.secret)
	bare := base64.RawStdEncoding.EncodeToString(k.secret)
	const undecoded = "the secret is used as text; decode the base64 after whsec_ first"
	return []variant[matcher]{
		{"", with(k.secret)},
		{undecoded, with([]byte(padded))},
		{undecoded, with([]byte(bare))},
		{"the secret is used with its whsec_ prefix; take the prefix off and decode the rest from base64", with([]byte(prefixSecret + padded))},
		{"the secret is used with its whsec_ prefix; take the prefix off and decode the rest from base64", with([]byte(prefixSecret + bare))},
	}
}

// looseSignatures reads signatures in spellings that senders mistake for the standard's,
// and returns which mistake it was.
func looseSignatures(header string, sigs *signatures) (macs, eds [][]byte, spelled string) {
	if macs, eds = sigs.decoded(); len(macs)+len(eds) > 0 {
		return macs, eds, ""
	}
	for i, entry := range strings.FieldsFunc(header, func(r rune) bool { return r == ' ' }) {
		if i == maxSignatures {
			break
		}
		version, value, ok := strings.Cut(entry, ",")
		if !ok {
			if version, value, ok = strings.Cut(entry, "="); !ok || version != versionMAC && version != "sha256" {
				version, value = "", entry
			}
			spelled = `the entry has no version; write "v1," before the signature`
		}
		sig, how, err := decodeLoosely(value)
		if err != nil {
			continue
		}
		if how != "" {
			spelled = how
		}
		switch {
		case len(sig) == ed25519Bytes:
			eds = append(eds, sig)
		case len(sig) == macBytes && version != versionEd25519:
			macs = append(macs, sig)
		}
	}
	return macs, eds, spelled
}

func decodeLoosely(value string) (sig []byte, how string, err error) {
	if b, err := hex.DecodeString(value); err == nil && len(b) == macBytes {
		return b, "the signature is in hexadecimal; write it in base64", nil
	}
	if b, err := base64.StdEncoding.DecodeString(value); err == nil {
		return b, "", nil
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(value); err == nil {
			return b, "the signature is in another base64 than the standard's; use the one with + and / and with padding", nil
		}
	}
	return nil, "", errors.New("not base64")
}
