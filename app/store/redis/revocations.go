package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// Revoke implements bridge.Store.
func (s *Store) Revoke(ctx context.Context, user string, r bridge.Revocation) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reply, err := s.runDurable(ctx, s.revoking(user, r))
	if err != nil {
		return err
	}
	back, err := reply.ToArray()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	if err := s.unindexGroups(ctx, user, back); err != nil {
		return err
	}
	// Entries of older versions do not say of which token they are.
	groups, err := s.client.Do(ctx, s.client.B().Smembers().Key(s.mailboxOf(user).groups()).Build()).AsStrSlice()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	var cmds rueidis.Commands
	for _, g := range groups {
		cmds = append(cmds, s.client.B().Zrem().Key(s.groupKeys(g).older).Member(user).Build())
	}
	return s.do(ctx, cmds...)
}

// nameField begins the field of a user's revocations that has the user's name.
const nameField = "n"

// revoking is the call that keeps a revocation and tells of it.
func (s *Store) revoking(user string, r bridge.Revocation) call {
	b := s.mailboxOf(user)
	kind, value := "j", r.TokenID
	if value == "" {
		kind, value = "b", itoa(r.IssuedBefore.UnixMilli())
	}
	n := bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: r}
	return call{&s.scripts.revoke, []string{b.revocations(), b.l, b.tokens()}, []string{s.channel(), s.self, s.notice(n), kind, value, user}}
}

// Revoked implements bridge.Store.
func (s *Store) Revoked(ctx context.Context, user, tokenID string, issuedAt time.Time) (bool, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	r, err := s.client.Do(ctx, s.client.B().Hmget().Key(s.mailboxOf(user).revocations()).Field("b", "j"+tokenID).Build()).ToArray()
	if err = s.fault(ctx, err); err != nil {
		return false, err
	}
	if len(r) == 2 && tokenID != "" && !r[1].IsNil() {
		return true, nil
	}
	if len(r) == 0 || r[0].IsNil() {
		return false, nil
	}
	text, err := r[0].ToString()
	if err != nil {
		return false, s.fault(ctx, err)
	}
	before, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return false, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return bridge.Revocation{IssuedBefore: time.UnixMilli(before)}.Covers("", issuedAt), nil
}

// revocation decodes a field of a user's revocations; see lua/revoke.lua.
func revocation(kind, value string) bridge.Revocation {
	if id, ok := strings.CutPrefix(kind, "j"); ok {
		return bridge.Revocation{TokenID: id}
	}
	before, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return bridge.Revocation{}
	}
	return bridge.Revocation{IssuedBefore: time.UnixMilli(before)}
}
