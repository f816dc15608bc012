package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// documentVersion changes when the meaning of what is written does.
const documentVersion = 1

// document is all that was measured, as it is written with --json and read with --baseline.
type document struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`
	System  system    `json:"system"`
	Server  string    `json:"server"`
	Results []*result `json:"results"`

	note     string // about all of them
	baseline *document
}

// system is where it was measured.
type system struct {
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Processors int    `json:"processors"`
}

// result is one run, in all its rounds.
type result struct {
	plannedRun
	Rounds  []measures `json:"rounds"`
	Trouble []string   `json:"trouble,omitempty"`
}

func newDocument(o options) *document {
	d := &document{Version: documentVersion, Time: time.Now().UTC().Truncate(time.Second), Server: "started with SQLite",
		System: system{runtime.GOOS, runtime.GOARCH, runtime.NumCPU()}}
	switch {
	case o.URL != "":
		d.Server = o.URL
		if p := processes(o.PID); !p.readable() {
			d.note = p.why()
		}
	case o.Redis:
		d.Server = "started with Redis"
	}
	if o.URL == "" && runtime.GOOS != "linux" {
		d.note = processes(nil).why()
	}
	return d
}

// add puts a round's figures to the run's of its place in the plan.
func (d *document) add(i int, planned plannedRun, m measures, trouble []string) {
	if i == len(d.Results) {
		d.Results = append(d.Results, &result{plannedRun: planned})
	}
	d.Results[i].Rounds = append(d.Results[i].Rounds, m)
	d.Results[i].Trouble = append(d.Results[i].Trouble, trouble...)
}

// values are a measure's in all rounds; none where it was not measured.
func (r *result) values(name string) (out []float64) {
	for _, m := range r.Rounds {
		if v, ok := m[name]; ok {
			out = append(out, v)
		}
	}
	return out
}

// readBaseline reads the result to compare with, before anything is measured.
func (d *document) readBaseline(path string) error {
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the baseline cannot be read: %w", err)
	}
	d.baseline = &document{}
	if err := json.Unmarshal(b, d.baseline); err != nil {
		return fmt.Errorf("%s is not a result that --json has written: %w", path, err)
	}
	if d.baseline.Version != documentVersion {
		return fmt.Errorf("%s is of version %d, and this is version %d: measure the baseline anew", path, d.baseline.Version, documentVersion)
	}
	return nil
}

// before is the baseline's result of the same run; nil where it has none.
func (d *document) before(p plannedRun) *result {
	if d.baseline != nil {
		for _, r := range d.baseline.Results {
			if r.plannedRun == p {
				return r
			}
		}
	}
	return nil
}

// write writes the JSON and the table to where the options say.
func (d *document) write(o options, out io.Writer) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if o.JSON == "-" {
		_, err := out.Write(b)
		return err
	}
	if o.JSON != "" {
		if err := os.WriteFile(o.JSON, b, 0o644); err != nil {
			return fmt.Errorf("the result cannot be written: %w", err)
		}
	}
	_, err = out.Write(d.table())
	return err
}

// table is the result for people.
func (d *document) table() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "server: %s; %s/%s, %d processors\n", d.Server, d.System.OS, d.System.Arch, d.System.Processors)
	if d.note != "" {
		fmt.Fprintln(&out, d.note)
	}
	if b := d.baseline; b != nil {
		fmt.Fprintf(&out, "baseline: %s, %s; a ratio tells only as much as the two machines, and their other work, are alike\n", b.Server, b.Time.Format(time.DateTime))
		if b.System != d.System {
			fmt.Fprintf(&out, "the baseline is of another machine: %s/%s, %d processors\n", b.System.OS, b.System.Arch, b.System.Processors)
		}
	}
	for _, r := range d.Results {
		fmt.Fprintf(&out, "\n%s\n", r)
		before := d.before(r.plannedRun)
		if d.baseline != nil && before == nil {
			fmt.Fprintln(&out, "  the baseline has no such run")
		}
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.DiscardEmptyColumns)
		for _, f := range figures {
			if line := f.line(r, before); line != "" {
				fmt.Fprintln(w, line)
			}
		}
		_ = w.Flush() // into memory
		if c := r.counts(); c != "" {
			fmt.Fprintln(&out, "  "+c)
		}
		for _, t := range r.Trouble {
			fmt.Fprintln(&out, "  ", t)
		}
	}
	return out.Bytes()
}

// counts is the line of what must not happen, summed over the rounds: one lost message is one too many.
func (r *result) counts() string {
	var out []string
	for _, f := range figures {
		if v := r.values(f.name); f.exact && len(v) > 0 {
			out = append(out, fmt.Sprintf("%s %.0f", f.title, sum(v)))
		}
	}
	return strings.Join(out, ", ")
}

// line is a figure's line of the table, empty for counts and for what the run has not measured: title,
// median, least and most of several rounds, the baseline's median, and how many times the baseline it is.
func (f figure) line(r, before *result) string {
	v := r.values(f.name)
	if len(v) == 0 || f.exact {
		return ""
	}
	now := median(v)
	cells := []string{f.title, f.text(now), "", "", ""}
	if len(v) > 1 {
		least, most := v[0], v[0]
		for _, x := range v {
			least, most = min(least, x), max(most, x)
		}
		cells[2] = f.text(least) + "–" + f.text(most)
	}
	if before != nil {
		if old := before.values(f.name); len(old) > 0 {
			cells[3] = f.text(median(old))
			if median(old) != 0 {
				cells[4] = fmt.Sprintf("%.2f×", now/median(old))
			}
		}
	}
	return strings.Join(cells, "\t") + "\t"
}

func (f figure) text(v float64) string { return thousands(fmt.Sprintf("%.*f", f.digits, v)) }

// thousands puts commas between the digits before the point.
func thousands(s string) string {
	whole, fraction, hasFraction := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if hasFraction {
		return whole + "." + fraction
	}
	return whole
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// clean is an error where something happened that must not: then the exit code says so too.
func (d *document) clean() error {
	var bad []string
	for _, r := range d.Results {
		for _, f := range figures {
			if n := sum(r.values(f.name)); f.exact && n > 0 {
				bad = append(bad, fmt.Sprintf("%s: %s: %.0f", r, f.title, n))
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return errors.New(strings.Join(bad, "; "))
}
