package bridge

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// refusalsPerSecond is how many refusals of one kind a second are written.
	refusalsPerSecond = 10
	// refusalSummaryEvery is how often those that were left out are told as one
	// line with their number.
	refusalSummaryEvery = 10 * time.Second
	// maxRefusalKinds bounds the memory of kinds; there are some 40 codes.
	maxRefusalKinds = 100
)

// Refusals keeps unauthenticated callers from filling the log and the audit log: of each kind of refusal some a second are written in full,
// the others are counted, and the count is written. Metrics count all of them.
// Safe for concurrent use; a nil *Refusals lets everything be written.
type Refusals struct {
	log   *slog.Logger
	audit Audit
	now   func() time.Time
	after func(time.Duration, func()) // like time.AfterFunc

	mu    sync.Mutex // guards kinds
	kinds map[string]*refusalKind
}

type refusalKind struct {
	second  int64 // the Unix second that written is of
	written int
	omitted int // since the last summary
}

func newRefusals(log *slog.Logger, audit Audit) *Refusals {
	return &Refusals{log: log, audit: audit, now: time.Now, kinds: make(map[string]*refusalKind)}
}

// Write reports whether a refusal of this kind is to be written. Where it is
// not, it is counted and the count is written within ten seconds. kind is a
// problem's code or a close code.
func (r *Refusals) Write(kind string) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kinds[kind]
	if k == nil {
		if len(r.kinds) >= maxRefusalKinds {
			return false
		}
		k = &refusalKind{}
		r.kinds[kind] = k
	}
	if second := r.now().Unix(); second != k.second {
		k.second, k.written = second, 0
	}
	if k.written < refusalsPerSecond {
		k.written++
		return true
	}
	if k.omitted++; k.omitted == 1 {
		r.after(refusalSummaryEvery, r.Flush)
	}
	return false
}

// Flush writes how many refusals were left out since the last time.
func (r *Refusals) Flush() {
	omitted := make(map[string]int)
	r.mu.Lock()
	for kind, k := range r.kinds {
		if k.omitted > 0 {
			omitted[kind], k.omitted = k.omitted, 0
		}
	}
	r.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(omitted)) {
		r.log.Info("more were refused than are logged", "code", kind, "omitted", omitted[kind])
		r.audit.Refused(kind, "callers who have not proven who they are", slog.Int("omitted", omitted[kind]))
	}
}
