// Command rollcall keeps an application's accounts and access in step with its customers' identity directories.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set when a release is built: -ldflags "-X main.version=…".
var version = "dev"

func main() { os.Exit(start()) }

// start runs the command line of this process. The first SIGINT or SIGTERM ends it in order, a second one at once.
func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, talk io.Writer) int {
	c := &cli{in: in, out: out, talk: talk}
	root := newRoot(c)
	root.SetArgs(args)
	return report(talk, c.explained(root.ExecuteContext(ctx)))
}
