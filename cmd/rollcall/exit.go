package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/audit"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/rehearsal"
	"github.com/rollcallhq/rollcall/internal/store"
)

// The exit codes; README.md has them for operators.
const (
	exitOK       = 0
	exitFailed   = 1 // something did not work; the message says what to do
	exitUsage    = 2 // the command line is wrong
	exitConfig   = 3 // the configuration is wrong
	exitNotFound = 4 // what was asked for is not there
	exitCheck    = 5 // a check found something: doctor, demo, health
	exitPending  = 6 // the database needs migrating, or another binary
	exitUntold   = 7 // a check found nothing, and could not look at everything
	exitWarn     = 8 // nothing is broken, and something wants to be looked at
)

// errUsage marks a command line that cannot be run.
var errUsage = errors.New("usage")

// errCheck marks a check whose findings are printed already.
var errCheck = errors.New("not all is well")

// errUntold marks a check that found nothing, and could not look at everything.
var errUntold = errors.New("it could not be told")

// errWarn says that the status is yellow.
var errWarn = errors.New("something wants to be looked at")

// exitCodes is the one table from errors to exit codes; the first that matches counts.
var exitCodes = []struct {
	err  error
	code int
}{
	{errUsage, exitUsage},
	{config.ErrInvalid, exitConfig},
	{store.ErrNotFound, exitNotFound},
	{errCheck, exitCheck},
	{rehearsal.ErrTenant, exitCheck},
	{errUntold, exitUntold},
	{errWarn, exitWarn},
	{audit.ErrApplication, exitUntold},
	{audit.ErrProvider, exitUntold},
	{app.ErrPending, exitPending},
	{store.ErrEnvironment, exitConfig},
	{store.ErrTooOld, exitPending},
	{store.ErrChecksum, exitPending},
	{context.Canceled, exitFailed},
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	for _, e := range exitCodes {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	return exitFailed
}

// report prints what went wrong and returns the exit code.
func report(talk io.Writer, err error) int {
	code := exitCode(err)
	if code != exitOK {
		text := strings.TrimPrefix(err.Error(), errUsage.Error()+": ")
		if code == exitFailed && !strings.Contains(text, "\nhint: ") {
			text += "\nhint: `rollcall doctor` examines everything that a process needs"
		}
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			lines[i] = printable(strings.ReplaceAll(line, "\t", "  "))
		}
		_, _ = fmt.Fprintf(talk, "rollcall: %s\n", strings.Join(lines, "\n"))
	}
	return code
}
