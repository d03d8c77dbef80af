package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/audit"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/secrets"
)

// auditJSON is what comparing an application with a provider's listing came to.
type auditJSON struct {
	Findings    []accusedJSON `json:"findings"`
	Unknown     []unknownJSON `json:"unknown"` // what could not be judged
	Unseen      []string      `json:"unseen"`  // what no listing shows
	Accounts    int           `json:"accounts"`
	Memberships int           `json:"memberships"`
	Directories int           `json:"directories"`
	Users       int           `json:"users"`
	Outside     int           `json:"outside"` // accounts in tenants that have no directory
}

type accusedJSON struct {
	Kind         string `json:"kind"`
	Tenant       string `json:"tenant,omitempty"`
	AppID        string `json:"app_id"`
	Email        string `json:"email,omitempty"`
	Organization string `json:"organization,omitempty"`
	Directory    string `json:"directory,omitempty"`
	User         string `json:"user,omitempty"`
	IDPID        string `json:"idp_id,omitempty"`
	State        string `json:"state,omitempty"`
	By           string `json:"by,omitempty"` // id or email
	Group        string `json:"group,omitempty"`
	GroupName    string `json:"group_name,omitempty"`
	Protected    bool   `json:"protected"`
	Detail       string `json:"detail"`
}

// auditFlags are what an audit is asked for; what they leave out is the configuration's.
type auditFlags struct {
	asked                      app.Asked
	key                        string
	dsn, accounts, memberships string
	byEmail, byOrganization    bool
}

func (c *cli) audit() *cobra.Command {
	var f auditFlags
	cmd := c.outputFlag(&cobra.Command{
		Use:   "audit",
		Short: "Find forgotten leavers, with an API key and a read-only database user alone",
		Long: `Compares who is active in the application with what the provider lists, and writes nothing:

  leaver            active, and inactive or suspended in the directory, or gone from it
  ambiguous         active, and may be somebody who left or somebody who is there
  unlisted          active, and no directory of the tenant knows the address (--by-email)
  duplicate         several accounts are one person
  extra membership  a membership that the directory does not list

It needs an API key of the provider's, a database user that may read, and the statements
application.inventory.accounts (columns id, external, and tenant and email where there are
such) and, if memberships count, application.inventory.memberships, by flags or in a file
(--config). It needs no Redis, no Vault, no database of Rollcall's and no webhook.

An account is recognised by its column external: the directory's own id (idp_id) or the
provider's id of the user. --by-email also takes accounts without one by their address.
What could not be judged is counted with the reason. docs/AUDIT.md has examples, and what no
listing shows.

Exits 0 when nothing was found and everything was judged, 5 when something was found, 7 when
it could not be told.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runAudit(cmd.Context(), f) },
	}, "csv")
	flags := cmd.Flags()
	flags.StringVar(&f.asked.Provider, "provider", "workos", "whose directories they are: `name` of a provider")
	flags.StringVar(&f.key, "api-key", "env:WORKOS_API_KEY", "`reference` to the provider's API key: env:NAME or file:/PATH")
	flags.StringVar(&f.asked.URL, "api-url", "", "`URL` of the API, where it is not the provider's own")
	flags.StringVar(&f.dsn, "dsn", "", "the application's `database`: env:NAME or file:/PATH of PostgreSQL's URL, the URL, or sqlite:PATH; sets application.dsn")
	flags.StringVar(&f.accounts, "accounts", "", "`SELECT` of the active accounts; sets application.inventory.accounts")
	flags.StringVar(&f.memberships, "memberships", "", "`SELECT` of their memberships; sets application.inventory.memberships")
	flags.BoolVar(&f.byEmail, "by-email", false, "recognise accounts without an external id by their address")
	flags.BoolVar(&f.byOrganization, "by-organization", false, "the column tenant is the provider's id of the organization")
	return cmd
}

func (c *cli) runAudit(ctx context.Context, f auditFlags) (err error) {
	f.asked.Key = secrets.Ref(f.key)
	if kind := f.asked.Key.Kind(); kind != "env" && kind != "file" && kind != "vault" {
		return fmt.Errorf("%w: --api-key is not a reference\nhint: env:NAME of a variable, or file:/PATH; the key itself would stand in the process list", errUsage)
	}
	for key, value := range map[string]string{
		"application.dsn": f.dsn, "application.inventory.accounts": f.accounts, "application.inventory.memberships": f.memberships,
	} {
		if value != "" {
			c.set = append(c.set, key+"="+value)
		}
	}
	l, err := c.loadFor(true)
	if err != nil {
		return err
	}
	a, done, err := app.NewAudit(ctx, l.Config, f.asked, version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	a.ByEmail, a.ByOrganization = f.byEmail, f.byOrganization
	return c.printAudit(a.Run(ctx))
}

// printAudit prints what an audit found, and fails unless there is nothing.
func (c *cli) printAudit(r audit.Report, err error) error {
	if errors.Is(err, inventory.ErrNotListed) {
		return fmt.Errorf("%w: %w\nhint: --accounts 'SELECT id, idp_id AS external, email FROM users WHERE active'", config.ErrInvalid, err)
	}
	if err != nil && !strings.Contains(err.Error(), "\nhint: ") {
		return fmt.Errorf("%w\nhint: is the address right, the server up, and may the user read?", err)
	}
	if err != nil {
		return err
	}
	out := auditJSON{
		Findings: []accusedJSON{}, Unknown: []unknownJSON{}, Unseen: r.Unseen,
		Accounts: r.Accounts, Memberships: r.Memberships, Directories: r.Directories, Users: r.Users, Outside: r.Outside,
	}
	t := table{head: []string{"FOUND", "TENANT", "APP ID", "EMAIL", "IDP ID", "USER", "GROUP", "DIRECTORY", "WHY"}}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, accusedJSON{
			Kind: string(f.Kind), Tenant: f.Tenant, AppID: f.AppID, Email: f.Email, Organization: f.Organization, Directory: f.Directory, User: f.User, IDPID: f.IDPID,
			State: f.State, By: f.By, Group: f.Group, GroupName: f.GroupName, Protected: f.Protected, Detail: f.Detail,
		})
		t.add(string(f.Kind), f.Tenant, f.AppID, f.Email, f.IDPID, f.User, cmp.Or(f.GroupName, f.Group), f.Directory, f.Detail+protection(f.Protected))
	}
	for _, u := range r.Unknown {
		out.Unknown = append(out.Unknown, unknownJSON(u))
	}
	if c.format == "csv" {
		err = writeCSV(c.out, auditHeader, out.rows())
	} else {
		err = c.print(out, t)
	}
	if err != nil {
		return err
	}
	return c.concludeAudit(r)
}

var auditHeader = strings.Split("found tenant app_id email organization directory user idp_id state by group group_name protected detail", " ")

// rows are the lines of a CSV file. What could not be judged has lines of its own, or the file alone would look clean.
func (a auditJSON) rows() (rows [][]string) {
	for _, f := range a.Findings {
		rows = append(rows, []string{
			f.Kind, f.Tenant, f.AppID, f.Email, f.Organization, f.Directory, f.User, f.IDPID, f.State, f.By, f.Group, f.GroupName, strconv.FormatBool(f.Protected), f.Detail,
		})
	}
	for _, u := range a.Unknown {
		row := make([]string, len(auditHeader))
		row[0], row[len(row)-1] = "not judged", fmt.Sprintf("%d because %s", u.Count, u.Reason)
		rows = append(rows, row)
	}
	return rows
}

// concludeAudit says how much was compared and what cannot be seen, and fails unless all of it is well.
func (c *cli) concludeAudit(r audit.Report) error {
	c.say("%d accounts and %d memberships compared with %d users of %d directories; %d accounts in tenants without a directory", r.Accounts, r.Memberships, r.Users, r.Directories, r.Outside)
	unknown := 0
	for _, u := range r.Unknown {
		c.say("not judged: %d because %s", u.Count, u.Reason)
		unknown += u.Count
	}
	c.say("not seen from here:")
	for _, text := range r.Unseen {
		c.say("  %s", text)
	}
	switch {
	case len(r.Findings) > 0:
		return fmt.Errorf("%w: %d found, %d not judged", errCheck, len(r.Findings), unknown)
	case unknown > 0:
		return fmt.Errorf("%w: nothing found, and %d not judged", errUntold, unknown)
	}
	return nil
}
