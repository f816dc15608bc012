package bridge

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strconv"
	"strings"
)

// cursor is a client's bookmark: "tag.mailbox.broadcast.life". The tag binds it to
// one store and one user, the numbers are a Position, and the life is the one of
// the store in which it was written. Cursors from before stores kept lives end
// with the numbers. Clients keep a cursor and give it back unread.
type cursor struct {
	tag  string
	life string
	at   Position
}

var errCursor = errors.New("the cursor is not one of ours")

var tagEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// cursorTag is 8 characters that differ between stores and between users.
func cursorTag(epoch, user string) string {
	sum := sha256.Sum256([]byte(epoch + "\x00" + user))
	return tagEncoding.EncodeToString(sum[:5])
}

func (c cursor) append(b []byte) []byte {
	b = append(b, c.tag...)
	b = append(b, '.')
	b = strconv.AppendUint(b, c.at.Mailbox, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, c.at.Broadcast, 10)
	if c.life == "" {
		return b
	}
	return append(append(b, '.'), c.life...)
}

func (c cursor) String() string { return string(c.append(make([]byte, 0, 48))) }

// parseCursor reads a cursor; errCursor where it is malformed. A tag that is
// not the session's own is the caller's to judge, and so is the life.
func parseCursor(s string) (c cursor, err error) {
	parts := strings.Split(s, ".")
	if len(s) > maxCursorBytes || len(parts) < 3 || len(parts) > 4 || parts[0] == "" {
		return cursor{}, errCursor
	}
	c.tag = parts[0]
	if c.at.Mailbox, err = parseSeq(parts[1]); err != nil {
		return cursor{}, errCursor
	}
	if c.at.Broadcast, err = parseSeq(parts[2]); err != nil {
		return cursor{}, errCursor
	}
	if len(parts) == 4 {
		if c.life = parts[3]; !validLife(c.life) {
			return cursor{}, errCursor
		}
	}
	return c, nil
}

// maxCursorBytes is more than the longest cursor of ours has.
const maxCursorBytes = 80

// validLife reports whether s has the form of Store.Life.
func validLife(s string) bool { return base36(s, 12) }

// ValidEpoch reports whether s has the form of Store.Epoch.
func ValidEpoch(s string) bool { return base36(s, 16) }

// base36 reports whether s has 4 to most characters of [0-9a-z].
func base36(s string, most int) bool {
	if len(s) < 4 || len(s) > most {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// parseSeq reads the one way we write a number: digits, no sign, no leading zero.
func parseSeq(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errCursor
	}
	return n, nil
}
