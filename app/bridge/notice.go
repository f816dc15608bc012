package bridge

import "hookbridge/app/wire"

// notice acts on what a notice says of this session's user. It never blocks.
func (s *Session) notice(n *Notice) {
	defer s.recoverPanic()
	switch n.Kind {
	case NoticeDisconnect:
		if n.Session == "" || n.Session == s.id {
			s.Close(wire.CloseForbidden, "disconnected by an operator")
		}
	case NoticeReplaced:
		if n.Session == s.id {
			s.replace("replaced by a newer session of the user")
		}
	case NoticeRevoked:
		s.revoked(n.Revocation)
	case NoticeErased:
		if n.Session != "" && n.Session != s.id {
			return // it began after the erasure
		}
		s.Close(wire.CloseErased, ErrErased.Error())
	case NoticeRecalled:
		s.recall(n)
	}
}

// replace makes room for other sessions of the user: the connection is closed
// with 4409. A poll is answered instead, with what there is for it at this moment.
func (s *Session) replace(reason string) {
	poll, ok := s.conn.(*pollConn)
	if !ok {
		s.Close(wire.CloseReplaced, reason)
		return
	}
	s.mu.Lock()
	s.pollAnswered = true
	s.mu.Unlock()
	poll.answerNow()
}

// recall keeps a message that waits to be written from being written. Whether
// the client has it already, only the writer knows, in its turn.
func (s *Session) recall(n *Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return
	}
	for i := range s.queue {
		if m := s.queue[i].d.Message; m != nil && m.ID == n.ID {
			s.queue[i].skip = true
			if s.deliveries != nil {
				s.deliveries.dropUnstored(n.ID)
			}
			return
		}
	}
	if s.reading {
		// A page that was read a moment ago may still have it.
		s.leaveOut(n.ID)
	}
	s.push(item{gone: n})
}

// NoticeKind is what a Notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeDisconnect NoticeKind = "disconnect" // an operator ends Session, or all of User's
	NoticeRevoked    NoticeKind = "revoked"    // Revocation covers some tokens of User
	NoticeErased     NoticeKind = "erased"     // User is gone
	NoticeRecalled   NoticeKind = "recalled"   // the message ID is taken back
	NoticeReplaced   NoticeKind = "replaced"   // User has newer sessions than Session, and as many as may be
	NoticeWanted     NoticeKind = "wanted"     // on the machine Asker, a caller waits for User to come to Status with the message ID
	NoticeReached    NoticeKind = "reached"    // on another machine, Sessions of User have come to Status with the message ID
)

// Notice is something that live sessions must act on, on whichever machine they
// are.
type Notice struct {
	Kind       NoticeKind `json:"kind"`
	User       string     `json:"user,omitempty"` // whose sessions; empty: everybody's
	Session    string     `json:"session,omitempty"`
	Revocation Revocation `json:"revocation,omitzero"`
	// ID, Mailbox and Broadcast tell which message was recalled, and its place
	// in one of User's logs; both are 0 for one that was never stored.
	ID        string `json:"id,omitempty"`
	Mailbox   uint64 `json:"mailbox,omitzero"`
	Broadcast uint64 `json:"broadcast,omitzero"`
	// To is the one machine that is to hear of it, by the name that an Asker
	// gave; empty: every one.
	To       string `json:"to,omitempty"`
	Status   Status `json:"status,omitempty"`
	Sessions int    `json:"sessions,omitzero"`
	// Asker is the machine that the notice comes from, where it is not this
	// one. A Live that spans machines sets it.
	Asker string `json:"asker,omitempty"`
}
