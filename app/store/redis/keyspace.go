package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// primaries are all servers but those that only repeat what others have, by their
// replication ids: see replicationIDOf.
func (a *Archive) primaries(ctx context.Context) (map[string]rueidis.Client, error) {
	list := make(map[string]rueidis.Client)
	for _, node := range a.e.client.Nodes() {
		id, err := replicationIDOf(node.Do(ctx, a.e.infoReplication()))
		if err = a.e.fault(ctx, err); err != nil {
			return nil, err
		}
		if id != "" {
			list[id] = node
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: redis: no primary is known", bridge.ErrUnavailable)
	}
	return list, nil
}

// literal makes of a text the pattern that matches it alone.
var literal = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// keys calls take with the keys of the prefix that go on as the pattern says, page by
// page. SCAN may give a key twice.
func (a *Archive) keys(ctx context.Context, pattern string, take func(keys []string) error) error {
	servers, err := a.primaries(ctx)
	if err != nil {
		return err
	}
	pattern = literal.Replace(a.e.opts.Prefix) + ":{" + pattern
	for _, s := range servers {
		for cursor := uint64(0); ; {
			page, err := s.Do(ctx, s.B().Scan().Cursor(cursor).Match(pattern).Count(scanned).Build()).AsScanEntry()
			if err = a.e.fault(ctx, err); err != nil {
				return err
			}
			if err := take(page.Elements); err != nil {
				return err
			}
			if cursor = page.Cursor; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// scanned is how many keys a server looks at in one go.
const scanned = 1000

// split tells a key's tag from what comes after it.
func (a *Archive) split(key string) (tag, rest string) {
	tag, rest, _ = strings.Cut(strings.TrimPrefix(key, a.e.opts.Prefix+":{"), "}:")
	return tag, rest
}

func sorted[K cmp.Ordered, T any](m map[K]T) (keys []K) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
