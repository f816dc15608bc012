package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// overStream runs one stream of server-sent events until it or ctx ends. It returns the code of its last event, 0 without one.
func (d *Device) overStream(ctx context.Context, c *Conn, p *Process, token string) (code int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := time.AfterFunc(silence, cancel)
	defer watch.Stop()
	go d.ackMeanwhile(ctx, p, token)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/v1/stream?after="+url.QueryEscape(c.After), nil)
	if err != nil {
		d.b.history.Note("harness", "%v", err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0 // away
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return d.refused(res.StatusCode)
	}
	in := bufio.NewReaderSize(res.Body, 64<<10)
	var event string
	var data []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return code
		}
		watch.Reset(silence)
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "event":
			event = value
		case name == "data":
			data = append(data, value)
		case line == "" && data != nil:
			text := []byte(strings.Join(data, "\n"))
			data = nil
			if event == "close" {
				var end struct{ Code int }
				if err := json.Unmarshal(text, &end); err != nil {
					d.b.history.Note("not JSON", "%s: %.300q", d.reader.Name, text)
				}
				code = end.Code
				continue
			}
			d.take(c, text)
		}
	}
}

// ackMeanwhile posts a stream's acks until it ends.
func (d *Device) ackMeanwhile(ctx context.Context, p *Process, token string) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			d.postAck(p, token)
		}
	}
}

func (d *Device) postAck(p *Process, token string) {
	if cursor := d.toAck(); cursor != "" {
		answered := d.b.history.acked(d.reader.User, cursor)
		body, err := json.Marshal(map[string]string{"cursor": cursor})
		if err != nil {
			d.b.history.Note("harness", "%v", err)
			return
		}
		if code, _ := d.b.call(p, token, http.MethodPost, "/v1/acks", string(body)); code == http.StatusNoContent {
			p.answered(anAck)
			answered() // one that is lost is made up for by the next
		}
	}
}

// take writes down a frame that came without a socket.
func (d *Device) take(c *Conn, text []byte) {
	f, err := parseFrame(text, false)
	if err != nil {
		d.b.history.Note("not JSON", "%s: %.300q", d.reader.Name, text)
		return
	}
	d.b.history.heard(c, f)
	d.heard(f)
}

// refused says what a refusal over HTTP would have been as a close code.
func (d *Device) refused(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return 4401
	case http.StatusForbidden:
		return 4403
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return 1013
	}
	d.b.history.Note("refused", "%s: %d", d.reader.describe(), status)
	return 0
}

// poll asks once.
func (d *Device) poll(c *Conn, p *Process, token string) int {
	code, answer := d.b.call(p, token, http.MethodGet, "/v1/poll?waitMs=2000&after="+url.QueryEscape(c.After), "")
	if code == 0 {
		return 0
	}
	if code != http.StatusOK {
		return d.refused(code)
	}
	var polled struct {
		Cursor string
		Frames []json.RawMessage
	}
	if err := json.Unmarshal(answer, &polled); err != nil {
		d.b.history.Note("not JSON", "%s: %.300q", d.reader.Name, answer)
		return 0
	}
	d.b.history.polled(c)
	for _, text := range polled.Frames {
		d.take(c, text)
	}
	d.mu.Lock()
	d.cursor = polled.Cursor
	d.mu.Unlock()
	d.postAck(p, token)
	return 0
}
