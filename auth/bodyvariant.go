package auth

import (
	"bytes"
	"crypto/hmac"
	stdjson "encoding/json"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// bodyVariants are the bodies that a sender may have signed by mistake instead of the one
// that it sent. Variants equal to an earlier one are left out.
func bodyVariants(body []byte) []variant[[]byte] {
	all := []variant[[]byte]{{"", body}}
	add := func(what string, b []byte) {
		if !slices.ContainsFunc(all, func(v variant[[]byte]) bool { return bytes.Equal(v.is, b) }) {
			all = append(all, variant[[]byte]{what, b})
		}
	}
	add("the body was signed without the line break at its end", bytes.TrimRight(body, "\r\n"))
	add("the body was signed with a line break at its end", append(bytes.Clone(body), '\n'))
	add("the body was signed with a line break (CRLF) at its end", append(bytes.Clone(body), '\r', '\n'))
	add("the body was signed without white space around it", bytes.TrimSpace(body))
	add("the body was signed with LF line breaks and sent with CRLF", bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")))
	add("the body was signed with CRLF line breaks and sent with LF",
		bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")))
	add("the body was signed without its byte order mark", bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))

	const again = "; sign the very bytes that are sent"
	trimmed := bytes.TrimSpace(body)
	for _, style := range []struct {
		what string
		opts []jsontext.Options
	}{
		{"compact JSON was signed and other JSON sent" + again, nil},
		{"JSON with spaces after commas and colons was signed and other JSON sent" + again,
			[]jsontext.Options{jsontext.SpaceAfterComma(true), jsontext.SpaceAfterColon(true)}},
		{"JSON indented by 2 was signed and other JSON sent" + again,
			[]jsontext.Options{jsontext.WithIndent("  ")}},
		{"JSON indented by 4 was signed and other JSON sent" + again,
			[]jsontext.Options{jsontext.WithIndent("    ")}},
	} {
		v := jsontext.Value(bytes.Clone(trimmed))
		if v.Format(style.opts...) != nil {
			continue
		}
		add(style.what, v)
		add(style.what, append(bytes.Clone(v), '\n'))
	}
	var tree any
	if stdjson.Unmarshal(trimmed, &tree) == nil {
		const sorted = "JSON with its members sorted was signed and sent in another order" + again
		if b, err := stdjson.Marshal(tree); err == nil {
			add(sorted, b)
		}
		if b, err := json.Marshal(tree, json.Deterministic(true)); err == nil {
			add(sorted, b)
			spaced := jsontext.Value(b)
			if spaced.Format(jsontext.SpaceAfterComma(true), jsontext.SpaceAfterColon(true)) == nil {
				add(sorted, spaced)
			}
		}
	}
	add("an empty body was signed", nil)
	return all
}

func anyMAC(secret, text []byte, macs [][]byte) bool {
	if len(macs) == 0 {
		return false
	}
	h := newMAC(secret)
	h.Write(text)
	sum := h.Sum(nil)
	return slices.ContainsFunc(macs, func(mac []byte) bool { return hmac.Equal(mac, sum) })
}
