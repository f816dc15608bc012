package redis

import (
	"errors"
	"fmt"
	"strings"
)

// place is how far a dump has come: every key that is of use is looked at, kind
// by kind, server by server, page by page as SCAN has them.
type place struct {
	now     int64 // when the dump began, milliseconds: what had not expired then is given
	phase   int
	servers string // which these were, in this life of theirs: cursors are of no use to others
	server  int
	cursor  uint64 // of the page
	page    string // which keys were in it
	key     int    // of the page, in the order of names
	done    uint64 // what the key has given: see dumping.give
}

var errPlace = errors.New("redis: this is no place of a dump")

func (p *place) String() string {
	return fmt.Sprintf("%d %d %s %d %d %s %d %d", p.now, p.phase, p.servers, p.server, p.cursor, p.page, p.key, p.done)
}

// parsePlace reads one; the beginning, at now, where there is none.
func parsePlace(text string, now int64) (p place, err error) {
	if text == "" {
		return place{now: now}, nil
	}
	_, err = fmt.Sscanf(text, "%d %d %s %d %d %s %d %d", &p.now, &p.phase, &p.servers, &p.server, &p.cursor, &p.page, &p.key, &p.done)
	if err != nil {
		return p, fmt.Errorf("%w: %w", errPlace, err)
	}
	if p.phase < 0 || p.server < 0 || p.key < 0 {
		return p, errPlace
	}
	return p, nil
}

// of makes the place one among these servers: where they are others than those
// it came from, the kind begins anew.
func (p *place) of(servers []primary) {
	var runs []string
	for i := range servers {
		runs = append(runs, servers[i].run)
	}
	if now := short(strings.Join(runs, "\n")); now != p.servers || p.server > len(servers) {
		*p = place{now: p.now, phase: p.phase, servers: now}
	}
}

// at makes the place one in this page: where its keys are others, the page begins
// anew.
func (p *place) at(keys []string) {
	if now := short(strings.Join(keys, "\n")); now != p.page || p.key > len(keys) {
		p.page, p.key, p.done = now, 0, 0
	}
}

// turn goes to the next page of the server, or to the next server where cursor
// is 0.
func (p *place) turn(cursor uint64) {
	p.cursor, p.page, p.key, p.done = cursor, "", 0, 0
	if cursor == 0 {
		p.server++
	}
}
