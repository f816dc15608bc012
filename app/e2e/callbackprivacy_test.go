package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

// What of the way back must never be seen where it does not belong.
const (
	urlCanary       = "canary-of-a-url"
	replyCanary     = "canary-of-a-reply"
	signingCanary   = "canary-of-a-signing-secret-of-32-bytes"
	operatorOfCalls = `{"admin":["callbacks"]}`
)

func TestCallbackPrivacy(t *testing.T) {
	t.Parallel()
	onBoth(t, callbacksArePrivate)
}

// callbacksArePrivate has backends that fail in each way, and looks for what was sent to them,
// for where they are and for what they have replied.
func callbacksArePrivate(t *testing.T, change ...func(*server.Settings)) {
	t.Parallel()
	results := map[string]string{"html": "done", "garbage": "unreachable", "failing": "failed", "gone": "gone", "redirect": "refused", "plain": "unreachable"}
	answers := map[string]http.HandlerFunc{
		"html":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>"+replyCanary) },
		"garbage": hijacked(t, "SSH-2.0-"+replyCanary+"\r\n"),
		"failing": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, replyCanary, http.StatusInternalServerError)
		},
		"gone": hijacked(t, "HTTP/1.1 410 "+replyCanary+"\r\nContent-Length: 0\r\n\r\n"),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+replyCanary+".example/", http.StatusTemporaryRedirect)
		},
		"plain": func(w http.ResponseWriter, _ *http.Request) { t.Error("a request without TLS came through") },
	}
	var entries []string
	for name, answer := range answers {
		backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server hears of a client that is gone once it has read all
			answer(w, r)
		}))
		defer backend.Close()
		scheme := "http"
		if name == "plain" {
			scheme = "https"
		}
		entries = append(entries, fmt.Sprintf(`{"name":%q,"url":"%s://%[3]s:%[3]s@%[4]s/%[3]s?%[3]s","secrets":[%[5]q],"types":["*"]}`,
			name, scheme, urlCanary, backend.Listener.Addr(), secretOf(signingCanary)))
	}
	dir := t.TempDir()
	file, audit := filepath.Join(dir, "callbacks.json"), filepath.Join(dir, "audit")
	expect.NoError(t, os.WriteFile(file, []byte(`{"backends":[`+strings.Join(entries, ",")+`]}`), 0o600))
	w := start(t, append(change, func(s *server.Settings) { s.CallbacksFile, s.Audit = file, audit })...)
	patient, operator := backendUser(t, "patient-1"), token(t, "operator", time.Hour, operatorOfCalls)
	s := w.connectAs(patient, "")
	var said strings.Builder
	note := func(a answer) {
		fmt.Fprintln(&said, a.Raw, a.Header)
	}
	w.fire(w.nextID(), `{"type":"visit.due","to":{"user":"patient-1"},"escalate":1,"data":"`+payloadCanary+`"}`)
	s.want("event")
	for name, result := range results {
		event := fmt.Sprintf(`"to":{"backend":%q},"event":{"type":"visit.x","data":%q}}`, name, payloadCanary)
		s.sendRaw(`{"type":"request","ref":"q-` + name + `",` + event)
		fmt.Fprintln(&said, s.want("error").Raw)
		a := w.callAs(patient, http.MethodPost, "/v1/requests", `{`+event)
		if note(a); a.HTTP != 502 {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
		if a := w.callAs(patient, http.MethodPost, "/v1/sends", `{"ref":"c-`+name+`",`+event); a.HTTP != 202 {
			t.Error(a.Raw)
		}
		note(w.callAs(patient, http.MethodPost, "/v1/sends", `{"ref":"c-`+name+`",`+strings.Replace(event, "visit.x", "visit.y", 1)))
		expect.Eventually(t, "a try for "+name, func() bool {
			return w.metric(fmt.Sprintf(`hookbridge_callbacks_tries_total{backend=%q,result=%q}`, name, result)) >= 1
		})
	}
	for name := range results {
		note(w.callAs(operator, http.MethodGet, "/v1/callbacks/"+name+"/dead", ""))
		note(w.callAs(operator, http.MethodPost, "/v1/callbacks/"+name+"/redrive", `{"ids":["`+payloadCanary+`"]}`))
	}
	a := w.callAs(operator, http.MethodGet, "/v1/callbacks", "")
	var list struct{ Backends []struct{ Name string } }
	if note(a); json.Unmarshal([]byte(a.Raw), &list) != nil || len(list.Backends) != len(results) {
		t.Error(a.Raw)
	}
	metrics := w.scrape()
	w.stop()
	audited, err := os.ReadFile(audit)
	expect.NoError(t, err)
	for place, text := range map[string]string{"log": w.logs.String(), "metrics": metrics, "answers": said.String(), "audit": string(audited)} {
		for _, canary := range []string{payloadCanary, urlCanary, replyCanary, signingCanary, secretOf(signingCanary), patient, testJWTSecret} {
			if i := strings.Index(text, canary); i >= 0 {
				t.Errorf("%s: %q in …%s…", place, canary, text[max(0, i-200):min(len(text), i+100)])
			}
		}
		if text == "" {
			t.Errorf("there is nothing to look through: %s", place)
		}
	}
}

// hijacked answers with bytes, and ends the connection.
func hijacked(t *testing.T, reply string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, reply) // the bridge may have hung up
		conn.Close()
	}
}
