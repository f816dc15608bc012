// Package local is bridge.Live for one machine: everybody who is connected is in
// this process's hub. What must survive a restart goes to the store.
package local

import (
	"context"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// Store is what Live needs of the store beside it. Errors: bridge.ErrUnavailable,
// ErrClosed, the context's, and those named.
type Store interface {
	// Enter writes down what a Join says and returns where the user stands, apart from
	// JoinState.Live. ended is a token of the user that no session has any more, so that
	// its groups end with it; empty for none. It tells the Hub that the session has Joined. Errors: bridge.ErrRevoked,
	// bridge.ErrErased.
	Enter(ctx context.Context, m bridge.Member, ended string) (bridge.JoinState, error)
	// Exit keeps when the user was last there, and the session's delivery log, unless
	// the user was erased since the session began. It may return before that is durable.
	Exit(ctx context.Context, log bridge.DeliveryLog) error
	// LastSeen tells for each user, in the order given, when a session last joined or
	// left; zero for a user who is not known.
	LastSeen(ctx context.Context, users []string) ([]time.Time, error)
	// Closed reports whether Close was called.
	Closed() bool
}

// Live implements bridge.Live.
type Live struct {
	store Store
	now   func() time.Time
	hub   bridge.Hub // nil until Listen

	mu      sync.Mutex               // guards joining
	joining map[string]chan struct{} // by user, while one of their sessions joins; closed at the end
}

var _ bridge.Live = (*Live)(nil)

// New makes a Live beside a store. now is time.Now where it is nil.
func New(store Store, now func() time.Time) *Live {
	if now == nil {
		now = time.Now
	}
	return &Live{store: store, now: now, joining: make(map[string]chan struct{})}
}

// Listen implements bridge.Live.
func (l *Live) Listen(h bridge.Hub) { l.hub = h }

// Join implements bridge.Live. Sessions of one user join one after the other, so
// that each finds in the hub which tokens the others have.
func (l *Live) Join(ctx context.Context, m bridge.Member) (bridge.JoinState, error) {
	if err := l.begin(ctx, m.User); err != nil {
		return bridge.JoinState{}, err
	}
	defer l.end(m.User)
	st, err := l.store.Enter(ctx, m, endedBy(m, l.hub.Members(m.User)))
	if err != nil {
		return bridge.JoinState{}, err
	}
	st.Live = len(l.hub.Members(m.User))
	return st, nil
}

// endedBy is the token that a session had before, where no other session of the
// user has it; empty for none.
func endedBy(m bridge.Member, live []bridge.Member) string {
	i := slices.IndexFunc(live, func(o bridge.Member) bool { return o.Session == m.Session })
	if i < 0 || live[i].Token == m.Token {
		return ""
	}
	before := live[i].Token
	if slices.ContainsFunc(live, func(o bridge.Member) bool { return o.Session != m.Session && o.Token == before }) {
		return ""
	}
	return before
}

// begin waits until no session of the user joins.
func (l *Live) begin(ctx context.Context, user string) error {
	for {
		l.mu.Lock()
		other, busy := l.joining[user]
		if !busy {
			l.joining[user] = make(chan struct{})
		}
		l.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Live) end(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.joining[user])
	delete(l.joining, user)
}

// Leave implements bridge.Live.
func (l *Live) Leave(ctx context.Context, log bridge.DeliveryLog) error {
	wasPresent := l.hub.Left(log.Member.User, log.Member.Session)
	if l.store.Closed() {
		return bridge.ErrClosed
	}
	if !wasPresent {
		return nil
	}
	return l.store.Exit(ctx, log)
}

// Presence implements bridge.Live.
func (l *Live) Presence(ctx context.Context, users []string) ([]bridge.Presence, error) {
	seen, err := l.store.LastSeen(ctx, users)
	if err != nil {
		return nil, err
	}
	out := make([]bridge.Presence, len(users))
	for i, user := range users {
		out[i] = bridge.Presence{User: user, Sessions: len(l.hub.Members(user)), LastSeen: seen[i]}
		if out[i].Sessions > 0 {
			out[i].LastSeen = l.now().UTC()
		}
	}
	return out, nil
}

// Sessions implements bridge.Live.
func (l *Live) Sessions(_ context.Context, user string) ([]bridge.Member, error) {
	if l.store.Closed() {
		return nil, bridge.ErrClosed
	}
	return l.hub.Members(user), nil
}

// Tell implements bridge.Live.
func (l *Live) Tell(_ context.Context, n bridge.Notice) error {
	if l.store.Closed() {
		return bridge.ErrClosed
	}
	l.hub.Notify(n)
	return nil
}

// Ask implements bridge.Live: there are no other machines.
func (l *Live) Ask(context.Context, []string) ([]bridge.DeliveryLog, error) {
	if l.store.Closed() {
		return nil, bridge.ErrClosed
	}
	return nil, nil
}
