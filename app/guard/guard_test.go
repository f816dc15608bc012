package guard

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestGuard(t *testing.T) {
	t.Run("counts a panic and logs it without its value", guardCatches)
	t.Run("that is nil catches too", guardIsNil)
	t.Run("starts a loop again until it ends by itself", guardLoops)
}

func guardCatches(t *testing.T) {
	const canary = "canary-in-a-panic"
	var logs bytes.Buffer
	registry := prometheus.NewRegistry()
	g := New(slog.New(slog.NewJSONHandler(&logs, nil)), registry)
	broken := func(payload string) { panic(payload) }
	if !g.Run("session", func() { broken(canary) }) || g.Run("session", func() {}) {
		t.Error("whether it panicked is told wrong")
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "hookbridge_panics_total" || families[0].GetMetric()[0].GetCounter().GetValue() != 1 {
		t.Errorf("counted %v, %v", families, err)
	}
	if text := logs.String(); strings.Contains(text, canary) || !strings.Contains(text, "guardCatches") {
		t.Errorf("%s", text)
	}
	if v := g.Gauge(func() float64 { panic(canary) })(); !math.IsNaN(v) {
		t.Errorf("a broken gauge shows %v", v)
	}
	if v := g.Gauge(func() float64 { return 7 })(); v != 7 {
		t.Errorf("a gauge shows %v", v)
	}
}

func guardLoops(t *testing.T) {
	g := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	g.SetPause(time.Millisecond)
	turns := 0
	g.Loop("loop", nil, func() {
		if turns++; turns < 4 {
			panic("again")
		}
	})
	if turns != 4 {
		t.Errorf("%d turns", turns)
	}
	g.SetPause(time.Hour)
	done := make(chan struct{})
	close(done)
	g.Loop("loop", done, func() { panic("for good") }) // returns
}

func guardIsNil(t *testing.T) {
	var g *Guard
	if !g.Run("anything", func() { panic("x") }) {
		t.Error("not caught")
	}
}
