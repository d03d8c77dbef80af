package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/rehearsal"
	"github.com/rollcallhq/rollcall/internal/store"
)

func (c *cli) bindings() *cobra.Command {
	return group("bindings", "The application's own statements, run once for each change", c.bindingsList(), c.bindingsTest(), c.bindingsResync())
}

func (c *cli) bindingsTest() *cobra.Command {
	var dsn, organization, junit string
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Play joiners, movers and leavers against a database, and undo all of it",
		Long: `Plays what happens to people (somebody joins, moves, leaves, is suspended, comes back; an
address is given to somebody else; a group or the directory ends) with the configured
bindings against the application's database, and checks after each step that everything
took effect, that no probe finds anything of somebody who left, and that the inventory
agrees. Whoever is let in makes what application.rehearsal.sign_in says, such as a session,
so that one that nothing ends is found. All of it is one transaction, which is rolled back: nothing stays, but sequences
go on, and rows are locked meanwhile. Use a test database with the application's schema.

This is the leaver test for the application's own build: it needs the configuration and
the database, and neither Redis nor Vault nor the provider. Nothing is posted. It exits
with 5 when something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dsn == "" {
				return fmt.Errorf("%w: --dsn is not set\nhint: a test database of the application: postgres://… or sqlite:PATH", errUsage)
			}
			return c.testBindings(cmd.Context(), dsn, organization, junit)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dsn, "dsn", "", "the application's test `database`: postgres://… or sqlite:PATH")
	flags.StringVar(&organization, "organization", "org_rehearsal", "`id` of an organization that the application has a tenant for")
	flags.StringVar(&junit, "junit", "", "write a JUnit report to this `file`, - for standard output")
	return cmd
}

func (c *cli) testBindings(ctx context.Context, dsn, organization, junit string) error {
	l, err := c.loadFor(true)
	if err != nil {
		return err
	}
	cases, err := app.Rehearse(ctx, l.Config, dsn, organization)
	if errors.Is(err, rehearsal.ErrTenant) && junit != "" {
		err = errors.Join(err, c.writeJUnit(junit, []rehearsal.Case{{Name: "the application has a tenant for the organization", Err: err}}))
	}
	if err != nil {
		return err
	}
	wrong := 0
	for _, s := range cases {
		if s.Err != nil {
			wrong++
			c.say("FAIL  %s\n      %v", s.Name, s.Err)
			c.say("%s", s.Story())
			continue
		}
		c.say("ok    %s", s.Name)
	}
	if junit != "" {
		if err := c.writeJUnit(junit, cases); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d of %d situations\nhint: the lines above name the statement, the change that did not take effect, or what is left of somebody who left", errCheck, wrong, len(cases))
	}
	c.say("%d situations, all well; nothing of it stays", len(cases))
	if len(l.Config.Application.Rehearsal.SignIn) == 0 {
		c.say("nobody signed in, so a session or key that nothing ends would not be found\nhint: application.rehearsal.sign_in makes them")
	}
	return nil
}

func (c *cli) writeJUnit(name string, cases []rehearsal.Case) (err error) {
	if name == "-" {
		return rehearsal.JUnit(c.out, cases)
	}
	file, err := os.Create(cmp.Or(name, "-"))
	if err != nil {
		return fmt.Errorf("write the report: %w\nhint: --junit is a file that this user may write", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return rehearsal.JUnit(file, cases)
}

// bindingJSON is how a binding fares.
type bindingJSON struct {
	Name    string     `json:"name"`
	On      []string   `json:"on"`
	Posts   bool       `json:"posts,omitempty"`
	State   string     `json:"state"`
	Error   string     `json:"error,omitempty"`
	Waiting int64      `json:"waiting,omitempty"` // changes of its kinds that fail
	Since   *time.Time `json:"since,omitempty"`
}

func (c *cli) bindingsList() *cobra.Command {
	return c.outputFlag(&cobra.Command{
		Use:   "list",
		Short: "Show each binding, whether the database takes it, and what fails",
		Long: `Prepares every statement on the application's database, without running it, and shows which
changes fail to take effect and why. It exits with 5 when something is broken or fails.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withBinder(cmd.Context(), func(l config.Loaded, s store.Store, b *binder.Binder) error {
				return c.listBindings(cmd.Context(), s, b, app.PrepareInventory(cmd.Context(), l.Config, b.Database))
			})
		},
	})
}

// listBindings shows how everything fares; the listings are those that do not fit.
func (c *cli) listBindings(ctx context.Context, s store.Store, b *binder.Binder, listings []binder.Problem) error {
	broken := map[string]binder.Problem{}
	for _, p := range b.Prepare(ctx) {
		broken[p.Binding] = p
	}
	backlog, err := s.Backlog(ctx)
	if err != nil {
		return err
	}
	out, t := []bindingJSON{}, table{head: []string{"BINDING", "STATE", "FAILING", "ON", "WHY"}}
	red := 0
	said := map[store.Failing]bool{}
	for _, status := range b.Status() {
		row := bindingJSON{Name: status.Name, On: []string{}, Posts: status.Posts, State: status.State, Error: status.Error, Since: optional(status.Since)}
		for _, kind := range status.On {
			row.On = append(row.On, string(kind))
		}
		if p, is := broken[status.Name]; is {
			row.State, row.Error = binder.StateBroken, p.Error()
		}
		for _, f := range backlog.Failing {
			if (f.Track == store.Posted) == status.Posts && slices.Contains(status.On, f.Kind) && strings.Contains(f.Error, status.Name) {
				if row.State == binder.StateOK {
					row.State = binder.StateFailing
				}
				row.Error, row.Since = cmp.Or(row.Error, f.Error), optional(f.Since)
				row.Waiting += f.Count
				said[f] = true
			}
		}
		if row.State != binder.StateOK {
			red++
		}
		out = append(out, row)
		t.add(row.Name, row.State, number(row.Waiting), strings.Join(row.On, " "), row.Error)
	}
	for _, f := range backlog.Failing {
		if !said[f] { // nothing that is a binding's
			red++
			out = append(out, bindingJSON{Name: "", On: []string{string(f.Kind)}, State: binder.StateFailing, Error: f.Error, Waiting: f.Count, Since: optional(f.Since)})
			t.add("-", binder.StateFailing, number(f.Count), string(f.Kind), strings.ReplaceAll(f.Error, "\nhint: ", "; "))
		}
	}
	for _, p := range listings {
		red++
		out = append(out, bindingJSON{Name: p.Binding, On: []string{}, State: binder.StateBroken, Error: p.Error()})
		t.add(p.Binding, binder.StateBroken, number(0), "", p.Error())
	}
	c.say("%d changes wait, %d are paused%s", backlog.Waiting[store.Bound]+backlog.Waiting[store.Posted], backlog.Paused[store.Bound], prefixed(", the oldest since ", oldest(backlog)))
	if err := c.print(out, t); err != nil {
		return err
	}
	if red > 0 {
		return fmt.Errorf("%w: %d bindings are broken or fail\nhint: mend the statement or the schema; their changes wait, and are tried again by themselves", errCheck, red)
	}
	return nil
}

func oldest(b store.Backlog) string {
	if t := b.Oldest[store.Bound]; !t.IsZero() {
		return when(t)
	}
	return ""
}
