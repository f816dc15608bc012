package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"

	"hookbridge/app/bridge"
	"hookbridge/app/server"
	"hookbridge/auth"
)

// verifyToken prints a line for each step of checking a token.
func (c *VerifyCmd) verifyToken(ctx context.Context, streams Streams) error {
	token := string(c.Token)
	if token == "-" {
		b, err := readInput(ctx, io.LimitReader(streams.In, 1<<20))
		if err != nil {
			return fmt.Errorf("--token: %w", err)
		}
		token = string(b)
	}
	token = bare(token)
	if c.TokenSettings.Empty() {
		dev, err := readDevSecrets(c.DataDir)
		if err != nil {
			return fmt.Errorf("no way to check tokens: set BRIDGE_JWT_SECRET or another as for serve, or start dev first: %w", err)
		}
		c.JWTSecret = server.Secret(dev.JWTSecret)
	} else if all := c.TokenFaults(); len(all) > 0 {
		return all
	}
	config, err := c.TokenConfig(slog.New(slog.NewTextHandler(streams.Err, nil)))
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

// aroundTokens is what a token has around it where it was copied from: a header,
// or JSON.
var aroundTokens = regexp.MustCompile(`(?i)^["'\s]*(?:authorization:\s*)?(?:bearer\s+)?["'\s]*|["',\s]*$`)

// bare is a token without what was copied with it.
func bare(token string) string { return aroundTokens.ReplaceAllString(token, "") }

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
