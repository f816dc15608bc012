// Package cli is the command line of hookbridge: one file a command, whose flags
// stand beside what it does.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"runtime/debug"
	"strings"

	"hookbridge/app/server"

	"github.com/alecthomas/kong"
)

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// commands is the table of all commands.
type commands struct {
	Dev     DevCmd           `cmd:"" help:"Try it: no settings, own secrets, a page with a doctor and a patient. Loopback only."`
	Serve   ServeCmd         `cmd:"" help:"Production: refuses to start without secrets of its own."`
	Token   TokenCmd         `cmd:"" help:"Print a token for a user (HS256)."`
	Send    SendCmd          `cmd:"" help:"Sign a webhook and fire it."`
	Listen  ListenCmd        `cmd:"" help:"Print a user's events as they come; reconnects and acks."`
	Receive ReceiveCmd       `cmd:"" help:"Print the callbacks and requests that a bridge sends to its backend; answer and forward them."`
	Verify  VerifyCmd        `cmd:"" help:"Say what is wrong with a webhook's signature, or with a token."`
	Export  ExportCmd        `cmd:"" help:"Write a whole store to a file."`
	Import  ImportCmd        `cmd:"" help:"Make a store of an export, in SQLite or in Redis."`
	Version kong.VersionFlag `help:"Print the version and exit."`
}

// silenceStandardLog turns off the log of the standard library, where net/http's client by
// itself quotes what a server sends unasked. Nothing of ours is written there.
func silenceStandardLog() { log.SetOutput(io.Discard) }

// Run parses the arguments, runs the command that they name and returns the exit
// code: 0, 1 where the command failed, 2 where there is no such command. The command
// ends in order when ctx ends.
func Run(ctx context.Context, args []string, io Streams) int {
	silenceStandardLog()
	var c commands
	exit := -1
	parser, err := newParser(ctx, &c, io, func(code int) { exit = code })
	if err != nil {
		fmt.Fprintln(io.Err, "hookbridge:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help and --version have printed
		return exit
	}
	if err != nil {
		if all := unreadableSettings(parser, &c, args); len(all) > 0 {
			complain(io.Err, all)
			return 1
		}
		fmt.Fprintln(io.Err, "hookbridge:", withoutValues(err.Error(), args))
		fmt.Fprintln(io.Err, "hookbridge --help lists the commands, hookbridge COMMAND --help their settings")
		return 2
	}
	if err := command.Run(); err != nil {
		if errors.Is(err, context.Canceled) {
			err = orStopped(ctx, err)
		}
		complain(io.Err, err)
		return 1
	}
	return 0
}

func newParser(ctx context.Context, c *commands, io Streams, exit func(code int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("hookbridge"),
		kong.Description("A webhook in, a WebSocket message out, a signed callback back: 202 means stored, a reconnect has no hole, and the answer says who got it."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(io.Out, io.Err),
		kong.Vars{"version": version()},
		kong.Exit(exit),
		kong.Bind(io),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.PostBuild(showRanges),
	)
}

// maxShownValue is the longest value that an error about the arguments repeats,
// characters. A secret is longer.
const maxShownValue = 16

// withoutValues takes long values out of an error about the arguments. One may be a secret
// that was separated from its flag by a space.
func withoutValues(text string, args []string) string {
	for _, value := range args {
		if strings.HasPrefix(value, "-") {
			_, value, _ = strings.Cut(value, "=")
		}
		if len(value) > maxShownValue {
			text = strings.ReplaceAll(text, value, "…")
			text = strings.ReplaceAll(text, strings.ToLower(value), "…") // the parser quotes a bad boolean in lower case
		}
	}
	return text
}

// complain writes an error, a line for each fault of the settings.
func complain(w io.Writer, err error) {
	all, ok := errors.AsType[server.Faults](err)
	if !ok {
		all = server.Faults{err}
	}
	for _, one := range all {
		fmt.Fprintln(w, "hookbridge:", one)
	}
}

// version is the module's, or the commit's where it was built from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "hookbridge (unknown build)"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v = s.Value
			}
		}
	}
	return "hookbridge " + v
}
