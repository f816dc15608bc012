package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"hookbridge/app/wire"
)

// Areas that a token's admin right may name.
const (
	AreaPresence = "presence"
	AreaSessions = "sessions"
	AreaEvents   = "events"
	AreaUsers    = "users"
	AreaGroups   = "groups"
)

// Operator is somebody whose token names an area, and what they may do there.
// Every call is audited. Beside the errors named, all methods return the
// store's.
type Operator struct {
	b  *Bridge
	by Identity
}

// Operate lets an identity operate; the edge has checked the area.
func (b *Bridge) Operate(by Identity) Operator { return Operator{b, by} }

func (o Operator) note(act string, err error, attrs ...slog.Attr) {
	if !o.b.audit.On() {
		return
	}
	outcome := "done"
	if err != nil {
		outcome = ProblemOf(err).Code
	}
	o.b.audit.operated(o.by, act, append(attrs, slog.String("outcome", outcome))...)
}

const (
	// maxHeavy is how many operators' calls that may each concern a thousand users
	// go on at a time. Others wait for their turn.
	maxHeavy = 4
	// manyUsers make a question about presence such a call.
	manyUsers = 100
)

// heavily waits for a turn; the returned function ends it. Errors: the context's.
func (o Operator) heavily(ctx context.Context) (done func(), err error) {
	select {
	case o.b.heavy <- struct{}{}:
		return func() { <-o.b.heavy }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// checkName refuses what can be no user or group, by what it is called.
func checkName(what, name string) error {
	if err := CheckUserID(name); err != nil {
		return &RequestError{fmt.Sprintf("the %s in the path: %v", what, err)}
	}
	return nil
}

// Presence tells who is there.
func (o Operator) Presence(ctx context.Context, users []string) (list []Presence, err error) {
	defer func() { o.note("presence", err, slog.Any("users", users[:min(len(users), maxNamed)])) }()
	if len(users) == 0 || len(users) > MaxRecipients {
		return nil, &RequestError{fmt.Sprintf("/users must name 1 to %d users; it names %d", MaxRecipients, len(users))}
	}
	for i, u := range users {
		if err := CheckUserID(u); err != nil {
			return nil, &RequestError{fmt.Sprintf("/users/%d: %v", i, err)}
		}
	}
	if len(users) > manyUsers {
		done, err := o.heavily(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	return o.b.live.Presence(ctx, users)
}

// Sessions lists a user's live sessions.
func (o Operator) Sessions(ctx context.Context, user string) (list []Member, err error) {
	defer func() { o.note("list sessions", err, slog.String("of", user)) }()
	if err := checkName("user", user); err != nil {
		return nil, err
	}
	return o.b.live.Sessions(ctx, user)
}

// Disconnect ends one session of a user, or all where session is empty.
// ErrNoSession where the user has no such session.
func (o Operator) Disconnect(ctx context.Context, user, session string) (err error) {
	defer func() { o.note("disconnect", err, slog.String("of", user), slog.String("session", session)) }()
	if err := checkName("user", user); err != nil {
		return err
	}
	if session != "" {
		list, err := o.b.live.Sessions(ctx, user)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(m Member) bool { return m.Session == session }) {
			return ErrNoSession
		}
	}
	return o.b.live.Tell(ctx, Notice{Kind: NoticeDisconnect, User: user, Session: session})
}

// Recall takes an event back. ErrUnknown.
func (o Operator) Recall(ctx context.Context, id string) (err error) {
	defer func() { o.note("recall", err, slog.String("id", id)) }()
	done, err := o.heavily(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := o.b.lookup(ctx, id); err != nil {
		return err
	}
	return o.b.store.Recall(ctx, id)
}

// lookup finds an event. Errors: ErrUnknown, also for an id that no webhook can have, and
// those of Store.Lookup.
func (b *Bridge) lookup(ctx context.Context, id string) (Record, error) {
	if !validID(id) {
		return Record{}, ErrUnknown
	}
	rec, err := b.store.Lookup(ctx, id)
	if err == nil && rec.Type == ClaimType {
		return Record{}, ErrUnknown
	}
	return rec, err
}

// Erase forgets a user.
func (o Operator) Erase(ctx context.Context, user string) (err error) {
	defer func() { o.note("erase", err, slog.String("of", user)) }()
	if err := checkName("user", user); err != nil {
		return err
	}
	return o.b.store.Erase(ctx, user)
}

// Members lists a group.
func (o Operator) Members(ctx context.Context, group string) (list []string, err error) {
	defer func() { o.note("list members", err, slog.String("group", group)) }()
	if err := checkName("group", group); err != nil {
		return nil, err
	}
	return o.b.store.Members(ctx, group)
}

// SetMember puts a user into a group or takes them out. ErrGroupFull.
func (o Operator) SetMember(ctx context.Context, group, user string, member bool) (err error) {
	defer func() {
		o.note("set member", err, slog.String("group", group), slog.String("of", user), slog.Bool("member", member))
	}()
	if err := checkName("group", group); err != nil {
		return err
	}
	if err := checkName("user", user); err != nil {
		return err
	}
	return o.b.store.SetMember(ctx, group, user, member)
}

// EventState is what became of an event.
type EventState struct {
	Record     Record
	Recipients []RecipientState
}

// RecipientState is what became of it for one user. Its Status is dropped where
// the message is gone from the mailbox and, as far as is known, never reached
// anybody there.
type RecipientState struct {
	User     string
	Status   Status
	Sessions []SessionState
}

// SessionState is when one session had it; zero times have not happened, or are
// not known (the session was live when its machine died, or it was long ago).
type SessionState struct {
	Session string
	Times
	Seen time.Time
}

// Event tells what became of an event. ErrUnknown.
func (o Operator) Event(ctx context.Context, id string) (st EventState, err error) {
	defer func() { o.note("look up", err, slog.String("id", id)) }()
	done, err := o.heavily(ctx)
	if err != nil {
		return st, err
	}
	defer done()
	if st.Record, err = o.b.lookup(ctx, id); err != nil {
		return st, err
	}
	users := make([]string, len(st.Record.Recipients))
	for i := range users {
		users[i] = st.Record.Recipients[i].User
	}
	logs, err := o.b.validDeliveryLogs(ctx, users, false)
	if err != nil {
		return st, err
	}
	st.Recipients = make([]RecipientState, len(users))
	for i := range users {
		st.Recipients[i] = recipientState(&st.Record, &st.Record.Recipients[i], logs[i])
	}
	return st, nil
}

func recipientState(r *Record, f *RecipientStatus, logs []DeliveryLog) RecipientState {
	out := RecipientState{User: f.User, Status: StatusDropped, Sessions: []SessionState{}}
	if f.Held {
		out.Status = StatusQueued
	}
	for i := range logs {
		log := &logs[i]
		times, had := log.Of(r.ID, f.Seq, r.Broadcast)
		if !had {
			continue
		}
		out.Status = out.Status.Max(StatusSent)
		if !times.Received.IsZero() {
			out.Status = StatusReceived
		}
		if !f.Acked { // it came after the store was asked, and may not be durable yet
			times.Acked = time.Time{}
		}
		out.Sessions = append(out.Sessions, SessionState{Session: log.Member.Session, Times: times})
	}
	for _, sight := range f.Seen {
		i := slices.IndexFunc(out.Sessions, func(s SessionState) bool { return s.Session == sight.Session })
		if i < 0 {
			i = len(out.Sessions)
			out.Sessions = append(out.Sessions, SessionState{Session: sight.Session})
		}
		out.Sessions[i].Seen = sight.At
		out.Status = StatusReceived
	}
	if f.Acked {
		out.Status = StatusAcked
	}
	return out
}

// Export hands over all that is kept of a user, as JSON values: first the user,
// then each message, then each session. An error of line ends it.
func (o Operator) Export(ctx context.Context, user string, line func(json []byte) error) (err error) {
	defer func() { o.note("export", err, slog.String("of", user)) }()
	if err := checkName("user", user); err != nil {
		return err
	}
	presence, err := o.b.live.Presence(ctx, []string{user})
	if err != nil {
		return err
	}
	groups, err := o.b.store.Groups(ctx, user)
	if err != nil {
		return err
	}
	head := wire.ExportUser{User: user, At: wire.Time(o.b.cfg.Now()), Online: presence[0].Sessions > 0, Groups: groups}
	if !presence[0].LastSeen.IsZero() {
		head.LastSeen = wire.Time(presence[0].LastSeen)
	}
	if err := line(wire.Encode(head)); err != nil {
		return err
	}
	if err := o.exportMessages(ctx, user, line); err != nil {
		return err
	}
	if err := o.exportCallbacks(ctx, user, line); err != nil {
		return err
	}
	logs, err := o.b.deliveryLogs(ctx, []string{user}, false)
	if err != nil {
		return err
	}
	for i := range logs[0] {
		t := &logs[0][i]
		s := wire.ExportSession{Session: t.Member.Session, Transport: t.Member.Transport, Since: wire.Time(t.Member.Since)}
		if !t.Ended.IsZero() {
			s.Until = wire.Time(t.Ended)
		}
		if err := line(wire.Encode(map[string]any{"session": s})); err != nil {
			return err
		}
	}
	return nil
}

func (o Operator) exportMessages(ctx context.Context, user string, line func(json []byte) error) error {
	c := cursor{tag: cursorTag(o.b.store.Epoch(), user), life: o.b.store.Life()}
	for at := (Position{}); ; {
		page, err := o.b.store.Read(ctx, user, c.life, at, pageCount, pageBytes)
		if err != nil {
			return err
		}
		for _, d := range page.Deliveries {
			at = at.Max(Position{Mailbox: d.Mailbox, Broadcast: d.Broadcast})
			c.at = at
			m := wire.ExportMessage{Cursor: c.String(), From: d.Message.From, ToAll: d.Broadcast != 0,
				Topic: d.Message.Topic, Expires: wire.Time(d.Message.Expires), Event: d.Message.Event}
			if err := line(m.Line()); err != nil {
				return err
			}
		}
		at = at.Max(page.Next())
		if !page.More {
			return nil
		}
	}
}
