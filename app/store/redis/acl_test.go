package redis_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/store/storetest"
)

func TestArchiveRights(t *testing.T) {
	t.Run("are enough for an export and an import", archiveRightsSuffice)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	t.Run("fails without what an append needs", checkOfRights)
}

// leastRights is the ACL that deploy/README.md gives, word by word.
func leastRights(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/README.md")
	expect.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "ACL SETUSER ") {
			return strings.Fields(line)
		}
	}
	t.Fatal("deploy/README.md has no ACL")
	return nil
}

// restricted is the address of a server for a user with these rights, and with those
// for a prefix of each test's own.
func restricted(t *testing.T, nodes []*redistest.Server, url string) string {
	t.Helper()
	words := leastRights(t)
	for i, w := range words {
		words[i] = strings.Replace(w, "hookbridge:*", "t*", 1) // prefixes of the suite
	}
	for _, n := range nodes {
		n.Do(words...)
	}
	return strings.Replace(url, "redis://", "redis://"+words[2]+":"+strings.TrimPrefix(words[4], ">")+"@", 1)
}

func archiveRightsSuffice(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	url := restricted(t, []*redistest.Server{s}, s.URL())
	c := storetest.NewClock()
	from, to := filled(t, url, c), fresh(url, c)
	a := archive(t, from)
	if _, err := a.Count(t.Context()); err != nil {
		t.Error(err)
	}
	entries, half := dumped(t, a), archive(t, to)
	expect.NoError(t, half.Begin(t.Context()))
	expect.NoError(t, half.Load(t.Context(), entries))
	loaded(t, to, entries, epochOf(t, a), 1) // starts over
	same(t, from, to, c)
	nothingRefused(t, s)
}

// Whatever an append needs and may not do, /readyz tells.
func checkOfRights(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	url := restricted(t, []*redistest.Server{s}, s.URL())
	e, _ := quick(t, redis.Options{URL: url, Prefix: "t"})
	expect.NoError(t, e.Check(deadline(t, 10*time.Second)))
	user := leastRights(t)[2]
	for _, right := range []string{"xadd", "publish", "hset", "evalsha", "get"} {
		s.Do("ACL", "SETUSER", user, "-"+right)
		if err := e.Check(deadline(t, 10*time.Second)); err == nil {
			t.Errorf("without %s a check succeeds", right)
		}
		s.Do("ACL", "SETUSER", user, "+"+right)
		expect.Eventually(t, "a check to succeed with "+right, func() bool { return e.Check(deadline(t, 10*time.Second)) == nil })
	}
}

// checksEveryShard checks that a shard of a Cluster that takes nothing keeps the check
// from succeeding.
func checksEveryShard(t *testing.T, c *redistest.Cluster, url string) {
	e, _ := quick(t, redis.Options{URL: url, Prefix: "t"})
	expect.NoError(t, e.Check(deadline(t, 10*time.Second)))
	for i, n := range c.Nodes {
		n.Do("CONFIG", "SET", "maxmemory", "1mb")
		if err := e.Check(deadline(t, 10*time.Second)); err == nil {
			t.Errorf("while node %d takes nothing a check succeeds", i)
		}
		n.Do("CONFIG", "SET", "maxmemory", "0")
		expect.Eventually(t, "a check to succeed again", func() bool { return e.Check(deadline(t, 10*time.Second)) == nil })
	}
}
