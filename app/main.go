// Command hookbridge carries signed webhooks to the live WebSocket sessions of
// the people they are for. See README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"hookbridge/app/cli"
)

func main() {
	// The first signal ends the work in order; a second one ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
