package callback

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"hookbridge/app/bridge"
)

const (
	// tryTimeout bounds one try of a callback.
	tryTimeout = 15 * time.Second
	// lookInterval is how often a loop looks for callbacks that nobody has told it of:
	// those that another machine left behind.
	lookInterval = 10 * time.Second
	// leastLook is the pause after nothing was due: the store's clock may be behind ours.
	leastLook = 50 * time.Millisecond
	// storePause is the wait after the store has failed, storeTimeout bounds one call.
	storePause   = time.Second
	storeTimeout = 5 * time.Second
	// failureLogInterval bounds how often one backend's failure is logged.
	failureLogInterval = time.Minute
	// hurryInterval is how often a machine whose callbacks are taken looks for what another
	// machine, which saw the backend down and has ended since, has left to wait.
	hurryInterval = 5 * time.Minute
)

// delivery is the loop that gives one backend its callbacks. Its goroutine owns all
// fields but those that say otherwise.
type delivery struct {
	name     string
	endpoint *endpoint
	sender   *Sender
	metrics  backendMetrics
	requests chan struct{} // a place for each request under way; any goroutine
	waiting  atomic.Int64  // requests that wait for such a place
	patience time.Duration // how long each does; turnPatience, but for tests
	outbox   bridge.Outbox // set before the loop begins

	wake    chan struct{}      // has room for one: something was posted
	results chan tried         // has room for every try under way, so that none waits for the loop
	cut     context.Context    // ends when tries under way have no more time; any goroutine
	cutOff  context.CancelFunc // any goroutine
	state   atomic.Pointer[bridge.BackendState]

	pace      pace
	leaseAt   time.Time // when it makes sense to ask for more
	inFlight  int       // tries whose result has not come
	unsettled []settled // results that the store does not have yet
	settleAt  time.Time // when to tell it, after it has failed
	stale     bool      // a try of ours waits for a later one because the backend was down
	hurried   time.Time // when the store was last asked to hurry; zero at first, as nobody knows what waits
	well      bool      // the backend takes callbacks: what waits because it was down is to be hurried
	hurryAt   time.Time // when to do so, after the store has failed
	failures  rate.Sometimes
	told      bool // that the backend fails was logged
}

// tried is what came of a try.
type tried struct {
	settled
	reply reply
	era   int  // of the pace, when it began
	cut   bool // it was cut off because the machine stops
	took  time.Duration
}

// settled is a settlement and the end of its lease.
type settled struct {
	bridge.Settlement
	until time.Time
}

func newDelivery(name string, e *endpoint, s *Sender) *delivery {
	d := &delivery{
		name: name, endpoint: e, sender: s, metrics: s.metrics.of(name),
		requests: make(chan struct{}, maxRequests), patience: turnPatience, wake: make(chan struct{}, 1), results: make(chan tried, maxInFlight),
		pace: newPace(), failures: rate.Sometimes{First: 1, Interval: failureLogInterval},
	}
	d.cut, d.cutOff = context.WithCancel(context.Background())
	d.state.Store(&bridge.BackendState{Since: time.Now()})
	return d
}

// run gives the backend its callbacks until the Sender stops or the store is closed.
// After a panic it goes on where it was.
func (d *delivery) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for d.sender.life.Err() == nil {
		d.settle()
		d.hurry()
		wait, err := d.lease()
		if errors.Is(err, bridge.ErrClosed) {
			return
		}
		timer.Reset(wait)
		select {
		case r := <-d.results:
			d.take(r)
		case <-d.wake:
			d.leaseAt = time.Time{}
		case <-timer.C:
		case <-d.sender.life.Done():
		}
	}
	for d.inFlight > 0 {
		d.take(<-d.results)
	}
	d.settle()
}

// lease begins as many tries as the pace allows and the outbox has. It returns how long
// it is of no use to look again, unless something happens before.
func (d *delivery) lease() (wait time.Duration, err error) {
	now := time.Now()
	room, pause := d.pace.room(now, d.inFlight+len(d.unsettled))
	until := later(pause, d.leaseAt)
	switch {
	case room == 0 && pause.IsZero():
		until = now.Add(lookInterval) // the end of a try comes first
	case room > 0 && !now.Before(d.leaseAt):
		if until, err = d.begin(now, room); err != nil {
			return 0, err
		}
	}
	if len(d.unsettled) > 0 && d.settleAt.Before(until) {
		until = d.settleAt
	}
	if d.well && len(d.unsettled) == 0 && d.hurryAt.Before(until) {
		until = d.hurryAt
	}
	return max(0, time.Until(until)), nil
}

// begin leases up to n callbacks and starts their tries. It returns when to look again.
func (d *delivery) begin(now time.Time, n int) (until time.Time, err error) {
	ctx, cancel := context.WithTimeout(d.cut, storeTimeout) // not by life: what was leased is tried yet
	defer cancel()
	due, next, err := d.outbox.Lease(ctx, d.name, n)
	if err != nil {
		if errors.Is(err, bridge.ErrClosed) {
			return now, err
		}
		d.sender.log.Debug("callbacks cannot be had from the store", "backend", d.name, "error", err)
		d.leaseAt = now.Add(storePause)
		return d.leaseAt, nil
	}
	for _, l := range due {
		d.inFlight++
		era, probe := d.pace.era, d.pace.down
		d.sender.run.Go(func() { d.results <- d.try(l, era, probe, now.Add(bridge.LeaseFor)) })
	}
	d.leaseAt = now.Add(lookInterval)
	if len(due) == n { // there may be more, for which there is room when one of these has ended
		d.leaseAt = now
		return now.Add(lookInterval), nil
	}
	switch {
	case next.IsZero() && len(due) > 0:
		d.leaseAt = now // the store tells when the next one is due if it is asked once more
	case !next.IsZero() && next.Before(d.leaseAt):
		d.leaseAt = later(next, now.Add(leastLook))
	}
	return d.leaseAt, nil
}

// try sends one callback once. One that fails as a probe waits because the backend is down,
// and is hurried once that is over, unless it has failed for the first time: then it waits
// for seconds only. One that fails while the backend is well may be at fault itself, and has
// only its schedule.
func (d *delivery) try(l bridge.Leased, era int, probe bool, until time.Time) tried {
	t := tried{settled: settled{bridge.Settlement{Leased: l}, until}, era: era}
	ctx, cancel := context.WithTimeout(d.cut, tryTimeout)
	defer cancel()
	began := time.Now()
	var err error
	if d.sender.guard.Run("callback", func() { t.reply, err = d.endpoint.post(ctx, l.ID, l.Body, 0) }) {
		t.reply = reply{why: "a defect of the bridge", ours: true}
	}
	now := time.Now()
	t.took = now.Sub(began)
	if err != nil && d.cut.Err() != nil {
		t.cut, t.Again = true, now
		return t
	}
	if t.reply.ok() {
		t.Done = true
		return t
	}
	t.Tries, t.Last = l.Tries+1, t.reply.last()
	if t.reply.status == http.StatusGone {
		return t
	}
	t.Hurry = probe && t.Tries > 1 && t.reply.backendAtFault() && t.reply.retryAfter == 0
	t.Again = next(now, l.Since, t.Tries, t.reply.retryAfter, t.reply.busy())
	return t
}

// take notes the result of a try, and those that have come beside it.
func (d *delivery) take(r tried) {
	for {
		d.inFlight--
		d.note(r)
		d.unsettled = append(d.unsettled, r.settled)
		if again := r.Again; !again.IsZero() && again.Before(d.leaseAt) {
			d.leaseAt = again
		}
		if r.InOrder() {
			d.leaseAt = time.Time{} // the user's next one may be due now
		}
		select {
		case r = <-d.results:
		default:
			return
		}
	}
}

// note keeps the pace, the state and the metrics.
func (d *delivery) note(r tried) {
	if r.cut {
		return
	}
	d.metrics.try(r.reply, r.took)
	switch {
	case r.Done:
		d.pace.succeeded(r.era)
		d.well = d.well || !d.pace.down && (d.stale || time.Since(d.hurried) > hurryInterval)
	case r.reply.backendAtFault():
		d.pace.failed(r.era, time.Now(), r.reply.retryAfter)
	}
	d.stale = d.stale || r.Hurry
	if !r.Done && r.Again.IsZero() {
		d.metrics.givenUp.Inc()
		d.sender.log.Warn("a callback was given up", "backend", d.name, "id", r.ID, "type", r.Type, "tries", r.Tries, "last", r.Last)
	}
	d.show(r)
}

// show keeps the state that operators see.
func (d *delivery) show(r tried) {
	was := d.state.Load()
	switch {
	case r.Done && was.Failing && !d.pace.down:
		d.state.Store(&bridge.BackendState{Since: time.Now()})
		if d.told {
			d.told = false
			d.sender.log.Info("a backend takes its callbacks again", "backend", d.name, "failed_for", time.Since(was.Since).Round(time.Second).String())
		}
	case !r.Done && !was.Failing:
		d.state.Store(&bridge.BackendState{Failing: true, Since: time.Now()})
		d.failures.Do(func() {
			d.told = true
			d.sender.log.Warn("a backend does not take its callbacks", "backend", d.name, "last", r.Last)
		})
	}
}

// settle tells the store of the results that it does not have. While it fails they
// are kept, and with them their places in flight, as long as their leases last; then
// the callbacks are tried again, here or elsewhere.
func (d *delivery) settle() {
	now := time.Now()
	if len(d.unsettled) == 0 || now.Before(d.settleAt) && d.sender.life.Err() == nil {
		return
	}
	all := make([]bridge.Settlement, len(d.unsettled))
	for i, u := range d.unsettled {
		all[i] = u.Settlement
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := d.outbox.Settle(ctx, all...); err != nil {
		d.sender.log.Debug("the store cannot be told what became of callbacks", "backend", d.name, "error", err)
		kept := d.unsettled[:0]
		for _, u := range d.unsettled {
			if now.Before(u.until) {
				kept = append(kept, u)
			}
		}
		d.unsettled, d.settleAt = kept, now.Add(storePause)
		return
	}
	d.unsettled, d.settleAt = d.unsettled[:0], time.Time{}
}

// hurry has the store make due what waits because the backend was down, once it is well.
// While the store fails it is asked again.
func (d *delivery) hurry() {
	now := time.Now()
	if !d.well || len(d.unsettled) > 0 || now.Before(d.hurryAt) {
		return
	}
	ctx, cancel := context.WithTimeout(d.sender.life, storeTimeout)
	defer cancel()
	if err := d.outbox.Hurry(ctx, d.name); err != nil {
		d.sender.log.Debug("callbacks cannot be hurried in the store", "backend", d.name, "error", err)
		d.hurryAt = now.Add(storePause)
		return
	}
	d.well, d.stale, d.hurried, d.hurryAt, d.leaseAt = false, false, now, time.Time{}, time.Time{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
