package bridge

import (
	"crypto/sha256"
	"testing"

	"hookbridge/app/wire"
)

func TestSendDigest(t *testing.T) {
	t.Run("differs for each target", sendDigestOfTargets)
}

// A ref that is used again for somebody else is a conflict: no two targets may look
// alike.
func sendDigestOfTargets(t *testing.T) {
	seen := make(map[[sha256.Size]byte]wire.Target)
	for _, to := range []wire.Target{
		{User: "a"}, {User: "all"}, {User: "group"}, {Users: []string{"a"}}, {Users: []string{"all"}}, {Users: []string{"group", "a"}},
		{Users: []string{"a", "group"}}, {Group: "a"}, {Group: "group"}, {Group: "all"}, {All: true}, {Users: []string{"all", "group", "a"}},
	} {
		sum := sendDigest(&wire.Event{Type: "t", Data: []byte("1"), To: to})
		if other, ok := seen[sum]; ok {
			t.Errorf("%+v is taken for %+v", to, other)
		}
		seen[sum] = to
	}
}
