package redis

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// The parts of what an id is remembered by; see lua/lib.lua.
const (
	untilDigits    = 13 // milliseconds
	recalledDigits = 19 // nanoseconds
	dedupHead      = sha256.Size + untilDigits + recalledDigits
)

// dedupEntry is what is known of an id.
type dedupEntry struct {
	*idRecord
	digest   string
	until    int64  // milliseconds
	seq      uint64 // of the one mailbox it went to; 0 where that is not known here
	placed   bool   // seq is what is remembered, be it 0
	recalled time.Time
}

// digits writes a number with zeros before it.
func digits(n int64, width int) string {
	text := itoa(n)
	return "0000000000000000000"[:max(0, width-len(text))] + text
}

func (r *dedupEntry) encode() string {
	place := ""
	if r.placed {
		place = itoa(r.seq)
	}
	at := int64(0)
	if !r.recalled.IsZero() {
		at = r.recalled.UnixNano()
	}
	return r.digest + digits(r.until, untilDigits) + digits(at, recalledDigits) + place + " " + r.idRecord.encode()
}

func decodeDedupEntry(text string) (r dedupEntry, err error) {
	if len(text) <= dedupHead {
		return r, errFormat
	}
	r.digest = text[:sha256.Size]
	if r.until, err = strconv.ParseInt(text[sha256.Size:sha256.Size+untilDigits], 10, 64); err != nil {
		return r, err
	}
	at, err := strconv.ParseInt(text[sha256.Size+untilDigits:dedupHead], 10, 64)
	if err != nil {
		return r, err
	}
	if at != 0 {
		r.recalled = time.Unix(0, at).UTC()
	}
	place, record, _ := strings.Cut(text[dedupHead:], " ")
	if r.placed = place != ""; r.placed {
		if r.seq, err = strconv.ParseUint(place, 10, 64); err != nil {
			return r, err
		}
	}
	r.idRecord, err = decodeRecord(record)
	return r, err
}

// remembered recalls what is known of an id. ErrUnknown.
func (e *Store) remembered(ctx context.Context, id string) (r dedupEntry, err error) {
	text, err := e.client.Do(ctx, e.client.B().Get().Key(e.record(id)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return r, bridge.ErrUnknown
	}
	if err = e.fault(ctx, err); err != nil {
		return r, err
	}
	if r, err = decodeDedupEntry(text); err != nil {
		return r, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	if r.until <= e.nowMs() {
		return r, bridge.ErrUnknown
	}
	return r, nil
}
