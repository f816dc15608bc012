package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// checkTimeout is how long a check waits for its write.
const checkTimeout = 2 * time.Second

// health keeps the outcome of the last check, so that a change is logged once.
type health struct {
	logger *slog.Logger

	mu  sync.Mutex
	err error // of the last check; nil if it succeeded
}

func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil && h.err != nil:
		h.logger.Info("Redis takes messages again")
	case err != nil && h.err == nil:
		h.logger.Error("Redis cannot take messages", "error", err)
	}
	h.err = err
}

// Check implements bridge.Store. It does on each primary what an Append does, in a mailbox
// for checks that holds one message, and requires that this machine hears the others.
// Errors: ErrUnavailable, ErrClosed, the context's.
func (s *Store) Check(ctx context.Context) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if !s.listening.Load() {
		return fmt.Errorf("%w: other machines are not heard", bridge.ErrUnavailable)
	}
	limited, cancel := context.WithTimeout(ctx, min(checkTimeout, s.opts.Patience))
	defer cancel()
	err = s.probe(limited)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("%w: it has not answered for %v", bridge.ErrUnavailable, min(checkTimeout, s.opts.Patience))
	}
	if ctx.Err() == nil {
		s.health.note(err)
	}
	return err
}

func (s *Store) probe(ctx context.Context) error {
	// An empty text is not taken for a message.
	empty := s.client.B().Publish().Channel(s.channel() + s.self).Message("").Build()
	if err := s.do(ctx, empty); err != nil {
		return err
	}
	if !s.cluster {
		return s.probeAt(ctx, probeTag)
	}
	tags, err := s.probeTags(ctx)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := s.probeAt(ctx, tag); err != nil {
			return err
		}
	}
	return nil
}

// probeTag is the tag of the mailbox for checks; on a Cluster a number follows. Keys
// whose tags begin with it are not counted as content of the store; see Archive.Begin.
const probeTag = "machines"

// probeAt puts a message into the mailbox for checks with a tag, by the scripts of an
// Append. The message's id is forgotten at once, so that each message is a new one.
func (s *Store) probeAt(ctx context.Context, tag string) error {
	base := s.opts.Prefix + ":{" + tag + "}:probe:"
	b := mailbox{base + "h", base + "m", base + "g", base + "t", base + "l", base}
	now := s.opts.Now()
	m := &bridge.Message{ID: "probe", To: bridge.Target{User: "probe"}, Type: "probe", At: now, Expires: now.Add(time.Minute), Event: []byte("{}")}
	a := &appending{e: s, m: m, user: "probe", box: b}
	id, till := base+"i", digits(s.nowMs(), untilDigits)
	blob := rueidis.BinaryString(encodeMessage(m))
	record := recordOf(m, []string{"probe"}).encode()
	var calls []call
	if s.cluster {
		deliver := a.deliver(blob, -1, false)
		deliver.keys[6] = base + "index"
		deliver.keys[0], deliver.args[1], deliver.args[4] = base+"d:"+s.self+itoa(s.nowMs()), "1", "1" // forgotten in a millisecond; limit 1
		calls = []call{{&s.scripts.claim, []string{id}, []string{itoa(s.nowMs()), string(m.Digest[:]), record, till, "60000", s.touch()}}, deliver}
	} else {
		calls = []call{{&s.scripts.publish, []string{id, b.h, b.m, b.g, b.t, b.l, base + "index"}, []string{
			itoa(s.nowMs()), s.channel(), s.self, s.leases.dead(), s.touch(), "1", "1", "1024", "1024", "1",
			string(m.Digest[:]), till, "60000", record, a.expires(), "", "", a.head(), "0", blob, itoa(len(m.Event)), "0"}}}
	}
	for _, c := range calls {
		if err := s.probeBy(ctx, c); err != nil {
			// A script that broke off may have left a state in which all others fail.
			anew := s.client.B().Unlink().Key(id, b.h, b.m, b.g, b.t, base+"index").Build()
			return errors.Join(err, s.do(ctx, anew))
		}
	}
	return nil
}

func (s *Store) probeBy(ctx context.Context, c call) error {
	reply, err := s.runDurable(ctx, c)
	if err != nil || c.script != &s.scripts.publish {
		return err
	}
	list, err := reply.ToArray()
	if err == nil && len(list) == 1 {
		err = list[0].Error()
	}
	return s.fault(ctx, err)
}

// probeTags finds a tag for each primary of a Cluster.
func (s *Store) probeTags(ctx context.Context) (tags []string, err error) {
	ranges, err := s.client.Do(ctx, s.client.B().ClusterSlots().Build()).ToArray()
	if err = s.fault(ctx, err); err != nil {
		return nil, err
	}
	type slotRange struct {
		first, last int64
		primary     string
	}
	var slots []slotRange
	left := make(map[string]bool)
	for i := range ranges {
		r, err := ranges[i].ToArray() // first, last, the primary (host, port, id), its replicas
		if err != nil || len(r) < 3 {
			return nil, fmt.Errorf("%w: redis: a damaged range of slots: %w", bridge.ErrUnavailable, err)
		}
		first, err1 := r[0].AsInt64()
		last, err2 := r[1].AsInt64()
		node, err3 := r[2].ToArray()
		if err := errors.Join(err1, err2, err3); err != nil || len(node) < 3 {
			return nil, fmt.Errorf("%w: redis: a damaged range of slots: %w", bridge.ErrUnavailable, err)
		}
		id, err := node[2].ToString()
		if err != nil {
			return nil, s.fault(ctx, err)
		}
		slots = append(slots, slotRange{first, last, id})
		left[id] = true
	}
	for i := 0; len(left) > 0 && i < maxProbeTags; i++ {
		tag := probeTag + strconv.Itoa(i)
		slot := int64(slotOf(tag))
		for _, span := range slots {
			if span.first <= slot && slot <= span.last && left[span.primary] {
				delete(left, span.primary)
				tags = append(tags, tag)
			}
		}
	}
	return tags, nil
}

// maxProbeTags bounds the search. It almost certainly suffices for a primary that has a
// thousandth of all slots.
const maxProbeTags = 20_000

// slotOf is the slot of a tag in a Cluster: CRC16 (XMODEM) modulo 16384.
func slotOf(tag string) uint16 {
	var crc uint16
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}
