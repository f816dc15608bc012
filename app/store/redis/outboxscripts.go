package redis

// outboxScripts are the files lua/outbox_*.lua, by their names.
type outboxScripts struct {
	admit, known, post, ack, acked, fire, forget, drop, arm script
	claim, visited, due, late, lease, settle, settled       script
	bury, unbury, redrive, timers, recall, presence         script
	hurry, hurried, gone                                    script
	load, loadDead, loadTimer, liveTimers, toHurry          script // for exports and imports
	publish, deliver                                        script // lua/publish.lua and lua/deliver.lua with timers
}

func (s *scripts) loadOutbox(lib string) error {
	o := &s.outbox
	read := func(name string) (string, error) {
		b, err := luaFiles.ReadFile("lua/" + name + ".lua")
		return string(b), err
	}
	own, err := read("outbox_lib")
	if err != nil {
		return err
	}
	for name, to := range map[string]*script{
		"admit": &o.admit, "known": &o.known, "post": &o.post, "ack": &o.ack, "acked": &o.acked, "fire": &o.fire, "forget": &o.forget,
		"drop": &o.drop, "arm": &o.arm, "claim": &o.claim, "visited": &o.visited, "due": &o.due, "late": &o.late, "lease": &o.lease,
		"settle": &o.settle, "settled": &o.settled, "bury": &o.bury, "redrive": &o.redrive, "hurry": &o.hurry, "hurried": &o.hurried, "gone": &o.gone, "timers": &o.timers,
		"recall": &o.recall, "presence": &o.presence, "load": &o.load,
		"load_dead": &o.loadDead, "to_hurry": &o.toHurry, "load_timer": &o.loadTimer, "live_timers": &o.liveTimers, "unbury": &o.unbury, "publish": &o.publish, "deliver": &o.deliver,
	} {
		body, err := read("outbox_" + name)
		if err != nil {
			return err
		}
		if name == "publish" || name == "deliver" {
			before, err := read("outbox_before")
			if err != nil {
				return err
			}
			main, err := read(name)
			if err != nil {
				return err
			}
			body = before + "local function main()\n" + main + "\nend\n" + body
		}
		to.n, to.body = len(s.all), linked(body, lib, own)
		s.all = append(s.all, to)
	}
	// What waits goes out, which is how a Redis that is full of it gets room again.
	for _, one := range []*script{&o.claim, &o.visited, &o.lease, &o.settle, &o.settled, &o.bury, &o.unbury, &o.forget, &o.drop, &o.hurry, &o.hurried} {
		one.whenFull = true
	}
	return nil
}
