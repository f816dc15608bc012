package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// primaryTimeout is how long a server of a Cluster may take to say who it is before
// it is left out: a caller may be waiting for another server's answer.
const primaryTimeout = 2 * time.Second

// primaryConn is a connection to one primary.
type primaryConn struct {
	conn          rueidis.DedicatedClient
	release       func()
	replicationID string
}

// parseInfo reads the reply of INFO.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// replicationIDOf reads a server's replication id from INFO replication: a server gets a
// new one whenever it starts or is promoted. It is empty for a replica.
func replicationIDOf(r rueidis.RedisResult) (string, error) {
	text, err := r.ToString()
	if err != nil {
		return "", err
	}
	info := parseInfo(text)
	if info["role"] != "" && info["role"] != "master" {
		return "", nil
	}
	if info["master_replid"] == "" {
		return "", errNoReplicationID
	}
	return info["master_replid"], nil
}

func (e *Store) infoReplication() rueidis.Completed {
	return e.client.B().Arbitrary("INFO", "replication").Build()
}

// primaries are the servers that are primaries, by their replication ids.
func (e *Store) primaries(ctx context.Context) (map[string]rueidis.Client, error) {
	list := make(map[string]rueidis.Client)
	for _, node := range e.client.Nodes() {
		id, err := replicationIDOf(node.Do(ctx, e.infoReplication()))
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		if id != "" {
			list[id] = node
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: redis: no primary is known", bridge.ErrUnavailable)
	}
	return list, nil
}

// connectPrimaries connects to each primary. It leaves out servers of a Cluster that
// do not answer: whoever needs one of them notices then. The caller releases the
// connections.
func (e *Store) connectPrimaries(ctx context.Context) ([]*primaryConn, error) {
	if !e.cluster {
		s := &primaryConn{}
		s.conn, s.release = e.client.Dedicate()
		var err error
		if s.replicationID, err = replicationIDOf(s.conn.Do(ctx, e.infoReplication())); err == nil && s.replicationID == "" {
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
			id, err := replicationIDOf(s.conn.Do(ctx, e.infoReplication()))
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

// loadScripts has a primary cache the scripts of a life, and makes sure that it was the
// same primary all the while.
func (s *primaryConn) loadScripts(ctx context.Context, e *Store, lf *storeLife) error {
	cmds := make(rueidis.Commands, 0, len(e.scripts.all)+1)
	for _, one := range e.scripts.all {
		cmds = append(cmds, e.client.B().ScriptLoad().Script(lf.source(one)).Build())
	}
	cmds = append(cmds, e.infoReplication())
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

// checkPrimaries looks for a primary that the current life is not bound to, and begins
// another life if there is one: it may be a server that was a primary before, so that
// it still has the scripts of that time in its cache.
func (e *Store) checkPrimaries(ctx context.Context) error {
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
			id, err := replicationIDOf(node.Do(ctx, e.infoReplication()))
			mu.Lock()
			defer mu.Unlock()
			// Whoever needs a Cluster's server that does not answer, or is a replica,
			// notices then.
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
	return e.findLife(ctx, lf, 0)
}
