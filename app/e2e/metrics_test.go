package e2e

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	t.Run("are named hookbridge", metricsNames)
	t.Run("may have a listener of their own", metricsListener)
}

func metricsNames(t *testing.T) {
	t.Parallel()
	n := 0
	for line := range strings.Lines(start(t).scrape()) {
		name, ok := strings.CutPrefix(line, "# TYPE ")
		if !ok {
			continue
		}
		n++
		theirs := strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_")
		if !theirs && !strings.HasPrefix(name, "hookbridge_") {
			t.Error(name)
		}
	}
	if n < 20 {
		t.Errorf("%d metrics", n)
	}
}

func metricsListener(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MetricsListen = "127.0.0.1:0" })
	if a := w.callAs("", http.MethodGet, "/metrics", ""); a.HTTP != http.StatusNotFound {
		t.Errorf("on the public one: %d", a.HTTP)
	}
	public, address := w.base, addressOf(w.logs.String(), "metrics")
	w.base = "http://" + address
	if !strings.Contains(w.scrape(), "hookbridge_sessions 0") {
		t.Errorf("%.300s", w.scrape())
	}
	for _, path := range []string{"/", "/ws", "/v1/poll", "/readyz"} {
		res, err := http.Get(w.base + path)
		expect.NoError(t, err)
		expect.NoError(t, res.Body.Close())
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the listener of metrics: %d", path, res.StatusCode)
		}
	}
	w.base = public
	w.connect("patient-1", "")
	w.stop()
	if conn, err := net.Dial("tcp", address); err == nil {
		expect.NoError(t, conn.Close())
		t.Error("it is still open after the stop")
	}
}
