package handlers

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
)

// TestAPanicIsLoggedWithoutItsValue: the value may be made of a payload, and
// Fiber's own recovery would print it.
func TestAPanicIsLoggedWithoutItsValue(t *testing.T) {
	const canary = "canary-in-a-panic"
	var logs bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logs, nil))
	s := &Server{log: log, o: Options{Bridge: &bridge.Bridge{}, Guard: guard.New(log, prometheus.NewRegistry())},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"code"})}
	app := fiber.New(fiber.Config{ErrorHandler: s.onError})
	app.Use(recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: s.onPanic}))
	app.Post("/broken", func(c *fiber.Ctx) error { panic(canary + string(c.Body())) })
	res, err := app.Test(httptest.NewRequest("POST", "/broken", strings.NewReader(canary)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 500 || strings.Contains(body.String(), canary) || !strings.Contains(body.String(), `"code":"internal"`) {
		t.Errorf("%d %s", res.StatusCode, body.String())
	}
	if text := logs.String(); strings.Contains(text, canary) || !strings.Contains(text, "a panic was caught") || !strings.Contains(text, `"route":"/broken"`) {
		t.Errorf("%s", text)
	}
}
