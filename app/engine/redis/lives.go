package redis

import (
	"context"
	"math"

	"hookbridge/app/bridge"
)

// Life implements bridge.Engine.
func (e *Engine) Life() string { return "" }

// LifeEnd implements bridge.Engine.
func (e *Engine) LifeEnd(_ context.Context, _, life string) (bridge.Position, error) {
	if life != "" {
		return bridge.Position{}, bridge.ErrRewound
	}
	return bridge.Position{Mailbox: math.MaxInt64, Broadcast: math.MaxInt64}, nil
}
