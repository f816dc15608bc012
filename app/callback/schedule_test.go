package callback

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	t.Run("ends after three days", scheduleEnds)
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 20, 36, 0, 500, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, " 7 ": 7 * time.Second, "+7": 0, "-7": 0, "7.5": 0, "7s": 0, "soon": 0, "２": 0,
		"259200": scheduleEnd, "259201": scheduleEnd, strings.Repeat("9", 400): scheduleEnd, "9223372036854775807": scheduleEnd,
		"Sun, 22 Nov 2026 20:37:00 GMT":  time.Minute - 500,
		"Sunday, 22-Nov-26 20:37:00 GMT": time.Minute - 500, "Sun Nov 22 20:37:00 2026": time.Minute - 500, // the old forms (RFC 9110 §5.6.7)
		"Sun, 22 Nov 2026 20:35:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": scheduleEnd,
	} {
		if got := retryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("%q: %s", v, got)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"120", "Sun, 22 Nov 2026 20:37:00 GMT", "99999999999999999999", "-1", " \t"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		now := time.Date(2026, 11, 22, 20, 36, 0, 0, time.UTC)
		d := retryAfter(http.Header{"Retry-After": {v}}, now)
		if d < 0 || d > scheduleEnd {
			t.Fatal(d)
		}
		for tries := 1; tries < 20; tries += 6 {
			for _, busy := range []bool{true, false} {
				if again := next(now, now.Add(-time.Hour), tries, d, busy); !again.IsZero() && (again.Before(now.Add(d)) && d < scheduleEnd-time.Hour || again.After(now.Add(scheduleEnd-time.Hour)) || !again.After(now)) {
					t.Fatalf("after %d tries and %s: %s", tries, d, again.Sub(now))
				}
			}
		}
	})
}

func scheduleEnds(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		since time.Duration // ago
		tries int
		asked time.Duration
		busy  bool
		least time.Duration // until the next try; 0: given up
		most  time.Duration
	}{
		"a pause that ends in time":                   {56 * time.Hour, 10, 0, false, 9 * time.Hour, 15 * time.Hour},
		"a pause that ends too late":                  {64 * time.Hour, 11, 0, false, 0, 0},
		"a wish beyond the end gets a try at the end": {70 * time.Hour, 11, 5 * time.Hour, true, 2 * time.Hour, 2 * time.Hour},
		"at the end no wish counts":                   {72 * time.Hour, 12, 5 * time.Hour, true, 0, 0},
		"one that began long ago":                     {1000 * time.Hour, 1, 0, false, 0, 0},
		"a wish that is shorter, of a busy backend":   {time.Hour, 7, time.Second, true, time.Second, time.Second},
		"a wish that is shorter, of one that refuses": {time.Hour, 7, time.Second, false, 9 * time.Hour, 15 * time.Hour},
	} {
		got := next(now, now.Add(-c.since), c.tries, c.asked, c.busy)
		if c.least == 0 && !got.IsZero() || c.least > 0 && (got.Sub(now) < c.least || got.Sub(now) > c.most) {
			t.Errorf("%s: %s", name, got.Sub(now))
		}
	}
}
