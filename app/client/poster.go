package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// Defaults of how requests are tried.
const (
	postAttempts = 6
	postPatience = 2 * time.Minute
	postTimeout  = 30 * time.Second
)

// poster sends a request until it is taken or refused.
type poster struct {
	http     http.Client
	attempts int           // at most
	patience time.Duration // bounds the sum of the waits between them
	onRetry  func(err error, in time.Duration)
	sleep    func(ctx context.Context, d time.Duration) error
	jitter   func(most time.Duration) time.Duration // from 0 up to most
}

func newPoster(c *http.Client, attempts int, patience time.Duration, onRetry func(error, time.Duration)) poster {
	if onRetry == nil {
		onRetry = func(error, time.Duration) {}
	}
	return poster{http: httpClient(c), attempts: cmp.Or(max(attempts, 0), postAttempts), patience: cmp.Or(max(patience, 0), postPatience),
		onRetry: onRetry, sleep: sleep, jitter: rand.N[time.Duration]}
}

// post returns the body of the reply that says yes. prove sets the headers that prove
// who sends, anew for each attempt: what proved it before may be too old by now. Where
// it has given up, tries is how often it tried.
func (p *poster) post(ctx context.Context, target string, body []byte, timeout time.Duration, prove func(context.Context, http.Header) error) (reply []byte, tries int, err error) {
	patience := p.patience
	for n := 1; ; n++ {
		reply, err := p.attempt(ctx, target, body, timeout, prove)
		if proof, ok := errors.AsType[*proofError](err); ok {
			return nil, 0, proof.error
		}
		if err == nil || ctx.Err() != nil {
			return reply, 0, err
		}
		pause := time.Second/2 + p.jitter(time.Second<<min(n-1, 10))
		if problem, ok := errors.AsType[*ProblemError](err); ok {
			if problem.Status < 500 && problem.Status != http.StatusTooManyRequests {
				return nil, 0, err // another try is of no use
			}
			if problem.RetryAfter > 0 {
				pause = problem.RetryAfter
			}
		}
		if n == p.attempts || pause > patience {
			return nil, n, err
		}
		patience -= pause
		p.onRetry(err, pause)
		if err := p.sleep(ctx, pause); err != nil {
			return nil, 0, err
		}
	}
}

// proofError is that there is nothing to prove with who sends.
type proofError struct{ error }

// attempt posts once.
func (p *poster) attempt(ctx context.Context, target string, body []byte, timeout time.Duration, prove func(context.Context, http.Header) error) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := prove(ctx, req.Header); err != nil {
		return nil, &proofError{err}
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the bridge cannot be reached: %w", err)
	}
	return readReply(resp)
}
