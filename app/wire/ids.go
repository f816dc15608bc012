package wire

import "strings"

const (
	// MaxIDBytes bounds a webhook-id, which becomes its event's id.
	MaxIDBytes = 64
	// MaxTypeBytes bounds an event's type.
	MaxTypeBytes = 128
)

// ValidID reports whether s can be a webhook-id: 1 to 64 of A-Z a-z 0-9 _ -.
func ValidID(s string) bool { return s != "" && len(s) <= MaxIDBytes && Alphanumeric(s, "_-") }

func validType(s string) bool { return s != "" && len(s) <= MaxTypeBytes && Alphanumeric(s, "_.-") }

// Alphanumeric reports whether s has only A-Z a-z 0-9 and the bytes of also. The
// empty string does.
func Alphanumeric(s, also string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(also, c) >= 0) {
			return false
		}
	}
	return true
}
