package redis

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"golang.org/x/time/rate"

	"hookbridge/app/bridge"
)

// The first byte of what goes over a channel is one of these.
const (
	kindMessage     = 'D' // its place, a space, an envelope, the message
	kindSelf        = 'E' // a message that this machine has published itself: the same without the message
	kindNotice      = 'N' // a notice, JSON
	kindPeerRequest = 'Q' // a request to this machine, JSON
	kindPeerReply   = 'R' // the answer to a request of this machine, JSON
	kindTick        = 'K' // this machine's tick: a number that grows by one
)

const (
	resubscribeLeast = 50 * time.Millisecond
	resubscribeMost  = time.Second
	// deafLogInterval bounds how often it is logged that the channels cannot be heard.
	deafLogInterval = time.Minute
)

// subscribe hears this machine's channel and the channel of all machines until Close. It
// connects again when a connection is lost.
func (s *Store) subscribe() {
	wait := resubscribeLeast
	warnings := rate.Sometimes{First: 1, Interval: deafLogInterval}
	for s.ctx.Err() == nil {
		began := time.Now()
		subscribed, err := s.listen()
		if subscribed {
			wait = resubscribeLeast
			if time.Since(began) > deafLogInterval {
				warnings = rate.Sometimes{First: 1, Interval: deafLogInterval}
			}
		}
		if s.ctx.Err() != nil {
			return
		}
		warnings.Do(func() { s.opts.Logger.Warn("other machines are not heard", "error", err) })
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
		}
		wait = min(2*wait, resubscribeMost)
	}
}

// listen hears the channels over one connection, until the connection is lost.
func (s *Store) listen() (subscribed bool, err error) {
	conn, release := s.client.Dedicate()
	defer release()
	// Nobody else is given this connection: before that the client library would unsubscribe
	// it, and it panics where a server answers that it is busy with a script.
	defer conn.Close()
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) { s.hearSafely(m.Message) }})
	ask := s.client.B().Subscribe().Channel(s.channel()+s.self, s.channel()+"all").Build()
	if err := conn.Do(s.ctx, ask).Error(); err != nil {
		return false, err
	}
	s.leases.subscribed()
	s.listening.Store(true)
	defer func() {
		s.listening.Store(false)
		s.selfDeliveries.disconnected()
	}()
	first := false
	s.closeHeard.Do(func() {
		first = true
		close(s.heardOnce)
	})
	if !first {
		s.opts.Logger.Info("other machines are heard again")
		s.catchUp()
	}
	select {
	case err = <-lost:
	case <-s.deaf:
		err = errDeaf
	case <-s.ctx.Done():
	}
	return true, err
}

var errDeaf = errors.New("this machine does not hear itself: the connection may lead to a server of before a failover")

// subscribeAnew has listen give up its connection.
func (s *Store) subscribeAnew() {
	select {
	case s.deaf <- struct{}{}:
	default: // it does so already
	}
}

// hearSafely is hear for a goroutine of the client library, whose panics nobody catches.
// If hear panics, sessions read from the store what they were not told.
func (s *Store) hearSafely(text string) {
	if s.opts.Guard.Run("redis channels", func() { s.hear(text) }) {
		s.catchUp()
	}
}

// hear handles what came over a channel. It never blocks.
func (s *Store) hear(text string) {
	if text == "" {
		return
	}
	l := s.hub.Load()
	switch body := text[1:]; text[0] {
	case kindMessage, kindSelf:
		if l != nil {
			s.hearMessage(*l, text[0], body)
		}
	case kindNotice:
		var n bridge.Notice
		if err := json.Unmarshal([]byte(body), &n); err != nil {
			s.opts.Logger.Warn("a notice could not be read", "error", err)
			return
		}
		if n.To != "" && n.To != s.self {
			return
		}
		if n.Asker == s.self {
			n.Asker = ""
		}
		if l != nil {
			(*l).Notify(n)
		}
	case kindPeerRequest:
		s.loops.Go(func() { s.opts.Guard.Run("redis channels", func() { s.answerPeer(body) }) })
	case kindPeerReply:
		s.peerRequests.answer(body)
	case kindTick:
		if n, err := strconv.ParseUint(body, 10, 64); err == nil && s.leases.ticked(n) {
			s.opts.Logger.Warn("messages of other machines may have been missed; sessions read them from the store")
			s.catchUp()
		}
	}
}

func (s *Store) hearMessage(l bridge.Hub, kind byte, body string) {
	place, rest, ok := strings.Cut(body, " ")
	seq, err := strconv.ParseUint(place, 10, 64)
	if !ok || err != nil {
		s.opts.Logger.Warn("a message came damaged over a channel")
		return
	}
	v, blob, err := decodeEnvelope([]byte(rest))
	var m *bridge.Message
	switch {
	case err != nil:
	case kind == kindSelf:
		if m = s.selfDeliveries.message(v.token); m == nil {
			// The append has given up waiting; the message is stored.
			l.Behind(v.user, bridge.Position{Mailbox: seq})
			return
		}
	default:
		if m, err = decodeMessage(blob, v.user); err == nil {
			m.Wanted = v.wanted
			if v.machine != s.self && v.wanted != "" {
				m.Asker = v.machine
			}
		}
	}
	if err != nil {
		s.opts.Logger.Warn("a message came damaged over a channel", "error", err)
		return
	}
	d, sessions := bridge.Delivery{Message: m}, 0
	if v.machine == s.self {
		defer func() { s.selfDeliveries.delivered(v.token, sessions) }() // also if a session panics
	}
	if !s.mayDeliver(v.life, v.born) {
		return // sessions read it from the store when they have been told of that life
	}
	if seq != 0 { // an older version gives no life, and sessions look the place up in the store
		d.Life = v.life
	}
	if v.user == "" {
		if v.life == s.Life() {
			s.leases.newest(seq)
		}
		d.Broadcast = seq
		sessions = l.DeliverAll(d)
	} else {
		d.Mailbox = seq
		sessions = l.Deliver(v.user, d)
	}
}

// catchUp runs reconcile until it succeeds, because something may have been published
// while this machine could not hear.
func (s *Store) catchUp() {
	if s.catching.Swap(true) {
		return
	}
	s.loops.Go(func() {
		s.opts.Guard.Loop("redis catch-up", s.ctx.Done(), s.catchingUp)
	})
}

func (s *Store) catchingUp() {
	for wait := resubscribeLeast; ; wait = min(2*wait, resubscribeMost) {
		s.catching.Store(false) // a catchUp from here on runs reconcile again
		if err := s.whileOpen(s.reconcile); err == nil || s.closed.Load() {
			return
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
		if s.catching.Swap(true) {
			return // the other catchUp does it
		}
	}
}

// Tell implements bridge.Live.
func (s *Store) Tell(ctx context.Context, n bridge.Notice) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	switch {
	case n.To != "":
		return s.do(ctx, s.client.B().Publish().Channel(s.channel()+n.To).Message(s.notice(n)).Build())
	case n.User == "":
		return s.do(ctx, s.client.B().Publish().Channel(s.channel()+"all").Message(s.notice(n)).Build())
	}
	_, err = s.run(ctx, call{&s.scripts.notify, []string{s.mailboxOf(n.User).l}, []string{s.channel(), s.self, s.notice(n)}})
	return err
}

// notice encodes a notice for a channel.
func (s *Store) notice(n bridge.Notice) string {
	n.Asker = s.self
	b, err := json.Marshal(n)
	if err != nil { // strings, numbers and a time
		panic("redis: " + err.Error())
	}
	return string(kindNotice) + string(b)
}
