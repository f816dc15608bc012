package redis

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// primaryTimeout is how long a server of a Cluster may take to say who it is before
// it is left out: another one may wait for the answer.
const primaryTimeout = 2 * time.Second

// primaryConn is a primary, over a connection that leads to it alone.
type primaryConn struct {
	conn          rueidis.DedicatedClient
	release       func()
	replicationID string // see replicationIDOf
}

// replicationIDOf reads from INFO replication the id that a server has for its time as a
// primary; empty where it is none.
func replicationIDOf(r rueidis.RedisResult) (string, error) {
	text, err := r.ToString()
	if err != nil {
		return "", err
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	if info["role"] != "" && info["role"] != "master" {
		return "", nil
	}
	if info["master_replid"] == "" {
		return "", errNoReplicationID
	}
	return info["master_replid"], nil
}

func (e *Store) askReign() rueidis.Completed {
	return e.client.B().Arbitrary("INFO", "replication").Build()
}

// reigning finds the primaries. Of a Cluster those that do not answer are left out:
// whoever needs one of them finds it out there. The caller releases them.
func (e *Store) reigning(ctx context.Context) ([]*primaryConn, error) {
	if !e.cluster {
		s := &primaryConn{}
		s.conn, s.release = e.client.Dedicate()
		var err error
		if s.replicationID, err = replicationIDOf(s.conn.Do(ctx, e.askReign())); err == nil && s.replicationID == "" {
			e.conns.drop()
			err = errUnsettled // a replica, for now
		}
		return []*primaryConn{s}, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(primaryTimeout, e.opts.Patience/2))
	defer cancel()
	var mu sync.Mutex
	var list []*primaryConn
	var failed []error
	var all sync.WaitGroup
	for _, node := range e.client.Nodes() {
		all.Go(func() {
			s := &primaryConn{}
			s.conn, s.release = node.Dedicate()
			id, err := replicationIDOf(s.conn.Do(ctx, e.askReign()))
			mu.Lock()
			defer mu.Unlock()
			if s.replicationID = id; id == "" {
				s.release()
				failed = append(failed, err)
				return
			}
			list = append(list, s)
		})
	}
	all.Wait()
	if len(list) == 0 {
		return nil, errors.Join(append(failed, errUnsettled)...)
	}
	return list, nil
}

// teach has a server keep the scripts of a life, and makes sure that it reigned all
// the while.
func (s *primaryConn) teach(ctx context.Context, e *Store, lf *lifetime) error {
	cmds := make(rueidis.Commands, 0, len(e.scripts.all)+1)
	for _, one := range e.scripts.all {
		cmds = append(cmds, e.client.B().ScriptLoad().Script(lf.source(one)).Build())
	}
	cmds = append(cmds, e.askReign())
	replies := s.conn.DoMulti(ctx, cmds...)
	for _, r := range replies[:len(replies)-1] {
		if err := r.Error(); err != nil {
			return err
		}
	}
	now, err := replicationIDOf(replies[len(replies)-1])
	if err == nil && now != s.replicationID {
		err = errUnsettled
	}
	return err
}

// watch turns to another life where a server reigns that the current one is not
// bound to: one that has been away, and knows the scripts from before.
func (e *Store) watch(ctx context.Context) error {
	lf := e.lives.now.Load()
	nodes := map[string]rueidis.Client{"": e.client}
	if e.cluster {
		nodes = e.client.Nodes()
	}
	var mu sync.Mutex
	strange, silent := false, error(nil)
	var all sync.WaitGroup
	for _, node := range nodes {
		all.Go(func() {
			id, err := replicationIDOf(node.Do(ctx, e.askReign()))
			mu.Lock()
			defer mu.Unlock()
			// One of a Cluster that does not answer, and a replica, is found out by who
			// needs it.
			strange = strange || err == nil && id != "" && !lf.replicationIDs[id]
			if !e.cluster {
				silent = err
			}
		})
	}
	all.Wait()
	if !strange {
		return silent
	}
	return e.turn(ctx, lf, 0)
}
