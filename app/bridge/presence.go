package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Backends are told of users who connect and leave by means of one timer for each user in
// the outbox, of the type CallbackOffline. The timer exists from the user.online to the
// user.offline, so that each is always followed by the other. A session that begins moves
// it far ahead, and a user's last session that ends moves it to offlineDelay from now. When
// it is due, some machine checks whether the user is connected. So backends are told
// nothing of a reconnect. When a machine dies, the store makes its users' timers due as
// soon as it takes their sessions out (Redis), or when the program starts again (SQLite).
const (
	// offlineDelay is how long the last session of a user must be gone.
	offlineDelay = 10 * time.Second
	// PresenceCheck is how often a user who counts as connected is looked up: the
	// machine with their sessions may have died. Their timer is due so long after they came,
	// or were last looked up.
	PresenceCheck = 5 * time.Minute
	// RestartGrace is how long after the start of a machine nobody is told as gone: users
	// whose sessions a restart has ended get this long to come back. It is the same after a new
	// life of the store has begun: until each machine has written anew which sessions it has,
	// their users seem to be gone.
	RestartGrace = offlineDelay + 5*time.Second
)

// tellsPresence reports whether a backend wants to hear when a user comes or goes.
func (b *Bridge) tellsPresence(user string) bool {
	return len(b.cfg.Backends.Want(CallbackOnline, user)) > 0 || len(b.cfg.Backends.Want(CallbackOffline, user)) > 0
}

// coming is how backends are told that a user has come. It happens beside the session,
// which does not wait for it before it leaves.
type coming struct {
	left context.Context // done once the session leaves: then it is not tried again
	stop context.CancelFunc
	told chan struct{} // closed at the end
	done bool          // the outbox knows of it; read once told is closed
}

// comeRetry and maxComeRetry bound how long it takes until it is tried again to tell that a
// user has come.
const (
	comeRetry    = time.Second
	maxComeRetry = 30 * time.Second
)

// tellCome tells backends that the user has come, where the session is the first, or some of
// the others are on other machines: the machine of the first may have died before it told.
// Where the user was there already, the outbox knows. live is how many sessions there are.
func (s *Session) tellCome(live int) {
	b := s.b
	if s.coming != nil || len(b.cfg.Backends) == 0 || live > 1 && live <= len(b.hub.of(s.user)) || !b.tellsPresence(s.user) {
		return
	}
	c := &coming{told: make(chan struct{})}
	c.left, c.stop = context.WithCancel(context.Background())
	s.coming = c
	go func() {
		defer close(c.told)
		b.guard.Run("presence", func() { c.done = b.tellCome(c.left, s.user, live) })
	}()
}

func (b *Bridge) tellCome(left context.Context, user string, live int) (done bool) {
	cs := b.onlineCallbacks(user, live)
	for wait := comeRetry; !b.arm(user, b.cfg.Now().Add(PresenceCheck), true, cs...); wait = min(2*wait, maxComeRetry) {
		select {
		case <-time.After(wait):
		case <-left.Done():
			return false
		}
	}
	return true
}

func (b *Bridge) onlineCallbacks(user string, live int) (cs []Callback) {
	now := b.cfg.Now()
	for _, name := range b.cfg.Backends.Want(CallbackOnline, user) {
		cs = append(cs, OnlineCallback(name, user, live, now))
	}
	return cs
}

// tellGone sees to it that backends are told, once no other session of the user has come
// back in time. It runs after the session has left Live.
func (s *Session) tellGone() {
	b := s.b
	if len(b.cfg.Backends) == 0 || !b.tellsPresence(s.user) {
		return
	}
	untold := false
	if s.coming != nil {
		s.coming.stop()
		<-s.coming.told // which ends in time
		untold = !s.coming.done
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	// An answer that does not come counts as nobody: when the timer is due it is asked again.
	ps, err := b.live.Presence(ctx, []string{s.user})
	switch {
	case err != nil || ps[0].Sessions == 0:
		if !b.arm(s.user, b.cfg.Now().Add(offlineDelay), false) {
			b.lateGone.add(s.user)
		}
	case untold: // others have come meanwhile, and rely on this one
		b.arm(s.user, b.cfg.Now().Add(PresenceCheck), true, b.onlineCallbacks(s.user, ps[0].Sessions)...)
	}
}

// arm is Outbox.Arm for a session. It returns false where that failed and may succeed later.
func (b *Bridge) arm(user string, due time.Time, begin bool, cs ...Callback) bool {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	_, err := b.cfg.Outbox.Arm(ctx, user, due, begin, cs...)
	if err == nil || errors.Is(err, ErrClosed) {
		return true
	}
	b.armFailures.Do(func() {
		b.log.Warn("backends are told late that users have come or gone", "error", err)
	})
	return false
}

// firePresence looks whether users whose timers are due are still there, and tells of
// those who are gone.
func (b *Bridge) firePresence(ctx context.Context, ts []Timer) error {
	users := make([]string, len(ts))
	for i := range ts {
		users[i] = ts[i].User
	}
	ps, err := b.live.Presence(ctx, users)
	if err != nil {
		return err
	}
	now := b.cfg.Now()
	err = b.eachTimer(len(ts), func(i int) error {
		t, p := ts[i], ps[i]
		earliest := b.settling().Add(RestartGrace)
		if gone := p.LastSeen.Add(offlineDelay); gone.After(earliest) {
			earliest = gone
		}
		switch {
		case p.Sessions > 0:
			_, err := b.cfg.Outbox.Arm(ctx, t.User, now.Add(PresenceCheck), false)
			return err
		case earliest.After(now):
			_, err := b.cfg.Outbox.Arm(ctx, t.User, earliest, false)
			return err
		}
		seen := p.LastSeen
		if seen.IsZero() { // not known any more
			seen = t.Due
		}
		var cs []Callback
		for _, name := range b.cfg.Backends.Want(CallbackOffline, t.User) {
			cs = append(cs, OfflineCallback(name, t, seen, now))
		}
		return b.fire(ctx, t, cs)
	})
	return errors.Join(err, b.recheckPresence(ctx, ps))
}

// newLifeAt is when NewLife was called last; zero before.
func (h *hub) newLifeAt() time.Time {
	if at := h.began.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// settling is when the store could last not tell who is connected: when this machine started,
// or a new life of the store began.
func (b *Bridge) settling() time.Time {
	if at := b.hub.newLifeAt(); at.After(b.started) {
		return at
	}
	return b.started
}

// recheckPresence looks once more at those who were there: one who has left since may
// have set the timer before it was moved ahead here.
func (b *Bridge) recheckPresence(ctx context.Context, before []Presence) error {
	var users []string
	for _, p := range before {
		if p.Sessions > 0 {
			users = append(users, p.User)
		}
	}
	return b.armGone(ctx, users)
}

// armGone sets the timers of those users who are gone.
func (b *Bridge) armGone(ctx context.Context, users []string) error {
	if len(users) == 0 {
		return nil
	}
	ps, err := b.live.Presence(ctx, users)
	if err != nil {
		return err
	}
	return b.eachTimer(len(ps), func(i int) error {
		if ps[i].Sessions > 0 {
			return nil
		}
		_, err := b.cfg.Outbox.Arm(ctx, ps[i].User, b.cfg.Now().Add(offlineDelay), false)
		return err
	})
}

// Restored implements Hub.
func (h *hub) Restored() { h.restored.Store(true) }

// armRestored sees to it that users who are connected here have a timer, after Restored: they
// may have been told as gone, or the store may have lost that they came. Those who have none
// are told as having come.
func (b *Bridge) armRestored(ctx context.Context) error {
	if !b.hub.restored.Swap(false) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timerTimeout)
	defer cancel()
	var users []string
	for _, m := range b.hub.AllMembers() {
		if b.tellsPresence(m.User) {
			users = append(users, m.User)
		}
	}
	slices.Sort(users)
	for some := range slices.Chunk(slices.Compact(users), timersAtOnce) {
		if err := b.armPresent(ctx, some); err != nil {
			b.hub.restored.Store(true) // all of them again: it does no harm
			return err
		}
	}
	return nil
}

// armPresent moves the timers of those users ahead who are there, and tells of those who have
// none.
func (b *Bridge) armPresent(ctx context.Context, users []string) error {
	ps, err := b.live.Presence(ctx, users)
	if err != nil {
		return err
	}
	err = b.eachTimer(len(ps), func(i int) error {
		if ps[i].Sessions == 0 {
			return nil
		}
		_, err := b.cfg.Outbox.Arm(ctx, ps[i].User, b.cfg.Now().Add(PresenceCheck), true, b.onlineCallbacks(ps[i].User, ps[i].Sessions)...)
		return err
	})
	return errors.Join(err, b.recheckPresence(ctx, ps))
}

// lateGone are users who have gone while their timers could not be set. Without it backends
// would be told of them up to PresenceCheck late.
type lateGone struct {
	mu    sync.Mutex // guards users
	users map[string]struct{}
}

func (l *lateGone) add(users ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == nil {
		l.users = make(map[string]struct{})
	}
	for _, user := range users {
		l.users[user] = struct{}{}
	}
}

// take returns up to n of them, which are remembered no longer.
func (l *lateGone) take(n int) (users []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for user := range l.users {
		if len(users) == n {
			break
		}
		users = append(users, user)
		delete(l.users, user)
	}
	return users
}

// armLate sets the timers that could not be set when users left.
func (b *Bridge) armLate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timerTimeout)
	defer cancel()
	for users := b.lateGone.take(timersAtOnce); len(users) > 0; users = b.lateGone.take(timersAtOnce) {
		if err := b.armGone(ctx, users); err != nil {
			b.lateGone.add(users...)
			return err
		}
	}
	return nil
}
