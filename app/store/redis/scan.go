package redis

import (
	"context"
	"strings"
)

// scanKeys calls take with the keys whose names go on after the prefix as the pattern says,
// page by page. SCAN may return a key twice.
func (s *Store) scanKeys(ctx context.Context, pattern string, take func(keys []string) error) error {
	servers, err := s.primaries(ctx)
	if err != nil {
		return err
	}
	pattern = s.opts.Prefix + ":{" + pattern // CheckPrefix has made sure that the prefix is no pattern
	for _, server := range servers {
		for cursor := uint64(0); ; {
			page, err := server.Do(ctx, server.B().Scan().Cursor(cursor).Match(pattern).Count(scanned).Build()).AsScanEntry()
			if err = s.fault(ctx, err); err != nil {
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

// scanned is how many keys a server goes through for one page.
const scanned = 1000

// split tells a key's tag from what comes after it.
func (a *Archive) split(key string) (tag, rest string) {
	tag, rest, _ = strings.Cut(strings.TrimPrefix(key, a.e.opts.Prefix+":{"), "}:")
	return tag, rest
}
