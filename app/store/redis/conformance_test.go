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
	return func(t *testing.T, o storetest.Options) storetest.Open {
		prefix := fmt.Sprintf("t%d", prefixes.Add(1))
		return func() (storetest.Pair, error) {
			return pair(context.Background(), redis.Options{URL: url, Prefix: prefix, Now: o.Now, MailboxLimit: o.MailboxLimit,
				MailboxBytes: o.MailboxBytes, Patience: patience})
		}
	}
}

// pair opens a store as both of a pair.
func pair(ctx context.Context, o redis.Options) (storetest.Pair, error) {
	s, err := redis.Open(ctx, o)
	return storetest.Pair{Store: s, Live: s}, err
}

func TestTheStoreKeepsThePromisesOfThePorts(t *testing.T) {
	s := redistest.Start(t, "--appendfsync", "everysec")
	t.Run("on one Redis", func(t *testing.T) { storetest.Run(t, harness(s.URL())) })
}

func TestTheStoreKeepsThePromisesOfThePortsOnACluster(t *testing.T) {
	c := redistest.StartCluster(t)
	t.Run("on three primaries", func(t *testing.T) { storetest.Run(t, harness(c.URL())) })
}
