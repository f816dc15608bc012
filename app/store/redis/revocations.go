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
func (e *Store) Revoke(ctx context.Context, user string, r bridge.Revocation) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reply, err := e.runDurable(ctx, e.revoking(user, r))
	if err != nil {
		return err
	}
	back, err := reply.ToArray()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	if err := e.unindexGroups(ctx, user, back); err != nil {
		return err
	}
	// Entries of older versions do not say of which token they are.
	groups, err := e.client.Do(ctx, e.client.B().Smembers().Key(e.mailboxOf(user).groups()).Build()).AsStrSlice()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	var cmds rueidis.Commands
	for _, g := range groups {
		cmds = append(cmds, e.client.B().Zrem().Key(e.groupKeys(g).older).Member(user).Build())
	}
	return e.do(ctx, cmds...)
}

// nameField begins the field of a user's revocations that has the user's name.
const nameField = "n"

// revoking is the call that keeps a revocation and tells of it.
func (e *Store) revoking(user string, r bridge.Revocation) call {
	b := e.mailboxOf(user)
	kind, value := "j", r.TokenID
	if value == "" {
		kind, value = "b", itoa(r.IssuedBefore.UnixMilli())
	}
	n := bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: r}
	return call{&e.scripts.revoke, []string{b.revocations(), b.l, b.tokens()}, []string{e.channel(), e.self, e.notice(n), kind, value, user}}
}

// Revoked implements bridge.Store.
func (e *Store) Revoked(ctx context.Context, user, tokenID string, issuedAt time.Time) (bool, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	r, err := e.client.Do(ctx, e.client.B().Hmget().Key(e.mailboxOf(user).revocations()).Field("b", "j"+tokenID).Build()).ToArray()
	if err = e.fault(ctx, err); err != nil {
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
		return false, e.fault(ctx, err)
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
