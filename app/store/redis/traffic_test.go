package redis_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/redis"
)

// traffic is senders that send one message after the other, each until it is
// answered, and what has been answered.
type traffic struct {
	t    *testing.T
	e    *redis.Store
	done chan struct{}
	all  sync.WaitGroup

	mu       sync.Mutex          // guards what follows
	answered map[string][]string // ids by user
}

// send starts eight senders, who take turns with the users.
func send(t *testing.T, e *redis.Store, users ...string) *traffic {
	f := &traffic{t: t, e: e, done: make(chan struct{}), answered: map[string][]string{}}
	for w := range 8 {
		f.all.Go(func() { f.sender(w, users[w%len(users)]) })
	}
	return f
}

func (f *traffic) sender(w int, user string) {
	for i := 0; ; i++ {
		m := message(fmt.Sprintf("m_%d_%d", w, i), user)
		for {
			select {
			case <-f.done:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := f.e.Append(ctx, m)
			cancel()
			if err == nil {
				break
			}
			if !errors.Is(err, bridge.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
				f.t.Errorf("append: %v", err)
				return
			}
		}
		f.mu.Lock()
		f.answered[user] = append(f.answered[user], m.ID)
		f.mu.Unlock()
	}
}

// counts tells how many of each user's messages have been answered.
func (f *traffic) counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := make(map[string]int)
	for user, list := range f.answered {
		n[user] = len(list)
	}
	return n
}

// grown tells whether each user has got so many more since.
func (f *traffic) grown(since map[string]int, by int) bool {
	now := f.counts()
	for user, n := range since {
		if now[user] < n+by {
			return false
		}
	}
	return len(now) >= len(since) && len(now) > 0
}

// stop ends it and checks that all that was answered is stored, once.
func (f *traffic) stop() {
	f.t.Helper()
	close(f.done)
	f.all.Wait()
	for user, list := range f.answered {
		there := map[string]int{}
		for _, id := range stored(f.t, f.e, user) {
			there[id]++
		}
		for _, id := range list {
			if there[id] != 1 {
				f.t.Errorf("%s is there %d times", id, there[id])
			}
		}
	}
}
