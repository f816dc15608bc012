package bridge

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strconv"
	"strings"
)

// A cursor is "tag.mailbox.broadcast": the tag binds it to one store and one
// user, the numbers are a Position. Clients keep it and give it back unread.

var errCursor = errors.New("the cursor is not one of ours")

// Reasons of a gap frame.
const (
	GapExpired   = "expired"   // time ran out on messages after the cursor
	GapTrimmed   = "trimmed"   // the mailbox was full; its oldest messages went
	GapForeign   = "foreign"   // the cursor is of another store or another user
	GapMalformed = "malformed" // the cursor is not one of ours
	GapAhead     = "ahead"     // the cursor is beyond what the store has
)

var tagEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// cursorTag is 8 characters that differ between stores and between users.
func cursorTag(epoch, user string) string {
	sum := sha256.Sum256([]byte(epoch + "\x00" + user))
	return tagEncoding.EncodeToString(sum[:5])
}

func appendCursor(b []byte, tag string, p Position) []byte {
	b = append(b, tag...)
	b = append(b, '.')
	b = strconv.AppendUint(b, p.Mailbox, 10)
	b = append(b, '.')
	return strconv.AppendUint(b, p.Broadcast, 10)
}

func formatCursor(tag string, p Position) string {
	return string(appendCursor(make([]byte, 0, 32), tag, p))
}

// parseCursor splits a cursor; errCursor where it is malformed. A tag that is
// not the session's own is the caller's to judge.
func parseCursor(s string) (tag string, p Position, err error) {
	tag, rest, ok1 := strings.Cut(s, ".")
	mailbox, broadcast, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || tag == "" || len(s) > 64 {
		return "", p, errCursor
	}
	if p.Mailbox, err = parseSeq(mailbox); err != nil {
		return "", p, errCursor
	}
	if p.Broadcast, err = parseSeq(broadcast); err != nil {
		return "", p, errCursor
	}
	return tag, p, nil
}

// parseSeq reads the one way we write a number: digits, no sign, no leading zero.
func parseSeq(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errCursor
	}
	return n, nil
}

// parsePong reads a pong's payload: the place that the ping carried, and how
// many event frames came before it.
func parsePong(b []byte) (p Position, frames uint64, err error) {
	if len(b) > 64 {
		return p, 0, errCursor
	}
	mailbox, rest, _ := strings.Cut(string(b), ".")
	broadcast, count, _ := strings.Cut(rest, ".")
	if p.Mailbox, err = parseSeq(mailbox); err != nil {
		return p, 0, err
	}
	if p.Broadcast, err = parseSeq(broadcast); err != nil {
		return p, 0, err
	}
	frames, err = parseSeq(count)
	return p, frames, err
}
