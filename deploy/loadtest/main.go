// Command loadtest measures a bridge: what a message, a connect and an idle session cost it,
// how soon messages arrive, and whether any was lost, doubled or out of order.
//
//	go run ./deploy/loadtest --help
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program. It returns the exit code: 1 where a scenario could not be measured, or where
// messages were lost, doubled or out of order; 2 where the arguments are wrong.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var o options
	exit := -1
	parser := kong.Must(&o, kong.Name("loadtest"), kong.Description(description), kong.Writers(out, errs),
		kong.Exit(func(code int) { exit = code }))
	_, err := parser.Parse(args)
	if exit >= 0 { // --help has printed
		return exit
	}
	if err == nil {
		err = o.check()
	}
	if err != nil {
		fmt.Fprintln(errs, "loadtest:", err)
		fmt.Fprintln(errs, "loadtest --help lists the scenarios and what can be set")
		return 2
	}
	file, isFile := errs.(*os.File)
	p := newProgress(errs, isFile && term.IsTerminal(int(file.Fd())))
	doc, err := measureAll(ctx, o, p)
	p.stop()
	if err == nil {
		err = doc.write(o, out)
	}
	if err == nil {
		err = doc.clean()
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(errs, "loadtest: interrupted")
	case err != nil:
		fmt.Fprintln(errs, "loadtest:", err)
	default:
		return 0
	}
	return 1
}

// measureAll runs every planned run, round by round, so that what changes on the machine meanwhile meets
// all of them. Each run has a server of its own unless the caller has named one.
func measureAll(ctx context.Context, o options, p *progress) (*document, error) {
	doc := newDocument(o)
	if err := doc.readBaseline(o.Baseline); err != nil {
		return nil, err
	}
	program, remove, err := programFor(ctx, o, p)
	if err != nil {
		return nil, err
	}
	defer remove()
	for round := range o.Rounds {
		for i, planned := range o.plan() {
			p.begin(fmt.Sprintf("%s, round %d of %d", planned, round+1, o.Rounds))
			measures, trouble, err := measureOne(ctx, o, planned, program, p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", planned, err)
			}
			doc.add(i, planned, measures, trouble)
		}
	}
	return doc, nil
}

// measureOne starts a server, or takes the one named by --url, and runs one scenario against it. trouble is
// what went wrong without ending the run.
func measureOne(ctx context.Context, o options, planned plannedRun, program string, p *progress) (m measures, trouble []string, err error) {
	if err := checkDescriptors(planned.Sessions); err != nil {
		return nil, nil, err
	}
	t, err := startTarget(ctx, o, planned.Sessions, program)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	if err := t.probe(ctx); err != nil {
		return nil, nil, err
	}
	r := newRig(ctx, o, planned, t, p)
	defer r.close()
	if err := scenarios[planned.Scenario].run(r); err != nil {
		return nil, nil, errors.Join(err, t.trouble())
	}
	return r.measures, r.trouble(), nil
}
