package redis

import (
	"context"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// places are the places of a message in each of its mailboxes; a message to all has one.
func (s *Store) places(ctx context.Context, id string, r *dedupEntry) ([]uint64, error) {
	if r.seq != 0 || !s.cluster && len(r.users) == 1 && r.expires.IsZero() {
		return []uint64{r.seq}, nil
	}
	users := r.users
	if r.all {
		users = []string{""}
	}
	return repliesOf(ctx, s, users, func(user string) rueidis.Completed { return s.get(s.boxOf(user).delivered(id)) },
		(*rueidis.RedisResult).AsUint64)
}

// Lookup implements bridge.Store.
func (s *Store) Lookup(ctx context.Context, id string) (rec bridge.Record, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return rec, err
	}
	defer leave()
	if err := s.writeAcks(ctx); err != nil {
		return rec, err
	}
	r, err := s.remembered(ctx, id)
	if err != nil {
		return rec, err
	}
	places, err := s.places(ctx, id, &r)
	if err != nil {
		return rec, err
	}
	rec = bridge.Record{ID: id, Type: r.typ, From: r.from, Timestamp: r.at, Expires: r.expires, Recalled: r.recalled,
		Except: r.except, All: r.all}
	users := r.users
	if r.all {
		if len(places) > 0 {
			rec.Broadcast = places[0]
		}
		if users, err = s.owners(ctx, rec.Broadcast); err != nil {
			return rec, err
		}
		if len(users) > bridge.MaxListed {
			users, rec.More = users[:bridge.MaxListed], true
		}
	}
	rec.Recipients, err = s.recipients(ctx, &rec, users, places)
	return rec, err
}

// recipients reads each recipient's status from the recipient's mailbox.
func (s *Store) recipients(ctx context.Context, rec *bridge.Record, users []string, places []uint64) ([]bridge.RecipientStatus, error) {
	var cmds rueidis.Commands
	now := s.opts.Now()
	seqOf := func(i int) uint64 {
		if rec.All {
			return rec.Broadcast
		}
		return places[i]
	}
	for i, u := range users {
		b, log := s.mailboxOf(u), s.mailboxOf(u)
		if rec.All {
			log = s.all
		}
		place := itoa(seqOf(i)) + "-0"
		cmds = append(cmds, s.client.B().Xrange().Key(log.m).Start(place).End(place).Build(),
			s.client.B().Hmget().Key(b.h).Field("am", "ab").Build(),
			s.client.B().Hget().Key(s.seenKey(b, now)).Field(rec.ID).Build(),
			s.client.B().Hget().Key(s.seenKey(b, now.Add(-s.opts.IDRetention))).Field(rec.ID).Build())
	}
	results := s.doMany(ctx, cmds)
	out := make([]bridge.RecipientStatus, len(users))
	for i, u := range users {
		f := bridge.RecipientStatus{User: u}
		if !rec.All {
			f.Seq = seqOf(i)
		}
		entries, err := results[4*i].AsXRange()
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
		f.Held = len(entries) == 1 && seqOf(i) != 0 && rec.Expires.After(now)
		acked, err := results[4*i+1].ToArray()
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
		log := 0
		if rec.All {
			log = 1
		}
		if log < len(acked) && !acked[log].IsNil() && seqOf(i) != 0 {
			n, err := acked[log].AsUint64()
			if err != nil {
				return nil, s.fault(ctx, err)
			}
			f.Acked = n >= seqOf(i)
		}
		for _, r := range results[4*i+2 : 4*i+4] {
			text, err := r.ToString()
			if err = s.fault(ctx, err); err != nil {
				return nil, err
			}
			f.Seen = append(f.Seen, parseSeen(text)...)
		}
		out[i] = f
	}
	return out, nil
}

// owners lists by name the users to whom a message to all belongs: MaxListed of them, and
// one more if there are more.
func (s *Store) owners(ctx context.Context, place uint64) (out []string, err error) {
	for at := "-"; len(out) <= bridge.MaxListed; {
		page, err := s.client.Do(ctx, s.client.B().Zrangebylex().Key(s.users()).Min(at).Max("+").Limit(0, 500).Build()).AsStrSlice()
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		at = "(" + page[len(page)-1]
		cmds := make(rueidis.Commands, len(page))
		for i, u := range page {
			cmds[i] = s.client.B().Hget().Key(s.mailboxOf(u).h).Field("f").Build()
		}
		for i, r := range s.doMany(ctx, cmds) {
			first, err := r.AsUint64()
			if rueidis.IsRedisNil(err) {
				continue
			}
			if err = s.fault(ctx, err); err != nil {
				return nil, err
			}
			if place == 0 || first < place {
				out = append(out, page[i])
			}
		}
	}
	return out[:min(len(out), bridge.MaxListed+1)], nil
}
