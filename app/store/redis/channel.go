package redis

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

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
)

// subscribe hears this machine's channel and the channel of all machines until Close. It
// connects again when a connection is lost.
func (e *Store) subscribe() {
	wait := resubscribeLeast
	for e.ctx.Err() == nil {
		subscribed, err := e.listen()
		if subscribed {
			wait = resubscribeLeast
		}
		if e.ctx.Err() != nil {
			return
		}
		e.opts.Logger.Warn("other machines are not heard", "error", err)
		select {
		case <-time.After(wait):
		case <-e.ctx.Done():
		}
		wait = min(2*wait, resubscribeMost)
	}
}

// listen hears the channels over one connection, until the connection is lost.
func (e *Store) listen() (subscribed bool, err error) {
	conn, release := e.client.Dedicate()
	defer release()
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) { e.hearSafely(m.Message) }})
	ask := e.client.B().Subscribe().Channel(e.channel()+e.self, e.channel()+"all").Build()
	if err := conn.Do(e.ctx, ask).Error(); err != nil {
		return false, err
	}
	e.listening.Store(true)
	defer func() {
		e.listening.Store(false)
		e.selfDeliveries.disconnected()
	}()
	first := false
	e.closeHeard.Do(func() {
		first = true
		close(e.heardOnce)
	})
	if !first {
		e.opts.Logger.Info("other machines are heard again")
		e.catchUp()
	}
	select {
	case err = <-lost:
	case <-e.ctx.Done():
	}
	return true, err
}

// hearSafely is hear for a goroutine of the client library, whose panics nobody catches.
// If hear panics, sessions read from the store what they were not told.
func (e *Store) hearSafely(text string) {
	if e.opts.Guard.Run("redis channels", func() { e.hear(text) }) {
		e.catchUp()
	}
}

// hear handles what came over a channel. It never blocks.
func (e *Store) hear(text string) {
	if text == "" {
		return
	}
	l := e.hub.Load()
	switch body := text[1:]; text[0] {
	case kindMessage, kindSelf:
		if l != nil {
			e.hearMessage(*l, text[0], body)
		}
	case kindNotice:
		var n bridge.Notice
		if err := json.Unmarshal([]byte(body), &n); err != nil {
			e.opts.Logger.Warn("a notice could not be read", "error", err)
			return
		}
		if n.To != "" && n.To != e.self {
			return
		}
		if n.Asker == e.self {
			n.Asker = ""
		}
		if l != nil {
			(*l).Notify(n)
		}
	case kindPeerRequest:
		e.loops.Go(func() { e.opts.Guard.Run("redis channels", func() { e.answerPeer(body) }) })
	case kindPeerReply:
		e.peerRequests.answer(body)
	case kindTick:
		if n, err := strconv.ParseUint(body, 10, 64); err == nil && e.leases.ticked(n) {
			e.opts.Logger.Warn("messages of other machines may have been missed; sessions read them from the store")
			e.catchUp()
		}
	}
}

func (e *Store) hearMessage(l bridge.Hub, kind byte, body string) {
	place, rest, ok := strings.Cut(body, " ")
	seq, err := strconv.ParseUint(place, 10, 64)
	if !ok || err != nil {
		e.opts.Logger.Warn("a message came damaged over a channel")
		return
	}
	v, blob, err := decodeEnvelope([]byte(rest))
	var m *bridge.Message
	switch {
	case err != nil:
	case kind == kindSelf:
		if m = e.selfDeliveries.message(v.token); m == nil {
			// The append has given up waiting; the message is stored.
			l.Behind(v.user, bridge.Position{Mailbox: seq})
			return
		}
	default:
		if m, err = decodeMessage(blob, v.user); err == nil {
			m.Wanted = v.wanted
			if v.machine != e.self && v.wanted != "" {
				m.Asker = v.machine
			}
		}
	}
	if err != nil {
		e.opts.Logger.Warn("a message came damaged over a channel", "error", err)
		return
	}
	d, sessions := bridge.Delivery{Message: m}, 0
	if v.machine == e.self {
		defer func() { e.selfDeliveries.delivered(v.token, sessions) }() // also if a session panics
	}
	if !e.mayDeliver(v.life, v.born) {
		return // sessions read it from the store when they have been told of that life
	}
	if seq != 0 { // an older version gives no life, and sessions look the place up in the store
		d.Life = v.life
	}
	if v.user == "" {
		if v.life == e.Life() {
			e.leases.newest(seq)
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
func (e *Store) catchUp() {
	if e.catching.Swap(true) {
		return
	}
	e.loops.Go(func() {
		e.opts.Guard.Loop("redis catch-up", e.ctx.Done(), e.catchingUp)
	})
}

func (e *Store) catchingUp() {
	for wait := resubscribeLeast; ; wait = min(2*wait, resubscribeMost) {
		e.catching.Store(false) // a catchUp from here on runs reconcile again
		if err := e.whileOpen(e.reconcile); err == nil || e.closed.Load() {
			return
		}
		select {
		case <-time.After(wait):
		case <-e.ctx.Done():
			return
		}
		if e.catching.Swap(true) {
			return // the other catchUp does it
		}
	}
}

// Tell implements bridge.Live.
func (e *Store) Tell(ctx context.Context, n bridge.Notice) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	switch {
	case n.To != "":
		return e.do(ctx, e.client.B().Publish().Channel(e.channel()+n.To).Message(e.notice(n)).Build())
	case n.User == "":
		return e.do(ctx, e.client.B().Publish().Channel(e.channel()+"all").Message(e.notice(n)).Build())
	}
	_, err = e.run(ctx, call{&e.scripts.notify, []string{e.mailboxOf(n.User).l}, []string{e.channel(), e.self, e.notice(n)}})
	return err
}

// notice encodes a notice for a channel.
func (e *Store) notice(n bridge.Notice) string {
	n.Asker = e.self
	b, err := json.Marshal(n)
	if err != nil { // strings, numbers and a time
		panic("redis: " + err.Error())
	}
	return string(kindNotice) + string(b)
}
