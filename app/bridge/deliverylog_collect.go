package bridge

import (
	"context"
	"errors"
	"slices"
)

// deliveryLogs returns for each of some users what their sessions were given, oldest
// session first: what the store has kept of those that have ended (unless only live
// ones are asked for), and what live ones here and on other machines have so far.
func (b *Bridge) deliveryLogs(ctx context.Context, users []string, liveOnly bool) ([][]DeliveryLog, error) {
	lists := make([][]DeliveryLog, len(users))
	if !liveOnly {
		var err error
		if lists, err = b.store.DeliveryLogs(ctx, users); err != nil {
			return nil, err
		}
	}
	for i, user := range users {
		lists[i] = append(lists[i], b.hub.DeliveryLogs(user)...)
	}
	elsewhere, err := b.live.Ask(ctx, users) // after that the acks in the logs from here are stored
	if err != nil {
		return nil, err
	}
	for i, user := range users {
		for _, log := range elsewhere {
			if log.Member.User == user {
				lists[i] = append(lists[i], log)
			}
		}
		slices.SortStableFunc(lists[i], func(a, b DeliveryLog) int { return a.Member.Since.Compare(b.Member.Since) })
	}
	return lists, nil
}

// validDeliveryLogs is deliveryLogs with each log cut back to what the store still
// knows of the life that it was written in.
func (b *Bridge) validDeliveryLogs(ctx context.Context, users []string, liveOnly bool) ([][]DeliveryLog, error) {
	lists, err := b.deliveryLogs(ctx, users, liveOnly)
	if err != nil {
		return nil, err
	}
	for i, user := range users {
		if err := b.cutBack(ctx, user, lists[i]); err != nil {
			return nil, err
		}
	}
	return lists, nil
}

// cutBack cuts a user's delivery logs back to what the store still knows of their
// lives.
func (b *Bridge) cutBack(ctx context.Context, user string, logs []DeliveryLog) (err error) {
	ends := map[string]Position{}
	for i := range logs {
		log := &logs[i]
		if log.Life == b.store.Life() {
			continue
		}
		end, asked := ends[log.Life]
		if !asked {
			if end, err = b.store.LifeEnd(ctx, user, log.Life); err != nil && !errors.Is(err, ErrRewound) {
				return err
			}
			ends[log.Life] = end // of a life that was lost: the beginning
		}
		log.rewind(end)
	}
	return nil
}
