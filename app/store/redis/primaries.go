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

func (s *Store) infoReplication() rueidis.Completed {
	return s.client.B().Arbitrary("INFO", "replication").Build()
}

// primaries are the servers that are primaries, by their replication ids.
func (s *Store) primaries(ctx context.Context) (map[string]rueidis.Client, error) {
	list := make(map[string]rueidis.Client)
	for _, node := range s.client.Nodes() {
		id, err := replicationIDOf(node.Do(ctx, s.infoReplication()))
		if err = s.fault(ctx, err); err != nil {
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
func (s *Store) connectPrimaries(ctx context.Context) ([]*primaryConn, error) {
	if !s.cluster {
		p := &primaryConn{}
		p.conn, p.release = s.client.Dedicate()
		var err error
		if p.replicationID, err = replicationIDOf(p.conn.Do(ctx, s.infoReplication())); err == nil && p.replicationID == "" {
			s.conns.drop()
			err = errUnsettled // a replica, for now
		}
		return []*primaryConn{p}, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(primaryTimeout, s.opts.Patience/2))
	defer cancel()
	var mu sync.Mutex
	var list []*primaryConn
	var failed []error
	var all sync.WaitGroup
	for _, node := range s.client.Nodes() {
		all.Go(func() {
			p := &primaryConn{}
			p.conn, p.release = node.Dedicate()
			id, err := replicationIDOf(p.conn.Do(ctx, s.infoReplication()))
			mu.Lock()
			defer mu.Unlock()
			if p.replicationID = id; id == "" {
				p.release()
				failed = append(failed, err)
				return
			}
			list = append(list, p)
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
func (s *Store) checkPrimaries(ctx context.Context) error {
	lf := s.lives.now.Load()
	nodes := map[string]rueidis.Client{"": s.client}
	if s.cluster {
		nodes = s.client.Nodes()
	}
	var mu sync.Mutex
	strange, silent := false, error(nil)
	var all sync.WaitGroup
	for _, node := range nodes {
		all.Go(func() {
			id, err := replicationIDOf(node.Do(ctx, s.infoReplication()))
			mu.Lock()
			defer mu.Unlock()
			// Whoever needs a Cluster's server that does not answer, or is a replica,
			// notices then.
			strange = strange || err == nil && id != "" && !lf.replicationIDs[id]
			if !s.cluster {
				silent = err
			}
		})
	}
	all.Wait()
	if !strange {
		return silent
	}
	return s.findLife(ctx, lf, 0)
}
