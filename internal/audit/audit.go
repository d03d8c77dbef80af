// Package audit compares who is active in an application with what a provider lists, and needs nothing else: it is how a team
// that has installed nothing finds the leavers it forgot.
//
// The application is read first, and is kept as an index of its accounts; the provider's users pass by page for page. Once what was
// found is known the application is read again, and what is not there any more is left out.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/provider"
)

// Kind says what was found.
type Kind string

// The kinds of findings, in the order in which they are reported.
const (
	Leaver          Kind = "leaver"           // active in the application, and by its directory inactive, suspended or gone
	Ambiguous       Kind = "ambiguous"        // active in the application; it may be somebody who left or somebody who is there
	Unlisted        Kind = "unlisted"         // active in the application, and its directories do not know it
	Duplicate       Kind = "duplicate"        // several accounts of the application are the same person
	ExtraMembership Kind = "extra membership" // in the application, and the directory does not list it
)

var kinds = []Kind{Leaver, Ambiguous, Unlisted, Duplicate, ExtraMembership}

// Finding is one place where the application and the directories disagree.
type Finding struct {
	Kind         Kind
	Tenant       string
	AppID        string
	Email        string // as the application has it
	Organization string // of the person in the directory, where one is known; so are the next ones
	Directory    string
	User         string // the provider's id
	IDPID        string
	State        string // the provider's word
	By           string // how the two were brought together: "id" or "email"
	Group        string
	GroupName    string
	Protected    bool
	Detail       string
}

// Report is what an audit came to.
type Report struct {
	Findings    []Finding // by kind, tenant, app id, directory, user and group
	Accounts    int       // of the application, that were compared
	Memberships int
	Directories int                 // of the provider
	Users       int                 // that it listed
	Outside     int                 // accounts in tenants that have no directory
	Unknown     []inventory.Unknown // what could not be judged, and so is not clean; by reason
	Unseen      []string            // what cannot be seen from here, whatever the findings
}

// Clean reports that everything was judged, and nothing found.
func (r Report) Clean() bool { return len(r.Findings) == 0 && len(r.Unknown) == 0 }

// Audit says what is compared.
type Audit struct {
	Listing     provider.Listing
	Application inventory.Application
	// ByEmail recognises by address whom no id tells. Whoever names an address in a directory is that account then.
	ByEmail bool
	// ByOrganization takes the application's tenants for the provider's organizations. Without it, and without Application.Tenant, there is
	// one tenant.
	ByOrganization bool
}

// Errors that say which side could not be read.
var (
	ErrApplication = errors.New("the application could not be read")
	ErrProvider    = errors.New("the provider could not be asked")
)

// Run compares, and writes nothing. It returns an error when a side could not be read at all; a directory that could not be listed
// to its end is part of the report's Unknown.
func (a Audit) Run(ctx context.Context) (Report, error) {
	if a.Application.Accounts == "" {
		return Report{}, inventory.ErrNotListed
	}
	c := newComparison(a)
	if err := a.Application.Read(ctx, c.app); err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrApplication, err)
	}
	if err := c.directoriesOf(ctx); err != nil {
		return Report{}, err
	}
	if err := c.list(ctx); err != nil {
		return Report{}, err
	}
	c.judge()
	if err := c.memberships(ctx); err != nil {
		return Report{}, err
	}
	if err := c.lookAgain(ctx); err != nil {
		return Report{}, err
	}
	return c.finish(), nil
}

// comparison is an audit under way.
type comparison struct {
	Audit
	app         *rows
	directories []listed
	tenants     map[string][]int // directories by tenant
	verdicts    []verdict        // of each account of the application
	unknown     map[string]int
	report      Report
}

// listed is a directory, and how far its listing came.
type listed struct {
	provider.ListedDirectory
	tenant string
	users  int
	err    error // it was not listed to its end
}

func newComparison(a Audit) *comparison {
	c := &comparison{Audit: a, tenants: map[string][]int{}, unknown: map[string]int{}}
	c.app = newRows(a.ByOrganization || a.Application.Tenant != nil)
	return c
}

// directoriesOf lists the provider's directories and asks for their tenants.
func (c *comparison) directoriesOf(ctx context.Context) error {
	err := c.Listing.Directories(ctx, func(_ context.Context, page []provider.ListedDirectory) error {
		for _, d := range page {
			c.directories = append(c.directories, listed{ListedDirectory: d})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: list its directories: %w", ErrProvider, err)
	}
	c.report.Directories = len(c.directories)
	if len(c.directories) == 0 {
		c.unknown["the provider lists no directory: is it the API key of another environment?"]++
	}
	known := c.directories[:0]
	for _, d := range c.directories {
		is, err := c.inTenant(ctx, &d)
		if err != nil {
			return err
		}
		if is {
			c.tenants[d.tenant] = append(c.tenants[d.tenant], len(known))
			known = append(known, d)
		}
	}
	c.directories = known
	return nil
}

// inTenant says whether the application has a tenant for the directory, and which.
func (c *comparison) inTenant(ctx context.Context, d *listed) (known bool, err error) {
	switch {
	case c.Application.Tenant != nil:
		if d.tenant, known, err = c.Application.Tenant(ctx, d.Organization); err != nil {
			return false, fmt.Errorf("%w: look up the tenant of organization %s: %w", ErrApplication, d.Organization, err)
		}
		if !known {
			c.unknown[fmt.Sprintf("the application knows no tenant for organization %s of directory %s", d.Organization, d.ID)]++
		}
		return known, nil
	case c.ByOrganization:
		d.tenant = d.Organization
	}
	return true, nil
}

// list takes the users of each directory past the application's accounts. Its error is the context's: that a directory could not be
// listed is part of what was found.
func (c *comparison) list(ctx context.Context) error {
	for at := range c.directories {
		d := &c.directories[at]
		d.err = c.pass(ctx, at)
		c.report.Users += d.users
		if d.err == nil {
			d.err = c.counted(ctx, d)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.err != nil {
			c.unknown[fmt.Sprintf("directory %s could not be listed to its end: %s", d.ID, firstLine(d.err))]++
		}
		if !current(d.State) {
			c.unknown[fmt.Sprintf("directory %s is %s: what it lists may be old, and whoever leaves it now is not told of", d.ID, d.State)]++
		}
	}
	return nil
}

// pass lists the users of a directory once, and once more when it turned out on the way whose successors are looked for.
func (c *comparison) pass(ctx context.Context, at int) error {
	d := &c.directories[at]
	for {
		followed := c.app.followed
		d.users = 0
		err := c.Listing.Users(ctx, d.ID, func(_ context.Context, page provider.ListedPage) error {
			for _, u := range page.Items {
				if u.User != nil {
					d.users++
					c.meet(at, u)
				}
			}
			return nil
		})
		if err != nil || c.app.followed == followed {
			return err
		}
	}
}

// counted compares what was listed with the provider's own count of it, where there is one. People come and go meanwhile, so that the
// smaller count of before and after is what has to be there.
func (c *comparison) counted(ctx context.Context, d *listed) error {
	after, err := c.Listing.Directory(ctx, d.ID)
	if err != nil {
		return fmt.Errorf("ask for its count: %w", err)
	}
	least := after.Active + after.Inactive
	if d.Counted {
		least = min(least, d.Active+d.Inactive)
	}
	if after.Counted && d.users < least {
		return fmt.Errorf("%w: it counts %d users and listed %d", provider.ErrCutShort, least, d.users)
	}
	return nil
}

// current reports a state in which a directory follows its origin.
func current(state string) bool {
	return state == "" || state == "linked" || state == "active"
}

// meet brings a user together with the accounts that it may be.
func (c *comparison) meet(at int, u provider.Listed) {
	tenant := c.directories[at].tenant
	m := match{directory: at, user: u.User.ID, idpID: u.User.IDPID, state: u.User.State, created: u.User.Created, active: u.User.State == "active"}
	person := mention{tenant, byID, m.idpID}
	c.app.meet(person, m)
	c.app.meet(mention{tenant, byID, m.user}, m)
	if !m.active {
		c.app.follow(mention{tenant, byID, m.user}, person)
	}
	if c.ByEmail {
		m.byEmail = true
		c.app.meet(mention{tenant, byEmail, strings.ToLower(u.User.Email)}, m)
	}
}

// lookAgain reads the application once more, and drops what is not there any more: whoever was disabled meanwhile.
func (c *comparison) lookAgain(ctx context.Context) error {
	if len(c.report.Findings) == 0 {
		return nil
	}
	still := present{accounts: map[string]bool{}, memberships: map[inventory.Membership]bool{}}
	if err := c.Application.Read(ctx, still); err != nil {
		return fmt.Errorf("%w: %w", ErrApplication, err)
	}
	c.report.Findings = slices.DeleteFunc(c.report.Findings, func(f Finding) bool {
		return !still.accounts[f.AppID] || f.Kind == ExtraMembership && !still.memberships[inventory.Membership{User: f.AppID, Group: f.Group}]
	})
	return nil
}

// present is what the application lists the second time.
type present struct {
	accounts    map[string]bool
	memberships map[inventory.Membership]bool // without their directories
}

func (p present) Protected(string)            {}
func (p present) Account(a inventory.Account) { p.accounts[a.ID] = true }
func (p present) Membership(m inventory.Membership) {
	p.memberships[inventory.Membership{User: m.User, Group: m.Group}] = true
}

// finish brings the report into its order.
func (c *comparison) finish() Report {
	slices.SortFunc(c.report.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.AppID, b.AppID),
			cmp.Compare(a.Directory, b.Directory), cmp.Compare(a.User, b.User), cmp.Compare(a.Group, b.Group),
		)
	})
	for reason, n := range c.unknown {
		c.report.Unknown = append(c.report.Unknown, inventory.Unknown{Reason: reason, Count: n})
	}
	slices.SortFunc(c.report.Unknown, func(a, b inventory.Unknown) int { return cmp.Compare(a.Reason, b.Reason) })
	c.report.Accounts, c.report.Memberships, c.report.Unseen = len(c.app.accounts), len(c.app.memberships), unseen(c.directories)
	return c.report
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
