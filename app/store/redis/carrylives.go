package redis

import (
	"context"
	"fmt"

	"hookbridge/app/bridge"
)

// Lives are carried by name. Their numbers are the store's own, and only their order
// counts.

// livesByNumber is the store's list of lives.
func (a *Archive) livesByNumber(ctx context.Context) (map[int64]string, error) {
	e := a.e
	_, list, _ := e.lifeKeys()
	scores, err := e.client.Do(ctx, e.client.B().Zrange().Key(list).Min("0").Max("-1").Withscores().Build()).AsZScores()
	if err = e.fault(ctx, err); err != nil {
		return nil, err
	}
	out := make(map[int64]string, len(scores))
	for _, s := range scores {
		out[int64(s.Score)] = s.Member
	}
	return out, nil
}

// lives gives what the store has lived through, oldest first.
func (d *dumping) lives(_ context.Context, keys []string) error {
	first, _ := d.rest(keys)
	for i, no := range sorted(d.lived) {
		if err := d.give(first, uint64(i+1), bridge.Entry{Life: &bridge.LifeEntry{Name: d.lived[no]}}); err != nil {
			return err
		}
	}
	return nil
}

// lifeStarts names the lives that began in a mailbox. One that the list has
// forgotten ends with the next: too early is safe.
func (d *dumping) lifeStarts(text string) (out []bridge.LifeStart, err error) {
	if text == "" {
		return nil, nil
	}
	starts, err := parseLifeStarts(text)
	if err != nil {
		return nil, err
	}
	forgotten := false
	after := uint64(0)
	for _, s := range starts {
		if !forgotten {
			after = s.after
		}
		name, ok := d.lived[s.no]
		if forgotten = !ok; ok {
			out = append(out, bridge.LifeStart{Life: name, After: after})
		}
	}
	return out, nil
}

// loadLives takes lives over, before anything names them, and learns their numbers.
func (l *loading) loadLives(ctx context.Context, entries []bridge.Entry) error {
	e := l.e
	_, list, _ := e.lifeKeys()
	var names []string
	for _, en := range entries {
		if en.Life != nil {
			names = append(names, en.Life.Name)
		}
	}
	if len(names) > 0 {
		if err := l.write(ctx, []step{l.script(call{&e.scripts.loadLives, []string{list}, names})}); err != nil {
			return err
		}
		l.numbers = nil
	}
	if l.numbers != nil {
		return nil
	}
	lived, err := l.livesByNumber(ctx)
	if err != nil {
		return err
	}
	l.numbers = make(map[string]int64, len(lived))
	for no, name := range lived {
		l.numbers[name] = no
	}
	return nil
}

// startsOf writes where lives began in a mailbox as its lv has it, and the last of
// them.
func (l *loading) startsOf(m *bridge.MailboxEntry) (lv, ln string, err error) {
	for _, s := range m.Lives {
		no, ok := l.numbers[s.Life]
		if !ok {
			return "", "", fmt.Errorf("%w: it has no life %q", errExport, s.Life)
		}
		if lv != "" {
			lv += ","
		}
		ln = itoa(no)
		lv += ln + ":" + itoa(s.After)
	}
	return lv, ln, nil
}
