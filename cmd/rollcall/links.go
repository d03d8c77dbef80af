package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/store"
)

// linkJSON says which row of the application's users an account is, or why that is not known.
type linkJSON struct {
	Source    string     `json:"source"`
	Directory string     `json:"directory"`
	Account   string     `json:"account"`
	Email     string     `json:"email,omitempty"`
	Active    bool       `json:"active"`
	State     string     `json:"state"`
	Held      bool       `json:"held"`
	AppID     string     `json:"app_id,omitempty"`
	Tenant    string     `json:"tenant,omitempty"`
	How       string     `json:"how,omitempty"`
	Detail    string     `json:"detail,omitempty"`
	Changed   time.Time  `json:"changed"`
	By        string     `json:"by"`
	Tries     int        `json:"tries"`
	Next      *time.Time `json:"next,omitempty"`
}

func linkOf(l store.Link) linkJSON {
	return linkJSON{
		Source: l.Source, Directory: l.Directory, Account: l.ID.ID, Email: l.Email, Active: l.Active, State: string(l.State), Held: l.State.Held(),
		AppID: l.AppID, Tenant: l.Tenant, How: l.How, Detail: l.Detail, Changed: l.Changed, By: l.By, Tries: l.Tries, Next: optional(l.Next),
	}
}

func (c *cli) links() *cobra.Command {
	return group("links", "Which row of the application's users each account is", c.linksList(), c.linksSet(), c.linksDrop())
}

func (c *cli) linksList() *cobra.Command {
	var f store.LinkFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List links", Args: cobra.NoArgs,
		Long: `A link that is held keeps its account's changes waiting until somebody decides: the
application has several such rows (ambiguous), no tenant for the organization (unmapped),
or another account of the directory has the row (taken). "none" is an account that the
application has no row for; it is looked up again by itself.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("--state", string(f.State), string(store.Linked), string(store.Unlinked), string(store.Ambiguous), string(store.Unmapped), string(store.Taken)); err != nil {
				return err
			}
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.listLinks(cmd.Context(), s, f) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.Held, "held", false, "only those that somebody has to look at")
	flags.StringVar((*string)(&f.State), "state", "", "only ones in this `state`: linked, none, ambiguous, unmapped or taken")
	flags.StringVar(&f.Source, "source", "", "only links of this `source`")
	flags.StringVar(&f.Directory, "directory", "", "only links of this `directory`")
	flags.StringVar(&f.Who, "who", "", "only links of this `person`: an email address, an idp_id, an account key, or the application's own id")
	flags.IntVar(&f.Limit, "limit", 50, "at most so many")
	return c.outputFlag(cmd)
}

func (c *cli) listLinks(ctx context.Context, s store.Store, f store.LinkFilter) error {
	limit := f.Limit
	f.Limit++
	rows, err := s.Links(ctx, f)
	if err != nil {
		return err
	}
	out, t := []linkJSON{}, table{head: []string{"ACCOUNT", "EMAIL", "STATE", "APP ID", "TENANT", "HOW", "CHANGED", "DIRECTORY", "WHY"}}
	for _, row := range limited(c, rows, limit) {
		l := linkOf(row)
		out = append(out, l)
		t.add(l.Account, l.Email, l.State, l.AppID, l.Tenant, l.How, when(l.Changed), l.Directory, l.Detail)
	}
	return c.print(out, t)
}

func (c *cli) linksSet() *cobra.Command {
	var who store.AccountFilter
	var tenant string
	cmd := &cobra.Command{
		Use:   "set ACCOUNT APP_ID",
		Short: "Link an account with a row of the application's users",
		Long: `ACCOUNT is what ` + "`rollcall accounts show`" + ` takes, and must name one account. APP_ID is the
row's id, as the link statement would give it; nobody checks that there is such a row.

What it says is kept: nothing looks the account up again, until ` + "`rollcall links drop`" + `.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] == "" {
				return fmt.Errorf("%w: APP_ID is empty\nhint: `rollcall links drop` forgets a link", errUsage)
			}
			by, err := operatorName()
			if err != nil {
				return err
			}
			who.Who = args[0]
			return c.withStore(cmd.Context(), func(s store.Store) error {
				l := store.Link{State: store.Linked, AppID: args[1], Tenant: tenant, How: "operator", By: by}
				return c.setLink(cmd.Context(), s, who, l, cmd.Flags().Changed("tenant"))
			})
		},
	}
	accountFlags(cmd, &who)
	cmd.Flags().StringVar(&tenant, "tenant", "", "the row's `tenant`; else the one that the account, or its directory, is known to have")
	return cmd
}

// accountFlags say which of several accounts is meant.
func accountFlags(cmd *cobra.Command, f *store.AccountFilter) {
	cmd.Flags().StringVar(&f.Source, "source", "", "the account's `source`")
	cmd.Flags().StringVar(&f.Directory, "directory", "", "the account's `directory`")
}

func (c *cli) setLink(ctx context.Context, s store.Store, who store.AccountFilter, l store.Link, tenantGiven bool) error {
	account, err := oneAccount(ctx, s, who)
	if err != nil {
		return err
	}
	before, err := linkNow(ctx, s, account)
	if err != nil {
		return err
	}
	l.ID = account.ID
	if before.How == "missed" || before.State == store.Linked && before.AppID != l.AppID { // changes were settled without it: whoever binds says again how the account is
		l.Next = time.Now()
	}
	if !tenantGiven {
		if l.Tenant, err = tenantLike(ctx, s, before); err != nil {
			return err
		}
	}
	switch err := s.SaveLink(ctx, nil, l); {
	case errors.Is(err, store.ErrTaken):
		return fmt.Errorf("%w\nhint: one row is one account of a directory; `rollcall links drop` that one first, if it is wrong", err)
	case err != nil:
		return err
	}
	c.say("account %s of directory %s was %s", account.ID.ID, account.Directory, standing(before))
	c.say("it is %s", standing(l))
	return s.Hurry(ctx, account.ID)
}

// tenantLike is the tenant of the link as it was, or else of another one of its directory.
func tenantLike(ctx context.Context, s store.Store, l store.Link) (string, error) {
	if l.Tenant != "" {
		return l.Tenant, nil
	}
	some, err := s.Links(ctx, store.LinkFilter{Source: l.Source, Directory: l.Directory, State: store.Linked, Limit: 1})
	if err != nil || len(some) == 0 {
		return "", err
	}
	return some[0].Tenant, nil
}

func (c *cli) linksDrop() *cobra.Command {
	var who store.AccountFilter
	cmd := &cobra.Command{
		Use:   "drop ACCOUNT",
		Short: "Forget the link of an account, so that it is looked up again",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			who.Who = args[0]
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.dropLink(cmd.Context(), s, who) })
		},
	}
	accountFlags(cmd, &who)
	return cmd
}

func (c *cli) dropLink(ctx context.Context, s store.Store, who store.AccountFilter) error {
	account, err := oneAccount(ctx, s, who)
	if err != nil {
		return err
	}
	before, err := linkNow(ctx, s, account)
	if err != nil {
		return err
	}
	if err := s.DropLink(ctx, account.ID); err != nil {
		return fmt.Errorf("%w\nhint: `rollcall links list` shows all there are", err)
	}
	c.say("account %s of directory %s was %s", account.ID.ID, account.Directory, standing(before))
	c.say("that is forgotten; it is looked up again now")
	return s.Hurry(ctx, account.ID)
}

// linkNow returns the link of an account; without a state when it has none.
func linkNow(ctx context.Context, s store.Store, a store.AccountRow) (store.Link, error) {
	lane := store.Lane{Scope: a.Scope, Account: a.ID.ID}
	links, err := s.LinksOf(ctx, nil, []store.Lane{lane})
	if err != nil {
		return store.Link{}, err
	}
	l := links[lane]
	l.ID = a.ID
	return l, nil
}

// standing says a link in words.
func standing(l store.Link) string {
	by := prefixed(", by ", l.By)
	switch l.State {
	case store.Linked:
		return "linked with " + strconv.Quote(l.AppID) + prefixed(" of tenant ", l.Tenant) + prefixed(", found by ", l.How) + by
	case "":
		return "not looked up yet"
	case store.Unlinked:
		return "looked up, and the application had no such row"
	default:
		return "held as " + string(l.State) + prefixed(": ", l.Detail)
	}
}
