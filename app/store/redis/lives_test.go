package redis_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/store/storetest"
)

// noAOF keeps a server's data in an RDB file alone, which is written when asked.
var noAOF = []string{"--appendonly", "no"}

// rewindable is a store of the suite that notices things soon.
func rewindable(url string, o storetest.Options) func() (storetest.Pair, error) {
	return func() (storetest.Pair, error) {
		return pair(context.Background(), redis.Options{URL: url, Now: o.Now, MailboxLimit: o.MailboxLimit,
			Lease: 3 * time.Second, Renew: 100 * time.Millisecond, Patience: 2 * time.Second})
	}
}

// onFile goes back by an older RDB file.
func onFile(live bool) storetest.Harness {
	return func(t *testing.T, o storetest.Options) storetest.Backend {
		s := redistest.Start(t, noAOF...)
		file := filepath.Join(s.Dir, "dump.rdb")
		var kept []byte
		return storetest.Backend{
			Open:        rewindable(s.URL(), o),
			RewindsOpen: live,
			Save: func() {
				s.Do("SAVE")
				b, err := os.ReadFile(file)
				expect.NoError(t, err)
				kept = b
			},
			Rewind: func() {
				s.Kill()
				expect.NoError(t, os.WriteFile(file, kept, 0o600))
				s.Restart()
			},
		}
	}
}

// bothListen waits until two machines listen at the primary: at their own channels and at
// that of all.
func bothListen(t *testing.T, p *redistest.Pair) {
	t.Helper()
	expect.Eventually(t, "both to listen at the primary", func() bool {
		out, err := p.Primary.Try("PUBSUB", "CHANNELS")
		return err == nil && len(strings.Fields(out)) == 3
	})
}

func TestLife(t *testing.T) {
	t.Parallel()
	t.Run("of an older file that is put back is found out", olderFile)
	t.Run("of a restart on an older file is found out by those who are connected", olderFileWhileConnected)
	t.Run("of a lagging replica that is promoted is found out", laggingReplica)
	t.Run("of a server that was a primary before is found out", formerPrimary)
	t.Run("goes on when a connection leads to the primary of before", strayConnection)
	t.Run("of an emptied Redis is another store's, and nobody was erased", emptiedServer)
	t.Run("that is new is told to every machine", everyMachineHears)
	t.Run("that is new does not count sessions that left before", leftBeforeRewind)
	t.Run("after a failover that lost nothing keeps every place good", failoverWithoutLoss)
	t.Run("goes on when scripts are forgotten", forgottenScripts)
	t.Run("that only a mailbox has noted is found", notedByMailbox)
	t.Run("is none of what an older version publishes", olderVersionPublishes)
	t.Run("that is old ended no later than is said", oldLives)
}

func olderFile(t *testing.T) {
	heavy(t)
	storetest.RunRewinds(t, onFile(false))
}

func olderFileWhileConnected(t *testing.T) {
	heavy(t)
	storetest.RunRewinds(t, onFile(true))
}

// A proxy stands for the address that clients know; behind it the replica takes the
// primary's place.
func laggingReplica(t *testing.T) {
	heavy(t)
	storetest.RunRewinds(t, func(t *testing.T, o storetest.Options) storetest.Backend {
		p := redistest.StartPair(t)
		return storetest.Backend{Open: rewindable(p.URL(), o), RewindsOpen: true, Save: p.CutOff, Rewind: p.Promote}
	})
}

// The same two servers change places again and again, and each knows the scripts of
// the lives that it has reigned in.
func formerPrimary(t *testing.T) {
	heavy(t)
	storetest.RunRewinds(t, func(t *testing.T, o storetest.Options) storetest.Backend {
		p := redistest.StartPair(t)
		return storetest.Backend{Open: rewindable(p.URL(), o), RewindsOpen: true, Save: p.CutOff, Rewind: func() {
			p.Promote()
			p.Demote()
			p.CutOff()
			p.Promote()
		}}
	})
}

// The primary of before still takes itself for one, as behind a load balancer or a cut in
// the network: it would take messages, and whoever listens there hears nobody.
func strayConnection(t *testing.T) {
	heavy(t)
	p := redistest.StartPair(t)
	e, h := quick(t, redis.Options{URL: p.URL(), Patience: 2 * time.Second})
	join(t, e, "u", "ses_1")
	p.CutOff()
	appendTo(t, e, message("before", "u"))
	p.Promote()
	expect.Eventually(t, "the new life", func() bool { return h.lived() == 1 })
	for skip := range 5 {
		p.Stray(skip)
		for i, what := range []string{"taken", "heard"} {
			sent := 0
			expect.Eventually(t, fmt.Sprintf("messages to be %s when connection %d went astray", what, skip), func() bool {
				sent++
				id := fmt.Sprintf("m%d.%d.%d", skip, i, sent)
				_, err := e.Append(deadline(t, 5*time.Second), message(id, "u"))
				return err == nil && (what == "taken" || h.last() == id)
			})
		}
	}
}

func emptiedServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, h := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	join(t, e, "quiet", "ses_2")
	epoch := e.Epoch()
	appendTo(t, e, message("a", "u"))
	s.Do("FLUSHALL")
	if r := appendTo(t, e, message("b", "u")); r.Recipients[0].Seq != 1 {
		t.Errorf("%+v", r)
	}
	if e.Epoch() == epoch {
		t.Error("cursors would find the store that they are of")
	}
	expect.Eventually(t, "the sessions to be present again", func() bool { return presentNow(t, e, "u") == 1 && presentNow(t, e, "quiet") == 1 })
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := range h.told {
		if strings.HasPrefix(n, string(bridge.NoticeErased)) {
			t.Errorf("it was told: %s", n)
		}
	}
	if len(h.lives) != 1 || h.lives[0] != e.Life() {
		t.Errorf("lives %v were told, and it is %s", h.lives, e.Life())
	}
}

// Two machines: one that has nothing to do finds out by its renewal, one that hears
// a message of a life that it does not know looks for it first.
func everyMachineHears(t *testing.T) {
	heavy(t)
	p := redistest.StartPair(t)
	one, h1 := quick(t, redis.Options{URL: p.URL()})
	other, h2 := quick(t, redis.Options{URL: p.URL()})
	join(t, one, "u", "ses_1")
	join(t, other, "u", "ses_2")
	p.CutOff()
	for range 3 {
		appendTo(t, one, message(storetest.NewClock().Now().Format(time.RFC3339Nano), "u"))
	}
	p.Promote()
	expect.Eventually(t, "both to be told", func() bool { return h1.lived() == 1 && h2.lived() == 1 })
	if one.Life() != other.Life() {
		t.Errorf("%s and %s", one.Life(), other.Life())
	}
	bothListen(t, p)
	expect.Eventually(t, "both to be counted again", func() bool { return presentNow(t, one, "u") == 2 && presentNow(t, other, "u") == 2 })
	if r := appendTo(t, other, message("after", "u")); r.Sessions != 2 || r.Recipients[0].Seq != 1 {
		t.Errorf("%+v", r)
	}
	expect.Eventually(t, "one to hear it", func() bool { return h1.last() == "after" })
}

// What stands in a store that went back of a session that has left since is nobody.
func leftBeforeRewind(t *testing.T) {
	heavy(t)
	p := redistest.StartPair(t)
	one, _ := quick(t, redis.Options{URL: p.URL()})
	other, _ := quick(t, redis.Options{URL: p.URL()})
	join(t, other, "u", "ses_1")
	p.CutOff()
	expect.NoError(t, other.Leave(deadline(t, 5*time.Second), bridge.DeliveryLog{Member: bridge.Member{User: "u", Session: "ses_1"}}))
	p.Promote()
	bothListen(t, p) // or nothing would be counted anyway
	var r bridge.Receipt
	m := message("m", "u")
	expect.Eventually(t, "the message to be taken", func() (ok bool) {
		var err error
		r, err = one.Append(deadline(t, 5*time.Second), m)
		return err == nil
	})
	if r.Sessions != 0 {
		t.Errorf("%+v", r)
	}
	if n := online(t, one, "u"); n != 0 {
		t.Errorf("%d are there", n)
	}
}

// Neither a machine's restart nor a failover that lost nothing is a reason for a gap.
func failoverWithoutLoss(t *testing.T) {
	heavy(t)
	p := redistest.StartPair(t)
	e, h := quick(t, redis.Options{URL: p.URL()})
	join(t, e, "u", "ses_1")
	for i := range 5 {
		appendTo(t, e, message(string(rune('a'+i)), "u"))
	}
	life := e.Life()
	p.Settle()
	p.CutOff()
	p.Promote()
	expect.Eventually(t, "a new life", func() bool { return e.Life() != life && h.restored() == 1 })
	appendTo(t, e, message("after", "u"))
	end, err := e.LifeEnd(deadline(t, 5*time.Second), "u", life)
	if err != nil || end.Mailbox != 5 {
		t.Errorf("%+v, %v", end, err)
	}
	now := e.Life()
	expect.NoError(t, e.Close())
	again, _ := quick(t, redis.Options{URL: p.URL()})
	if again.Life() != now {
		t.Errorf("a restart of the machine began the life %s after %s", again.Life(), now)
	}
}

// An operator's SCRIPT FLUSH is no new life.
func forgottenScripts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, h := quick(t, redis.Options{URL: s.URL()})
	life := e.Life()
	for _, do := range []func(){
		func() { appendTo(t, e, message("m", "u")) },
		func() { join(t, e, "u", "ses_1") },
		func() { stored(t, e, "u") },
		func() {
			expect.NoError(t, e.Ack(deadline(t, 5*time.Second), "u", "ses_1", life, bridge.Position{Mailbox: 1}))
		},
		func() { expect.NoError(t, e.Post(deadline(t, 5*time.Second), sentBy("u", 1))) },
		func() { leasedOf(t, e, 1) },
	} {
		s.Do("SCRIPT", "FLUSH")
		do()
	}
	if e.Life() != life || h.lived() != 0 {
		t.Errorf("%s began after %s", e.Life(), life)
	}
}

// A machine of a version without lives publishes places of no life: a session looks
// them up in the store.
func olderVersionPublishes(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, h := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	appendTo(t, e, message("new", "u"))
	redis.HearOld(e, message("old", "u"), "u", 2)
	h.mu.Lock()
	defer h.mu.Unlock()
	if want := []string{e.Life(), ""}; fmt.Sprint(h.heard, h.of) != fmt.Sprint([]string{"new", "old"}, want) {
		t.Errorf("%v of %q", h.heard, h.of)
	}
}

// A mailbox remembers the beginnings of so many lives; of older ones it says that they
// ended too early, never too late.
func oldLives(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	var lives []string
	const rounds, kept = 80, 60
	for i := range rounds {
		appendTo(t, e, message(fmt.Sprint("m", i), "u"))
		lives = append(lives, e.Life())
		s.Do("DEL", "hookbridge:{machines}:reigns") // as if another server had taken over
		s.Do("SCRIPT", "FLUSH")
	}
	for i, life := range lives {
		if i > 0 && life == lives[i-1] {
			t.Fatalf("round %d lives as the one before", i)
		}
		end, err := e.LifeEnd(deadline(t, 10*time.Second), "u", life)
		expect.NoError(t, err)
		if want := uint64(i + 1); end.Mailbox > want || i >= rounds-kept && end.Mailbox != want {
			t.Errorf("life %d ended at %d", i, end.Mailbox)
		}
	}
}

// On a Cluster a machine may hear of a new life only from a mailbox that has noted it.
func notedByMailbox(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, h := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	appendTo(t, e, message("before", "u"))
	key := strings.TrimSuffix(redis.MessagesKey(e, "u"), "m") + "h"
	newer := time.Now().Add(time.Hour).UnixMilli()
	for i, do := range []func(){
		func() { appendTo(t, e, message("after", "u")) },
		func() { appendTo(t, e, large("shared", 1000, "u", "v")) },
		func() {
			expect.NoError(t, e.Ack(deadline(t, 5*time.Second), "u", "ses_1", e.Life(), bridge.Position{Mailbox: 1}))
		},
		func() { join(t, e, "u", "ses_2") },
	} {
		life := e.Life()
		s.Do("HSET", key, "ln", strconv.FormatInt(newer+int64(i)*1000, 10))
		do()
		if e.Life() == life || h.lived() != i+1 {
			t.Errorf("call %d does not find the new life", i)
		}
	}
	if got := stored(t, e, "u"); fmt.Sprint(got) != "[before after shared]" {
		t.Errorf("%v", got)
	}
}
