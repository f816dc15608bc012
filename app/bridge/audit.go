package bridge

import (
	"context"
	"log/slog"
	"strings"
)

// Audit writes one line for each thing that somebody may have to account for:
// who did what to which event, and whom it reached. No line holds a payload, a
// token or a secret. The zero Audit writes nothing.
type Audit struct{ log *slog.Logger }

// NewAudit writes through log; nil writes nothing.
func NewAudit(log *slog.Logger) Audit { return Audit{log} }

// On reports whether lines are written, for those that cost something to make.
func (a Audit) On() bool { return a.log != nil }

func (a Audit) write(act string, attrs ...slog.Attr) {
	if a.log != nil {
		a.log.LogAttrs(context.Background(), slog.LevelInfo, act, attrs...)
	}
}

// accepted is an event that was taken, from a backend's key or from a user.
func (a Audit) accepted(sender string, from Identity, m *Message, o Outcome) {
	if a.log == nil {
		return
	}
	who := []slog.Attr{slog.String("sender", sender)}
	if m.From != "" {
		who = []slog.Attr{slog.String("user", from.User), slog.String("token_id", from.TokenID)}
	}
	a.write("accepted", append(who, slog.String("id", m.ID), slog.String("type", m.Type), slog.String("to", m.To.String()),
		slog.String("status", string(o.Status)), slog.Int("sessions", o.Sessions), slog.Bool("duplicate", o.Duplicate))...)
}

// backendPrefix marks a target that is a backend.
const backendPrefix = "backend:"

// sentToBackend is a message to a backend that was stored.
func (a Audit) sentToBackend(from Identity, session, backend, eventType string, o Outcome) {
	a.write("accepted", slog.String("user", from.User), slog.String("session", session), slog.String("token_id", from.TokenID), slog.String("id", o.ID),
		slog.String("type", eventType), slog.String("to", backendPrefix+backend), slog.String("status", string(o.Status)), slog.Bool("duplicate", o.Duplicate))
}

// requested is a request to a backend, before it is posted.
func (a Audit) requested(from Identity, session, backend, id, eventType string) {
	a.write("requested", slog.String("user", from.User), slog.String("session", session), slog.String("token_id", from.TokenID), slog.String("id", id),
		slog.String("type", eventType), slog.String("to", backendPrefix+backend))
}

// delivered is an event frame on its way to a session's socket.
func (a Audit) delivered(s *Session, m *Message) {
	if a.log == nil {
		return
	}
	a.write("delivered", slog.String("user", s.user), slog.String("session", s.id),
		slog.String("token_id", s.currentIdentity().TokenID), slog.String("id", m.ID), slog.String("type", m.Type))
}

// acked is an app's word that it has everything up to a cursor.
func (a Audit) acked(user, session, tokenID, cursor string) {
	a.write("acked", slog.String("user", user), slog.String("session", session),
		slog.String("token_id", tokenID), slog.String("cursor", cursor))
}

// seen is an app's word that its person has seen an event.
func (a Audit) seen(user, session, tokenID, id string) {
	a.write("seen", slog.String("user", user), slog.String("session", session), slog.String("token_id", tokenID), slog.String("id", id))
}

// session is the begin or the end of a session.
func (a Audit) session(act string, s *Session, attrs ...slog.Attr) {
	if a.log == nil {
		return
	}
	a.write(act, append([]slog.Attr{slog.String("user", s.user), slog.String("session", s.id),
		slog.String("token_id", s.currentIdentity().TokenID), slog.String("transport", s.transport)}, attrs...)...)
}

// operated is what an operator did.
func (a Audit) operated(by Identity, act string, attrs ...slog.Attr) {
	a.write("operated", append([]slog.Attr{slog.String("user", by.User), slog.String("token_id", by.TokenID), slog.String("act", act)}, attrs...)...)
}

// Refused is an attempt that was turned away. code is a problem's code or close
// code; what names the route or the frame.
func (a Audit) Refused(code, what string, attrs ...slog.Attr) {
	a.write("refused", append([]slog.Attr{slog.String("code", code), slog.String("what", what)}, attrs...)...)
}

// maxNamed is how many recipients a line names.
const maxNamed = 20

// String names whom a target is for, as far as a log line should.
func (t Target) String() string {
	switch {
	case t.All:
		return "all"
	case t.Group != "":
		return groupPrefix + t.Group
	case t.User != "":
		return t.User
	case len(t.Users) > maxNamed:
		return strings.Join(t.Users[:maxNamed], ",") + ",…"
	}
	return strings.Join(t.Users, ",")
}
