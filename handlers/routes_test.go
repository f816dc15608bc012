package handlers

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/handlers/contract/check"
)

func TestTheContractDocumentsEachRoute(t *testing.T) {
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	s := New(Options{Bridge: &bridge.Bridge{}, Logger: log, Registry: registry, Guard: guard.New(log, registry)})
	k, err := check.New()
	if err != nil {
		t.Fatal(err)
	}
	documented := k.Routes()
	var served []string
	for _, r := range s.app.GetRoutes(true) {
		method, path := r.Method, r.Path
		if method == "HEAD" && !strings.HasSuffix(path, "/presence") {
			continue // Fiber adds one to each GET
		}
		var steps []string
		for _, step := range strings.Split(path, "/") {
			if name, ok := strings.CutPrefix(step, ":"); ok {
				step = "{" + name + "}"
			}
			steps = append(steps, step)
		}
		if path = strings.Join(steps, "/"); path == "/" || strings.Contains(path, ".") && !strings.HasSuffix(path, ".json") {
			continue // the page
		}
		served = append(served, method+" "+path)
	}
	for _, r := range served {
		if !slices.Contains(documented, r) {
			t.Errorf("%s is served and not documented", r)
		}
	}
	for _, r := range documented {
		if !slices.Contains(served, r) {
			t.Errorf("%s is documented and not served", r)
		}
	}
}
