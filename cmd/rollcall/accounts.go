package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
	"github.com/rollcallhq/rollcall/internal/store"
)

// accountJSON is an account with its effective groups, ends of groups and directories counted at once.
type accountJSON struct {
	Source       string            `json:"source"`
	Directory    string            `json:"directory"`
	Key          string            `json:"key"`
	User         string            `json:"user,omitempty"`
	IDPID        string            `json:"idp_id,omitempty"`
	Organization string            `json:"organization,omitempty"`
	Active       bool              `json:"active"`
	State        string            `json:"state,omitempty"`
	Email        string            `json:"email,omitempty"`
	FirstName    string            `json:"first_name,omitempty"`
	LastName     string            `json:"last_name,omitempty"`
	Name         string            `json:"name,omitempty"`
	Attributes   map[string]string `json:"attributes,omitempty"`
	Groups       []groupJSON       `json:"groups"`
	Changed      time.Time         `json:"changed"`

	Links   []linkJSON `json:"links,omitempty"`
	Changes []stepJSON `json:"changes,omitempty"`

	by string // the event that said so last
}

type groupJSON struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

func accountOf(a store.AccountRow) accountJSON {
	out := accountJSON{
		Source: a.Source, Directory: a.Directory, Key: a.ID.ID, User: a.User, IDPID: a.IDPID, Organization: a.Organization,
		Active: a.EffectivelyActive, State: a.State, Email: a.Email, FirstName: a.FirstName, LastName: a.LastName, Name: a.Name,
		Attributes: a.Attributes, Groups: []groupJSON{}, Changed: a.Changed, by: a.Version.EventID(),
	}
	for _, g := range a.Groups {
		out.Groups = append(out.Groups, groupJSON(g))
	}
	return out
}

func (a accountJSON) status() string {
	if a.Active {
		return "active"
	}
	return "inactive"
}

// said is who said last what the account is.
func (a accountJSON) said() string {
	if operator.IsID(a.by) {
		return "an operator"
	}
	return "directory"
}

func (a accountJSON) groupNames() string {
	names := make([]string, len(a.Groups))
	for i, g := range a.Groups {
		names[i] = g.Name
		if g.Name == "" {
			names[i] = g.ID
		}
	}
	return strings.Join(names, ", ")
}

func (c *cli) accounts() *cobra.Command {
	return group("accounts", "People as the application should see them", c.accountsList(), c.accountsShow(), c.accountsDeprovision())
}

func (c *cli) accountsList() *cobra.Command {
	var f store.AccountFilter
	var active, inactive bool
	cmd := &cobra.Command{
		Use: "list", Short: "List accounts with their groups", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if active && inactive {
				return fmt.Errorf("%w: --active and --inactive exclude each other\nhint: leave both out for all", errUsage)
			}
			if active || inactive {
				f.Active = &active
			}
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.listAccounts(cmd.Context(), s, f) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Source, "source", "", "only accounts of this `source`")
	flags.StringVar(&f.Directory, "directory", "", "only accounts of this `directory`")
	flags.BoolVar(&active, "active", false, "only active ones")
	flags.BoolVar(&inactive, "inactive", false, "only inactive ones")
	flags.IntVar(&f.Limit, "limit", 50, "at most so many")
	return c.outputFlag(cmd)
}

func (c *cli) listAccounts(ctx context.Context, s store.Store, f store.AccountFilter) error {
	limit := f.Limit
	f.Limit++
	rows, err := s.Accounts(ctx, f)
	if err != nil {
		return err
	}
	out, t := []accountJSON{}, table{head: []string{"ACCOUNT", "EMAIL", "STATUS", "GROUPS", "DIRECTORY"}}
	for _, row := range limited(c, rows, limit) {
		a := accountOf(row)
		out = append(out, a)
		t.add(a.Key, a.Email, a.status(), a.groupNames(), a.Directory)
	}
	return c.print(out, t)
}

func (c *cli) accountsShow() *cobra.Command {
	var f store.AccountFilter
	cmd := &cobra.Command{
		Use:   "show WHO",
		Short: "Show the story of a person: every change, why it was, and what the application did of it",
		Long:  `WHO is an email address, the directory's own id (idp_id), the provider's user id, or an account key.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Who = args[0]
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error {
				o := l.Application.Owners
				return c.showAccounts(cmd.Context(), s, f, binder.Owners{Joiner: o.Joiner, Mover: o.Mover, Leaver: o.Leaver})
			})
		},
	}
	cmd.Flags().StringVar(&f.Source, "source", "", "only in this `source`")
	cmd.Flags().StringVar(&f.Directory, "directory", "", "only in this `directory`")
	return c.outputFlag(cmd)
}

func (c *cli) showAccounts(ctx context.Context, s store.Store, f store.AccountFilter, owners binder.Owners) error {
	rows, err := s.Accounts(ctx, f)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return noAccount(f.Who)
	}
	out, t := []accountJSON{}, table{}
	for _, row := range rows {
		a := accountOf(row)
		if a.Changes, err = story(ctx, s, row.ID, owners); err != nil {
			return err
		}
		links, err := s.LinksOf(ctx, nil, []store.Lane{{Scope: row.Scope, Account: row.ID.ID}})
		if err != nil {
			return err
		}
		for _, l := range links {
			a.Links = append(a.Links, linkOf(l))
		}
		out = append(out, a)
		a.describe(&t)
	}
	return c.print(out, t)
}

func noAccount(who string) error {
	return fmt.Errorf("account %s: %w\nhint: `rollcall accounts list` shows all; only somebody's latest address is searched", who, store.ErrNotFound)
}

// describe adds an account's lines and its story.
func (a accountJSON) describe(t *table) {
	if len(t.rows) > 0 {
		t.add("")
	}
	for _, row := range append(a.lines(), [2]string{"changed", when(a.Changed)}) {
		t.add(row[0], row[1])
	}
	for _, l := range a.Links {
		t.add("application", l.State+prefixed(" ", l.AppID)+prefixed(", tenant ", l.Tenant)+prefixed(", found by ", l.How)+prefixed(": ", l.Detail))
	}
	for _, step := range a.Changes {
		step.describe(t)
	}
}

// lines say who the account is.
func (a accountJSON) lines() [][2]string {
	return [][2]string{
		{"account", a.Key}, {"source", a.Source}, {"directory", a.Directory}, {"user", a.User}, {"email", a.Email},
		{"name", strings.TrimSpace(a.FirstName + " " + a.LastName)}, {"status", a.status() + prefixed(", "+a.said()+" says ", a.State)},
		{"groups", a.groupNames()},
	}
}

func groupOf(ch changeJSON) string {
	if ch.Group == "" {
		return ""
	}
	face := ch.After
	if face == nil {
		face = ch.Before
	}
	return nameOf(face, ch.Group)
}

func nameOf(face *directory.Face, id string) string {
	if face != nil && face.GroupName != "" {
		return face.GroupName
	}
	return id
}

func (c *cli) accountsDeprovision() *cobra.Command {
	var f store.AccountFilter
	var d deciding
	cmd := &cobra.Command{
		Use:   "deprovision WHO",
		Short: "End one account by hand",
		Long: `Takes an account's access away, as if its directory had said that the person left: for a
leaver whom the directory is late with, or will not announce any more.

WHO is an email address, the directory's own id (idp_id), the provider's user id, or an
account key, and has to name exactly one account. When the directory says afterwards that
the person is active, the account is active again.

It first says what would change; --yes does it. The ledger keeps the reason, and the name in
$ROLLCALL_OPERATOR or of the user who is logged in.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(); err != nil {
				return err
			}
			f.Who = args[0]
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.deprovision(cmd.Context(), s, f, d) })
		},
	}
	cmd.Flags().StringVar(&f.Source, "source", "", "only in this `source`")
	cmd.Flags().StringVar(&f.Directory, "directory", "", "only in this `directory`")
	d.flags(cmd)
	return cmd
}

func (c *cli) deprovision(ctx context.Context, s store.Store, f store.AccountFilter, d deciding) error {
	a, err := oneAccount(ctx, s, f)
	if err != nil {
		return err
	}
	if a.User == "" {
		c.say("nothing to do: nobody bears account %s any more, it is inactive", a.ID.ID)
		return nil
	}
	if err := previewAccount(accountOf(a)).write(c.out); err != nil {
		return err
	}
	if err := d.consent(); err != nil {
		return err
	}
	return c.decide(ctx, s, a.Source, operator.Event{
		Type: operator.AccountDeprovisioned, Directory: a.Directory, Organization: a.Organization,
		User: &operator.Person{ID: a.User, IDPID: a.IDPID, Profile: a.Profile},
	}, d, a.Version)
}

// oneAccount returns the account that the filter names, when it names one alone.
func oneAccount(ctx context.Context, s store.Store, f store.AccountFilter) (store.AccountRow, error) {
	rows, err := s.Accounts(ctx, f)
	switch {
	case err != nil:
		return store.AccountRow{}, err
	case len(rows) == 0:
		return store.AccountRow{}, noAccount(f.Who)
	case len(rows) == 1:
		return rows[0], nil
	}
	var all []string
	for _, a := range rows {
		all = append(all, fmt.Sprintf("%s in directory %s of source %s", a.ID.ID, a.Directory, a.Source))
	}
	return store.AccountRow{}, fmt.Errorf("%w: %s names several accounts:\n%s\nhint: name one by its key, or narrow it with --directory and --source",
		errUsage, f.Who, strings.Join(all, "\n"))
}

// previewAccount says who an account is, and what would become of it.
func previewAccount(a accountJSON) (t table) {
	effect := "it loses its access, with " + counted(int64(len(a.Groups)), "group")
	if !a.Active {
		effect = "it has no access already, and stays without until its directory says more"
	}
	for _, line := range append(a.lines(), [2]string{"effect", effect}) {
		t.add(line[0], line[1])
	}
	return t
}
