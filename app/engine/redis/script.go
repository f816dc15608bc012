package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// script is sent by its hash; a server that does not know it is sent the whole.
type script struct{ source, hash string }

type scripts struct {
	publish, claim, deliver, read, pending, join, leave, ack script
	tell, recall, revoke, erase, renew, member, seen         script
	mark, rewrite, alive, survey, load, release              script
	bury, depart, strike, unsay, say                         script
}

func loadScripts() (*scripts, error) {
	lib, err := luaFiles.ReadFile("lua/lib.lua")
	if err != nil {
		return nil, err
	}
	s := &scripts{}
	for name, to := range map[string]*script{
		"publish": &s.publish, "claim": &s.claim, "deliver": &s.deliver, "read": &s.read, "pending": &s.pending,
		"join": &s.join, "leave": &s.leave, "ack": &s.ack, "tell": &s.tell, "recall": &s.recall, "revoke": &s.revoke,
		"erase": &s.erase, "renew": &s.renew, "member": &s.member, "seen": &s.seen, "mark": &s.mark, "rewrite": &s.rewrite,
		"alive": &s.alive, "survey": &s.survey, "load": &s.load, "release": &s.release, "bury": &s.bury,
		"depart": &s.depart, "strike": &s.strike, "unsay": &s.unsay, "say": &s.say,
	} {
		b, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, err
		}
		to.source = string(lib) + string(b)
		sum := sha1.Sum([]byte(to.source)) //nolint:gosec
		to.hash = hex.EncodeToString(sum[:])
	}
	return s, nil
}

// call is one run of a script.
type call struct {
	script *script
	keys   []string
	args   []string
}

func (e *Engine) byHash(c call) rueidis.Completed {
	return e.client.B().Evalsha().Sha1(c.script.hash).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()
}

func (e *Engine) bySource(c call) rueidis.Completed {
	return e.client.B().Eval().Script(c.script.source).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()
}

// run runs a script. Errors: ErrUnavailable, the context's.
func (e *Engine) run(ctx context.Context, c call) (rueidis.RedisMessage, error) {
	r := e.client.Do(ctx, e.byHash(c))
	if unknownScript(r.Error()) {
		r = e.client.Do(ctx, e.bySource(c))
	}
	m, err := r.ToMessage()
	return m, e.fault(ctx, err)
}

// runDurable runs a script that writes what a caller will be promised: with
// WaitReplicas it returns only when so many have it.
func (e *Engine) runDurable(ctx context.Context, c call) (rueidis.RedisMessage, error) {
	if e.opts.WaitReplicas == 0 {
		return e.run(ctx, c)
	}
	// WAIT speaks for the writes of its own connection.
	own, release := e.client.Dedicate()
	defer release()
	wait := func(cmd rueidis.Completed) []rueidis.RedisResult {
		patience := e.opts.Patience.Milliseconds()
		return own.DoMulti(ctx, cmd, e.client.B().Wait().Numreplicas(int64(e.opts.WaitReplicas)).Timeout(patience).Build())
	}
	r := wait(e.byHash(c))
	if unknownScript(r[0].Error()) {
		r = wait(e.bySource(c))
	}
	m, err := r[0].ToMessage()
	if err != nil {
		return m, e.fault(ctx, err)
	}
	n, err := r[1].AsInt64()
	if err == nil && n < int64(e.opts.WaitReplicas) {
		err = fmt.Errorf("%d of %d replicas have it", n, e.opts.WaitReplicas)
	}
	return m, e.fault(ctx, err)
}

func unknownScript(err error) bool {
	var r *rueidis.RedisError
	return errors.As(err, &r) && r.IsNoScript()
}

// fault says what an error of Redis means to the port. A nil reply is no error.
func (e *Engine) fault(ctx context.Context, err error) error {
	switch {
	case err == nil, rueidis.IsRedisNil(err):
		return nil
	case ctx.Err() != nil && e.life.Err() == nil:
		return ctx.Err()
	case e.closed.Load():
		return bridge.ErrClosed
	}
	var r *rueidis.RedisError
	if errors.As(err, &r) {
		// A script's error repeats the arguments of no command, only its own text.
		text, _, _ := strings.Cut(r.Error(), "script:")
		return fmt.Errorf("%w: redis: %s", bridge.ErrUnavailable, strings.TrimSpace(text))
	}
	return fmt.Errorf("%w: redis: %w", bridge.ErrUnavailable, err)
}
