package soak

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/auth"
)

const (
	jwtSecret  = "soak-jwt-secret-that-is-long-enough-for-hs256"
	webhookKey = "soak-webhook-secret-of-32-bytes!"
	// canary stands in every payload and must never be in a log.
	canary = "canary-of-the-soak"
	// patience is how long a request may take before its caller gives up on it.
	patience = 10 * time.Second
)

var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(webhookKey))

// settings is the environment that every process has.
func settings(more ...string) []string {
	return append([]string{"BRIDGE_WEBHOOK_SECRETS=" + webhookSecret, "BRIDGE_JWT_SECRET=" + jwtSecret,
		"BRIDGE_PING_INTERVAL=2s", "BRIDGE_DRAIN_TIMEOUT=3s", "BRIDGE_LOG_LEVEL=info", "BRIDGE_CONNECT_RATE=0"}, more...)
}

// Bridges are all processes of a run, as callers reach them.
type Bridges struct {
	All     []*Process
	history *History
	signer  *standardwebhooks.Webhook
	http    *http.Client
	tokens  atomic.Int64
	admin   string
}

// NewBridges makes callers for the processes.
func NewBridges(h *History, all []*Process) (*Bridges, error) {
	signer, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil {
		return nil, err
	}
	b := &Bridges{All: all, history: h, signer: signer,
		http: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}}}
	b.admin, err = auth.SignToken(jwtSecret, auth.Claims{User: "operator", ID: "operator", IssuedAt: time.Now(), Expires: time.Now().Add(48 * time.Hour),
		Rights: json.RawMessage(`{"admin":["presence","sessions","events","users","groups"]}`)})
	return b, err
}

// Token makes a new token of a user, and its id.
func (b *Bridges) Token(user string, life time.Duration) (token, id string, err error) {
	id = fmt.Sprintf("t%d", b.tokens.Add(1))
	token, err = auth.SignToken(jwtSecret, auth.Claims{User: user, ID: id, IssuedAt: time.Now(), Expires: time.Now().Add(life),
		Rights: json.RawMessage(`{"send":["u*","p*","away*"],"backend":["visit.*"]}`)})
	return token, id, err
}

// any picks a process.
func (b *Bridges) any(rnd *rand.Rand) *Process { return b.All[rnd.IntN(len(b.All))] }

// post sends a signed webhook. Code 0: no answer came.
func (b *Bridges) post(p *Process, path, id string, body []byte) (code int, answer []byte) {
	now := time.Now()
	signature, err := b.signer.Sign(id, now, body)
	if err != nil {
		b.history.Note("harness", "%v", err)
		return 0, nil
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+p.addr+path, bytes.NewReader(body))
	if err != nil {
		b.history.Note("harness", "%v", err)
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", fmt.Sprint(now.Unix()))
	req.Header.Set("webhook-signature", signature)
	return b.do(req)
}

// call makes an operator's or a user's call.
func (b *Bridges) call(p *Process, token, method, path string, body string) (code int, answer []byte) {
	req, err := http.NewRequest(method, "http://"+p.addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		b.history.Note("harness", "%v", err)
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return b.do(req)
}

func (b *Bridges) do(req *http.Request) (int, []byte) {
	res, err := b.http.Do(req)
	if err != nil {
		return 0, nil // a process that is dead, stopped or slow: nobody answered
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, answer
}

// Ready tells whether every process says that it is.
func (b *Bridges) Ready() bool {
	for _, p := range b.All {
		if code, _ := b.call(p, "", http.MethodGet, "/readyz", ""); code != http.StatusOK {
			return false
		}
	}
	return true
}
