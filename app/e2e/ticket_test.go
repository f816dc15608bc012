package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestTicket(t *testing.T) {
	t.Parallel()
	t.Run("is good for 30 seconds", ticketLasts)
	t.Run("is for pages of allowed origins", ticketOrigin)
	t.Run("opens a stream", ticketOpensStream)
}

func (w *world) ticket(token string) answerTicket {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodPost, w.base+"/v1/tickets", nil)
	expect.NoError(w.t, err)
	req.Header = bearer(token)
	a := w.do(req)
	var out answerTicket
	if a.HTTP != http.StatusCreated {
		w.t.Fatalf("ticket: %d %s", a.HTTP, a.Raw)
	}
	expect.NoError(w.t, json.Unmarshal([]byte(a.Raw), &out))
	return out
}

type answerTicket struct {
	Ticket    string `json:"ticket"`
	ExpiresAt string `json:"expiresAt"`
}

func ticketLasts(t *testing.T) {
	t.Parallel()
	w := start(t)
	ticket := w.ticket(token(t, "patient-1", time.Hour, ""))
	at, err := time.Parse(time.RFC3339, ticket.ExpiresAt)
	if left := time.Until(at); err != nil || left > 30*time.Second || left < 25*time.Second {
		t.Errorf("%v %v", left, err)
	}
}

func ticketOrigin(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for origin, want := range map[string]int{"https://app.example": 204, "https://evil.example": 403} {
		req, err := http.NewRequest(http.MethodOptions, w.base+"/v1/tickets", nil)
		expect.NoError(t, err)
		req.Header = http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"}}
		if a := w.do(req); a.HTTP != want || (want == 204) != (a.Header.Get("Access-Control-Allow-Origin") == origin) {
			t.Errorf("preflight from %s: %d %v", origin, a.HTTP, a.Header)
		}
		req, err = http.NewRequest(http.MethodPost, w.base+"/v1/tickets", nil)
		expect.NoError(t, err)
		req.Header = bearer(tok)
		req.Header.Set("Origin", origin)
		if a := w.do(req); (want == 204) != (a.HTTP == 201 && a.Header.Get("Access-Control-Allow-Origin") == origin) {
			t.Errorf("ticket for %s: %d %s", origin, a.HTTP, a.Raw)
		}
	}
}

// A browser's own EventSource can send no header.
func ticketOpensStream(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	ticket := func() string {
		t.Helper()
		var body struct{ Ticket string }
		a := w.callAs(tok, http.MethodPost, "/v1/tickets", "")
		expect.NoError(t, json.Unmarshal([]byte(a.Raw), &body))
		return body.Ticket
	}
	open := func(query string, header http.Header) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, w.base+"/v1/stream"+query, nil)
		expect.NoError(t, err)
		if header != nil {
			req.Header = header
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		expect.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		if res.StatusCode == http.StatusOK {
			return res, nil
		}
		b, err := io.ReadAll(res.Body)
		expect.NoError(t, err)
		return res, b
	}
	used := ticket()
	res, body := open("?ticket="+used, nil)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	first := &sse{t: t, res: res, in: bufio.NewReader(res.Body)}
	hello := first.want("connected")
	if hello.User != "patient-1" {
		t.Errorf("%s", hello.Raw)
	}
	w.fireTo("patient-1", 1)
	first.want("event")
	res, body = open("?ticket="+ticket()+"&after="+hello.Cursor, nil)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("resumed: %d %s", res.StatusCode, body)
	}
	second := &sse{t: t, res: res, in: bufio.NewReader(res.Body)}
	second.want("connected")
	if e := second.want("event"); !e.Replay || e.n() != 1 {
		t.Errorf("%s", e.Raw)
	}
	bearer := http.Header{"Authorization": {"Bearer " + tok}}
	for name, c := range map[string]struct {
		query  string
		header http.Header
		status int
		code   string
	}{
		"used":              {"?ticket=" + used, nil, 401, "unauthorized"},
		"of nobody":         {"?ticket=abc", nil, 401, "unauthorized"},
		"empty":             {"?ticket=", nil, 401, "unauthorized"},
		"beside a token":    {"?ticket=" + ticket(), bearer, 400, "several_tokens"},
		"twice":             {"?ticket=" + ticket() + "&ticket=" + ticket(), nil, 400, "several_tokens"},
		"a token as ticket": {"?ticket=" + tok, nil, 400, "token_in_url"},
		"none":              {"", nil, 401, "unauthorized"},
		"two tokens":        {"", http.Header{"Authorization": {"Bearer " + tok, "Bearer " + tok}}, 400, "several_tokens"},
	} {
		res, body := open(c.query, c.header)
		var p struct{ Code string }
		if json.Unmarshal(body, &p) != nil || res.StatusCode != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	revoked := ticket()
	w.done(http.MethodPost, "/v1/users/patient-1/revocations", `{"jti":"jti-patient-1"}`)
	if res, body := open("?ticket="+revoked, nil); res.StatusCode != http.StatusForbidden {
		t.Errorf("revoked: %d %s", res.StatusCode, body)
	}
}
