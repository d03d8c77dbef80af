package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// wholesale is what a command says that acts on a whole directory.
type wholesale struct {
	source  string
	reason  string
	yes     bool
	confirm int
}

func (w *wholesale) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.source, "source", "", "the directory's `source`, where several have one of this id")
	flags.StringVar(&w.reason, "reason", "", "`why`, for the ledger")
	flags.BoolVar(&w.yes, "yes", false, "do it, rather than say what it would do")
}

// modeCommands are the commands that say what a directory's changes do.
func (c *cli) modeCommands() []*cobra.Command {
	return []*cobra.Command{
		c.directoriesSet("observe", store.Observe, "Only record the changes of a directory",
			"What waits to be told to the application is laid aside: a later enforce tells it the net\ndifference, and never the history."),
		c.directoriesSet("pause", store.Paused, "Let the changes of a directory wait",
			"Nothing is told to the application, leavers included, until the directory is enforced again;\nthen everything that waited is told, in order."),
		c.directoriesEnforce(),
	}
}

func (c *cli) directoriesSet(use string, mode store.Mode, short, long string) *cobra.Command {
	var w wholesale
	cmd := &cobra.Command{
		Use: use + " DIRECTORY", Short: short, Long: short + ".\n\n" + long, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error {
				row, err := oneDirectory(cmd.Context(), s, w.source, args[0])
				if err != nil {
					return err
				}
				if mode == store.Observe && row.Mode != store.Observe {
					if err := c.guardKept(cmd.Context(), l.Config, s, row, w); err != nil {
						return err
					}
				}
				return c.setMode(cmd.Context(), s, row, mode, w)
			})
		},
	}
	w.flags(cmd)
	if mode == store.Observe {
		cmd.Flags().IntVar(&w.confirm, "confirm", -1, "the `number` of people who would lose access, where it is more than the guard allows")
	}
	return cmd
}

// guardKept says who would lose access when a directory is only observed: who left another one, and is kept by this one alone.
// More of them than the guard allows have to be confirmed.
func (c *cli) guardKept(ctx context.Context, conf config.Config, s store.Store, row store.DirectoryTally, w wholesale) error {
	people := map[[2]string]bool{}
	f := store.SparedFilter{Result: store.ResultKept, Without: row.Scope, Limit: keptAtOnce}
	for {
		kept, next, err := s.Spared(ctx, f)
		if err != nil {
			return err
		}
		for _, k := range kept {
			if k.Kind == directory.AccountDeactivated {
				people[[2]string{k.Tenant, k.AppID}] = true
			}
		}
		if f.After = next; next == 0 {
			break
		}
	}
	if len(people) == 0 {
		return nil
	}
	c.say("%s of the application will lose access: they left another directory, and this one alone keeps them", counted(int64(len(people)), "user"))
	if guardOf(conf).Exceeded(len(people), int(row.Accounts)) && w.confirm != len(people) {
		return fmt.Errorf("%w: %d people would lose access, which is more than application.guard allows; nothing is done\nhint: when that is right, --confirm %d --yes does it", errCheck, len(people), len(people))
	}
	return nil
}

const keptAtOnce = 1000

func guardOf(conf config.Config) binder.Guard {
	return binder.Guard{Accounts: conf.Application.Guard.Accounts, Percent: conf.Application.Guard.Percent, Floor: conf.Application.Guard.Floor}
}

func (c *cli) setMode(ctx context.Context, s store.Store, row store.DirectoryTally, mode store.Mode, w wholesale) error {
	switch {
	case row.Mode == mode:
		c.say("nothing to do: it is %s already", mode)
		return nil
	case mode == store.Paused && row.Mode != store.Enforce:
		return fmt.Errorf("directory %s is %s: nothing of it is told to the application that could wait\nhint: `rollcall directories enforce %s` lets the application follow it", row.Directory, modeName(row.Mode), row.Directory)
	}
	c.say("directory %s (%s): %s, %s and %s of them active, is %s and becomes %s", row.Directory, row.Name,
		counted(row.Accounts, "account"), number(row.Active), counted(row.Grants, "grant"), modeName(row.Mode), mode)
	if !w.yes {
		return fmt.Errorf("%w: nothing is done yet\nhint: --yes does it", errUsage)
	}
	by, err := operatorName()
	if err != nil {
		return err
	}
	err = s.Update(ctx, []directory.Scope{row.Scope}, func(ctx context.Context, tx store.Tx) error {
		if mode == store.Observe {
			if _, err := tx.Discard(ctx, row.Scope, store.ResultObserved); err != nil {
				return err
			}
		}
		return tx.SetMode(ctx, store.ModeRow{Scope: row.Scope, Mode: mode, By: by, Reason: w.reason})
	})
	if err == nil {
		c.say("done")
	}
	return err
}

func modeName(m store.Mode) string {
	if m == "" {
		return "new"
	}
	return string(m)
}

func (c *cli) directoriesEnforce() *cobra.Command {
	var w wholesale
	cmd := &cobra.Command{
		Use: "enforce DIRECTORY", Short: "Let the application follow a directory", Args: cobra.ExactArgs(1),
		Long: `Tells the application of the directory, and from then on of every change, once and in order.

What it is told first is the net difference between what it was told before (nothing, of a
directory that was only observed) and what is: leavers first, then who joined, groups and
roles; never the history. What that would do is shown first, with the rows that each
binding would touch: every account's statements are run in a transaction that is undone.

When more people of the application would lose access than application.guard allows, their
number has to be confirmed: --confirm N. Those whom application.protected names keep their
access, and are listed. A directory that was paused tells what waited, in order.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withBinder(cmd.Context(), func(l config.Loaded, s store.Store, b *binder.Binder) error {
				row, err := oneDirectory(cmd.Context(), s, w.source, args[0])
				if err != nil {
					return err
				}
				switch row.Mode {
				case store.Enforce:
					c.say("nothing to do: it is enforced already; `rollcall bindings resync %s` tells everything again", row.Directory)
					return nil
				case store.Paused:
					return c.setMode(cmd.Context(), s, row, store.Enforce, w)
				case store.Observe:
				}
				return c.tellAll(cmd.Context(), l.Config, b, row, "enforce", w)
			})
		},
	}
	w.flags(cmd)
	cmd.Flags().IntVar(&w.confirm, "confirm", -1, "the `number` of people who would lose access, where it is more than the guard allows")
	return cmd
}

func (c *cli) bindingsResync() *cobra.Command {
	var w wholesale
	cmd := &cobra.Command{
		Use: "resync DIRECTORY", Short: "Tell the application everything of a directory again", Args: cobra.ExactArgs(1),
		Long: `For after the application's database was restored from a backup, or bindings were changed:
everything that is known of the directory is told again as if the application had been told
nothing, leavers first. Preview, guard and --confirm are as for rollcall directories enforce.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withBinder(cmd.Context(), func(l config.Loaded, s store.Store, b *binder.Binder) error {
				row, err := oneDirectory(cmd.Context(), s, w.source, args[0])
				if err != nil {
					return err
				}
				if row.Mode != store.Enforce {
					return fmt.Errorf("directory %s is %s: the application does not follow it\nhint: `rollcall directories enforce %s` lets it", row.Directory, modeName(row.Mode), row.Directory)
				}
				return c.tellAll(cmd.Context(), l.Config, b, row, "resync", w)
			})
		},
	}
	w.flags(cmd)
	cmd.Flags().IntVar(&w.confirm, "confirm", -1, "the `number` of people who would lose access, where it is more than the guard allows")
	return cmd
}

// tellAll shows what telling the application of the directory would do, and does it when it may.
func (c *cli) tellAll(ctx context.Context, conf config.Config, b *binder.Binder, row store.DirectoryTally, cause string, w wholesale) error {
	if problems := b.Prepare(ctx); len(problems) > 0 {
		return problemsError(problems)
	}
	plan, err := b.Plan(ctx, row.Scope, cause == "resync")
	if err != nil {
		return err
	}
	if err := planTable(row, plan).write(c.out); err != nil {
		return err
	}
	leavers := len(plan.Leavers) + plan.Unsure
	switch {
	case guardOf(conf).Exceeded(leavers, plan.Accounts) && w.confirm != leavers:
		return fmt.Errorf("%w: %d people would lose access, which is more than application.guard allows; nothing is done\nhint: when that is right, --confirm %d --yes does it", errCheck, leavers, leavers)
	case !w.yes:
		return fmt.Errorf("%w: nothing is done yet\nhint: --yes does it", errUsage)
	}
	by, err := operatorName()
	if err != nil {
		return err
	}
	told, err := b.Tell(ctx, plan, store.ModeRow{Scope: row.Scope, Mode: store.Enforce, By: by, Reason: w.reason}, cause)
	if errors.Is(err, binder.ErrMoved) {
		return fmt.Errorf("%w; nothing is done\nhint: look again", err)
	}
	if err == nil {
		c.say("%s, and every later change, will be told to the application by its workers", counted(int64(told), "change"))
	}
	return err
}

func planTable(row store.DirectoryTally, p binder.Plan) (t table) {
	lines := [][2]string{
		{"directory", row.Directory + prefixed(", ", row.Name)}, {"accounts", number(int64(p.Accounts))},
		{"would be activated", number(int64(p.Activated))}, {"would be updated", number(int64(p.Updated))},
		{"would be deactivated", fmt.Sprintf("%d, %d of them in the application%s", p.Deactivated, len(p.Leavers), unsure(p.Unsure))},
		{"memberships", fmt.Sprintf("%d added, %d revoked", p.Granted, p.Revoked)}, {"roles", fmt.Sprintf("%d added, %d revoked", p.RolesAdded, p.RolesRevoked)},
		{"in the application", fmt.Sprintf("%d found, %d not, %d held", p.Linked, p.Unlinked, p.Held)},
	}
	for _, name := range slices.Sorted(maps.Keys(p.Rows)) {
		lines = append(lines, [2]string{"rows by " + name, number(p.Rows[name])})
	}
	for _, l := range p.Leavers {
		lines = append(lines, [2]string{"loses access", l.AppID + prefixed(" ", l.Email)})
	}
	for _, l := range p.Protected {
		lines = append(lines, [2]string{"is protected, and keeps it", l.AppID + prefixed(" ", l.Email)})
	}
	for _, f := range p.Failures {
		lines = append(lines, [2]string{"would fail", f})
	}
	if p.Failed > 0 {
		lines = append(lines, [2]string{"would fail", counted(int64(p.Failed), "change") + " in all; they would wait, and be tried again"})
	}
	for _, line := range lines {
		t.add(line[0], line[1])
	}
	return t
}

func unsure(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d not to be told at this time", n)
}

func problemsError(problems []binder.Problem) error {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.Error()
	}
	return fmt.Errorf("%w: statements do not fit the application's database:\n  %s\nhint: mend application in the configuration, or the schema", errCheck, strings.Join(lines, "\n  "))
}

// withBinder runs a command on the database and what tells the application.
func (c *cli) withBinder(ctx context.Context, do func(config.Loaded, store.Store, *binder.Binder) error) error {
	return c.withConfiguredStore(ctx, func(l config.Loaded, s store.Store) (err error) {
		if !l.Application.Configured() {
			return fmt.Errorf("%w: no application is configured\nhint: the section application says what follows the directories; `rollcall config reference` explains it", config.ErrInvalid)
		}
		db, err := app.OpenApplication(ctx, l.Config)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.SQL.Close()) }()
		b, err := app.NewBinder(l.Config, s, db, zerolog.Nop(), nil)
		if err != nil {
			return err
		}
		return do(l, s, b)
	})
}
