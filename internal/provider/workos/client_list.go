package workos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rollcallhq/rollcall/internal/provider"
)

// Directories implements provider.Listing.
func (c *Client) Directories(ctx context.Context, page func(context.Context, []provider.ListedDirectory) error) error {
	r := request{what: "list the directories", path: "directories", query: first(nil), paces: []*pace{c.limits.all}}
	return walk(ctx, c, r, func(listed []listedDirectory, date time.Time) error {
		out := make([]provider.ListedDirectory, 0, len(listed))
		for i := range listed {
			d, err := listed[i].read(date)
			if err != nil {
				return r.unreadable(err)
			}
			out = append(out, d)
		}
		return page(ctx, out)
	})
}

// Directory implements provider.Listing.
func (c *Client) Directory(ctx context.Context, id string) (provider.ListedDirectory, error) {
	var d listedDirectory
	r := request{what: "read the directory " + shorten(id), path: "directories/" + url.PathEscape(id), paces: []*pace{c.limits.all}}
	date, err := c.one(ctx, r, id, &d)
	if err != nil {
		return provider.ListedDirectory{}, err
	}
	out, err := d.read(date)
	if err == nil && out.ID != id {
		err = errOther
	}
	if err != nil {
		return provider.ListedDirectory{}, r.unreadable(err)
	}
	return out, nil
}

// User implements provider.Listing.
func (c *Client) User(ctx context.Context, id string) (provider.Listed, error) {
	var o object
	r := request{what: "read the user " + shorten(id), path: "directory_users/" + url.PathEscape(id), paces: c.limits.ofUsers("")}
	if _, err := c.one(ctx, r, id, &o); err != nil {
		return provider.Listed{}, err
	}
	out, err := c.user(&o)
	if err == nil && out.User.ID != id {
		err = errOther
	}
	if err != nil {
		return provider.Listed{}, r.unreadable(err)
	}
	return out, nil
}

// errOther is an answer about something else than was asked.
var errOther = fmt.Errorf("%w: it is of another id", provider.ErrAnswer)

// one asks for one object by its id.
func (c *Client) one(ctx context.Context, r request, id string, into any) (time.Time, error) {
	if id == "" || id == "." || id == ".." {
		return time.Time{}, fmt.Errorf("workos: %s: %w: it has no id", r.what, provider.ErrNotListed)
	}
	date, err := c.ask(ctx, r, into)
	return date, notListed(err)
}

// Users implements provider.Listing.
func (c *Client) Users(ctx context.Context, directoryID string, page func(context.Context, provider.ListedPage) error) error {
	return c.objects(ctx, listing{
		what: "list the users of", by: "directory", id: directoryID, directory: directoryID,
		path: "directory_users", paces: c.limits.ofUsers(directoryID), read: c.user,
	}, page)
}

// Groups implements provider.Listing.
func (c *Client) Groups(ctx context.Context, directoryID string, page func(context.Context, provider.ListedPage) error) error {
	return c.objects(ctx, listing{
		what: "list the groups of", by: "directory", id: directoryID, directory: directoryID,
		path: "directory_groups", paces: []*pace{c.limits.all}, read: group,
	}, page)
}

// Members implements provider.Listing. The limit of such requests is one for all directories, because the group's is not known.
func (c *Client) Members(ctx context.Context, groupID string, page func(context.Context, provider.ListedPage) error) error {
	return c.objects(ctx, listing{
		what: "list the members of", by: "group", id: groupID,
		path: "directory_users", paces: c.limits.ofUsers(""), read: c.user,
	}, page)
}

// GroupsOf implements provider.Listing.
func (c *Client) GroupsOf(ctx context.Context, userID string, page func(context.Context, provider.ListedPage) error) error {
	return c.objects(ctx, listing{
		what: "list the groups of", by: "user", id: userID,
		path: "directory_groups", paces: []*pace{c.limits.all}, read: group,
	}, page)
}

// listing is a list of users or groups that is to be read.
type listing struct {
	what      string
	path      string
	by, id    string // what narrows it
	directory string // that all are of; empty: it is not known
	said      string // the directory that they say they are of
	paces     []*pace
	read      func(*object) (provider.Listed, error)
}

func (c *Client) objects(ctx context.Context, l listing, page func(context.Context, provider.ListedPage) error) error {
	r := request{what: l.what + " " + shorten(l.id), path: l.path, query: first(url.Values{l.by: {l.id}}), paces: l.paces}
	if l.id == "" {
		return fmt.Errorf("workos: %s: %w: the %s has no id", l.what, provider.ErrNotListed, l.by)
	}
	return walk(ctx, c, r, func(objects []object, date time.Time) error {
		items := make([]provider.Listed, 0, len(objects))
		for i := range objects {
			item, err := l.item(&objects[i])
			if err != nil {
				return r.unreadable(err)
			}
			items = append(items, item)
		}
		return page(ctx, provider.ListedPage{Items: items, Date: date})
	})
}

// item reads one of the list, and refuses one of another directory than the others: who is listed there by mistake would be
// missing here.
func (l *listing) item(o *object) (provider.Listed, error) {
	item, err := l.read(o)
	if err != nil {
		return provider.Listed{}, err
	}
	l.said = cmp.Or(l.directory, l.said, item.Directory)
	if item.Directory != "" && item.Directory != l.said {
		return provider.Listed{}, fmt.Errorf("%w: %s is of the directory %s, not %s", provider.ErrAnswer, o.ID, item.Directory, l.said)
	}
	item.Directory = cmp.Or(item.Directory, l.directory)
	return item, nil
}

func (c *Client) user(o *object) (provider.Listed, error) {
	out, err := listed(o)
	out.User = personOf(o, c.config.Options.Attributes)
	return out, err
}

func group(o *object) (provider.Listed, error) {
	out, err := listed(o)
	out.Group = teamOf(o)
	return out, err
}

// listed reads what users and groups have in common. One without a usable id fails the list: left out it would be missing.
func listed(o *object) (provider.Listed, error) {
	if err := checkKeys(provider.Identity{ID: string(o.ID), Directory: string(o.DirectoryID)}); err != nil {
		return provider.Listed{}, fmt.Errorf("%w: %w", provider.ErrAnswer, err)
	}
	return provider.Listed{
		Directory: string(o.DirectoryID), Organization: organizationOf(o),
		Created: parseTime(o.CreatedAt), Updated: parseTime(o.UpdatedAt),
	}, nil
}

// listedDirectory is a directory with its counts, which not every answer has.
type listedDirectory struct {
	object
	Metadata lenient[struct {
		Users struct {
			Active   *int `json:"active"`
			Inactive *int `json:"inactive"`
		} `json:"users"`
		Groups *int `json:"groups"`
	}] `json:"metadata"`
}

// states are those of a listed directory that events call otherwise.
var states = map[text]text{"linked": "active", "unlinked": "inactive"}

func (d *listedDirectory) read(date time.Time) (provider.ListedDirectory, error) {
	if err := checkKeys(provider.Identity{ID: string(d.ID)}); err != nil {
		return provider.ListedDirectory{}, fmt.Errorf("%w: %w", provider.ErrAnswer, err)
	}
	if state, other := states[d.State]; other {
		d.State = state
	}
	out := provider.ListedDirectory{
		ID: string(d.ID), Organization: organizationOf(&d.object), Connection: *connectionOf(&d.object),
		Created: parseTime(d.CreatedAt), Updated: parseTime(d.UpdatedAt), Date: date,
	}
	if m := d.Metadata.value; m.Users.Active != nil && m.Users.Inactive != nil && m.Groups != nil {
		out.Counted, out.Active, out.Inactive, out.Groups = true, *m.Users.Active, *m.Users.Inactive, *m.Groups
	}
	return out, nil
}

// first is the query of a list's first page. What is new comes last, so that nothing moves to a page that was read.
func first(v url.Values) url.Values {
	if v == nil {
		v = url.Values{}
	}
	v.Set("limit", strconv.Itoa(mostRows))
	v.Set("order", "asc")
	return v
}

// walk reads a list page by page, and returns nil only when it said itself that nothing follows.
func walk[T any](ctx context.Context, c *Client, r request, each func([]T, time.Time) error) error {
	var seen circle
	for {
		var list rows[T]
		date, err := c.ask(ctx, r, &list)
		next := list.Metadata.After
		switch {
		case err != nil:
			return notListed(err)
		case list.Data == nil:
			return r.unreadable(fmt.Errorf("%w: it has no list", provider.ErrAnswer))
		case !next.told:
			return r.cutShort("a page does not say whether more follows")
		case next.id != "" && len(*list.Data) == 0:
			return r.cutShort("a page is empty, and says that more follows")
		case next.id != "" && seen.again(next.id):
			return r.cutShort("the pages go round in a circle")
		}
		if err := each(*list.Data, date); err != nil || next.id == "" {
			return err
		}
		r.query.Set("after", next.id)
	}
}

// circle notices that cursors repeat, without keeping them all (Brent's way).
type circle struct {
	kept         string
	steps, limit int
}

func (c *circle) again(id string) bool {
	if id == c.kept {
		return true
	}
	if c.steps++; c.steps > c.limit {
		c.kept, c.steps, c.limit = id, 0, 2*c.limit+1
	}
	return false
}

// notListed names what the provider does not know. A 404 without a word is of somebody in between.
func notListed(err error) error {
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusNotFound && refused.message != "" {
		return fmt.Errorf("%w: %w", err, provider.ErrNotListed)
	}
	return err
}
