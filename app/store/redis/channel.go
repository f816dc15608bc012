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

// What goes over a channel begins with one of these.
const (
	kindMessage  = 'D' // its place, a space, an envelope, the message
	kindSelf     = 'E' // the same of a message that this machine has published itself, without the message
	kindNotice   = 'N' // a notice, JSON
	kindQuestion = 'Q' // for trails, JSON
	kindReply    = 'R' // to such a question, JSON
	kindTick     = 'K' // a number that grows by one
)

const (
	resubscribeLeast = 50 * time.Millisecond
	resubscribeMost  = time.Second
)

// subscribe hears this machine's channel and the one of all for the engine's
// life, over as many connections as that takes.
func (e *Store) subscribe() {
	wait := resubscribeLeast
	for e.life.Err() == nil {
		subscribed, err := e.listen()
		if subscribed {
			wait = resubscribeLeast
		}
		if e.life.Err() != nil {
			return
		}
		e.opts.Logger.Warn("other machines are not heard", "error", err)
		select {
		case <-time.After(wait):
		case <-e.life.Done():
		}
		wait = min(2*wait, resubscribeMost)
	}
}

// listen hears the channels over one connection, until that is lost.
func (e *Store) listen() (subscribed bool, err error) {
	conn, release := e.client.Dedicate()
	defer release()
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) { e.hearSafely(m.Message) }})
	ask := e.client.B().Subscribe().Channel(e.channel()+e.self, e.channel()+"all").Build()
	if err := conn.Do(e.life, ask).Error(); err != nil {
		return false, err
	}
	e.listening.Store(true)
	defer func() {
		e.listening.Store(false)
		e.selfDeliveries.disconnected()
	}()
	first := false
	e.heard.Do(func() {
		first = true
		close(e.heardOnce)
	})
	if !first {
		e.opts.Logger.Info("other machines are heard again")
		e.catchUp()
	}
	select {
	case err = <-lost:
	case <-e.life.Done():
	}
	return true, err
}

// hearSafely is hear on the client library's goroutine, which nobody watches. What
// a panic kept from being heard, sessions read from the store.
func (e *Store) hearSafely(text string) {
	if e.opts.Guard.Run("redis channels", func() { e.hear(text) }) {
		e.catchUp()
	}
}

// hear takes what came over a channel. It never blocks.
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
	case kindQuestion:
		e.loops.Go(func() { e.opts.Guard.Run("redis channels", func() { e.answerQuestion(body) }) })
	case kindReply:
		e.asked.answer(body)
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
			// Whoever published it waits no longer; it is stored.
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
		defer func() { e.selfDeliveries.delivered(v.token, sessions) }() // also where a session panics
	}
	if !e.heardIn(v.life, v.born) {
		return // the Hub reads it from the store when it has been told of that life
	}
	if seq != 0 { // a place that an older version gave out is of no life, and looked up in the store
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

// catchUp makes good what was published while this machine could not hear; see
// reconcile.
func (e *Store) catchUp() {
	if e.catching.Swap(true) {
		return
	}
	e.loops.Go(func() {
		e.opts.Guard.Loop("redis catch-up", e.life.Done(), e.catchingUp)
	})
}

func (e *Store) catchingUp() {
	for wait := resubscribeLeast; ; wait = min(2*wait, resubscribeMost) {
		e.catching.Store(false) // whoever asks from here on starts another
		ctx, cancel := context.WithTimeout(e.life, e.opts.Patience)
		err := e.reconcile(ctx)
		cancel()
		if err == nil || e.life.Err() != nil {
			return
		}
		select {
		case <-time.After(wait):
		case <-e.life.Done():
			return
		}
		if e.catching.Swap(true) {
			return // the other one does it
		}
	}
}
