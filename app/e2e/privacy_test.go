package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/auth"
)

func TestPrivacy(t *testing.T) {
	t.Parallel()
	t.Run("keeps payloads, tokens and secrets out of everything else", privacyHolds)
}

// What must never be seen where it does not belong.
const (
	payloadCanary = "canary-payload-e41c"
	tokenIDCanary = "canary-token-id-b702" // a token's id is no secret: audit lines name it
	jwtKeyCanary  = "canary-jwt-secret-77d0-of-more-than-32-bytes"
	whKeyCanary   = "canary-webhook-secret-19f3-of-many-bytes"
)

// private watches everything that a program says to others than the one who is
// meant: replies that are problems, close reasons, error frames.
type private struct {
	*world
	said strings.Builder
}

func (p *private) note(a answer) answer {
	if a.HTTP >= 400 {
		fmt.Fprintln(&p.said, a.Raw, a.Header)
	}
	return a
}

// privacyHolds drives every path, those that fail too, at debug level, and looks for
// what was sent.
func privacyHolds(t *testing.T) {
	heavy(t)
	t.Parallel()
	t.Run("on SQLite", func(t *testing.T) { testPrivacy(t, nil) })
	t.Run("on Redis", func(t *testing.T) { testPrivacy(t, redistest.Start(t)) })
}

// testPrivacy does so on Redis, where there is one: then with its failures, too.
func testPrivacy(t *testing.T, store *redistest.Server) {
	dir := t.TempDir()
	auditPath := filepath.Join(dir, "audit")
	sendersPath := filepath.Join(dir, "senders.json")
	expect.NoError(t, os.WriteFile(sendersPath, fmt.Appendf(nil, `{"senders":[{"name":"clinic","secrets":[%q],"to":["patient-*"]}]}`, secretOf(whKeyCanary)), 0o600))
	settings := testSettings(filepath.Join(dir, "data"))
	settings.JWTSecret, settings.Audit, settings.SecretsFile = jwtKeyCanary, auditPath, sendersPath
	if store != nil {
		settings.RedisURL, settings.RedisPrefix = server.Secret(store.URL()), "e2e"
	}
	w := startWith(t, settings)
	p := &private{world: w.as(secretOf(whKeyCanary))}

	var tokens []string
	mint := func(user, rights string, life time.Duration) string {
		s, err := auth.SignToken(jwtKeyCanary, auth.Claims{User: user, ID: tokenIDCanary, IssuedAt: time.Now(), Expires: time.Now().Add(life), Rights: json.RawMessage(rights)})
		expect.NoError(t, err)
		tokens = append(tokens, s)
		return s
	}
	operator, patient, expired := mint("operator", allAreas, time.Hour), mint("patient-1", `{"send":["patient-2"],"groups":["ward"]}`, time.Hour), mint("patient-1", "null", -time.Hour)
	foreign, err := auth.SignToken("canary-another-secret-of-more-than-32-bytes", auth.Claims{User: "patient-1", ID: tokenIDCanary, Expires: time.Now().Add(time.Hour)})
	expect.NoError(t, err)
	tokens = append(tokens, foreign)

	p.webhooks(t)
	p.sockets(t, patient, expired, foreign)
	p.http(t, operator, patient, expired, foreign)
	if store != nil {
		store.Do("CONFIG", "SET", "maxmemory", "1mb")
		p.webhooks(t)
		store.Do("CONFIG", "SET", "maxmemory", "0")
		store.Kill()
		p.webhooks(t)
		store.Restart()
	}

	res, err := w.client.Get(w.base + "/metrics")
	expect.NoError(t, err)
	metrics, err := io.ReadAll(res.Body)
	expect.NoError(t, err)
	res.Body.Close()
	w.stop()
	audit, err := os.ReadFile(auditPath)
	expect.NoError(t, err)
	if len(audit) == 0 || w.logs.String() == "" || p.said.Len() == 0 {
		t.Fatal("there is nothing to look through")
	}
	for place, text := range map[string]string{"logs": w.logs.String(), "metrics": string(metrics), "refusals": p.said.String(), "audit": string(audit)} {
		for _, canary := range append(tokens, payloadCanary, jwtKeyCanary, whKeyCanary, secretOf(whKeyCanary), "canary-another", "canary-in-", "canary-type") {
			if place == "audit" && canary == "canary-in-" {
				continue // what an operator asked about is what an audit is for
			}
			if i := strings.Index(text, canary); i >= 0 {
				t.Errorf("%s: %q in …%s…", place, canary, text[max(0, i-200):min(len(text), i+200)])
			}
			if parts := strings.Split(canary, "."); len(parts) == 3 && strings.Contains(text, parts[2]) {
				t.Errorf("%s: a token's signature", place)
			}
		}
	}
	if strings.Contains(w.logs.String(), tokenIDCanary+`"`) && !strings.Contains(string(audit), tokenIDCanary) {
		t.Error("the audit does not name the token")
	}
}

func (p *private) webhooks(t *testing.T) {
	send := func(path, media, body string) {
		p.note(p.do(p.signFor(path, media, p.nextID(), body, time.Now())))
	}
	for _, body := range []string{
		`{"type":"t","to":{"user":"patient-1"},"data":"%s"}`, `{"type":"t","to":{"user":"patient-1"},"data":"%s"`,
		`{"type":"t","to":{"user":"doctor-1"},"data":"%s"}`, `{"type":"%s !","to":{"user":"patient-1"}}`, `{"type":"t","to":"%s"}`,
		`{"type":"t","to":{"user":"patient-1"},"ttl":"%s"}`, `{"type":"t","to":{"user":"patient-1"},"%s":1,"type":2}`,
		`{"type":"t","to":{"user":"patient-1"},"timestamp":"%s"}`, `{"type":"t","to":{"%s":1}}`, `%s`, `"%s"`,
		`{"type":"t","to":{"user":"patient-1"},"data":"%s` + strings.Repeat("x", 70_000) + `"}`,
	} {
		body = fmt.Sprintf(body, payloadCanary)
		send("/webhooks/events", "application/json", body)
		send("/webhooks/events/batch", "application/json", `{"events":[`+body+`]}`)
		send("/webhooks/events", "application/cloudevents+json", body)
		send("/webhooks/events", "application/cloudevents-batch+json", `[`+body+`]`)
		send("/webhooks/events", "text/"+payloadCanary, body)
	}
	cloud := `{"specversion":"1.0","id":"%s","source":"/s","type":"t","touser":"patient-1","data_base64":"%s"}`
	send("/webhooks/events", "application/cloudevents+json", fmt.Sprintf(cloud, "1", payloadCanary))
	binary := p.signFor("/webhooks/events", "application/json", p.nextID(), `{"a":"`+payloadCanary+`"}`, time.Now())
	for k, v := range map[string]string{"specversion": "1.0", "id": "1", "source": "/s", "type": payloadCanary + " !", "touser": "patient-1"} {
		binary.Header.Set("ce-"+k, v)
	}
	p.note(p.do(binary))
	for _, header := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		req := p.sign(p.nextID(), `{"data":"`+payloadCanary+`"}`, time.Now())
		req.Header.Set(header, "canary-in-"+header)
		p.note(p.do(req))
		req = p.sign(p.nextID(), `{"data":"`+payloadCanary+`"}`, time.Now().Add(-time.Hour))
		p.note(p.do(req))
	}
	req := p.sign(p.nextID(), `{"data":"`+payloadCanary+`"}`, time.Now())
	req.URL.RawQuery = "wait=canary-in-query&timeout=canary-in-query"
	p.note(p.do(req))
	id := p.nextID()
	p.note(p.do(p.sign(id, `{"type":"t","to":{"user":"patient-1"},"data":"`+payloadCanary+`"}`, time.Now())))
	p.note(p.do(p.sign(id, `{"type":"t","to":{"user":"patient-1"},"data":"`+payloadCanary+`2"}`, time.Now())))
}

func (p *private) sockets(t *testing.T, patient, expired, foreign string) {
	refused := func(s *session) {
		for {
			f, err := s.read()
			if err != nil {
				fmt.Fprintln(&p.said, err)
				return
			}
			if f.Type == "error" {
				fmt.Fprintln(&p.said, f.Raw)
			}
		}
	}
	for _, tok := range []string{expired, foreign, "canary-in-token", patient + "x", ""} {
		for _, protocols := range [][]string{{"bridge.v1.json"}, nil} {
			s, _, err := p.dial(nil, "", protocols...)
			expect.NoError(t, err)
			s.send(map[string]string{"type": "connect", "token": tok, "after": "canary-in-cursor"})
			refused(s)
		}
		for _, h := range []http.Header{{"Authorization": {"Bearer " + tok}}, {"Sec-Websocket-Protocol": {"bridge.v1.json, bearer." + tok}}} {
			if s, res, err := p.dial(h, ""); err == nil {
				refused(s)
			} else if res != nil {
				b, _ := io.ReadAll(res.Body) // what is there is looked through
				fmt.Fprintln(&p.said, string(b), res.Header)
			}
		}
		if _, res, err := p.dial(nil, "?token="+tok); err != nil && res != nil {
			b, _ := io.ReadAll(res.Body)
			fmt.Fprintln(&p.said, string(b), res.Header)
		}
	}
	s := p.connectAs(patient, "")
	for _, frame := range []string{
		`{"type":"send","ref":"canary-ref-is-theirs","to":{"user":"patient-9"},"event":{"type":"t","data":"` + payloadCanary + `"}}`,
		`{"type":"send","to":{"user":"patient-2"},"event":{"type":"t","data":"` + payloadCanary + `"}}`,
		`{"type":"send","to":{"user":"patient-2"},"event":{"type":"canary type","data":1}}`,
		`{"type":"` + payloadCanary + `"}`, `{"type":"ack","cursor":"canary-in-ack"}`, `{"type":"seen","id":"canary-in-seen"}`,
	} {
		s.sendRaw(frame)
	}
	s.send(map[string]string{"type": "refresh", "token": foreign})
	refused(s)
	for _, last := range []string{payloadCanary, `{"` + payloadCanary + `":1}`} {
		s := p.connectAs(patient, "")
		s.sendRaw(last)
		refused(s)
	}
	s = p.connectAs(patient, "")
	expect.NoError(t, s.ws.WriteMessage(websocket.BinaryMessage, []byte(payloadCanary)))
	refused(s)
	plain := p.plain(patient)
	for _, text := range []string{`{"toUserId":"patient-2","message":"` + payloadCanary + `"}`, `{"toUserId":"x","message":"` + payloadCanary + `"}`, `{"message":"` + payloadCanary + `"}`} {
		plain.sendRaw(text)
	}
	plain.sendRaw(payloadCanary)
	refused(plain)
}

func (p *private) http(t *testing.T, operator, patient, expired, foreign string) {
	for _, tok := range []string{patient, expired, foreign, "canary-in-token", operator} {
		for _, path := range []string{
			"GET /v1/events/canary-in-path", "DELETE /v1/events/canary-in-path", "POST /v1/presence", "GET /v1/users/patient-1/presence",
			"GET /v1/users/patient-1/sessions", "DELETE /v1/users/patient-1/sessions/canary-in-path", "POST /v1/users/patient-1/revocations",
			"GET /v1/groups/ward/members", "PUT /v1/groups/ward/members/patient-1", "POST /v1/acks", "GET /v1/poll?waitMs=canary-in-query",
			"GET /v1/poll?waitMs=0", "POST /v1/tickets", "GET /canary-in-path", "PUT /ws", "DELETE /v1/users/patient-1",
		} {
			method, path, _ := strings.Cut(path, " ")
			for _, body := range []string{"", `{"users":["a\u0000"],"more":"` + payloadCanary + `","cursor":"canary-in-cursor","jti":7}`, payloadCanary} {
				if method == "POST" || body == "" {
					p.note(p.callAs(tok, method, path, body))
				}
			}
		}
	}
}
