package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"hookbridge/app/server"
)

// ServeCmd runs the bridge in production.
type ServeCmd struct {
	Check bool `help:"Check the settings and exit: with 0 where serve would begin, with 1 and a line for each fault where it would not. Nothing is opened, and nobody is asked."`

	server.Settings
}

// Help is shown under serve --help.
func (*ServeCmd) Help() string {
	return "Every setting is also an environment variable. Required: BRIDGE_WEBHOOK_SECRETS or BRIDGE_WEBHOOK_SECRETS_FILE, and one of BRIDGE_JWT_SECRET, BRIDGE_JWT_PUBLIC_KEY, BRIDGE_JWKS_URL, or BRIDGE_JWT_ISSUERS_FILE."
}

// Run serves until ctx ends, then drains.
func (c *ServeCmd) Run(ctx context.Context, io Streams) error {
	if err := c.Settings.Check(); err != nil {
		return err
	}
	if c.Check {
		_, err := fmt.Fprintln(io.Out, "the settings are good")
		return err
	}
	log := c.Logger(os.Stderr, false)
	p, err := server.NewProgram(ctx, c.Settings, nil, log)
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return errors.Join(err, p.Stop())
	}
	log.Info("listening", "address", p.Addr(), "version", version())
	return p.Wait(ctx)
}
