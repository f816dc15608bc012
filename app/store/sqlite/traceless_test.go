package sqlite

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/local"
	"hookbridge/app/store/storetest"
)

func TestFailedCall(t *testing.T) {
	t.Parallel()
	t.Run("leaves no trace", failedCallIsTraceless)
	t.Run("to leave still ends the session's presence", failedLeave)
}

func TestAbandonedCall(t *testing.T) {
	t.Parallel()
	t.Run("to revoke still revokes, and tells the machines", abandonedRevoke)
	t.Run("to join makes nobody present", abandonedJoin)
}

func TestTokenGroups(t *testing.T) {
	t.Parallel()
	t.Run("are forgotten once the token has expired", tokenGroupsEnd)
	t.Run("of an older file stay until the user's next token", tokenGroupsOfOlderFile)
}

func TestErasedUser(t *testing.T) {
	t.Parallel()
	t.Run("is not written again by calls that were under way", erasedUserStaysErased)
}

// notices is a Hub that remembers only what it was notified of.
type notices struct {
	*storetest.Hub

	mu    sync.Mutex // guards kinds
	kinds []bridge.NoticeKind
}

// Notify implements bridge.Hub.
func (n *notices) Notify(got bridge.Notice) {
	n.Hub.Notify(got)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kinds = append(n.kinds, got.Kind)
}

func (n *notices) heard(k bridge.NoticeKind) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.kinds, k)
}

// member is a session with a token of that name, which names groups.
func member(user, session, token string, groups ...string) bridge.Member {
	return bridge.Member{User: user, Session: session, Transport: "websocket", Since: time.Now(), Issued: time.Now(),
		Token: token, TokenID: token, Groups: groups, Until: inAnHour()}
}

// sessions are those who are connected to a store.
type sessions struct {
	*notices
	live *local.Live
}

// connect makes a store's hub, and its Live.
func connected(e *Store) *sessions {
	s := &sessions{notices: &notices{Hub: &storetest.Hub{}}, live: local.New(e, nil)}
	e.Listen(s)
	s.live.Listen(s)
	return s
}

func (s *sessions) join(ctx context.Context, m bridge.Member) error {
	_, err := s.Join(ctx, s.live, m)
	return err
}

func (s *sessions) mustJoin(t *testing.T, m bridge.Member) {
	t.Helper()
	if err := s.join(t.Context(), m); err != nil {
		t.Fatalf("join: %v", err)
	}
}

// of counts a user's sessions.
func (s *sessions) of(t *testing.T, user string) int {
	t.Helper()
	p, err := s.live.Presence(t.Context(), []string{user})
	if err != nil {
		t.Fatal(err)
	}
	return p[0].Sessions
}

// mustJoin lets in a session that no hub knows of.
func mustJoin(t *testing.T, e *Store, m bridge.Member) {
	t.Helper()
	if _, err := e.Enter(t.Context(), m, ""); err != nil {
		t.Fatalf("join: %v", err)
	}
}

func mustBeIn(t *testing.T, e *Store, group string, users ...string) {
	t.Helper()
	got, err := e.Members(t.Context(), group)
	if err != nil || !slices.Equal(got, users) {
		t.Errorf("members of %s: %v, %v; want %v", group, got, err, users)
	}
}

func failedCallIsTraceless(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			e := open(t, Options{Dir: scratch(t)})
			heard := connected(e)
			first := member("ada", "ses_1", "a", "ward")
			heard.mustJoin(t, first)
			mustAppend(t, e, message("m", "ada", 10, inAnHour()))
			expect.NoError(t, e.SetMember(t.Context(), "set", "ada", true))
			mend := breakDisk(e, op)
			fails := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, bridge.ErrUnavailable) {
					t.Errorf("%s: %v, want ErrUnavailable", what, err)
				}
			}
			err := heard.join(t.Context(), member("ada", "ses_1", "b", "other"))
			fails("a refresh", err)
			err = heard.join(t.Context(), member("ada", "ses_1", "none"))
			fails("a refresh that takes groups back", err)
			err = heard.join(t.Context(), member("bob", "ses_2", "c", "ward"))
			fails("a new user's join", err)
			fails("erase", e.Erase(t.Context(), "ada"))
			fails("revoke", e.Revoke(t.Context(), "ada", bridge.Revocation{TokenID: "a"}))
			fails("set member", e.SetMember(t.Context(), "ward", "ada", false))
			fails("recall", e.Recall(t.Context(), "m"))
			second := first
			second.Session = "ses_3"
			if err := heard.join(t.Context(), second); err != nil {
				t.Errorf("a join with nothing to write: %v", err)
			}
			if n := heard.of(t, "ada"); n != 2 {
				t.Errorf("%d sessions are there", n)
			}
			mend()
			mustAppend(t, e, message("after", "ada", 10, inAnHour()))
			mustBeIn(t, e, "ward", "ada")
			mustBeIn(t, e, "set", "ada")
			mustBeIn(t, e, "other")
			if n := heard.of(t, "ada") + heard.of(t, "bob"); n != 2 {
				t.Errorf("%d sessions are there afterwards", n)
			}
			if revoked, err := e.Revoked(t.Context(), "ada", "a", time.Now()); err != nil || revoked {
				t.Errorf("revoked: %v, %v", revoked, err)
			}
			for _, k := range []bridge.NoticeKind{bridge.NoticeErased, bridge.NoticeRevoked, bridge.NoticeRecalled} {
				if heard.heard(k) {
					t.Errorf("%s was told of", k)
				}
			}
			p, err := e.Read(t.Context(), "ada", e.Life(), bridge.Position{}, 10, 1<<20)
			if err != nil || len(p.Deliveries) != 2 {
				t.Errorf("%d messages, %v", len(p.Deliveries), err)
			}
			heard.mustJoin(t, member("ada", "ses_1", "b", "other")) // the token before was "a", whatever failed
			heard.mustJoin(t, member("ada", "ses_3", "b", "other"))
			mustBeIn(t, e, "ward")
			mustBeIn(t, e, "other", "ada")
			expect.NoError(t, e.flushed(t))
			if n := number(t, e, "SELECT count(*) FROM users WHERE user = 'bob'"); n != 0 {
				t.Error("the user whose join failed is written down")
			}
		})
	}
}

// flushed returns when all acks, and whom was last seen when, are in the file.
func (s *Store) flushed(t *testing.T) error {
	t.Helper()
	expect.Eventually(t, "acks to be written", func() bool { return s.acks.unwritten() == 0 })
	return s.settled(t.Context())
}

func failedLeave(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	here := connected(e)
	m := member("u", "s", "t")
	here.mustJoin(t, m)
	e.health.damage(errDamaged)
	if err := here.live.Leave(t.Context(), bridge.DeliveryLog{Member: m, Ended: time.Now(), Unstored: []bridge.Unstored{{ID: "x"}}}); err != nil {
		t.Fatal(err)
	}
	_ = e.settled(t.Context()) // fails, after the leaving has
	if list, err := here.live.Sessions(t.Context(), "u"); err != nil || len(list) > 0 {
		t.Errorf("still kept: %v, %v", list, err)
	}
}

func abandonedRevoke(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	heard := connected(e)
	reached, mend := stickDisk(e)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Revoke(ctx, "ada", bridge.Revocation{TokenID: "a"}); !errors.Is(err, context.Canceled) {
			t.Errorf("revoke: %v", err)
		}
	})
	<-reached
	cancel()
	wg.Wait()
	mend()
	expect.Eventually(t, "the notice", func() bool { return heard.heard(bridge.NoticeRevoked) })
	if revoked, err := e.Revoked(t.Context(), "ada", "a", time.Now()); err != nil || !revoked {
		t.Errorf("revoked: %v, %v", revoked, err)
	}
}

func abandonedJoin(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	heard := connected(e)
	heard.mustJoin(t, member("ada", "ses_1", "a", "ward"))
	reached, mend := stickDisk(e)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, m := range []bridge.Member{member("bob", "ses_2", "b", "ward"), member("ada", "ses_1", "c", "ward")} {
		wg.Go(func() {
			if err := heard.join(ctx, m); !errors.Is(err, context.Canceled) {
				t.Errorf("join: %v", err)
			}
		})
	}
	<-reached
	cancel()
	wg.Wait()
	mend()
	expect.NoError(t, e.settled(t.Context()))
	if n := heard.of(t, "bob"); n != 0 {
		t.Errorf("%d sessions of bob are there", n)
	}
	if n := heard.of(t, "ada"); n != 1 {
		t.Errorf("%d sessions of ada are there", n)
	}
}

func tokenGroupsEnd(t *testing.T) {
	t.Parallel()
	clock := &shifted{}
	e := open(t, Options{Dir: scratch(t), Now: clock.now})
	mustJoin(t, e, member("ada", "ses_1", "a", "ward", "night"))
	clock.advance(2 * time.Hour)
	expect.Eventually(t, "the rows to go", func() bool { return number(t, e, "SELECT count(*) FROM token_members") == 0 })
}

func tokenGroupsOfOlderFile(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	f := newFirstVersion(t, dir)
	f.exec("BEGIN; " + migrations[1] + "; PRAGMA user_version = 2; COMMIT")
	until := inAnHour().UnixNano()
	for _, row := range []struct {
		user   string
		stored int
		until  int64
	}{{"away", 0, until}, {"both", 1, until}, {"here", 0, until}, {"over", 0, 1}, {"revoked", 0, until}, {"set", 1, 0}} {
		s, _, err := f.conn.Prepare("INSERT INTO members (grp, user, stored, until) VALUES ('ward', ?, ?, ?)")
		if err != nil {
			t.Fatal(err)
		}
		expect.NoError(t, with(s).text(row.user).int(int64(row.stored)).int(row.until).exec())
		expect.NoError(t, s.Close())
	}
	expect.NoError(t, f.conn.Close())
	e := open(t, Options{Dir: dir})
	mustBeIn(t, e, "ward", "away", "both", "here", "revoked", "set")
	expect.NoError(t, e.Revoke(t.Context(), "revoked", bridge.Revocation{TokenID: "which it was nobody knows"}))
	mustJoin(t, e, member("here", "ses_1", "t"))
	mustBeIn(t, e, "ward", "away", "both", "set")
}

// hold makes the writer wait at its next commit, and returns once it does.
func hold(t *testing.T, e *Store) (let func()) {
	t.Helper()
	reached, mend := stickDisk(e)
	r := &request{write: (*writer).writeProbe, done: make(chan struct{}, 1)}
	expect.NoError(t, e.enqueue(t.Context(), r))
	<-reached
	return func() { mend(); <-r.done }
}

func erasedUserStaysErased(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	here := connected(e)
	m := member("ada", "ses_1", "a", "ward")
	here.mustJoin(t, m)
	mustAppend(t, e, message("mail", "ada", 10, inAnHour()))
	passing := message("passing", "ada", 10, time.Time{})
	mustAppend(t, e, passing)
	all := message("all", "", 10, inAnHour())
	all.To = bridge.Target{All: true}
	mustAppend(t, e, all)
	seen := func(id string) *request { // as Seen asks once it has looked the event up
		return &request{write: func(w *writer) error { return w.saw("ada", "ses_1", id, time.Now().UnixNano()) }}
	}
	var more bool
	erase := erasing("ada", &more)
	leave := &request{write: func(w *writer) error { return w.leave(m, time.Now().UnixNano(), []byte("{}")) }}
	joins := func(m bridge.Member) *request {
		r := (&joining{member: m}).request()
		r.done = make(chan struct{}, 1)
		return r
	}
	refresh, coming := joins(member("ada", "ses_1", "b", "ward")), joins(member("ada", "ses_2", "c", "ward"))
	ack := func() {
		t.Helper()
		expect.NoError(t, e.AckLater(t.Context(), "ada", "ses_1", e.Life(), bridge.Position{Mailbox: 1, Broadcast: 1}))
	}

	let := hold(t, e)
	for _, r := range []*request{erase, seen("mail"), seen("passing"), seen("all"), leave, refresh, coming} {
		expect.NoError(t, e.enqueue(t.Context(), r)) // all of it together, when the writer goes on
	}
	ack()
	let()
	for _, r := range []*request{refresh, coming} {
		if <-r.done; !errors.Is(r.err, bridge.ErrErased) {
			t.Errorf("a join: %v", r.err)
		}
	}
	ack()                                                       // on its way for longer than the erasure
	expect.NoError(t, e.do(t.Context(), func(w *writer) error { // the other part of an erasure
		_, _, err := w.scrub("ada", math.MinInt64)
		return err
	}))
	expect.NoError(t, e.enqueue(t.Context(), seen("mail"))) // and one that was slower still
	expect.NoError(t, e.flushed(t))
	for _, table := range []string{"users", "mail", "topics", "members", "token_members", "trails", "sights"} {
		if n := number(t, e, "SELECT count(*) FROM "+table+" WHERE user = 'ada'"); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
	if n := here.of(t, "ada"); n != 0 {
		t.Errorf("%d sessions are there", n)
	}
}
