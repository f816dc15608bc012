package redis_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/store/storetest"
)

var prefixes atomic.Int64

// harness gives each test a prefix of its own on one server.
func harness(url string) storetest.Harness { return patientHarness(url, 0) }

// patientHarness is for a server that may take long to answer.
func patientHarness(url string, patience time.Duration) storetest.Harness {
	return func(t *testing.T, o storetest.Options) storetest.Backend {
		prefix := fmt.Sprintf("t%d", prefixes.Add(1))
		return storetest.Backend{Open: func() (storetest.Pair, error) {
			return pair(context.Background(), redis.Options{URL: url, Prefix: prefix, Now: o.Now, MailboxLimit: o.MailboxLimit,
				MailboxBytes: o.MailboxBytes, Patience: patience, Backends: o.Backends, MaxCallbacks: o.MaxCallbacks, MaxCallbackBytes: o.MaxCallbackBytes})
		}}
	}
}

// pair opens a store as both of a pair.
func pair(ctx context.Context, o redis.Options) (storetest.Pair, error) {
	s, err := redis.Open(ctx, o)
	return storetest.Pair{Store: s, Live: s, Outbox: s, Kill: func() { redis.Kill(s) }}, err
}

// The suite runs with the rights that deploy/README.md gives and no others.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("on one Redis", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		url := restricted(t, []*redistest.Server{s}, s.URL())
		t.Run("suite", func(t *testing.T) { storetest.Run(t, harness(url)) })
		t.Run("outbox", func(t *testing.T) { storetest.RunOutbox(t, harness(url)) })
		nothingRefused(t, s)
	})
	// Meanwhile each primary and its replica change places.
	t.Run("on a Cluster", func(t *testing.T) {
		heavy(t)
		c := redistest.StartReplicatedCluster(t, 0)
		all := append(c.Nodes[:3:3], c.Replicas...)
		url := restricted(t, all, c.URL()) // names every node, whichever is primary
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 3 {
				c.FailOver(i)
			}
		}()
		t.Run("suite", func(t *testing.T) {
			// A primary that is about to give up its place takes nothing meanwhile: for
			// some seconds, on a busy machine.
			storetest.Run(t, patientHarness(url, 20*time.Second))
			storetest.RunOutbox(t, patientHarness(url, 20*time.Second))
		})
		<-done
		for i, n := range c.Nodes {
			if !n.Reigns() {
				t.Errorf("node %d has not taken over", i)
			}
		}
		t.Run("a check tries every shard", func(t *testing.T) { checksEveryShard(t, c, url) })
		nothingRefused(t, all...)
	})
}

// Redis is out of reach for a while, and what was sent to it comes through later.
func TestFaults(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	storetest.RunFaults(t, func(t *testing.T, o storetest.Options) storetest.Backend {
		proxy := redistest.NewProxy(t, s.Addr)
		prefix := fmt.Sprintf("t%d", prefixes.Add(1))
		return storetest.Backend{
			Open: func() (storetest.Pair, error) {
				return pair(context.Background(), redis.Options{URL: proxy.URL(), Prefix: prefix, Now: o.Now, Patience: 500 * time.Millisecond})
			},
			Break: func() func() {
				proxy.Cut()
				return proxy.Mend
			},
		}
	})
}

// heavy marks a test that takes seconds, mostly of waiting for servers: it runs beside
// others, and not with -short.
func heavy(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
}

// nothingRefused checks that servers have refused no command for want of rights.
func nothingRefused(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		if log := s.Do("ACL", "LOG"); log != "" {
			t.Errorf("this was refused: %s", log)
		}
	}
}
