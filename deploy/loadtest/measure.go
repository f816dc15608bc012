package main

import "slices"

// measures are the figures of one run by name.
type measures map[string]float64

// figure says what a measure is: the JSON has its name, the table its title.
type figure struct {
	name, title string
	digits      int
	exact       bool // a count of what must not happen; 0 is the only good value
}

// figures are all measures, in the order of the table.
var figures = []figure{
	{name: "server_cpu_us_per_message", title: "server CPU a message, µs", digits: 1},
	{name: "server_cpu_us_per_delivery", title: "server CPU a delivery, µs", digits: 1},
	{name: "server_cpu_us_per_connect", title: "server CPU a connect, µs", digits: 0},
	{name: "load_cpu_us_per_message", title: "the load's own CPU a message, µs", digits: 1},
	{name: "load_cpu_us_per_delivery", title: "the load's own CPU a delivery, µs", digits: 1},
	{name: "load_cpu_us_per_connect", title: "the load's own CPU a connect, µs", digits: 0},
	{name: "messages_per_s", title: "messages a second", digits: 0},
	{name: "connects_per_s", title: "connects a second", digits: 0},
	{name: "delivery_ms_p50", title: "due to delivered, ms, p50", digits: 3},
	{name: "delivery_ms_p90", title: "p90", digits: 3},
	{name: "delivery_ms_p99", title: "p99", digits: 3},
	{name: "delivery_ms_p99_9", title: "p99.9", digits: 3},
	{name: "delivery_ms_max", title: "max", digits: 3},
	{name: "answer_ms_p50", title: "due to 202, ms, p50", digits: 3},
	{name: "answer_ms_p90", title: "p90", digits: 3},
	{name: "answer_ms_p99", title: "p99", digits: 3},
	{name: "answer_ms_p99_9", title: "p99.9", digits: 3},
	{name: "answer_ms_max", title: "max", digits: 3},
	{name: "all_have_it_ms_p50", title: "due to the last session has it, ms, p50", digits: 1},
	{name: "all_have_it_ms_p90", title: "p90", digits: 1},
	{name: "all_have_it_ms_p99", title: "p99", digits: 1},
	{name: "all_have_it_ms_p99_9", title: "p99.9", digits: 1},
	{name: "all_have_it_ms_max", title: "max", digits: 1},
	{name: "resume_ms_p50", title: "dial to the last missed message, ms, p50", digits: 2},
	{name: "resume_ms_p90", title: "p90", digits: 2},
	{name: "resume_ms_p99", title: "p99", digits: 2},
	{name: "resume_ms_p99_9", title: "p99.9", digits: 2},
	{name: "resume_ms_max", title: "max", digits: 2},
	{name: "resident_bytes_per_session", title: "resident bytes an idle session", digits: 0},
	{name: "idle_cpu_percent", title: "server CPU of the resting sessions, % of a processor", digits: 1},
	{name: "resident_mib_begin", title: "server memory at first, MiB", digits: 1},
	{name: "resident_mib_end", title: "server memory at the end, MiB", digits: 1},
	{name: "resident_mib_max", title: "server memory at most, MiB", digits: 1},
	{name: "descriptors_begin", title: "server's open files at first", digits: 0},
	{name: "descriptors_end", title: "server's open files at the end", digits: 0},
	{name: "returns", title: "sessions that left and came back", digits: 0},
	{name: "accepted", title: "messages accepted", digits: 0},
	{name: "delivered", title: "deliveries", digits: 0},
	{name: "lost", title: "lost", exact: true},
	{name: "doubled", title: "doubled", exact: true},
	{name: "disordered", title: "out of order", exact: true},
	{name: "gaps", title: "gaps announced", exact: true},
	{name: "stray", title: "never sent but delivered", exact: true},
	{name: "failed", title: "failed publishes", exact: true},
	{name: "dropped", title: "dropped sessions", exact: true},
}

// quantiles puts p50 to max of nanoseconds into the measures, as milliseconds; they are exact, from all
// samples. It sorts ns.
func (m measures) quantiles(name string, ns []int64) {
	if len(ns) == 0 {
		return
	}
	slices.Sort(ns)
	for suffix, q := range map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "max": 1} {
		m[name+"_ms_"+suffix] = float64(ns[min(len(ns)-1, int(q*float64(len(ns))))]) / 1e6
	}
}

// median of what was measured in all rounds.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
