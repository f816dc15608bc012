package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"hookbridge/app/bridge"
	"hookbridge/auth"
)

// verifyToken prints a line for each step of checking a token.
func (c *VerifyCmd) verifyToken(ctx context.Context, streams Streams) error {
	token := string(c.Token)
	if token == "-" {
		b, err := io.ReadAll(io.LimitReader(streams.In, 1<<20))
		if err != nil {
			return fmt.Errorf("--token: %w", err)
		}
		token = string(b)
	}
	token = strings.TrimSpace(token)
	token = strings.TrimSpace(strings.TrimPrefix(token, "Bearer ")) // as it is copied out of a header
	if c.TokenSettings.unset() {
		dev, err := readDevSecrets(c.DataDir)
		if err != nil {
			return fmt.Errorf("no way to check tokens: set BRIDGE_JWT_SECRET or another as for serve, or start dev first: %w", err)
		}
		c.JWTSecret = Secret(dev.JWTSecret)
	} else if all := c.tokenFaults(); len(all) > 0 {
		return all
	}
	config, err := c.tokenConfig(slog.New(slog.NewTextHandler(streams.Err, nil)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tokens, err := auth.NewTokens(ctx, config)
	if err != nil {
		return err
	}
	steps, claims := tokens.Diagnose(ctx, token)
	if claims.User != "" {
		steps = append(steps, rightsStep(claims))
	}
	fails, err := report(streams.Out, steps)
	if err == nil && fails != "" {
		err = fmt.Errorf("the token would be refused: %s fails", fails)
	}
	return err
}

// rightsStep says what a token's rights claim allows.
func rightsStep(c auth.Claims) auth.Step {
	const name = "rights"
	p, err := bridge.ParsePolicy(c.Rights)
	if err != nil {
		return auth.Step{Name: name, Detail: err.Error()}
	}
	if len(p.Send)+len(p.Groups)+len(p.Admin) == 0 {
		return auth.Step{Name: name, OK: true, Detail: "none: it may listen to its own user's events"}
	}
	return auth.Step{Name: name, OK: true, Detail: fmt.Sprintf("may send to %.300q, is in the groups %.300q, may operate %.300q", p.Send, p.Groups, p.Admin)}
}

// unset tells that nothing says how tokens are checked.
func (s *TokenSettings) unset() bool {
	return s.JWTSecret == "" && s.JWTPublicKey == "" && s.JWKSURL == "" && s.JWTIssuersFile == ""
}
