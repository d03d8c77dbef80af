package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/directory"
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

	Changes []changeJSON `json:"changes,omitempty"`
}

type groupJSON struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

func accountOf(a store.AccountRow) accountJSON {
	out := accountJSON{
		Source: a.Source, Directory: a.Directory, Key: a.ID.ID, User: a.User, IDPID: a.IDPID, Organization: a.Organization,
		Active: a.EffectivelyActive, State: a.State, Email: a.Email, FirstName: a.FirstName, LastName: a.LastName, Name: a.Name,
		Attributes: a.Attributes, Groups: []groupJSON{}, Changed: a.Changed,
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
	return group("accounts", "People as the application should see them", c.accountsList(), c.accountsShow())
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
		Short: "Show a person's accounts and what changed them",
		Long:  `WHO is an email address, the directory's own id (idp_id), the provider's user id, or an account key.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Who = args[0]
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.showAccounts(cmd.Context(), s, f) })
		},
	}
	cmd.Flags().StringVar(&f.Source, "source", "", "only in this `source`")
	cmd.Flags().StringVar(&f.Directory, "directory", "", "only in this `directory`")
	return c.outputFlag(cmd)
}

func (c *cli) showAccounts(ctx context.Context, s store.Store, f store.AccountFilter) error {
	rows, err := s.Accounts(ctx, f)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("account %s: %w\nhint: `rollcall accounts list` shows all; only somebody's latest address is searched", f.Who, store.ErrNotFound)
	}
	out, t := []accountJSON{}, table{}
	for _, row := range rows {
		a := accountOf(row)
		changes, err := s.Changes(ctx, store.ChangeFilter{Source: row.Source, Directory: row.Directory, Account: row.ID.ID, Limit: 1000})
		if err != nil {
			return err
		}
		a.Changes = changesOf(changes)
		out = append(out, a)
		a.describe(&t)
	}
	return c.print(out, t)
}

// describe adds an account's lines and its story.
func (a accountJSON) describe(t *table) {
	if len(t.rows) > 0 {
		t.add("")
	}
	for _, row := range [][2]string{
		{"account", a.Key}, {"source", a.Source}, {"directory", a.Directory}, {"user", a.User}, {"email", a.Email},
		{"name", strings.TrimSpace(a.FirstName + " " + a.LastName)}, {"status", a.status() + prefixed(", directory says ", a.State)},
		{"groups", a.groupNames()}, {"changed", when(a.Changed)},
	} {
		t.add(row[0], row[1])
	}
	for _, ch := range a.Changes {
		t.add(when(ch.At), ch.Kind+prefixed(" ", groupOf(ch)), "by "+ch.Event)
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
