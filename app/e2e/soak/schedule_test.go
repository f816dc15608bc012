package soak

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	t.Run("is repeated by its seed", scheduleRepeats)
}

func scheduleRepeats(t *testing.T) {
	lane := Lane{"x", processFaults(nil)}
	plan := func(seed uint64) string {
		return strings.Join(strings.Fields(fmt.Sprint(lane.Plan(newRand(seed), time.Minute))), " ")
	}
	first, again, other := plan(1), plan(1), plan(2)
	if first != again || first == other {
		t.Errorf("%s\n%s\n%s", first, again, other)
	}
}
