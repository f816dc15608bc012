package bridge

import (
	"errors"
	"testing"
)

func TestEntry(t *testing.T) {
	t.Run("of a timer has one of the kinds that there are", entryOfTimer)
	t.Run("of a callback names it, its backend and its type", entryOfCallback)
}

// entries are checked: whether each is good.
func entries(t *testing.T, list map[*Entry]bool) {
	t.Helper()
	for e, good := range list {
		if err := e.Check(); (err == nil) != good || err != nil && !errors.Is(err, ErrBadEntry) {
			t.Errorf("%+v %+v: %v", e.Timer, e.Callback, err)
		}
	}
}

func entryOfTimer(t *testing.T) {
	entries(t, map[*Entry]bool{
		{Timer: &TimerEntry{User: "u", Seq: 1, Type: CallbackUnacked}}: true,
		{Timer: &TimerEntry{User: "u", Seq: 1, Type: CallbackExpired}}: true,
		{Timer: &TimerEntry{User: "u", Type: CallbackOffline}}:         true,
		{Timer: &TimerEntry{Type: CallbackOffline}}:                    false,
		{Timer: &TimerEntry{User: "u", Seq: 1, Type: CallbackOffline}}: false,
		{Timer: &TimerEntry{User: "u", Type: CallbackUnacked}}:         false,
		{Timer: &TimerEntry{User: "u", Seq: 1, Type: CallbackOnline}}:  false,
		{Timer: &TimerEntry{User: "u", Seq: 1, Type: CallbackAcked}}:   false,
		{Timer: &TimerEntry{User: "u", Seq: 1, Type: CallbackSent}}:    false,
		{Timer: &TimerEntry{User: "u", Seq: 1}}:                        false,
	})
}

func entryOfCallback(t *testing.T) {
	entries(t, map[*Entry]bool{
		{Callback: &CallbackEntry{ID: "cb_1", Backend: "a", Type: CallbackSent}}: true,
		{Callback: &CallbackEntry{Backend: "a", Type: CallbackSent}}:             false,
		{Callback: &CallbackEntry{ID: "cb_1", Type: CallbackSent}}:               false,
		{Callback: &CallbackEntry{ID: "cb_1", Backend: "a"}}:                     false,
		{Callback: &CallbackEntry{ID: "cb_1"}, Timer: &TimerEntry{}}:             false,
	})
}
