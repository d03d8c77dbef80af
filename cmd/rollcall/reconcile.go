package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
)

func (c *cli) reconcile() *cobra.Command {
	return group("reconcile", "Compare directories with their own listings, and repair what events missed",
		c.reconcileProbe(), c.reconcilePlan(), c.reconcileApply(), c.reconcileStatus())
}

// asked is a source whose provider can be asked.
type asked struct {
	config.Loaded
	store  store.Store
	source string
	api    provider.API
}

// withProvider runs a command on the database and a source's provider: the one named, or the only one that has a key.
func (c *cli) withProvider(ctx context.Context, source string, do func(asked) error) error {
	return c.withConfiguredStore(ctx, func(l config.Loaded, s store.Store) (err error) {
		if source == "" {
			var keyed []string
			for name, s := range l.Sources {
				if s.API.Key != "" {
					keyed = append(keyed, name)
				}
			}
			slices.Sort(keyed)
			switch len(keyed) {
			case 0:
				return fmt.Errorf("%w: no source has the key of its provider's API\nhint: set sources.NAME.api.key to a reference to it: vault:PATH#FIELD, file:/PATH or env:NAME", config.ErrInvalid)
			case 1:
				source = keyed[0]
			default:
				return fmt.Errorf("%w: several sources can be asked\nhint: --source is one of %s", errUsage, strings.Join(keyed, ", "))
			}
		}
		api, done, err := app.OpenAPI(ctx, l.Config, source)
		if errors.Is(err, app.ErrNoAPI) {
			return fmt.Errorf("%w: %w", config.ErrInvalid, err)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		return do(asked{l, s, source, api})
	})
}

// countsJSON are how many users and groups a directory has; nil where nobody says.
type countsJSON struct {
	Active   int64 `json:"active"`
	Inactive int64 `json:"inactive"`
	Groups   int64 `json:"groups"`
}

func (n *countsJSON) String() string {
	if n == nil {
		return "-"
	}
	return fmt.Sprintf("%d/%d/%d", n.Active, n.Inactive, n.Groups)
}

// probeJSON is a directory's own counts beside Rollcall's.
type probeJSON struct {
	Source    string      `json:"source"`
	Directory string      `json:"directory"`
	Name      string      `json:"name,omitempty"`
	State     string      `json:"state,omitempty"` // at the provider; empty of one that it does not list
	Listed    *countsJSON `json:"listed,omitempty"`
	Known     *countsJSON `json:"known"`
	Differs   string      `json:"differs,omitempty"` // what of it
}

func (c *cli) reconcileProbe() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Compare how many people and groups directories have, which costs a request each",
		Long: `Asks the provider of each of its directories how many active people, inactive people and
groups it has, and shows that beside what is known here: ACTIVE/INACTIVE/GROUPS. Equal
numbers are no proof, and inactive people whom nobody ever told of are no trouble; what
differs, rollcall reconcile plan looks at.

Exits 5 when active people or groups differ, or a directory that is live here is not listed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withProvider(cmd.Context(), source, func(a asked) error { return c.probe(cmd.Context(), a) })
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "the `source`, where several can be asked")
	return c.outputFlag(cmd)
}

func (c *cli) probe(ctx context.Context, a asked) error {
	var ids []string
	err := a.api.Directories(ctx, func(_ context.Context, page []provider.ListedDirectory) error {
		for _, d := range page {
			ids = append(ids, d.ID)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the directories: %w", err)
	}
	rows, err := a.store.Directories(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Source == a.source && !slices.Contains(ids, row.Directory) {
			ids = append(ids, row.Directory)
		}
	}
	out, t, differ := []probeJSON{}, table{head: []string{"DIRECTORY", "NAME", "STATE", "LISTED", "KNOWN", "DIFFERS"}}, 0
	for _, id := range ids {
		p, err := a.probe(ctx, id)
		if err != nil {
			return err
		}
		if p.Differs != "" {
			differ++
		}
		out = append(out, p)
		t.add(p.Directory, p.Name, p.State, p.Listed.String(), p.Known.String(), p.Differs)
	}
	if err := c.print(out, t); err != nil {
		return err
	}
	if differ > 0 {
		return fmt.Errorf("%w: %d of %s differ\nhint: `rollcall reconcile plan DIRECTORY` says in what", errCheck, differ, counted(int64(len(ids)), "directory"))
	}
	return nil
}

func (a asked) probe(ctx context.Context, id string) (p probeJSON, err error) {
	known, err := a.store.KnownDirectory(ctx, directory.Scope{Source: a.source, Directory: id})
	if err != nil {
		return p, err
	}
	p = probeJSON{Source: a.source, Directory: id, Name: known.Name, Known: &countsJSON{known.Active, known.Inactive, known.Groups}}
	listed, err := a.api.Directory(ctx, id)
	switch {
	case errors.Is(err, provider.ErrNotListed):
		if !known.Removed {
			p.Differs = "not listed"
		}
		return p, nil
	case err != nil:
		return p, fmt.Errorf("look at directory %s: %w", id, err)
	}
	p.Name, p.State = listed.Name, listed.State
	if !listed.Counted {
		return p, nil
	}
	p.Listed = &countsJSON{int64(listed.Active), int64(listed.Inactive), int64(listed.Groups)}
	var what []string
	if p.Listed.Active != p.Known.Active {
		what = append(what, "people")
	}
	if p.Listed.Groups != p.Known.Groups {
		what = append(what, "groups")
	}
	p.Differs = strings.Join(what, ", ")
	return p, nil
}

// reconcilePlanJSON is what comparing a directory found.
type reconcilePlanJSON struct {
	Source      string      `json:"source"`
	Directory   string      `json:"directory"`
	Run         string      `json:"run"`
	Made        time.Time   `json:"made"`
	Users       int64       `json:"users"` // listed
	Groups      int64       `json:"groups"`
	Memberships int64       `json:"memberships"`
	Active      int64       `json:"active_accounts"` // known
	Held        string      `json:"held,omitempty"`  // why a guard stops something
	Leavers     int64       `json:"leavers"`
	Returners   int64       `json:"returners"`
	Found       int64       `json:"found"`
	Findings    []driftJSON `json:"findings"` // the first of them
	File        string      `json:"file,omitempty"`
	Digest      string      `json:"digest"`
}

type driftJSON struct {
	Action string `json:"action"`
	Kind   string `json:"kind"`
	Who    string `json:"who"`
	Group  string `json:"group,omitempty"`
	User   string `json:"user,omitempty"`
	Why    string `json:"why"`
}

const findingsShown = 50

func (c *cli) reconcilePlan() *cobra.Command {
	var source, file string
	var limit int
	cmd := &cobra.Command{
		Use:   "plan DIRECTORY",
		Short: "Compare a directory with its own listing, and do nothing about it",
		Long: `Lists the directory's people, groups and memberships as its provider has them now, and
compares them with what is known here. What becomes of a finding stands in front of it:

  repair  the workers do it by themselves, when they compare the directory next
  ask     somebody has to approve it: a removal is known, or nothing shows a later change
  hold    a guard stops it: too many people would lose something at once

--out writes a plan: every finding with the event that repairs it. rollcall reconcile apply
applies one. Whom the listing lacks is looked up, up to a hundred of them: when the provider
knows one as active all the same, there is no plan.

Exits 5 when something was found.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withProvider(cmd.Context(), source, func(a asked) error { return c.planned(cmd.Context(), a, args[0], file, limit) })
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "the `source`, where several can be asked")
	cmd.Flags().StringVar(&file, "out", "", "write the plan to this `file`; it holds people's names")
	cmd.Flags().IntVar(&limit, "limit", findingsShown, "show at most so `many` findings")
	return c.outputFlag(cmd)
}

func (c *cli) planned(ctx context.Context, a asked, id, file string, limit int) error {
	out, done, err := planFile(file)
	if err != nil {
		return err
	}
	shown := reconcilePlanJSON{Source: a.source, Directory: id, Findings: []driftJSON{}, File: file}
	t := table{head: []string{"ACTION", "FOUND", "WHO", "WHY"}}
	run, plan, err := app.NewReconciler(a.Config, a.source, a.api, a.store).Plan(ctx, id, out, func(it reconcile.Item) error {
		if len(shown.Findings) < limit {
			shown.Findings = append(shown.Findings, driftJSON{string(it.Action), string(it.Kind), it.Who, it.Register.Group, it.Register.User, it.Why})
			t.add(string(it.Action), spaced(string(it.Kind)), it.Who, it.Why)
		}
		return nil
	})
	if err = errors.Join(err, done(err == nil)); err != nil {
		return reconcileError(err)
	}
	shown.Run, shown.Made, shown.Users, shown.Groups, shown.Memberships, shown.Active = run.ID, run.Begun, run.Users, run.Groups, run.Memberships, run.Active
	shown.Held, shown.Leavers, shown.Returners, shown.Found, shown.Digest = plan.Held, plan.Leavers, plan.Returners, plan.Items, plan.Digest
	if err := c.print(shown, t); err != nil {
		return err
	}
	if more := plan.Items - int64(len(shown.Findings)); more > 0 {
		c.say("and %d more: --limit, or --out for all of them", more)
	}
	c.say("%s: %d people, %d groups and %d memberships listed; %d active accounts here", id, run.Users, run.Groups, run.Memberships, run.Active)
	if plan.Items == 0 {
		c.say("nothing differs")
		return nil
	}
	if plan.Held != "" {
		c.say("a guard holds what would be taken away: %s", plan.Held)
	}
	return fmt.Errorf("%w: %d found\nhint: %s", errCheck, plan.Items, planHint(file, id))
}

func planHint(file, id string) string {
	if file == "" {
		return "`rollcall reconcile plan " + id + " --out FILE` writes a plan that can be applied"
	}
	return "`rollcall reconcile apply " + file + "` shows what applying it would do"
}

// spaced is a kind as people read it.
func spaced(kind string) string { return strings.ReplaceAll(kind, "_", " ") }

// planFile makes the file of a plan, for this user alone. The function closes it, and removes it when it is not whole.
func planFile(path string) (out io.Writer, done func(whole bool) error, err error) {
	if path == "" {
		return nil, func(bool) error { return nil }, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, nil, fmt.Errorf("%w: --out %s: there is such a file already\nhint: a plan is for the state that it was made on; name another file", errUsage, path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("write the plan: %w", err)
	}
	buffered := bufio.NewWriterSize(f, 64<<10)
	return buffered, func(whole bool) error {
		err := errors.Join(buffered.Flush(), f.Close())
		if !whole || err != nil {
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}, nil
}

// reconcileError says what to do about an error of a comparison.
func reconcileError(err error) error {
	switch {
	case strings.Contains(err.Error(), "\nhint: "):
		return err
	case errors.Is(err, store.ErrRunning):
		return fmt.Errorf("%w\nhint: it ends by itself; `rollcall reconcile status` shows since when it runs", err)
	case errors.Is(err, provider.ErrNotListed):
		return fmt.Errorf("%w: %w\nhint: `rollcall reconcile probe` lists the directories that the provider has", store.ErrNotFound, err)
	case errors.Is(err, provider.ErrCutShort):
		return fmt.Errorf("%w\nhint: nothing is concluded from a part; try again", err)
	}
	return err
}

// runJSON is a comparison that was made, or is being made.
type runJSON struct {
	Run         string                               `json:"run"`
	Source      string                               `json:"source"`
	Directory   string                               `json:"directory"`
	Trigger     string                               `json:"trigger"`
	Begun       time.Time                            `json:"begun"`
	Ended       *time.Time                           `json:"ended,omitempty"`
	Complete    bool                                 `json:"complete"`
	Reason      string                               `json:"reason,omitempty"`
	SkewSeconds float64                              `json:"skew_seconds"`
	Users       int64                                `json:"users"`
	Groups      int64                                `json:"groups"`
	Memberships int64                                `json:"memberships"`
	Active      int64                                `json:"active_accounts"`
	Kinds       map[store.DriftKind]store.DriftCount `json:"kinds"`
	Digest      string                               `json:"digest,omitempty"`
}

func (c *cli) reconcileStatus() *cobra.Command {
	var f store.RunFilter
	var history bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show each directory's last comparison, and what waits for approval",
		Long: `Shows the last comparison of each directory that was to repair it; --history shows all that are
kept, plans and what was approved too.

Exits 5 when the last one of a directory was not complete, or left something for somebody to
approve.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.reconcileRuns(cmd.Context(), s, f, history) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Source, "source", "", "only directories of this `source`")
	flags.StringVar(&f.Directory, "directory", "", "only this `directory`")
	flags.BoolVar(&history, "history", false, "all comparisons, newest first")
	flags.IntVar(&f.Limit, "limit", findingsShown, "show at most so `many`")
	return c.outputFlag(cmd)
}

func (c *cli) reconcileRuns(ctx context.Context, s store.Store, f store.RunFilter, history bool) error {
	limit := f.Limit
	f.Limit++
	f.Last, f.Repairs = !history, !history
	runs, err := s.Runs(ctx, f)
	if err != nil {
		return err
	}
	out, t := []runJSON{}, table{head: []string{"DIRECTORY", "BEGUN", "TOOK", "BY", "RESULT", "FOUND", "REPAIRED", "ASKED", "HELD", "REASON"}}
	var incomplete, open int64
	for _, r := range limited(c, runs, limit) {
		out = append(out, runJSON{
			Run: r.ID, Source: r.Source, Directory: r.Directory, Trigger: r.Trigger, Begun: r.Begun, Ended: optional(r.Ended), Complete: r.Complete, Reason: r.Reason,
			SkewSeconds: r.Skew.Seconds(), Users: r.Users, Groups: r.Groups, Memberships: r.Memberships, Active: r.Active, Kinds: r.Kinds, Digest: r.Digest,
		})
		result, took := "complete", "-"
		switch {
		case r.Ended.IsZero():
			result = "runs"
		case !r.Complete:
			result = "incomplete"
			incomplete++
		}
		if !r.Ended.IsZero() {
			took = r.Ended.Sub(r.Begun).Round(time.Millisecond).String()
		}
		var n store.DriftCount
		for _, kind := range slices.Collect(maps.Values(r.Kinds)) {
			n.Repaired, n.Asked, n.Held = n.Repaired+kind.Repaired, n.Asked+kind.Asked, n.Held+kind.Held
		}
		open += r.Open()
		t.add(r.Directory, when(r.Begun), took, r.Trigger, result, number(r.Found()), number(n.Repaired), number(n.Asked), number(n.Held), strings.ReplaceAll(r.Reason, "\n", "; "))
	}
	if err := c.print(out, t); err != nil {
		return err
	}
	if !history && incomplete+open > 0 {
		return fmt.Errorf("%w: %d not complete, %d found that somebody has to approve\nhint: `rollcall reconcile plan DIRECTORY` looks at one now", errCheck, incomplete, open)
	}
	return nil
}

// kinds reads --only.
func kinds(names []string) (map[store.DriftKind]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	all := make([]string, len(store.DriftKinds))
	for i, k := range store.DriftKinds {
		all[i] = string(k)
	}
	only := map[store.DriftKind]bool{}
	for _, name := range names {
		if err := oneOf("--only", name, all...); err != nil {
			return nil, err
		}
		only[store.DriftKind(name)] = true
	}
	return only, nil
}
