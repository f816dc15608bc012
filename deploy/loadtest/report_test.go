package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hookbridge/app/expect"
)

// documentOf is a result with one run and its rounds.
func documentOf(rounds ...measures) *document {
	d := newDocument(options{})
	for _, m := range rounds {
		d.add(0, plannedRun{Scenario: "unicast", Sessions: 10, Publishers: 4, Bytes: 200, Acks: true}, m, nil)
	}
	return d
}

func TestReport(t *testing.T) {
	t.Run("has medians, and the least and most of several rounds", func(t *testing.T) {
		table := string(documentOf(measures{"messages_per_s": 1000}, measures{"messages_per_s": 3000}, measures{"messages_per_s": 1200}).table())
		if !strings.Contains(table, "messages a second  1,200  1,000–3,000") {
			t.Error(table)
		}
	})
	t.Run("has the ratios to a baseline", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "old.json")
		b, err := json.Marshal(documentOf(measures{"server_cpu_us_per_message": 80}))
		expect.NoError(t, err)
		expect.NoError(t, os.WriteFile(file, b, 0o600))
		d := documentOf(measures{"server_cpu_us_per_message": 60})
		expect.NoError(t, d.readBaseline(file))
		if table := string(d.table()); !strings.Contains(strings.Join(strings.Fields(table), " "), "60.0 80.0 0.75×") {
			t.Error(table)
		}
		d.Results[0].Publishers = 5
		if table := string(d.table()); !strings.Contains(table, "no such run") || strings.Contains(table, "×") {
			t.Error(table)
		}
	})
	t.Run("refuses a baseline that is none", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "old.json")
		for _, text := range []string{"no JSON", `{"version":99}`} {
			expect.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			if code, _, errs := load(t, "idle", "--baseline", file); code != 1 || !strings.Contains(errs, file) {
				t.Errorf("exit code %d, %s", code, errs)
			}
		}
	})
	t.Run("fails where a message was lost, doubled or out of order in any round", func(t *testing.T) {
		expect.NoError(t, documentOf(measures{"lost": 0}, measures{"lost": 0}).clean())
		for _, name := range []string{"lost", "doubled", "disordered", "gaps", "stray", "failed", "dropped"} {
			if err := documentOf(measures{name: 0}, measures{name: 2}).clean(); err == nil || !strings.Contains(err.Error(), ": 2") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("names each figure once", func(t *testing.T) {
		var names []string
		for _, f := range figures {
			names = append(names, f.name)
		}
		slices.Sort(names)
		if len(slices.Compact(slices.Clone(names))) != len(figures) {
			t.Error(names)
		}
	})
	t.Run("has every figure that a scenario measures", func(t *testing.T) {
		m := measure(t, "soak", "--sessions", "2", "--rate", "50", "--duration", "200ms")
		for name := range m {
			if !slices.ContainsFunc(figures, func(f figure) bool { return f.name == name }) {
				t.Errorf("%s is in no table", name)
			}
		}
	})
}

func TestQuantiles(t *testing.T) {
	m, ns := measures{}, make([]int64, 1000)
	for i := range ns {
		ns[i] = int64(1000-i) * 1e6
	}
	m.quantiles("x", ns)
	for name, want := range map[string]float64{"x_ms_p50": 501, "x_ms_p90": 901, "x_ms_p99": 991, "x_ms_p99_9": 1000, "x_ms_max": 1000} {
		if m[name] != want {
			t.Errorf("%s: %v, want %v", name, m[name], want)
		}
	}
}
