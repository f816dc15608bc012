package auth

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxSkew is how far a webhook's timestamp may be from our clock, either way.
// It is what the official libraries allow.
const MaxSkew = 5 * time.Minute

// maxSignatures is how many entries of a signature header are checked. A sender needs
// one for each key that it rotates through; more would only be work that anybody can
// cause.
const maxSignatures = 10

const (
	macBytes       = 32 // HMAC-SHA256
	macBase64      = 44 // macBytes in padded base64
	ed25519Bytes   = 64 // an ed25519 signature
	ed25519Base64  = 88 // ed25519Bytes in padded base64
	versionMAC     = "v1"
	versionEd25519 = "v1a"
)

// strictBase64 is padded base64 in which each value has one spelling only.
var strictBase64 = base64.StdEncoding.Strict()

// Header holds the three signature headers as they were received. The caller
// picks the family, webhook-* or svix-*.
type Header struct{ ID, Timestamp, Signature string }

// Reason says why a signature was refused.
type Reason string

// The reasons. Malformed is a mistake in form (HTTP 400); the others mean that the
// request is not authenticated (HTTP 401).
const (
	ReasonMissing   Reason = "missing"   // a header is absent or empty
	ReasonMalformed Reason = "malformed" // the id, the timestamp or the signature has a bad form
	ReasonWindow    Reason = "window"    // the timestamp is more than MaxSkew away
	ReasonMismatch  Reason = "mismatch"  // no signature matches any key
)

// SignatureError is every error of Webhooks.Verify. Detail says what to mend and may be
// shown to the sender.
type SignatureError struct {
	Reason Reason
	Detail string
}

// Error is the detail.
func (e *SignatureError) Error() string { return e.Detail }

// Check checks the headers alone, so that a request can be refused before its body is
// read. Any error is the *SignatureError that Verify would return, whatever the body.
// It keeps no part of the headers.
func (h Header) Check(now time.Time) error {
	_, _, err := h.parse(now)
	return err
}

// parse reads the headers and checks the timestamp against the clock.
func (h Header) parse(now time.Time) (at time.Time, sigs signatures, err error) {
	if err = h.checkPresent(); err != nil {
		return at, sigs, err
	}
	if err = checkID(h.ID); err != nil {
		return at, sigs, err
	}
	if at, err = parseTimestamp(h.Timestamp); err != nil {
		return at, sigs, err
	}
	if err = checkWindow(at, now); err != nil {
		return at, sigs, err
	}
	sigs, err = parseSignatures(h.Signature)
	return at, sigs, err
}

func (h Header) checkPresent() error {
	var names []string
	for _, f := range []struct{ name, value string }{
		{"webhook-id", h.ID}, {"webhook-timestamp", h.Timestamp}, {"webhook-signature", h.Signature},
	} {
		if f.value == "" {
			names = append(names, f.name)
		}
	}
	verb := " are missing or empty"
	switch len(names) {
	case 0:
		return nil
	case 1:
		verb = " is missing or empty"
	}
	return &SignatureError{ReasonMissing, strings.Join(names, ", ") + verb}
}

// checkID checks that the id is [A-Za-z0-9_-]{1,64}. Above all it must have no full stop,
// which separates id, timestamp and body in the signed text.
func checkID(id string) error {
	if len(id) > 64 {
		return &SignatureError{ReasonMalformed, fmt.Sprintf("webhook-id has %d characters; 64 are allowed", len(id))}
	}
	if i := firstNotAlphanumeric(id, "_-"); i >= 0 {
		return &SignatureError{ReasonMalformed,
			fmt.Sprintf("webhook-id has a character at position %d that is not one of A-Z a-z 0-9 _ -", i+1)}
	}
	return nil
}

// firstNotAlphanumeric is the index of the first byte that is neither A-Z a-z 0-9 nor
// one of also; -1 where there is none.
func firstNotAlphanumeric(s, also string) int {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(also, c) >= 0) {
			return i
		}
	}
	return -1
}

// parseTimestamp reads whole Unix seconds from ASCII digits alone. A plus or minus sign is
// refused, since the text is signed as it is.
func parseTimestamp(s string) (time.Time, error) {
	const most = 15 // digits; room to recognise milliseconds
	if len(s) > most {
		return time.Time{}, &SignatureError{ReasonMalformed, "webhook-timestamp is too long for Unix seconds"}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return time.Time{}, &SignatureError{ReasonMalformed,
			"webhook-timestamp must be Unix seconds in digits, such as 1700000000"}
	}
	return time.Unix(int64(n), 0), nil
}

// checkWindow compares the sender's clock with ours.
func checkWindow(at, now time.Time) error {
	late := now.Sub(at)
	if late >= -MaxSkew && late <= MaxSkew {
		return nil
	}
	detail := fmt.Sprintf("webhook-timestamp is %.0f s behind this server's clock; %.0f s are allowed",
		late.Seconds(), MaxSkew.Seconds())
	if late < 0 {
		detail = fmt.Sprintf("webhook-timestamp is %.0f s ahead of this server's clock; %.0f s are allowed",
			-late.Seconds(), MaxSkew.Seconds())
		if inMillis(at, now) {
			detail = "webhook-timestamp is in milliseconds; send seconds"
		}
	}
	return &SignatureError{ReasonWindow, detail}
}

// inMillis reports whether a timestamp makes sense only when read as
// milliseconds.
func inMillis(at, now time.Time) bool {
	d := now.Sub(time.UnixMilli(at.Unix()))
	return d >= -24*time.Hour && d <= 24*time.Hour
}

// signatures are the entries of a signature header, as text: a value is decoded only when
// there is a key to try it on.
type signatures struct {
	macs    [maxSignatures]string // values of the v1 entries
	eds     [maxSignatures]string // values of the v1a entries
	nmac    int
	ned     int
	unknown int // entries of other versions; a sender may use more than we know
	bare    int // entries without a version
}

// parseSignatures splits a header at its spaces into "version,value" entries.
func parseSignatures(header string) (signatures, error) {
	var s signatures
	for n := 0; ; {
		header = strings.TrimLeft(header, " ")
		if header == "" {
			break
		}
		if n++; n > maxSignatures {
			return s, &SignatureError{ReasonMalformed,
				fmt.Sprintf("webhook-signature has more than %d entries", maxSignatures)}
		}
		entry, rest, _ := strings.Cut(header, " ")
		header = rest
		if strings.Count(entry, ",") > 1 { // the last comma is from a proxy that joined several lines (RFC 9110 §5.3)
			entry = strings.TrimSuffix(entry, ",")
		}
		version, value, ok := strings.Cut(entry, ",")
		switch {
		case !ok:
			s.bare++
		case version == versionMAC:
			s.macs[s.nmac] = value
			s.nmac++
		case version == versionEd25519:
			s.eds[s.ned] = value
			s.ned++
		default:
			s.unknown++
		}
	}
	if s.nmac+s.ned+s.unknown == 0 {
		return s, &SignatureError{ReasonMalformed,
			`webhook-signature must hold "v1,<base64>" or "v1a,<base64>" entries with a space between`}
	}
	return s, nil
}

// decodeMAC decodes a v1 value. It is strict about the padding bits, so that
// each MAC has one spelling; the official libraries compare the spelling.
func decodeMAC(value string) (mac [macBytes]byte, ok bool) {
	if len(value) != macBase64 {
		return mac, false
	}
	var text [macBase64]byte
	var buf [macBytes + 1]byte
	copy(text[:], value)
	n, err := strictBase64.Decode(buf[:], text[:])
	if err != nil || n != macBytes {
		return mac, false
	}
	return [macBytes]byte(buf[:macBytes]), true
}

// decodeEd25519 decodes a v1a value.
func decodeEd25519(value string) (sig []byte, ok bool) {
	if len(value) != ed25519Base64 {
		return nil, false
	}
	sig, err := strictBase64.DecodeString(value)
	return sig, err == nil && len(sig) == ed25519Bytes
}
