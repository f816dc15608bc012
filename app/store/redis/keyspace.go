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

// primary is a server that holds a part of the keys.
type primary struct {
	client rueidis.Client
	run    string // names it, and this life of its process
}

// primaries are all servers, always in the same order, but for those that only
// repeat what others have.
func (a *Archive) primaries(ctx context.Context) (list []primary, err error) {
	nodes := a.e.client.Nodes()
	for _, addr := range sorted(nodes) {
		text, err := nodes[addr].Do(ctx, nodes[addr].B().Info().Build()).ToString()
		if err = a.e.fault(ctx, err); err != nil {
			return nil, err
		}
		run := ""
		master := false
		for line := range strings.Lines(text) {
			switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
			case "role":
				master = value == "master"
			case "run_id":
				run = value
			}
		}
		if master {
			list = append(list, primary{nodes[addr], addr + " " + run})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: redis: no primary is known", bridge.ErrUnavailable)
	}
	return list, nil
}

// literal makes of a text the pattern that matches it alone.
var literal = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// scan gives a page of a server's keys: those of the prefix that go on as a
// pattern says, each once.
func (a *Archive) scan(ctx context.Context, p *primary, cursor uint64, pattern string, count int64) (keys []string, next uint64, err error) {
	cmd := p.client.B().Scan().Cursor(cursor).Match(literal.Replace(a.e.opts.Prefix) + ":{" + pattern).Count(count).Build()
	page, err := p.client.Do(ctx, cmd).AsScanEntry()
	if err = a.e.fault(ctx, err); err != nil {
		return nil, 0, err
	}
	slices.Sort(page.Elements)
	return slices.Compact(page.Elements), page.Cursor, nil
}

// keys calls take with all keys of the prefix, some maybe twice, until it has
// enough.
func (a *Archive) keys(ctx context.Context, pattern string, take func(keys []string) (enough bool, err error)) error {
	list, err := a.primaries(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		for cursor := uint64(0); ; {
			keys, next, err := a.scan(ctx, &list[i], cursor, pattern, scanned)
			if err != nil {
				return err
			}
			if enough, err := take(keys); enough || err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
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
