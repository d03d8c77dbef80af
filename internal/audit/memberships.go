package audit

import (
	"context"
	"fmt"

	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/provider"
)

// team is a group that the application has members in.
type team struct {
	directory int
	id, name  string
	members   map[string]bool // the application's ids of those that it lists
	err       error           // it was not listed to its end
}

// Reasons for which a membership is not judged.
const (
	noAccount     = "a membership is of an account that could not be judged"
	strangeGroups = "no group of application.inventory.memberships is one that a directory lists: group_id is the provider's id of the group"
)

// memberships compares the memberships of those who are there. Of others their accounts are reported. Its error is the context's.
func (c *comparison) memberships(ctx context.Context) error {
	mentioned := map[string]bool{}
	for _, m := range c.app.memberships {
		if _, is := c.member(m); is {
			mentioned[m.Group] = true
		}
	}
	people := map[owner][]string{}
	for n, a := range c.app.accounts {
		if c.verdicts[n] == listedActive && len(mentioned) > 0 {
			for _, m := range a.matches {
				at := owner{m.directory, m.user}
				people[at] = append(people[at], a.ID)
			}
		}
	}
	teams, unlisted, err := c.teams(ctx, mentioned)
	if err != nil {
		return err
	}
	for _, t := range teams {
		t.err = c.Listing.Members(ctx, t.id, func(_ context.Context, page provider.ListedPage) error {
			for _, u := range page.Items {
				if u.User == nil {
					continue
				}
				for _, id := range people[owner{t.directory, u.User.ID}] {
					t.members[id] = true
				}
			}
			return nil
		})
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for _, m := range c.app.memberships {
		c.judgeMembership(m, teams, unlisted)
	}
	return nil
}

// member returns the account that a membership is of, when it is somebody who is there.
func (c *comparison) member(m inventory.Membership) (account, bool) {
	for _, n := range c.app.byID[m.User] {
		if c.verdicts[n] == listedActive {
			return c.app.accounts[n], true
		}
	}
	return account{}, false
}

// teams lists the mentioned groups. Where a directory's groups could not be listed, unlisted says why.
func (c *comparison) teams(ctx context.Context, mentioned map[string]bool) (teams map[string]*team, unlisted error, err error) {
	teams = map[string]*team{}
	for at, d := range c.directories {
		if len(mentioned) == 0 {
			break
		}
		failed := c.Listing.Groups(ctx, d.ID, func(_ context.Context, page provider.ListedPage) error {
			for _, g := range page.Items {
				if g.Group != nil && mentioned[g.Group.ID] {
					teams[g.Group.ID] = &team{directory: at, id: g.Group.ID, name: g.Group.Name, members: map[string]bool{}}
				}
			}
			return nil
		})
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if failed != nil {
			unlisted = fmt.Errorf("the groups of directory %s could not be listed to their end: %s", d.ID, firstLine(failed))
		}
	}
	return teams, unlisted, nil
}

func (c *comparison) judgeMembership(m inventory.Membership, teams map[string]*team, unlisted error) {
	a, is := c.member(m)
	t := teams[m.Group]
	switch {
	case !is && c.doubtful(m.User):
		c.unknown[noAccount]++
	case !is, t != nil && t.err == nil && t.members[a.ID]:
	case t == nil && unlisted != nil:
		c.unknown[unlisted.Error()]++
	case t == nil && len(teams) == 0:
		c.unknown[strangeGroups]++
	case t == nil:
		c.accuseMember(a, m, match{directory: -1}, "", "no directory lists the group any more")
	case t.err != nil:
		c.unknown[fmt.Sprintf("the members of group %s could not be listed to their end: %s", t.id, firstLine(t.err))]++
	default:
		c.accuseMember(a, m, a.governing(), t.name, "the directory does not list it in the group")
	}
}

// doubtful reports that an account of this id is active in the application, and could not be judged.
func (c *comparison) doubtful(id string) bool {
	for _, n := range c.app.byID[id] {
		if c.verdicts[n] == unjudged && len(c.tenants[c.app.accounts[n].Tenant]) > 0 {
			return true
		}
	}
	return false
}

func (c *comparison) accuseMember(a account, m inventory.Membership, who match, name, detail string) {
	f := c.finding(ExtraMembership, a, who, detail)
	f.Group, f.GroupName = m.Group, name
	c.report.Findings = append(c.report.Findings, f)
}
