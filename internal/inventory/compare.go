package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Kind says what was found.
type Kind string

// The kinds of findings, in the order in which they are reported.
const (
	Reactivated       Kind = "reactivated"        // active in the application, after it was told otherwise: no event explains it
	Orphan            Kind = "orphan"             // active in the application, and no active account of a directory is linked with it
	ExtraMembership   Kind = "extra membership"   // in the application, and no directory grants it
	Missing           Kind = "missing"            // active by the directory and told so, and not in the application: disabled or deleted there
	MissingMembership Kind = "missing membership" // granted by the directory and told so, and not in the application
)

var kinds = []Kind{Reactivated, Orphan, ExtraMembership, Missing, MissingMembership}

// Finding is one place where the application and its directories disagree.
type Finding struct {
	Kind      Kind
	Tenant    string
	AppID     string
	Email     string
	Account   directory.ID // that it is about; of an orphan, one that may be theirs; zero when none is known
	Group     string
	GroupName string
	Protected bool
	Detail    string
}

// Report is what a comparison came to.
type Report struct {
	Findings    []Finding // by kind, tenant, app id, account and group
	Accounts    int       // of the application, that were compared
	Memberships int
	Outside     int       // accounts in tenants that have no directory
	Exempt      int       // accounts left out because somebody answers for them
	Unknown     []Unknown // what could not be judged, and so is not clean; by reason
}

// Unknown is how much could not be judged, and why.
type Unknown struct {
	Reason string
	Count  int
}

// Clean reports that everything was judged, and nothing found.
func (r Report) Clean() bool { return len(r.Findings) == 0 && len(r.Unknown) == 0 }

// Directory is a directory, with its tenant.
type Directory struct {
	directory.Scope
	Organization string
	Ended        bool
	Mode         store.Mode
	Tenant       string
	Known        bool // the application knows a tenant for its organization; always so when there is one tenant
}

// observed reports that nobody has looked for the application's rows of its accounts.
func (d Directory) observed() bool { return d.Mode != store.Enforce && d.Mode != store.Paused }

// Known is what is known besides accounts.
type Known struct {
	Tenants     bool // there are several; else those of links, directories and rows do not matter
	Directories []Directory
	Groups      []directory.Group
	Exemptions  []store.Exemption
	Memberships bool // the application lists its memberships
	Now         time.Time
}

// Comparison compares. It is given all that is known of accounts first, with Standing, and then what the application lists, as
// a Sink. It keeps ids, not rows. Its zero value is worth nothing; see Compare.
type Comparison struct {
	known       Known
	directories map[directory.Scope]Directory
	tenants     map[string]*tenant // that have a live directory
	groups      map[string][]directory.ID
	names       map[directory.ID]string
	exemptions  map[row]bool
	protected   map[string]bool

	linked   map[row]*person
	unlinked map[mention]unlinked
	granted  map[grant]*granted
	vague    map[row]bool    // rows that may be somebody's whose link is not known
	nowhere  map[string]bool // ids that were listed without a tenant

	findings []Finding
	unknown  map[string]int
	report   Report
}

// row names a row of the application's accounts.
type row struct{ tenant, id string }

type tenant struct{ observed directory.Scope } // a directory that is observed; zero when there is none

// person is what the linked accounts say of a row.
type person struct {
	active  directory.ID // one that is active
	told    directory.ID // one that is active, and was told so
	ended   directory.ID // one that is not, and was told so
	kept    bool         // one that is active is in a directory that is not merely observed: it keeps what another one lost
	any     directory.ID
	email   string
	present bool // the application lists the row
}

// mention is something by which a row may be recognised: an address, or the directory's own id.
type mention struct{ tenant, kind, value string }

// unlinked is an active account that is linked with no row.
type unlinked struct {
	account directory.ID
	settled bool // it was looked up, and the application has no row
}

type grant struct {
	directory.Scope
	group, user string
}

type granted struct {
	account directory.ID
	row     row
	told    bool
	present bool
}

// Compare begins a comparison.
func Compare(k Known) *Comparison {
	c := &Comparison{
		known: k, directories: map[directory.Scope]Directory{}, tenants: map[string]*tenant{}, groups: map[string][]directory.ID{}, names: map[directory.ID]string{},
		exemptions: map[row]bool{}, protected: map[string]bool{}, linked: map[row]*person{}, unlinked: map[mention]unlinked{}, granted: map[grant]*granted{},
		vague: map[row]bool{}, nowhere: map[string]bool{}, unknown: map[string]int{},
	}
	for _, d := range k.Directories {
		c.directory(d)
	}
	for _, g := range k.Groups {
		c.group(g.ID, g.Name)
	}
	for _, e := range k.Exemptions {
		if k.Now.Before(e.Expires) {
			c.exemptions[c.row(e.Tenant, e.AppID)] = true
		}
	}
	return c
}

// row names a row; where there is one tenant it is called nothing.
func (c *Comparison) row(tenant, id string) row {
	if !c.known.Tenants {
		tenant = ""
	}
	return row{tenant, id}
}

func (c *Comparison) directory(d Directory) {
	c.directories[d.Scope] = d
	switch {
	case d.Ended:
		return
	case !d.Known:
		c.unknown[fmt.Sprintf("the application knows no tenant for organization %s of directory %s", d.Organization, d.Directory)]++
		return
	}
	name := c.row(d.Tenant, "").tenant
	if c.tenants[name] == nil {
		c.tenants[name] = &tenant{}
	}
	if d.observed() {
		c.tenants[name].observed = d.Scope
	}
}

func (c *Comparison) group(id directory.ID, name string) {
	if !slices.Contains(c.groups[id.ID], id) {
		c.groups[id.ID] = append(c.groups[id.ID], id)
	}
	if name != "" {
		c.names[id] = name
	}
}

// Standing takes an account.
func (c *Comparison) Standing(s store.Standing) {
	if s.Link != store.Linked {
		c.mention(s)
		return
	}
	at := c.row(s.Tenant, s.AppID)
	p := c.linked[at]
	if p == nil {
		p = &person{any: s.ID, email: s.Email}
		c.linked[at] = p
	}
	p.kept = p.kept || s.Active && !c.directories[s.Scope].observed()
	switch {
	case s.Active && s.Told == directory.AccountActivated:
		p.active, p.told = s.ID, s.ID
	case s.Active:
		p.active = s.ID
	case s.Told == directory.AccountDeactivated:
		p.ended = s.ID
	}
	for _, g := range s.Grants {
		id := directory.ID{Scope: s.Scope, ID: g.ID}
		c.group(id, g.Name)
		c.granted[grant{s.Scope, g.ID, s.AppID}] = &granted{account: s.ID, row: at, told: g.Told && s.Told == directory.AccountActivated}
	}
}

// mention remembers by what a row of an unlinked account may be recognised. In directories that are observed that is everybody,
// and nobody is looked for.
func (c *Comparison) mention(s store.Standing) {
	d := c.directories[s.Scope]
	if !s.Active || !d.Known || d.observed() {
		return
	}
	u := unlinked{account: s.ID, settled: s.Link == store.Unlinked}
	name := c.row(d.Tenant, "").tenant
	c.unlinked[mention{name, "id", s.ID.ID}] = u
	if s.Email != "" {
		c.unlinked[mention{name, "email", strings.ToLower(s.Email)}] = u
	}
}

// mentioned returns an unlinked account that the row may be.
func (c *Comparison) mentioned(at row, a Account) (unlinked, bool) {
	if u, ok := c.unlinked[mention{at.tenant, "id", a.External}]; ok && a.External != "" {
		return u, true
	}
	u, ok := c.unlinked[mention{at.tenant, "email", strings.ToLower(a.Email)}]
	return u, ok && a.Email != ""
}

// Protected implements Sink.
func (c *Comparison) Protected(id string) { c.protected[id] = true }

// Account implements Sink.
func (c *Comparison) Account(a Account) {
	c.report.Accounts++
	if c.known.Tenants && a.Tenant == "" {
		c.nowhere[a.ID] = true
		c.unknown["application.inventory.accounts gives no tenant for the row"]++
		return
	}
	at := c.row(a.Tenant, a.ID)
	p := c.linked[at]
	if p != nil {
		p.present = true
	}
	if p == nil || p.active == (directory.ID{}) || c.gone(p) {
		c.unaccounted(at, a, p)
	}
}

// gone reports that the person left, and is active only in directories that are merely observed, which keep nothing.
func (c *Comparison) gone(p *person) bool {
	return p.ended != (directory.ID{}) && !p.kept && !c.directories[p.ended.Scope].observed()
}

// unaccounted judges a row that no active account is linked with, or none that keeps what another one lost.
func (c *Comparison) unaccounted(at row, a Account, p *person) {
	f := Finding{Kind: Orphan, Tenant: at.tenant, AppID: a.ID, Email: a.Email, Protected: c.protected[a.ID]}
	here, may, isMentioned := c.tenants[at.tenant], unlinked{}, false
	if here != nil {
		may, isMentioned = c.mentioned(at, a)
	}
	switch {
	case p != nil && p.ended != (directory.ID{}):
		f.Kind, f.Account, f.Detail = Reactivated, p.ended, "it was told that the account is inactive"
	case here == nil:
		c.report.Outside++
		return
	case here.observed != (directory.Scope{}):
		c.vaguely(at, "directory "+here.observed.Directory+" is only observed, so that its accounts are not linked yet")
		return
	case isMentioned && !may.settled:
		c.vaguely(at, "the link of an active account that it may be is not known: `rollcall links list --held`")
		return
	case p != nil:
		f.Account, f.Detail = p.any, "the account that is linked with it is not active, and it was not told so yet"
	case isMentioned:
		f.Account, f.Detail = may.account, "an active account is like it, and is not linked with it: `rollcall links set` does it"
	default:
		f.Detail = "no account of a directory is linked with it"
	}
	if c.exemptions[at] {
		c.report.Exempt++
		return
	}
	c.findings = append(c.findings, f)
}

func (c *Comparison) vaguely(at row, reason string) {
	c.vague[at] = true
	c.unknown[reason]++
}

// Membership implements Sink.
func (c *Comparison) Membership(m Membership) {
	if m.Group == "" {
		return
	}
	c.report.Memberships++
	var at directory.ID
	for _, id := range c.groups[m.Group] {
		if m.Directory != "" && m.Directory != id.Directory {
			continue
		}
		if g := c.granted[grant{id.Scope, m.Group, m.User}]; g != nil {
			g.present = true
			return
		}
		at = id
	}
	c.ungranted(at, m)
}

// ungranted judges a membership that no directory grants.
func (c *Comparison) ungranted(group directory.ID, m Membership) {
	d := c.directories[group.Scope]
	at := c.row(d.Tenant, m.User)
	p := c.linked[at]
	switch {
	case group == directory.ID{}:
		c.unknown["a membership is of a group that no directory has said anything of"]++
		return
	case !d.Ended && d.observed():
		c.unknown["a membership is of a group of directory "+d.Directory+", which is only observed"]++
		return
	case !d.Known:
		c.unknown["a membership is of a group of directory "+d.Directory+", whose tenant the application does not know"]++
		return
	case p == nil && (c.vague[at] || c.nowhere[m.User]):
		c.unknown["a membership is of an account that could not be judged"]++
		return
	case c.exemptions[at] && (p == nil || p.active == directory.ID{}):
		return // whoever answers for the account answers for this
	}
	f := Finding{Kind: ExtraMembership, Tenant: at.tenant, AppID: m.User, Group: m.Group, GroupName: c.names[group], Protected: c.protected[m.User]}
	f.Account.Scope = group.Scope
	switch {
	case p == nil:
		f.Detail = "no account of the directory is linked with it"
	case p.active == directory.ID{}:
		f.Account, f.Email, f.Detail = p.any, p.email, "the account is not active"
	default:
		f.Account, f.Email, f.Detail = p.active, p.email, "the account is not in the group"
	}
	c.findings = append(c.findings, f)
}

// Report ends the comparison.
func (c *Comparison) Report() Report {
	for at, p := range c.linked {
		if p.told != (directory.ID{}) && !p.present && !c.nowhere[at.id] && !c.gone(p) {
			c.findings = append(c.findings, Finding{
				Kind: Missing, Tenant: at.tenant, AppID: at.id, Email: p.email, Account: p.told, Protected: c.protected[at.id],
				Detail: "it was told that the account is active, and does not list it",
			})
		}
	}
	for id, g := range c.granted {
		p := c.linked[g.row]
		if !c.known.Memberships || g.present || !g.told || !p.present {
			continue
		}
		c.findings = append(c.findings, Finding{
			Kind: MissingMembership, Tenant: g.row.tenant, AppID: id.user, Email: p.email, Account: g.account, Protected: c.protected[id.user],
			Group: id.group, GroupName: c.names[directory.ID{Scope: id.Scope, ID: id.group}], Detail: "it was told of the grant, and does not list it",
		})
	}
	slices.SortFunc(c.findings, compare)
	c.report.Findings = slices.Compact(c.findings)
	for reason, n := range c.unknown {
		c.report.Unknown = append(c.report.Unknown, Unknown{reason, n})
	}
	slices.SortFunc(c.report.Unknown, func(a, b Unknown) int { return cmp.Compare(a.Reason, b.Reason) })
	return c.report
}

func compare(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.AppID, b.AppID),
		cmp.Compare(a.Account.Source, b.Account.Source), cmp.Compare(a.Account.Directory, b.Account.Directory), cmp.Compare(a.Account.ID, b.Account.ID),
		cmp.Compare(a.Group, b.Group), cmp.Compare(a.Email, b.Email),
	)
}
