package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode"
	"unicode/utf8"
)

// Identity is who a session speaks for: the token's user, never a URL's or a
// frame's.
type Identity struct {
	User    string
	Token   string    // names the token without being it (auth.Claims.Token); empty in tests only
	TokenID string    // the token's jti; may be empty
	Issued  time.Time // the token's iat; zero where it has none
	Expires time.Time // the session ends here unless a refresh comes
	Policy  Policy
}

// LogValue names the user and the token's id; rights and the token itself stay out.
func (i Identity) LogValue() slog.Value {
	return slog.GroupValue(slog.String("user", i.User), slog.String("token_id", i.TokenID))
}

// ErrUserID says what a user id must be.
var ErrUserID = errors.New("a user id has 1 to 128 characters and no control characters")

// CheckUserID tells whether s may be a user or group id; the error wraps
// ErrUserID and says what is wrong without repeating s.
func CheckUserID(s string) error {
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return fmt.Errorf("%w: it is empty", ErrUserID)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: it is not UTF-8", ErrUserID)
	case n > MaxUserChars:
		return fmt.Errorf("%w: it has %d", ErrUserID, n)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: it has one", ErrUserID)
		}
	}
	return nil
}
