package storetest

import (
	"errors"

	"hookbridge/app/bridge"
)

var claims = []promise{
	{"a claimed id is good for one digest, and for no message", func(f *fixture) {
		one, other := digestOf([]byte("one")), digestOf([]byte("other"))
		claim := func(digest [32]byte) error { return f.store.Claim(f.ctx, "claim:x", digest, f.clock.Now()) }
		for range 2 {
			for range 2 {
				f.equal("claim", claim(one), nil)
			}
			if err := claim(other); !errors.Is(err, bridge.ErrConflict) {
				f.Fatalf("with another digest: %v", err)
			}
			rec := f.lookup("claim:x")
			f.equal("type and fates", []any{rec.Type, len(rec.Recipients)}, []any{bridge.ClaimType, 0})
			f.reopen()
		}
	}},
	{"a message and a claim of one id conflict, whichever came first", func(f *fixture) {
		m := f.message(user("u"))
		f.append(m)
		if err := f.store.Claim(f.ctx, m.ID, digestOf([]byte("claim")), f.clock.Now()); !errors.Is(err, bridge.ErrConflict) {
			f.Errorf("the claim: %v", err)
		}
		m = f.message(user("u"))
		f.equal("claim", f.store.Claim(f.ctx, m.ID, digestOf([]byte("claim")), f.clock.Now()), nil)
		if _, err := f.store.Append(f.ctx, m); !errors.Is(err, bridge.ErrConflict) {
			f.Errorf("the message: %v", err)
		}
	}},
}
