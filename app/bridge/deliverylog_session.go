package bridge

// deliveryLog returns the session's delivery log and makes it where there is none yet;
// mu is held.
func (s *Session) deliveryLog() *DeliveryLog {
	if s.deliveries == nil {
		s.deliveries = &DeliveryLog{From: s.start}
	}
	return s.deliveries
}

// deliveryLogNow returns a copy of the session's delivery log.
func (s *Session) deliveryLogNow() DeliveryLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copyDeliveryLog()
}

func (s *Session) copyDeliveryLog() DeliveryLog {
	if s.deliveries == nil {
		return DeliveryLog{Member: s.member(), Life: s.life, From: s.written.Max(s.start), Ending: s.ending != nil}
	}
	t := s.deliveries.clone()
	t.Member, t.Life, t.Ending = s.member(), s.life, s.ending != nil
	return t
}

// logWrite notes in the delivery log what is about to be written. place and frames
// are the session's place and number of event frames after it. mu is held.
func (s *Session) logWrite(place Position, frames uint64) {
	if place == s.written && frames == s.framesWritten {
		return
	}
	if frames > s.framesWritten || s.deliveries != nil {
		t := s.deliveryLog()
		now := s.b.cfg.Now()
		t.mark(&t.Sent, place, now)
		t.unstoredSent(frames, now)
	}
	s.written, s.framesWritten = place, frames
}

// logAck notes an ack in the session's delivery log. An ack of an earlier life of the
// store is left out: the log may have been cut back since.
func (s *Session) logAck(c cursor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliveries == nil || c.life != s.life {
		return
	}
	s.deliveries.mark(&s.deliveries.Acked, c.at.Min(s.written), s.b.cfg.Now())
}

// statusOf tells how far this session has come with a message; StatusQueued where it
// does not have it.
func (s *Session) statusOf(id string, mailbox, broadcast uint64) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.deliveries
	switch {
	case s.life != s.b.store.Life(): // it will read what the store has, whatever its places meant before
		t = &DeliveryLog{}
	case t == nil:
		t = &DeliveryLog{From: s.written.Max(s.start)}
	}
	return t.StatusOf(id, mailbox, broadcast)
}

// timesOf tells when the session was handed a message; mu is held.
func (s *Session) timesOf(id string, mailbox, broadcast uint64) (Times, bool) {
	if s.deliveries == nil {
		return Times{}, false
	}
	return s.deliveries.Of(id, mailbox, broadcast)
}

// lastDeliveryLog returns the final delivery log of a session that has left; false for
// one that has not, whose reader will pass it to Leave itself.
func (s *Session) lastDeliveryLog() (DeliveryLog, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leftAt.IsZero() {
		return DeliveryLog{}, false
	}
	log := s.copyDeliveryLog()
	log.end(s.leftAt)
	return log, true
}
