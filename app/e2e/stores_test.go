package e2e

import (
	"testing"

	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

// onBoth runs a test with the settings of a program on each store.
func onBoth(t *testing.T, test func(t *testing.T, change ...func(*server.Settings)), change ...func(*server.Settings)) {
	t.Helper()
	t.Run("on SQLite", func(t *testing.T) { test(t, change...) })
	t.Run("on Redis", func(t *testing.T) {
		url := redistest.Start(t).URL()
		test(t, append(change, func(s *server.Settings) { s.RedisURL, s.RedisPrefix = server.Secret(url), "e2e" })...)
	})
}

// onBothByTwo runs a test against a program on SQLite and against two that share a Redis;
// other is the one that did not take the caller.
func onBothByTwo(t *testing.T, test func(t *testing.T, w, other *world), change ...func(*server.Settings)) {
	t.Helper()
	onBoth(t, func(t *testing.T, change ...func(*server.Settings)) {
		w := start(t, change...)
		other := w
		if w.settings.RedisURL != "" {
			other = start(t, change...)
		}
		test(t, w, other)
	}, change...)
}
