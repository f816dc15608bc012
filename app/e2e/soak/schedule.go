package soak

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Step is one fault of a schedule.
type Step struct {
	At     Moment
	Fault  string
	Victim int           // which of the processes, where that matters
	Hold   time.Duration // how long it lasts
}

func (s Step) String() string {
	return fmt.Sprintf("%s at %s for %s (%d)", s.Fault, s.At.Round(10*time.Millisecond), s.Hold.Round(10*time.Millisecond), s.Victim)
}

// Lane is a series of faults that do not overlap. Those of different lanes do.
type Lane struct {
	Name   string
	Faults []Fault
}

// Fault is a kind of fault: how often it comes, how long it lasts, and what it does.
type Fault struct {
	Name        string
	Weight      int
	Least, Most time.Duration
	Rewinds     bool // the store goes back in time
	// Do breaks something, waits for the hold, and mends it.
	Do func(s Step, hold func(time.Duration))
}

// long is a run that has time for more than faults.
const long = 5 * time.Minute

// Plan makes a lane's schedule: the same from the same seed, faults
// and length. What takes long has no place in a short run.
func (l Lane) Plan(rnd *rand.Rand, length time.Duration) (steps []Step) {
	l.Faults = slices.DeleteFunc(slices.Clone(l.Faults), func(f Fault) bool { return f.Least > length/20 })
	total := 0
	for _, f := range l.Faults {
		total += f.Weight
	}
	if total == 0 {
		return nil
	}
	at := time.Duration(1+rnd.IntN(3)) * time.Second
	for at < length-2*time.Second {
		n := rnd.IntN(total)
		i := slices.IndexFunc(l.Faults, func(f Fault) bool { n -= f.Weight; return n < 0 })
		f := l.Faults[i]
		u := rnd.Float64()
		hold := f.Least + time.Duration(u*u*float64(f.Most-f.Least)) // short ones are as telling, and leave time for more
		if at+hold <= length {
			steps = append(steps, Step{At: at, Fault: f.Name, Victim: rnd.IntN(2), Hold: hold})
		}
		at += hold + time.Second + time.Duration(rnd.ExpFloat64()*float64(3*time.Second))
		if rnd.IntN(20) == 0 && length > long { // a quiet while, in which exact answers can be asked for
			at += 90 * time.Second
		}
	}
	return steps
}

// Choose keeps only the faults that are wanted: "all", "norewind", or names with
// commas between.
func (l Lane) Choose(wanted string) Lane {
	names := strings.Split(wanted, ",")
	l.Faults = slices.DeleteFunc(slices.Clone(l.Faults), func(f Fault) bool {
		switch {
		case wanted == "all":
			return false
		case slices.Contains(names, "norewind"):
			return f.Rewinds && !slices.Contains(names, f.Name)
		}
		return !slices.Contains(names, f.Name)
	})
	return l
}

// Run carries a lane's schedule out.
func (l Lane) Run(h *History, steps []Step, told func(Step)) {
	for _, s := range steps {
		time.Sleep(s.At - h.Now()) // the schedule is in real time: it is what the run is about
		i := slices.IndexFunc(l.Faults, func(f Fault) bool { return f.Name == s.Fault })
		told(s)
		mended := h.trouble(s.Fault)
		l.Faults[i].Do(s, time.Sleep)
		mended()
	}
}

// trouble writes down that a fault begins; what it returns, that it is over.
func (h *History) trouble(kind string) (mended func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.Troubles)
	h.Troubles = append(h.Troubles, Trouble{kind, h.Now(), Never})
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.Troubles[i].End = h.Now()
	}
}

// rewound writes down that the store went back in time. It is called when that
// has begun, and what it returns when the older copy serves.
func (h *History) rewound(kept, lost Moment) (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.Rewinds)
	h.Rewinds = append(h.Rewinds, Rewind{kept, lost, h.Now(), Never})
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.Rewinds[i].Done = h.Now()
	}
}

// defaultFaults are those that a run has when none are named.
const defaultFaults = "all"

// newRand is what a seed stands for.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
