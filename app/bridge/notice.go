package bridge

import "hookbridge/app/wire"

// notice acts on what the engine tells of this session's user. It never blocks.
func (s *Session) notice(n *Notice) {
	defer s.survive()
	switch n.Kind {
	case NoticeDisconnect:
		if n.Session == "" || n.Session == s.id {
			s.Close(wire.CloseForbidden, "disconnected by an operator")
		}
	case NoticeReplaced:
		if n.Session == s.id {
			s.Close(wire.CloseReplaced, "replaced by a newer session of the user")
		}
	case NoticeRevoked:
		if id := s.currentIdentity(); n.Revocation.Covers(id.TokenID, id.Issued) {
			s.Close(wire.CloseForbidden, "the token was revoked")
		}
	case NoticeErased:
		s.Close(wire.CloseErased, "the user was erased")
	case NoticeRecalled:
		s.recall(n)
	}
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
			if s.trail != nil {
				s.trail.unpass(n.ID)
			}
			return
		}
	}
	if s.pulling {
		// A page that was read a moment ago may still have it.
		if s.skip == nil {
			s.skip = make(map[string]struct{})
		}
		s.skip[n.ID] = struct{}{}
	}
	s.push(item{gone: n})
}
