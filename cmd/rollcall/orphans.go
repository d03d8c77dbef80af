package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// inventoryJSON is what comparing the application with its directories came to.
type inventoryJSON struct {
	Findings    []disagreementJSON `json:"findings"`
	Unknown     []unknownJSON      `json:"unknown"` // what could not be judged
	Accounts    int                `json:"accounts"`
	Memberships int                `json:"memberships"`
	Outside     int                `json:"outside"` // accounts in tenants that have no directory
	Exempt      int                `json:"exempt"`
}

type disagreementJSON struct {
	Kind      string `json:"kind"`
	Tenant    string `json:"tenant,omitempty"`
	AppID     string `json:"app_id"`
	Email     string `json:"email,omitempty"`
	Source    string `json:"source,omitempty"`
	Directory string `json:"directory,omitempty"`
	Account   string `json:"account,omitempty"`
	Group     string `json:"group,omitempty"`
	GroupName string `json:"group_name,omitempty"`
	Protected bool   `json:"protected"`
	Detail    string `json:"detail"`
}

type unknownJSON struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

func (c *cli) orphans() *cobra.Command {
	cmd := c.outputFlag(&cobra.Command{
		Use:   "orphans",
		Short: "Compare who is in the application with who should be",
		Long: `Runs application.inventory's statements, which cannot write, and compares their rows with
what the directories say and what the application was told:

  reactivated         active, after the application was told otherwise; no event explains it
  orphan              active, and no active account of a directory is linked with it
  extra membership    a membership that no directory grants
  missing             active by its directory and told so, and not listed
  missing membership  granted by its directory and told so, and not listed

Only tenants that have a live directory have orphans. Whoever somebody answers for
(rollcall orphans exempt) is left out and counted, until the exemption ends. What could not
be judged is counted with the reason, and is not clean.

It looks twice, a second apart, and reports what both looks found: while changes are being
bound, one look sees the two sides at different moments.

-o csv is for a spreadsheet, with a line for what could not be judged; a cell that would be a
formula there begins with an apostrophe more.

Exits 0 when nothing was found and everything was judged, else 5.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withApplication(cmd.Context(), func(s store.Store, a inventory.Application) error {
				return c.findOrphans(cmd.Context(), inventory.Checker{Store: s, Application: a, Now: time.Now, Pause: time.Second})
			})
		},
	}, "csv")
	cmd.AddCommand(c.orphansExempt(), c.orphansExemptions(), c.orphansUnexempt())
	return cmd
}

func (c *cli) findOrphans(ctx context.Context, checker inventory.Checker) error {
	report, err := checker.Check(ctx)
	if errors.Is(err, inventory.ErrNotListed) {
		return fmt.Errorf("%w: %w\nhint: it is a SELECT of the application's active accounts: id, and tenant and email where there are such", config.ErrInvalid, err)
	}
	if err != nil {
		return err
	}
	out := inventoryJSON{
		Findings: []disagreementJSON{}, Unknown: []unknownJSON{}, Accounts: report.Accounts, Memberships: report.Memberships, Outside: report.Outside, Exempt: report.Exempt,
	}
	t := table{head: []string{"FOUND", "TENANT", "APP ID", "EMAIL", "ACCOUNT", "GROUP", "DIRECTORY", "WHY"}}
	for _, f := range report.Findings {
		out.Findings = append(out.Findings, disagreementJSON{
			Kind: string(f.Kind), Tenant: f.Tenant, AppID: f.AppID, Email: f.Email, Source: f.Account.Source, Directory: f.Account.Directory, Account: f.Account.ID,
			Group: f.Group, GroupName: f.GroupName, Protected: f.Protected, Detail: f.Detail,
		})
		t.add(string(f.Kind), f.Tenant, f.AppID, f.Email, f.Account.ID, cmp.Or(f.GroupName, f.Group), f.Account.Directory, f.Detail+protection(f.Protected))
	}
	for _, u := range report.Unknown {
		out.Unknown = append(out.Unknown, unknownJSON(u))
	}
	if err := c.printInventory(out, t); err != nil {
		return err
	}
	return c.summarise(report)
}

func (c *cli) printInventory(found inventoryJSON, t table) error {
	if c.format != "csv" {
		return c.print(found, t)
	}
	var rows [][]string
	for _, f := range found.Findings {
		rows = append(rows, []string{
			f.Kind, f.Tenant, f.AppID, f.Email, f.Source, f.Directory, f.Account, f.Group, f.GroupName, strconv.FormatBool(f.Protected), f.Detail,
		})
	}
	for _, u := range found.Unknown { // or the file alone would look clean
		rows = append(rows, []string{"not judged", "", "", "", "", "", "", "", "", "", fmt.Sprintf("%d because %s", u.Count, u.Reason)})
	}
	return writeCSV(c.out, []string{
		"found", "tenant", "app_id", "email", "source", "directory", "account", "group", "group_name", "protected", "detail",
	}, rows)
}

// summarise says how much was compared, and fails unless all of it is well.
func (c *cli) summarise(r inventory.Report) error {
	c.say("%d accounts and %d memberships compared; %d accounts in tenants without a directory, %d left out because somebody answers for them",
		r.Accounts, r.Memberships, r.Outside, r.Exempt)
	unknown := 0
	for _, u := range r.Unknown {
		c.say("not judged: %d because %s", u.Count, u.Reason)
		unknown += u.Count
	}
	if r.Clean() {
		return nil
	}
	return fmt.Errorf("%w: %d found, %d not judged", errCheck, len(r.Findings), unknown)
}

func protection(protected bool) string {
	if protected {
		return " (protected)"
	}
	return ""
}

// exemptionJSON lets an account of the application be active without a directory account.
type exemptionJSON struct {
	Tenant  string    `json:"tenant,omitempty"`
	AppID   string    `json:"app_id"`
	Owner   string    `json:"owner"`
	Reason  string    `json:"reason"`
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires"`
	Expired bool      `json:"expired"`
}

func (c *cli) orphansExempt() *cobra.Command {
	var e store.Exemption
	var until string
	cmd := &cobra.Command{
		Use:   "exempt APP_ID",
		Short: "Let an account of the application be active without a directory, for a time",
		Long: `Somebody answers for the account, for a reason, until a time. When that comes it is an
orphan again. A second exemption of the same account replaces the first.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if e.Owner == "" || e.Reason == "" || until == "" {
				return fmt.Errorf("%w: an exemption needs --owner, --reason and --until\nhint: who answers for the account, why it is needed, and how long", errUsage)
			}
			if e.Expires, err = parseUntil(until, time.Now()); err != nil {
				return fmt.Errorf("%w: --until %q: %w\nhint: 90d, or 2026-12-31T00:00:00Z", errUsage, until, err)
			}
			if e.By, err = operatorName(); err != nil {
				return err
			}
			e.AppID = args[0]
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error { return c.exempt(cmd.Context(), l.Config, s, e) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&e.Owner, "owner", "", "who answers for the account, a `person`")
	flags.StringVar(&e.Reason, "reason", "", "why it is needed, a `text`")
	flags.StringVar(&until, "until", "", "how long, a `duration` such as 90d, or an RFC 3339 time")
	flags.StringVar(&e.Tenant, "tenant", "", "the account's `tenant`, where the application has several")
	return cmd
}

func (c *cli) exempt(ctx context.Context, conf config.Config, s store.Store, e store.Exemption) error {
	if e.Tenant == "" && conf.Application.Tenant.SQL != "" {
		return fmt.Errorf("%w: --tenant is not set, and the application has several\nhint: `rollcall orphans` shows the tenant of each account that it finds", errUsage)
	}
	if err := s.SaveExemption(ctx, e); err != nil {
		return err
	}
	c.say("%s%s is exempt until %s; %s answers for it", e.AppID, prefixed(" of tenant ", e.Tenant), when(e.Expires), e.Owner)
	if conf.Application.Inventory.Accounts == "" {
		return nil
	}
	switch listed, err := isListed(ctx, conf, e); {
	case err != nil:
		c.say("warning: whether there is such an account was not looked at: %v", err)
	case !listed:
		c.say("warning: application.inventory.accounts lists no account %s%s: the exemption is of nobody\nhint: `rollcall orphans unexempt` ends it; `rollcall orphans` shows ids and tenants",
			e.AppID, prefixed(" of tenant ", e.Tenant))
	}
	return nil
}

// isListed reports whether the application lists the account that is exempt.
func isListed(ctx context.Context, conf config.Config, e store.Exemption) (listed bool, err error) {
	a, done, err := app.Inventory(ctx, conf)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, done()) }()
	a.Memberships, a.Protected = "", ""
	find := finding{exempt: e, tenants: a.Tenant != nil}
	err = a.Read(ctx, &find)
	return find.found, err
}

// finding looks for one account in a listing.
type finding struct {
	exempt  store.Exemption
	tenants bool // there are several
	found   bool
}

// Account implements inventory.Sink.
func (f *finding) Account(a inventory.Account) {
	if !f.tenants {
		a.Tenant = ""
	}
	f.found = f.found || a.ID == f.exempt.AppID && a.Tenant == f.exempt.Tenant
}

// Protected implements inventory.Sink.
func (f *finding) Protected(string) {}

// Membership implements inventory.Sink.
func (f *finding) Membership(inventory.Membership) {}

// parseUntil reads a time to come: how long from now, or when.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if d, err := config.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return time.Time{}, errors.New("it is neither a duration such as 90d nor a time such as 2026-12-31T00:00:00Z")
	case !t.After(now):
		return time.Time{}, errors.New("that is over")
	}
	return t, nil
}

func (c *cli) orphansExemptions() *cobra.Command {
	cmd := &cobra.Command{
		Use: "exemptions", Short: "List exemptions, those that ended too", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.listExemptions(cmd.Context(), s, time.Now()) })
		},
	}
	return c.outputFlag(cmd)
}

func (c *cli) listExemptions(ctx context.Context, s store.Store, now time.Time) error {
	rows, err := s.Exemptions(ctx)
	if err != nil {
		return err
	}
	out, t := []exemptionJSON{}, table{head: []string{"APP ID", "TENANT", "OWNER", "UNTIL", "ENDED", "BY", "SINCE", "REASON"}}
	for _, e := range limited(c, rows, len(rows)) {
		expired := !now.Before(e.Expires)
		out = append(out, exemptionJSON{
			Tenant: e.Tenant, AppID: e.AppID, Owner: e.Owner, Reason: e.Reason, Created: e.Created, By: e.By, Expires: e.Expires, Expired: expired,
		})
		ended := ""
		if expired {
			ended = "ended"
		}
		t.add(e.AppID, e.Tenant, e.Owner, when(e.Expires), ended, e.By, when(e.Created), e.Reason)
	}
	return c.print(out, t)
}

func (c *cli) orphansUnexempt() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "unexempt APP_ID", Short: "End an exemption at once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd.Context(), func(s store.Store) error {
				if err := s.DropExemption(cmd.Context(), tenant, args[0]); err != nil {
					return fmt.Errorf("%w\nhint: `rollcall orphans exemptions` lists all, with their tenants", err)
				}
				c.say("%s%s is exempt no more", args[0], prefixed(" of tenant ", tenant))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "the account's `tenant`, where the application has several")
	return cmd
}
