package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// verdict is what is known of an account of the application.
type verdict int

const (
	unjudged verdict = iota // it could not be told, or is outside
	accused                 // a finding says what is wrong
	listedActive
)

// Reasons for which an account is not judged.
const (
	noTenant   = "application.inventory.accounts gives no tenant for the row"
	noID       = "application.inventory.accounts gives no external id for the row, and addresses are not looked at: --by-email does"
	nothing    = "application.inventory.accounts gives neither an external id nor an address for the row"
	incomplete = "a directory of its tenant could not be listed to its end"
	noAccounts = "application.inventory.accounts lists no account"
	allOutside = "no account is in a tenant that has a directory: the column tenant is what application.tenant gives, or with --by-organization the provider's id of the organization"
	strangeIDs = "no value of the column external is an id that a directory lists: it is the directory's own id (idp_id) or the provider's id of the user"
)

// judge gives every account its verdict.
func (c *comparison) judge() {
	c.verdicts = make([]verdict, len(c.app.accounts))
	strange := c.strangers()
	for n, a := range c.app.accounts {
		j := c.judgeAccount(a, strange)
		c.verdicts[n] = j.verdict
		if j.verdict == accused {
			c.report.Findings = append(c.report.Findings, j.finding)
		}
		if j.reason != "" {
			c.unknown[j.reason]++
		}
	}
	switch n := len(c.app.accounts); {
	case n == 0:
		c.unknown[noAccounts]++
	case n == c.report.Outside && len(c.directories) > 0:
		c.unknown[allOutside] += n
	}
	c.duplicates()
}

// strangers reports that no external id was met at all: then the column holds something else, and says nothing of anybody.
func (c *comparison) strangers() bool {
	return !slices.ContainsFunc(c.app.accounts, func(a account) bool { return len(a.met(false)) > 0 })
}

// judgement is an account's verdict, with what is to be said of it.
type judgement struct {
	verdict verdict
	finding Finding // of one that is accused
	reason  string  // why it could not be told
}

func untold(reason string) judgement { return judgement{reason: reason} }

func (c *comparison) judgeAccount(a account, strange bool) judgement {
	switch {
	case c.app.tenants && a.Tenant == "":
		return untold(noTenant)
	case len(c.tenants[a.Tenant]) == 0:
		c.report.Outside++
		return judgement{}
	case a.External != "":
		return c.judgeByID(a, strange)
	case !c.ByEmail:
		return untold(noID)
	case a.Email == "":
		return untold(nothing)
	}
	return c.judgeByEmail(a)
}

// judgeByID judges an account that has the id of somebody of a directory's. An address never clears it.
func (c *comparison) judgeByID(a account, strange bool) judgement {
	ids, mails := a.met(false), a.met(true)
	there := slices.IndexFunc(mails, func(m match) bool { return m.active })
	switch {
	case len(ids) > 0 && ids[0].active:
		return c.sameEverywhere(a, ids)
	case !c.complete(a.Tenant):
		return untold(incomplete)
	case len(ids) == 0 && strange:
		return untold(strangeIDs)
	case there >= 0:
		return c.accuse(Ambiguous, a, mails[there], "its id is "+gone(ids)+", and somebody who is active under another id has its address")
	case len(ids) == 0 && len(mails) > 0:
		return c.accuse(Leaver, a, mails[0], "no directory lists its id, and whoever has its address is not active")
	case len(ids) == 0:
		return c.accuse(Leaver, a, match{directory: -1}, "no directory lists its id any more")
	}
	return c.accuse(Leaver, a, ids[0], "it is listed as "+stateOf(ids[0]))
}

// sameEverywhere judges an account whose id is active somewhere. Where there is one tenant, two organizations may use the same id for
// different people.
func (c *comparison) sameEverywhere(a account, ids []match) judgement {
	i := slices.IndexFunc(ids, func(m match) bool {
		return !m.active && c.directories[m.directory].Organization != c.directories[ids[0].directory].Organization
	})
	if i < 0 {
		return judgement{verdict: listedActive}
	}
	return c.accuse(Ambiguous, a, ids[i], fmt.Sprintf("its id is %s here, and active in directory %s of another organization", stateOf(ids[i]), c.directories[ids[0].directory].ID))
}

// judgeByEmail judges an account that has an address alone.
func (c *comparison) judgeByEmail(a account) judgement {
	mails := a.met(true)
	left := slices.IndexFunc(mails, func(m match) bool { return !m.active })
	switch {
	case len(mails) > 0 && left < 0:
		return judgement{verdict: listedActive}
	case !c.complete(a.Tenant):
		return untold(incomplete)
	case len(mails) == 0:
		return c.accuse(Unlisted, a, match{directory: -1}, "no directory lists its address")
	case mails[0].active:
		return c.accuse(Ambiguous, a, mails[left], fmt.Sprintf("its address is that of somebody who is %s, and of somebody who is active in directory %s", stateOf(mails[left]), c.directories[mails[0].directory].ID))
	}
	return c.accuse(Leaver, a, mails[0], "it is listed as "+stateOf(mails[0]))
}

// complete reports that every directory of the tenant was listed to its end.
func (c *comparison) complete(tenant string) bool {
	return !slices.ContainsFunc(c.tenants[tenant], func(n int) bool { return c.directories[n].err != nil })
}

func (c *comparison) accuse(kind Kind, a account, m match, detail string) judgement {
	return judgement{verdict: accused, finding: c.finding(kind, a, m, detail)}
}

func (c *comparison) finding(kind Kind, a account, m match, detail string) Finding {
	f := Finding{Kind: kind, Tenant: a.Tenant, AppID: a.ID, Email: a.Email, IDPID: m.idpID, User: m.user, State: m.state, Protected: c.app.protected[a.ID], Detail: detail}
	if m.directory >= 0 {
		d := c.directories[m.directory]
		f.Organization, f.Directory, f.By = d.Organization, d.ID, byID
		if m.byEmail {
			f.By = byEmail
		}
	}
	return f
}

// met returns the users that govern the account's matches, active ones first: of those that a directory has of one person, the one that
// was created last.
func (a account) met(byEmail bool) []match {
	var out []match
	for _, m := range a.matches {
		if m.byEmail != byEmail {
			continue
		}
		i := slices.IndexFunc(out, func(o match) bool {
			return o.directory == m.directory && cmp.Or(o.idpID, o.user) == cmp.Or(m.idpID, m.user)
		})
		switch {
		case i < 0:
			out = append(out, m)
		case cmp.Or(m.created.Compare(out[i].created), cmp.Compare(m.user, out[i].user)) > 0:
			out[i] = m
		}
	}
	slices.SortStableFunc(out, func(a, b match) int {
		switch {
		case a.active == b.active:
			return 0
		case a.active:
			return -1
		}
		return 1
	})
	return out
}

// duplicates accuses accounts that are the same active user. The verdict stays: each of them is somebody who is there.
func (c *comparison) duplicates() {
	owners := map[owner][]int{}
	for n, a := range c.app.accounts {
		if c.verdicts[n] == listedActive {
			m := a.governing()
			at := owner{m.directory, m.user}
			owners[at] = append(owners[at], n)
		}
	}
	for _, all := range owners {
		if len(all) < 2 {
			continue
		}
		ids := make([]string, len(all))
		for i, n := range all {
			ids[i] = c.app.accounts[n].ID
		}
		for _, n := range all {
			a := c.app.accounts[n]
			c.report.Findings = append(c.report.Findings, c.finding(Duplicate, a, a.governing(), "accounts "+strings.Join(ids, ", ")+" are the same person"))
		}
	}
}

// owner is a user of a directory.
type owner struct {
	directory int
	user      string
}

// governing is the user that an account with the verdict listedActive is.
func (a account) governing() match {
	if a.External != "" {
		return a.met(false)[0]
	}
	return a.met(true)[0]
}

func gone(ids []match) string {
	if len(ids) == 0 {
		return "not listed any more"
	}
	return "listed as " + stateOf(ids[0])
}

func stateOf(m match) string { return cmp.Or(m.state, "not active") }
