package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/store"
)

// cli is what all commands share: the streams and the global flags. Data goes to out, talk to talk.
type cli struct {
	in        io.Reader
	out, talk io.Writer

	file   string
	set    []string
	format string

	defaults bool // a configuration was asked for, and nothing sets a key of it
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "rollcall",
		Short: "Keeps an application's accounts and access in step with its customers' identity directories",
		Long: `Rollcall receives what identity directories say as signed webhooks, and makes an
application's database follow: joiners get in, movers change groups, leavers lose
access, and anyone can show it.

Try it:  rollcall demo

Exit codes: 0 all is well, 1 something did not work, 2 the command line is wrong, 3 the
configuration is wrong, 4 not found, 5 a check found something, 6 the database needs
migrating or another binary, 7 a check could not look at everything, 8 the status is yellow.
What went wrong stands on standard error, with what to do.`,
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(c.out)
	root.SetErr(c.talk)
	root.SetIn(c.in)
	flags := root.PersistentFlags()
	flags.StringVarP(&c.file, "config", "c", os.Getenv("ROLLCALL_CONFIG"), "configuration `file`, YAML ($ROLLCALL_CONFIG)")
	flags.StringArrayVar(&c.set, "set", nil, "set a configuration `KEY=VALUE`; may be repeated")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w\nhint: `%s --help` lists its flags", errUsage, err, cmd.CommandPath())
	})
	root.AddCommand(
		c.serve(), c.migrate(), c.status(), c.send(), c.events(), c.dead(), c.accounts(), c.directories(), c.links(), c.bindings(), c.changes(), c.orphans(), c.audit(),
		c.poll(), c.replayLog(), c.reconcile(), c.queue(), c.config(), c.vault(), c.doctor(), c.health(), c.demo(), c.simulate(), c.version(),
	)
	for _, cmd := range commandsOf(root) {
		if cmd.Args != nil {
			cmd.Args = asUsage(cmd.Args)
		}
	}
	return root
}

// commandsOf returns the command and all below it.
func commandsOf(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		all = append(all, commandsOf(sub)...)
	}
	return all
}

// suggestions are subcommands that may have been meant.
func suggestions(cmd *cobra.Command, args []string) []string {
	if len(args) == 0 || !cmd.HasSubCommands() {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	return cmd.SuggestionsFor(args[0])
}

// asUsage makes errors of arguments usage errors.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			hint := fmt.Sprintf("`%s --help` shows how it is called", cmd.CommandPath())
			if near := suggestions(cmd, args); len(near) > 0 {
				hint = "there is " + strings.Join(near, ", ")
			}
			return fmt.Errorf("%w: %w\nhint: %s", errUsage, err, hint)
		}
		return nil
	}
}

// load reads the configuration of a process and tells what was noticed.
func (c *cli) load() (config.Loaded, error) { return c.loadFor(false) }

// loadFor reads the configuration, for a process or for a command that looks at a part.
func (c *cli) loadFor(tool bool) (config.Loaded, error) {
	l, err := config.Load(config.Options{File: c.file, Env: settings(os.Environ()), Set: c.set, Tool: tool})
	c.defaults = c.file == "" && len(c.set) == 0 && len(l.From) == 0
	for _, w := range l.Warnings {
		c.say("warning: %s", w)
	}
	return l, err
}

// settings are the variables that may be keys of the configuration.
func settings(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, operatorVariable+"=") })
}

// explained says of an error that there is no configuration, where that may be why.
func (c *cli) explained(err error) error {
	if err == nil || !c.defaults || errors.Is(err, errUsage) {
		return err
	}
	return fmt.Errorf("no configuration file is named (--config FILE or ROLLCALL_CONFIG); with defaults alone: %w", err)
}

// withStore runs a command on the database, whose schema has to be this binary's.
func (c *cli) withStore(ctx context.Context, do func(store.Store) error) error {
	return c.withConfiguredStore(ctx, func(_ config.Loaded, s store.Store) error { return do(s) })
}

// withConfiguredStore is withStore for a command that needs the configuration, too.
func (c *cli) withConfiguredStore(ctx context.Context, do func(config.Loaded, store.Store) error) (err error) {
	l, err := c.loadFor(true)
	if err != nil {
		return err
	}
	if _, err := os.Stat(l.Store.Path); l.Store.Backend == config.BackendSQLite && err != nil {
		return fmt.Errorf("open the database: %w\nhint: store.path is where the running process has it; `rollcall migrate` makes one", err)
	}
	s, err := app.OpenStore(ctx, l.Config, version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := app.Prepared(ctx, s); err != nil {
		return err
	}
	return do(l, s)
}

// say prints a line of talk.
func (c *cli) say(format string, args ...any) { _, _ = fmt.Fprintf(c.talk, format+"\n", args...) }

// group is a command that has others below it and does nothing itself but list them.
func group(name, short string, below ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	g.AddCommand(below...)
	return g
}
