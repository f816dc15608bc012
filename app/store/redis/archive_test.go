package redis_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/store/storetest"
)

func TestArchive(t *testing.T) {
	t.Run("carries a store whole", archiveCarriesWhole)
}

func TestDump(t *testing.T) {
	t.Run("has the order of the contract, and nothing that expired", dumpOrder)
	t.Run("ends with the error of the server", dumpError)
	t.Run("leaves nothing out of a large store", dumpOfLargeStore)
}

func TestImport(t *testing.T) {
	t.Run("counts entries that come twice as one", importOfRepeats)
	t.Run("that is half done keeps a bridge from starting", importHalfDone)
	t.Run("into a store that has been used is refused", importIntoUsedStore)
	t.Run("is on as many replicas as an append", importReplicas)
	t.Run("is not finished on a server that was restarted meanwhile", importDuringRestart)
}

func TestRunningMachine(t *testing.T) {
	t.Parallel()
	t.Run("keeps an archive from being opened", runningMachineRefusesArchive)
}

func TestOlderRevocations(t *testing.T) {
	t.Parallel()
	t.Run("are carried, or reported", olderRevocationsAreCarried)
}

// fresh names an empty store on a server.
func fresh(url string, c *storetest.Clock) redis.Options {
	return redis.Options{URL: url, Prefix: fmt.Sprintf("t%d", prefixes.Add(1)), Now: c.Now, MailboxLimit: storetest.FilledMailbox, Backends: storetest.Backends}
}

func open(t *testing.T, o redis.Options) *redis.Store {
	t.Helper()
	e, err := redis.Open(t.Context(), o)
	expect.NoError(t, err)
	t.Cleanup(func() {
		_ = e.Close() // a test may have closed it
	})
	return e
}

func archive(t *testing.T, o redis.Options) *redis.Archive {
	t.Helper()
	a, err := redis.OpenArchive(t.Context(), o)
	expect.NoError(t, err)
	t.Cleanup(func() {
		_ = a.Close() // a test may have closed it
	})
	return a
}

// filled is a store in all states, with nobody on it.
func filled(t *testing.T, url string, c *storetest.Clock) redis.Options {
	t.Helper()
	o := fresh(url, c)
	e := open(t, o)
	storetest.Fill(t, storetest.Pair{Store: e, Live: e, Outbox: e}, c)
	expect.NoError(t, e.Close())
	return o
}

// dumped is all that an archive gives.
func dumped(t *testing.T, a *redis.Archive) (out []bridge.Entry) {
	t.Helper()
	expect.NoError(t, a.Dump(deadline(t, 30*time.Second), func(e bridge.Entry) error {
		out = append(out, e)
		return e.Check()
	}))
	return out
}

func epochOf(t *testing.T, a *redis.Archive) string {
	t.Helper()
	epoch, err := a.Epoch()
	expect.NoError(t, err)
	return epoch
}

// loaded imports entries, in batches of which each is given so many times.
func loaded(t *testing.T, o redis.Options, entries []bridge.Entry, epoch string, times int) {
	t.Helper()
	a := archive(t, o)
	expect.NoError(t, a.Begin(deadline(t, 30*time.Second)))
	for batch := range slices.Chunk(entries, 37) {
		for range times {
			expect.NoError(t, a.Load(deadline(t, 30*time.Second), batch))
		}
	}
	expect.NoError(t, a.Finish(t.Context(), epoch))
	expect.NoError(t, a.Close())
}

// same opens both and lets the suite tell them apart.
func same(t *testing.T, a, b redis.Options, c *storetest.Clock) {
	t.Helper()
	x, y := open(t, a), open(t, b)
	storetest.Same(t, storetest.Pair{Store: x, Live: x, Outbox: x}, storetest.Pair{Store: y, Live: y, Outbox: y}, c)
}

func archiveCarriesWhole(t *testing.T) {
	heavy(t)
	one, other, cluster := redistest.Start(t), redistest.Start(t), redistest.StartCluster(t)
	for _, way := range []struct{ name, from, to string }{
		{"from one Redis to another", one.URL(), other.URL()},
		{"to another prefix", one.URL(), one.URL()},
		{"from one Redis to a cluster", one.URL(), cluster.URL()},
		{"from a cluster to one Redis", cluster.URL(), one.URL()},
		{"from a cluster to a cluster", cluster.URL(), cluster.URL()},
	} {
		t.Run(way.name, func(t *testing.T) {
			c := storetest.NewClock()
			from, to := filled(t, way.from, c), fresh(way.to, c)
			a := archive(t, from)
			loaded(t, to, dumped(t, a), epochOf(t, a), 1)
			same(t, from, to, c)
		})
	}
}

func dumpOrder(t *testing.T) {
	c := storetest.NewClock()
	from := filled(t, redistest.Start(t).URL(), c)
	if kinds := storetest.Exported(t, dumped(t, archive(t, from)), c.Now()); kinds != 10 {
		t.Errorf("%d kinds", kinds)
	}
}

func importOfRepeats(t *testing.T) {
	heavy(t)
	one, cluster := redistest.Start(t), redistest.StartCluster(t)
	t.Run("in a batch each", func(t *testing.T) {
		c := storetest.NewClock()
		from, to := filled(t, one.URL(), c), fresh(cluster.URL(), c)
		a := archive(t, from)
		loaded(t, to, dumped(t, a), epochOf(t, a), 2)
		same(t, from, to, c)
	})
	t.Run("behind all others", func(t *testing.T) {
		c := storetest.NewClock()
		from, to := filled(t, one.URL(), c), fresh(one.URL(), c)
		a := archive(t, from)
		entries := dumped(t, a)
		loaded(t, to, append(entries, entries...), epochOf(t, a), 1)
		same(t, from, to, c)
	})
}

func dumpError(t *testing.T) {
	heavy(t)
	c, s := storetest.NewClock(), redistest.Start(t)
	from := filled(t, s.URL(), c)
	from.Patience = 2 * time.Second
	a := archive(t, from)
	n := 0
	err := a.Dump(deadline(t, 30*time.Second), func(bridge.Entry) error {
		if n++; n == 60 {
			s.Stop()
		}
		return nil
	})
	if !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("%d entries, and %v", n, err)
	}
}

func dumpOfLargeStore(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL(), Prefix: "a"})
	want := make(map[string]bool)
	var ms []*bridge.Message
	for i := range 3000 {
		user := fmt.Sprint("u", i)
		if i%5 == 0 {
			user = "busy"
		}
		m := message(fmt.Sprint("m", i), user)
		ms = append(ms, m)
		want[user+" "+m.ID] = true
	}
	for _, r := range e.AppendMany(deadline(t, 30*time.Second), ms) {
		expect.NoError(t, r.Err)
	}
	expect.NoError(t, e.Close())
	a := archive(t, redis.Options{URL: s.URL(), Prefix: "a"})
	count, err := a.Count(t.Context())
	expect.NoError(t, err)
	entries := dumped(t, a)
	storetest.Exported(t, entries, time.Now())
	got := make(map[string]bool)
	for _, e := range entries {
		if m := e.Message; m != nil {
			got[m.User+" "+m.ID] = true
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d of %d messages", len(got), len(want))
	}
	if n := int64(len(entries)); count < n/2 || count > 2*n {
		t.Errorf("%d entries were said to be %d", n, count)
	}
	loaded(t, redis.Options{URL: s.URL(), Prefix: "b"}, entries, epochOf(t, a), 1)
	b, _ := quick(t, redis.Options{URL: s.URL(), Prefix: "b"})
	if n := len(stored(t, b, "busy")); n != 600 {
		t.Errorf("%d messages of 600 in one mailbox", n)
	}
}

func importHalfDone(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	c := storetest.NewClock()
	from := filled(t, s.URL(), c)
	source := archive(t, from)
	entries := dumped(t, source)
	refused := func(t *testing.T, o redis.Options) {
		t.Helper()
		if _, err := redis.Open(t.Context(), o); !errors.Is(err, bridge.ErrUnfinished) || !strings.Contains(err.Error(), "hookbridge import") {
			t.Errorf("open: %v", err)
		}
		if _, err := archive(t, o).Epoch(); !errors.Is(err, bridge.ErrUnfinished) {
			t.Errorf("epoch: %v", err)
		}
	}
	t.Run("until it is finished", func(t *testing.T) {
		o := fresh(s.URL(), c)
		a := archive(t, o)
		expect.NoError(t, a.Begin(t.Context()))
		refused(t, o)
		expect.NoError(t, a.Load(t.Context(), entries[:20]))
		refused(t, o)
		expect.NoError(t, a.Finish(t.Context(), "epoch"))
		if e := open(t, o); e.Epoch() != "epoch" {
			t.Error(e.Epoch())
		}
	})
	t.Run("whose first batch broke off", func(t *testing.T) {
		o := fresh(s.URL(), c)
		a := archive(t, o)
		expect.NoError(t, a.Begin(t.Context()))
		orphan := bridge.Entry{Message: &bridge.MessageEntry{User: "u", Seq: 1, ID: "none", Expires: c.Now().Add(time.Hour).UnixNano()}}
		if err := a.Load(t.Context(), []bridge.Entry{orphan}); !errors.Is(err, bridge.ErrBadEntry) {
			t.Errorf("a message without an event was loaded: %v", err)
		}
		refused(t, o)
	})
	t.Run("which starts over", func(t *testing.T) {
		o, beside := fresh(s.URL(), c), filled(t, s.URL(), c)
		a := archive(t, o)
		expect.NoError(t, a.Begin(t.Context()))
		expect.NoError(t, a.Load(t.Context(), entries[:200]))
		expect.NoError(t, archive(t, o).Begin(t.Context()))
		left := slices.DeleteFunc(strings.Fields(s.Do("KEYS", o.Prefix+":*")), func(k string) bool { return strings.Contains(k, ":probe:") })
		if slices.Sort(left); !slices.Equal(left, []string{o.Prefix + ":{machines}:format", o.Prefix + ":{machines}:import"}) {
			t.Errorf("left: %q", left)
		}
		refused(t, o)
		// As an older version, which could continue an import, has marked it.
		s.Do("SET", o.Prefix+":{machines}:import", `{"export":"abcdefgh","loaded":200}`)
		refused(t, o)
		loaded(t, o, entries, epochOf(t, source), 1)
		same(t, from, o, c)
		if len(dumped(t, archive(t, beside))) == 0 {
			t.Error("the store beside it is gone")
		}
	})
}

func runningMachineRefusesArchive(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := redis.Options{URL: s.URL()}
	e := open(t, o)
	if _, err := redis.OpenArchive(t.Context(), o); !errors.Is(err, bridge.ErrInUse) || !strings.Contains(err.Error(), "15s") {
		t.Errorf("%v", err)
	}
	expect.NoError(t, e.Close())
	expect.NoError(t, archive(t, o).Close())
}

func importIntoUsedStore(t *testing.T) {
	heavy(t)
	c := storetest.NewClock()
	cluster := redistest.StartCluster(t)
	if err := archive(t, filled(t, cluster.URL(), c)).Begin(t.Context()); !errors.Is(err, bridge.ErrNotEmpty) {
		t.Errorf("%v", err)
	}
	o := fresh(cluster.URL(), c)
	expect.NoError(t, open(t, o).Close()) // opened once, and never used
	expect.NoError(t, archive(t, o).Begin(t.Context()))
}

func importReplicas(t *testing.T) {
	heavy(t)
	c := storetest.NewClock()
	primary := redistest.Start(t)
	from := filled(t, redistest.Start(t).URL(), c)
	a := archive(t, from)
	entries := dumped(t, a)
	o := fresh(primary.URL(), c)
	o.WaitReplicas, o.Patience = 1, time.Second
	if err := archive(t, o).Begin(t.Context()); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("without a replica: %v", err)
	}
	replica := redistest.StartReplica(t, primary)
	expect.Eventually(t, "the replica to keep up", func() bool { return archive(t, o).Begin(t.Context()) == nil })
	loaded(t, o, entries, epochOf(t, a), 1)
	primary.Kill()
	replica.Do("REPLICAOF", "NO", "ONE")
	o.URL, o.WaitReplicas = replica.URL(), 0
	same(t, from, o, c)
}

// What the server had not written to its disk by then is gone, and nothing else tells so.
func importDuringRestart(t *testing.T) {
	heavy(t)
	c, s := storetest.NewClock(), redistest.Start(t)
	o := fresh(s.URL(), c)
	a := archive(t, o)
	expect.NoError(t, a.Begin(t.Context()))
	s.Stop()
	s.Restart()
	expect.Eventually(t, "the archive to find the server, and that it was restarted", func() bool {
		err := a.Finish(t.Context(), "epoch")
		if err == nil {
			t.Fatal("it was finished")
		}
		return strings.Contains(err.Error(), "restarted")
	})
	if _, err := redis.Open(t.Context(), o); !errors.Is(err, bridge.ErrUnfinished) {
		t.Errorf("open: %v", err)
	}
}

func olderRevocationsAreCarried(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := redis.Options{URL: s.URL()}
	e := open(t, o)
	join(t, e, "known", "ses_1")
	for _, u := range []string{"known", "12345"} {
		expect.NoError(t, e.Revoke(t.Context(), u, bridge.Revocation{TokenID: "stolen of " + u}))
	}
	expect.NoError(t, e.Close())
	keys := strings.Fields(s.Do("KEYS", "hookbridge:{u*}:R"))
	for _, k := range keys { // older versions have not written the name
		s.Do("HDEL", k, "nknown")
	}
	var got []string
	for _, e := range dumped(t, archive(t, o)) {
		if r := e.Revocation; r != nil {
			got = append(got, r.User+" "+r.TokenID)
		}
	}
	slices.Sort(got)
	if want := []string{"12345 stolen of 12345", "known stolen of known"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, k := range keys {
		s.Do("HDEL", k, "n12345")
	}
	err := archive(t, o).Dump(t.Context(), func(bridge.Entry) error { return nil })
	if err == nil || !slices.ContainsFunc(keys, func(k string) bool { return strings.Contains(err.Error(), k) }) {
		t.Errorf("a revocation is left out: %v", err)
	}
}
