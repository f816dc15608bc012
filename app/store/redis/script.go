package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// script is one script. It is sent by its hash, which differs from life to life.
type script struct {
	n    int    // its index in storeLife.hashes
	body string // the script with what it uses of lua/lib.lua, without the life's constants
	// whenFull: it runs also where Redis has reached its maxmemory, as it gives memory back
	// or takes next to none.
	whenFull bool
}

// scripts are the files of lua/, by their names.
type scripts struct {
	publish, claim, deliver, read, pending, load, ack, ackMany, seen script
	join, leave, notify, recall, markRecalled                        script
	revoke, erase, addMember                                         script
	tokenAddGroup, tokenRemoveGroup                                  script
	renew, liveMachines, reap, dropSession, forgetMachine            script
	compareAndSet, releaseShared, mailboxState                       script
	outbox                                                           outboxScripts

	all  []*script
	life string // lua/life.lua, which runs in no life
}

// loadScripts returns the scripts, which all stores of a process share.
var loadScripts = sync.OnceValues(func() (*scripts, error) {
	lib, err := luaFiles.ReadFile("lua/lib.lua")
	if err != nil {
		return nil, err
	}
	life, err := luaFiles.ReadFile("lua/life.lua")
	if err != nil {
		return nil, err
	}
	s := &scripts{life: scriptHeader("", 0, false) + linked(string(life), string(lib))}
	stretch, err := luaFiles.ReadFile("lua/stretch.lua")
	if err != nil {
		return nil, err
	}
	for name, to := range map[string]*script{
		"publish": &s.publish, "claim": &s.claim, "deliver": &s.deliver, "read": &s.read, "pending": &s.pending,
		"load": &s.load, "ack": &s.ack, "ack_many": &s.ackMany, "seen": &s.seen, "join": &s.join, "leave": &s.leave, "notify": &s.notify,
		"recall": &s.recall, "mark_recalled": &s.markRecalled, "revoke": &s.revoke, "erase": &s.erase,
		"add_member": &s.addMember, "token_add_group": &s.tokenAddGroup, "token_remove_group": &s.tokenRemoveGroup,
		"renew": &s.renew, "live_machines": &s.liveMachines, "reap": &s.reap, "drop_session": &s.dropSession,
		"forget_machine": &s.forgetMachine, "compare_and_set": &s.compareAndSet, "release_shared": &s.releaseShared,
		"mailbox_state": &s.mailboxState,
	} {
		body, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, err
		}
		to.n, to.body = len(s.all), linked(string(body), string(lib), string(stretch))
		s.all = append(s.all, to)
	}
	for _, one := range []*script{&s.reap, &s.dropSession, &s.forgetMachine} {
		one.whenFull = true
	}
	return s, s.loadOutbox(string(lib))
})

// scriptHeader sets the constants that lua/lib.lua needs. checked: the last key is the
// one that holds the current life's name, which the script compares with its own.
func scriptHeader(life string, born int64, checked bool) string {
	current := "nil"
	if checked {
		current = "table.remove(KEYS)"
	}
	return fmt.Sprintf("local LIFE, BORN, MARK = '%s', '%d', '%s'\nlocal CURRENT = %s\n", life, born, luaText(lifeMark(life, born)), current)
}

// luaText writes bytes so that they can stand between quotes in Lua.
func luaText(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		fmt.Fprintf(&out, `\%03d`, c)
	}
	return out.String()
}

func hashOf(source string) string {
	sum := sha1.Sum([]byte(source)) //nolint:gosec
	return hex.EncodeToString(sum[:])
}

// call is one run of a script.
type call struct {
	script *script
	keys   []string
	args   []string
}

// keysIn are a call's keys, and the key of the current life's name if scripts check that.
func (s *Store) keysIn(lf *storeLife, c call) []string {
	if lf.name == "" || s.cluster {
		return c.keys
	}
	current, _, _ := s.lifeKeys()
	return append(c.keys[:len(c.keys):len(c.keys)], current)
}

func (s *Store) byHash(lf *storeLife, c call) rueidis.Completed {
	keys := s.keysIn(lf, c)
	return s.client.B().Evalsha().Sha1(lf.hashes[c.script.n]).Numkeys(int64(len(keys))).Key(keys...).Arg(c.args...).Build()
}

// bySource sends a script's text: only for an Archive, which runs scripts in no life.
func (s *Store) bySource(lf *storeLife, c call) rueidis.Completed {
	return s.client.B().Eval().Script(lf.source(c.script)).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()
}

// run runs a script in the store's current life. Errors: ErrUnavailable, the context's.
func (s *Store) run(ctx context.Context, c call) (m rueidis.RedisMessage, err error) {
	err = s.inLife(ctx, func(lf *storeLife) (err error) {
		m, err = s.runOnce(ctx, lf, c)
		return err
	})
	return m, err
}

// runOnce runs a script in a life. The error is the server's own.
func (s *Store) runOnce(ctx context.Context, lf *storeLife, c call) (rueidis.RedisMessage, error) {
	r := s.client.Do(ctx, s.byHash(lf, c))
	if lf.name == "" && unknownScript(r.Error()) {
		r = s.client.Do(ctx, s.bySource(lf, c))
	}
	return r.ToMessage()
}

// runDurable runs a script whose writes a caller is promised: with WaitReplicas it returns
// when so many replicas have them.
func (s *Store) runDurable(ctx context.Context, c call) (m rueidis.RedisMessage, err error) {
	err = s.inLife(ctx, func(lf *storeLife) (err error) {
		m, err = s.runOnceDurably(ctx, lf, c)
		return err
	})
	return m, err
}

// runOnceDurably is runDurable in one life. The error is the server's own.
func (s *Store) runOnceDurably(ctx context.Context, lf *storeLife, c call) (rueidis.RedisMessage, error) {
	if s.opts.WaitReplicas == 0 {
		return s.runOnce(ctx, lf, c)
	}
	return s.runAndWait(ctx, lf, c)
}

// runAndWait is runOnce and waits for replicas. It uses a connection of its own, because
// WAIT waits for the writes of its connection.
func (s *Store) runAndWait(ctx context.Context, lf *storeLife, c call) (rueidis.RedisMessage, error) {
	own, release := s.client.Dedicate()
	defer release()
	patience := s.opts.Patience.Milliseconds()
	r := own.DoMulti(ctx, s.byHash(lf, c), s.client.B().Wait().Numreplicas(int64(s.opts.WaitReplicas)).Timeout(patience).Build())
	m, err := r[0].ToMessage()
	if err != nil {
		return m, err
	}
	n, err := r[1].AsInt64()
	if err == nil && n < int64(s.opts.WaitReplicas) {
		err = fmt.Errorf("%d of %d replicas have it", n, s.opts.WaitReplicas)
	}
	return m, err
}

func unknownScript(err error) bool {
	r, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && r.IsNoScript()
}

// fault turns an error of Redis into one of the port's. A nil reply is no error.
func (s *Store) fault(ctx context.Context, err error) error {
	switch {
	case err == nil, rueidis.IsRedisNil(err):
		return nil
	case errors.Is(err, bridge.ErrUnavailable), errors.Is(err, bridge.ErrClosed), errors.Is(err, bridge.ErrRewound), errors.Is(err, bridge.ErrOtherLife), errors.Is(err, bridge.ErrOutboxFull):
		return err
	case ctx.Err() != nil && s.ctx.Err() == nil:
		return context.Cause(ctx)
	case s.closed.Load():
		return bridge.ErrClosed
	}
	if r, ok := errors.AsType[*rueidis.RedisError](err); ok {
		if code, _, _ := strings.Cut(r.Error(), " "); code == "READONLY" && !s.cluster {
			s.conns.drop()
		}
		// A script's error has no arguments of commands in it, only its own text.
		text, _, _ := strings.Cut(r.Error(), "script:")
		return fmt.Errorf("%w: redis: %s", bridge.ErrUnavailable, strings.TrimSpace(text))
	}
	return fmt.Errorf("%w: redis: %w", bridge.ErrUnavailable, err)
}
