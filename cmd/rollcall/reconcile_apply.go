package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
)

// approving is what `rollcall reconcile apply` is told.
type approving struct {
	deciding
	only               []string
	confirm, returning int
}

const movedShown = 10

func (c *cli) reconcileApply() *cobra.Command {
	var a approving
	cmd := &cobra.Command{
		Use:   "apply PLAN",
		Short: "Approve of a plan, and have it done",
		Long: `Writes the repairs of a plan down as events, which the workers fold; the ledger keeps who
approved them, and why. They are dated before the listing began that the plan was made of:
whatever was said since counts more. It first says what it would do; --yes does it.

It is refused when something that the plan is about has moved on, or the plan is a day old.
When more people would lose their accounts than the source's reconcile.guard allows, their
number has to be confirmed, --confirm N; so has the number of people and groups who would
come back though a removal is known, --returning N. --only approves of some kinds:
` + kindNames() + `.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.check(); err != nil {
				return err
			}
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error {
				return c.approve(cmd.Context(), l, s, args[0], a)
			})
		},
	}
	a.flags(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&a.only, "only", nil, "only findings of these `kinds`, separated by commas")
	flags.IntVar(&a.confirm, "confirm", -1, "the `number` of people who would lose their accounts, where it is more than the guard allows")
	flags.IntVar(&a.returning, "returning", -1, "the `number` of people and groups who would come back though a removal is known")
	return cmd
}

func kindNames() string {
	var b strings.Builder
	for i, k := range store.DriftKinds {
		switch {
		case i > 0 && i%4 == 0:
			b.WriteString(",\n")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(k))
	}
	return b.String()
}

func (c *cli) approve(ctx context.Context, l config.Loaded, s store.Store, path string, a approving) error {
	only, err := kinds(a.only)
	if err != nil {
		return err
	}
	approval := reconcile.Approval{Reason: a.reason, Only: only, Binary: version}
	if approval.By, err = operatorName(); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: read the plan: %w\nhint: `rollcall reconcile plan DIRECTORY --out FILE` makes one", errUsage, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	plan, approved, moved, err := reconcile.Check(ctx, s, file, approval, time.Now())
	if err != nil {
		return planError(err)
	}
	if err := approvedTable(plan, approved).write(c.out); err != nil {
		return err
	}
	if approved.Items == 0 {
		c.say("nothing to do")
		return nil
	}
	if len(moved) > 0 {
		return c.refuseMoved(moved)
	}
	if err := a.counts(l.Config, plan, approved); err != nil {
		return err
	}
	if err := a.consent(); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	done, err := reconcile.Apply(ctx, s, plan, file, approval, time.Now())
	if err != nil {
		return reconcileError(err)
	}
	return c.awaitRepairs(ctx, s, plan, done, a.wait)
}

func planError(err error) error {
	if errors.Is(err, reconcile.ErrPlan) && !strings.Contains(err.Error(), "\nhint: ") {
		err = fmt.Errorf("%w\nhint: `rollcall reconcile plan DIRECTORY --out FILE` makes one", err)
	}
	return err
}

// refuseMoved says what of the plan is not as it was.
func (c *cli) refuseMoved(moved []reconcile.Moved) error {
	for i, m := range moved {
		if i == movedShown {
			c.say("and %d more", len(moved)-movedShown)
			break
		}
		c.say("moved on: %s, by %s", m.Who, m.Now.EventID())
	}
	return fmt.Errorf("%w: %d of its findings are no longer as they were\nhint: make it anew: `rollcall reconcile plan DIRECTORY --out FILE`", reconcile.ErrPlanMoved, len(moved))
}

// counts asks for the numbers that somebody has to have read.
func (a approving) counts(conf config.Config, plan, approved reconcile.Plan) error {
	g := conf.Sources[plan.Source].Reconcile.Guard
	guard := reconcile.Guard{Accounts: g.Accounts, Percent: g.Percent, Floor: g.Floor}
	switch {
	case guard.Exceeded(approved.Leavers, plan.Active) && int64(a.confirm) != approved.Leavers:
		return fmt.Errorf("%w: %d people would lose their accounts, which is more than sources.%s.reconcile.guard allows; nothing is done\nhint: when that is right, --confirm %d --yes does it",
			errCheck, approved.Leavers, plan.Source, approved.Leavers)
	case approved.Returners > 0 && int64(a.returning) != approved.Returners:
		return fmt.Errorf("%w: %d would come back though a removal is known; nothing is done\nhint: when that is right, --returning %d --yes does it", errCheck, approved.Returners, approved.Returners)
	}
	return nil
}

func approvedTable(plan, approved reconcile.Plan) (t table) {
	t.add("directory", plan.Directory)
	t.add("made", when(plan.Made))
	t.add("digest", plan.Digest)
	for _, kind := range store.DriftKinds {
		actions := approved.Kinds[kind]
		n := actions[reconcile.Repairs] + actions[reconcile.Asks] + actions[reconcile.Held]
		if n == 0 {
			continue
		}
		var why []string
		if held := actions[reconcile.Held]; held > 0 {
			why = append(why, fmt.Sprintf("%d held", held))
		}
		if ask := actions[reconcile.Asks]; ask > 0 {
			why = append(why, fmt.Sprintf("%d asked for", ask))
		}
		text := number(int64(n))
		if len(why) > 0 {
			text += ", " + strings.Join(why, ", ")
		}
		t.add(spaced(string(kind)), text)
	}
	t.add("accounts that end", number(approved.Leavers))
	t.add("come back", number(approved.Returners))
	return t
}

// awaitRepairs waits until the workers have taken the repairs.
func (c *cli) awaitRepairs(ctx context.Context, s store.Store, plan reconcile.Plan, done reconcile.Applied, wait time.Duration) error {
	var left int
	folded, err := poll(ctx, wait, func() (bool, error) {
		dead, err := s.DeadEvents(ctx, store.EventFilter{Source: plan.Source, Directory: plan.Directory, Class: reconcile.Class, Limit: deadAtMost})
		left = len(dead)
		return left == 0, err
	})
	if err != nil {
		return err
	}
	if done.Already > 0 {
		c.say("%d were applied before", done.Already)
	}
	if !folded {
		c.say("%s written down; %d of the directory wait for a worker", counted(done.Written, "repair"), left)
		return nil
	}
	c.say("%s folded; `rollcall events list --directory %s` shows them", counted(done.Written, "repair"), plan.Directory)
	return nil
}
