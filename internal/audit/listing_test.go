package audit_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
)

// company is a provider's listing, two items a page.
type company struct {
	directories []provider.ListedDirectory
	users       map[string][]provider.Listed // by directory
	groups      map[string][]provider.Listed // by directory
	members     map[string][]string          // users by group
	cut         map[string]error             // what ends a listing after its first page, by directory or group
	asked       []string
}

var hired = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func newCompany() *company {
	return &company{users: map[string][]provider.Listed{}, groups: map[string][]provider.Listed{}, members: map[string][]string{}, cut: map[string]error{}}
}

// directory adds a directory of an organization.
func (c *company) directory(id, organization string) {
	c.directories = append(c.directories, provider.ListedDirectory{
		ID: id, Organization: organization, Connection: directory.Connection{Type: "okta scim v2.0", State: "linked"},
	})
}

// user adds a user with the provider's id u-NAME, created so many days after the first.
func (c *company) user(in, name, idpID, state string, days int) {
	c.users[in] = append(c.users[in], provider.Listed{Directory: in, User: &directory.Person{
		ID: "u-" + name, IDPID: idpID, State: state, Created: hired.AddDate(0, 0, days), Profile: directory.Profile{Email: name + "@example.com"},
	}})
}

func (c *company) group(in, id string, users ...string) {
	c.groups[in] = append(c.groups[in], provider.Listed{Directory: in, Group: &directory.Team{ID: id, Name: "Team " + id}})
	for _, u := range users {
		c.members[id] = append(c.members[id], "u-"+u)
	}
}

func (c *company) pages(ctx context.Context, of string, items []provider.Listed, page func(context.Context, provider.ListedPage) error) error {
	c.asked = append(c.asked, of)
	for some := range slices.Chunk(items, 2) {
		if err := page(ctx, provider.ListedPage{Items: some}); err != nil {
			return err
		}
		if err := c.cut[of]; err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (c *company) Directories(ctx context.Context, page func(context.Context, []provider.ListedDirectory) error) error {
	if err := c.cut[""]; err != nil {
		return err
	}
	return page(ctx, c.directories)
}

func (c *company) Directory(_ context.Context, id string) (provider.ListedDirectory, error) {
	for _, d := range c.directories {
		if d.ID == id {
			return d, nil
		}
	}
	return provider.ListedDirectory{}, provider.ErrNotListed
}

func (c *company) Users(ctx context.Context, id string, page func(context.Context, provider.ListedPage) error) error {
	return c.pages(ctx, id, c.users[id], page)
}

func (c *company) Groups(ctx context.Context, id string, page func(context.Context, provider.ListedPage) error) error {
	return c.pages(ctx, "groups of "+id, c.groups[id], page)
}

func (c *company) Members(ctx context.Context, group string, page func(context.Context, provider.ListedPage) error) error {
	var items []provider.Listed
	for _, all := range c.users {
		for _, u := range all {
			if slices.Contains(c.members[group], u.User.ID) {
				items = append(items, u)
			}
		}
	}
	return c.pages(ctx, group, items, page)
}

func (c *company) GroupsOf(context.Context, string, func(context.Context, provider.ListedPage) error) error {
	return fmt.Errorf("the groups of each user are a request each: nobody asks for them")
}

func (c *company) User(context.Context, string) (provider.Listed, error) {
	return provider.Listed{}, fmt.Errorf("each user is a request: nobody asks for them")
}
