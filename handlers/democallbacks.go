package handlers

import (
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// maxDemoCallbacks is how many the page's backend remembers.
const maxDemoCallbacks = 500

// DemoCallbacks remembers what the page's backend heard of the bridge last, for the page
// to show. Its zero value is empty.
type DemoCallbacks struct {
	mu   sync.Mutex
	last int64          // the number of the newest
	kept []demoCallback // oldest first
}

type demoCallback struct {
	n        int64
	id, user string
	body     []byte
}

// Add remembers a callback or a request by its webhook-id, once.
func (d *DemoCallbacks) Add(id string, body []byte) {
	var about struct {
		Data struct {
			User string `json:"user"`
			From string `json:"from"`
		} `json:"data"`
	}
	// Not by wire's rules: data has whatever users send, such as names that stand twice.
	if json.Unmarshal(body, &about) != nil {
		return // it is about nobody whom the page shows
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.ContainsFunc(d.kept, func(c demoCallback) bool { return c.id == id }) {
		return
	}
	if d.last == 0 {
		d.last = time.Now().UnixMilli() // more than any number of a dev that ran before: a page that stays open misses none
	} else {
		d.last++
	}
	if len(d.kept) == maxDemoCallbacks {
		d.kept = slices.Delete(d.kept, 0, 1)
	}
	d.kept = append(d.kept, demoCallback{d.last, id, about.Data.User + about.Data.From, body})
}

// about is the JSON of those about a user that came after the one with a number:
// {"last":…,"callbacks":[{"id":…,"body":…}]}.
func (d *DemoCallbacks) about(user string, after int64) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := strconv.AppendInt([]byte(`{"last":`), d.last, 10)
	b = append(b, `,"callbacks":[`...)
	for i, first := 0, true; i < len(d.kept); i++ {
		c := d.kept[i]
		if c.n <= after || c.user != user {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(append(append(b, `{"id":`...), wire.Encode(c.id)...), `,"body":`...)
		b = append(append(b, c.body...), '}')
	}
	return append(b, "]}"...)
}

// demoCallbacks tells the page what its backend heard about a user.
func (s *Server) demoCallbacks(c *fiber.Ctx) error {
	after, err := strconv.ParseInt(c.Query("after", "0"), 10, 64)
	if err != nil || bridge.CheckUserID(c.Query("user")) != nil {
		return wire.NewProblem(wire.CodeMalformed, "ask for ?user=patient-42&after=0")
	}
	return s.jsonBytes(c, s.o.Demo.Callbacks.about(c.Query("user"), after))
}
