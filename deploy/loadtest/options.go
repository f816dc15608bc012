package main

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

const description = `Measures a bridge under load: what a message, a connect and an idle session cost it, how soon messages arrive, and exactly how many were lost, doubled or out of order.

Scenarios (all but soak are run where none is named):

idle: sessions connect and rest. CPU a connect, resident memory a session.

unicast: publishers, each as fast as it is answered, send to random users. One run for each number of --publishers.

paced: messages leave at a fixed rate whatever the server does; latency counts from when a message was due.

toall: one message after the other goes to all sessions.

resume: users who have missed messages come back one after the other.

soak: a fixed rate while sessions leave and come back; memory and descriptors must stay flat.

It builds ./app and starts it on a free loopback port with an empty data folder, anew for each run; or it measures the server of --url. Load and server share the machine where both run on it: compare CPU a message, and ratios of runs taken in turns, rather than rates.`

// options are what the command line says. A number that is 0 stands for the scenario's own default.
type options struct {
	Scenarios []string `arg:"" optional:"" name:"scenario" help:"idle, unicast, paced, toall, resume, soak."`

	Sessions   int           `help:"Sessions, each of its own user (default: idle 10000, unicast, paced and soak 1000, toall 5000, resume 50)." placeholder:"N"`
	Publishers []int         `default:"1,16,64" help:"unicast: numbers of publishers, one run each, with commas between (${default})." placeholder:"N"`
	Rate       int           `default:"1000" help:"paced, soak: messages a second (${default})." placeholder:"N"`
	Duration   time.Duration `help:"unicast, paced, soak: how long messages are published (default: 5s, 8s, 30m)." placeholder:"TIME"`
	Messages   int           `help:"toall: messages; resume: messages that each user has missed (default: 20, 100)." placeholder:"N"`
	Churn      float64       `default:"10" help:"soak: sessions a second that leave and come back (${default})." placeholder:"N"`
	Rest       time.Duration `default:"10s" help:"idle: how long the sessions rest before memory is read (${default})." placeholder:"TIME"`
	Bytes      int           `default:"200" help:"Size of a message's data (${default})." placeholder:"N"`
	NoAcks     bool          `help:"Sessions do not ack. Otherwise each acks at most every 200 ms, as our clients do."`
	Seed       uint64        `default:"1" help:"Which users get messages, and which sessions leave (${default})." placeholder:"N"`
	Rounds     int           `default:"1" help:"How often all is measured; the table shows medians (${default})." placeholder:"N"`

	Redis         bool   `help:"The server that is started keeps everything in a Redis that is started too; its CPU and memory count with the server's."`
	Program       string `help:"Start this program instead of building ./app." placeholder:"FILE"`
	URL           string `help:"Measure this server instead of starting one: http:// or https://." placeholder:"URL"`
	PID           []int  `name:"pid" help:"With --url: the server's process, or several with commas between (its Redis, say), whose CPU and memory are counted, and those of their children." placeholder:"N"`
	WebhookSecret string `env:"BRIDGE_WEBHOOK_SECRETS" help:"With --url: the server's whsec_ secret." placeholder:"SECRET"`
	JWTSecret     string `env:"BRIDGE_JWT_SECRET" help:"With --url: the server's secret for tokens." placeholder:"SECRET"`

	JSON     string `name:"json" help:"Also write the result to this file; - for standard output instead of the table." placeholder:"FILE"`
	Baseline string `help:"Compare with this earlier result: the table shows ratios." placeholder:"FILE"`
}

// scenario is one kind of load, with what it takes where the command line does not say.
type scenario struct {
	run                func(*rig) error
	sessions, messages int
	duration           time.Duration
}

// scenarios are all of them.
var scenarios = map[string]scenario{
	"idle":    {run: idle, sessions: 10_000},
	"unicast": {run: unicast, sessions: 1_000, duration: 5 * time.Second},
	"paced":   {run: paced, sessions: 1_000, duration: 8 * time.Second},
	"toall":   {run: toAll, sessions: 5_000, messages: 20},
	"resume":  {run: resume, sessions: 50, messages: 100},
	"soak":    {run: soak, sessions: 1_000, duration: 30 * time.Minute},
}

// inTurn is the order of the scenarios where none is named.
var inTurn = []string{"idle", "unicast", "paced", "toall", "resume"}

// plannedRun is one run of a scenario; members that its scenario does not know are 0.
type plannedRun struct {
	Scenario   string  `json:"scenario"`
	Sessions   int     `json:"sessions"`
	Publishers int     `json:"publishers,omitempty"`
	Rate       int     `json:"rate,omitempty"`
	Messages   int     `json:"messages,omitempty"`
	Seconds    float64 `json:"seconds,omitempty"`
	Bytes      int     `json:"bytes"`
	Acks       bool    `json:"acks"`
}

// String names the run in progress and in the table.
func (p plannedRun) String() string {
	s := fmt.Sprintf("%s, %d sessions", p.Scenario, p.Sessions)
	switch p.Scenario {
	case "unicast":
		s += fmt.Sprintf(", %d publishers", p.Publishers)
	case "paced", "soak":
		s += fmt.Sprintf(", %d messages a second", p.Rate)
	case "toall", "resume":
		s += fmt.Sprintf(", %d messages", p.Messages)
	}
	if !p.Acks {
		s += ", no acks"
	}
	return s
}

// check refuses what cannot be meant, and says what to give instead.
func (o *options) check() error {
	for _, name := range o.Scenarios {
		if _, ok := scenarios[name]; !ok {
			return fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(scenarios)), ", "))
		}
	}
	if o.Sessions < 0 || o.Messages < 0 || o.Duration < 0 || o.Churn < 0 || o.Rest < 0 {
		return errors.New("--sessions, --messages, --duration, --churn and --rest must not be negative")
	}
	if o.Rate < 1 || o.Rounds < 1 {
		return errors.New("--rate and --rounds must be 1 or more")
	}
	if len(o.Publishers) == 0 || slices.Min(o.Publishers) < 1 || slices.Max(o.Publishers) > maxPublishers {
		return fmt.Errorf("--publishers must be from 1 to %d", maxPublishers)
	}
	if o.Bytes < minBytes || o.Bytes > maxBytes {
		return fmt.Errorf("--bytes must be from %d to %d", minBytes, maxBytes)
	}
	if o.URL == "" {
		if len(o.PID) > 0 {
			return errors.New("--pid needs --url beside it; of a server that loadtest starts it knows the process")
		}
		return nil
	}
	if o.Redis || o.Program != "" {
		return errors.New("--redis and --program are for a server that loadtest starts; leave out --url, or leave out these")
	}
	if u, err := url.Parse(o.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("--url must be like http://127.0.0.1:8080")
	}
	if o.WebhookSecret == "" || o.JWTSecret == "" {
		return errors.New("--url needs the server's secrets, to sign events and tokens with: --webhook-secret and --jwt-secret, or BRIDGE_WEBHOOK_SECRETS and BRIDGE_JWT_SECRET in the environment")
	}
	return nil
}

// plan is each run of one round.
func (o *options) plan() []plannedRun {
	names := o.Scenarios
	if len(names) == 0 {
		names = inTurn
	}
	var out []plannedRun
	for _, name := range names {
		s := scenarios[name]
		p := plannedRun{Scenario: name, Sessions: s.sessions, Messages: s.messages, Seconds: s.duration.Seconds(), Bytes: o.Bytes, Acks: !o.NoAcks}
		if o.Sessions > 0 {
			p.Sessions = o.Sessions
		}
		if o.Messages > 0 && s.messages > 0 {
			p.Messages = o.Messages
		}
		if o.Duration > 0 && s.duration > 0 {
			p.Seconds = o.Duration.Seconds()
		}
		switch name {
		case "unicast":
			for _, p.Publishers = range o.Publishers {
				out = append(out, p)
			}
			continue
		case "paced", "soak":
			p.Rate = o.Rate
		}
		out = append(out, p)
	}
	return out
}
