package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
)

// stager brings a listing into the database, a page at a time.
type stager struct {
	r      *Reconciler
	run    string
	oldest time.Time // that a page may be from
	rows   store.Staged
	held   int
}

// list stages a whole directory. Nil means that every listing of it was told to its end.
func (s *stager) list(ctx context.Context, id string) error {
	err := s.r.Listing.Users(ctx, id, func(ctx context.Context, p provider.ListedPage) error { return s.users(ctx, id, p) })
	if err != nil {
		return fmt.Errorf("list the users: %w", err)
	}
	err = s.r.Listing.Groups(ctx, id, func(ctx context.Context, p provider.ListedPage) error { return s.groups(ctx, id, p) })
	if err != nil {
		return fmt.Errorf("list the groups: %w", err)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	for after := ""; ; {
		groups, err := s.r.Store.StagedGroups(ctx, s.run, after, s.r.Page)
		if err != nil {
			return err
		}
		for _, group := range groups {
			err := s.r.Listing.Members(ctx, group, func(ctx context.Context, p provider.ListedPage) error { return s.members(ctx, group, p) })
			if err != nil {
				return fmt.Errorf("list the members of group %s: %w", group, err)
			}
			after = group
		}
		if len(groups) < s.r.Page {
			return s.flush(ctx)
		}
	}
}

// fresh refuses a page from before the listing began: something between the provider and us repeats an old answer.
func (s *stager) fresh(p provider.ListedPage) error {
	if !p.Date.IsZero() && p.Date.Before(s.oldest) {
		return fmt.Errorf("%w: a page of it is of %s\nhint: a proxy answers in the provider's place", provider.ErrCutShort, p.Date.UTC().Format(time.RFC3339))
	}
	return nil
}

func (s *stager) users(ctx context.Context, id string, p provider.ListedPage) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	for _, l := range p.Items {
		if err := of(id, l); err != nil {
			return err
		}
		if l.User == nil || !s.usable(l.User.ID) {
			continue
		}
		s.rows.Users = append(s.rows.Users, store.StagedUser{
			Organization: clean(l.Organization), Active: l.User.State == active, Person: cleaned(*l.User), Updated: l.Updated,
		})
	}
	return s.add(ctx, len(p.Items))
}

func (s *stager) groups(ctx context.Context, id string, p provider.ListedPage) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	for _, l := range p.Items {
		if err := of(id, l); err != nil {
			return err
		}
		if l.Group == nil || !s.usable(l.Group.ID) {
			continue
		}
		team := directory.Team{ID: l.Group.ID, IDPID: clean(l.Group.IDPID), Name: clean(l.Group.Name)}
		s.rows.Groups = append(s.rows.Groups, store.StagedGroup{Organization: clean(l.Organization), Team: team, Updated: l.Updated})
	}
	return s.add(ctx, len(p.Items))
}

func (s *stager) members(ctx context.Context, group string, p provider.ListedPage) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	for _, l := range p.Items {
		if l.User != nil && s.usable(l.User.ID) {
			s.rows.Memberships = append(s.rows.Memberships, store.StagedMembership{Group: group, User: l.User.ID})
		}
	}
	return s.add(ctx, len(p.Items))
}

// of refuses what is of another directory than the one that was asked for: such a listing says nothing about this one.
func of(id string, l provider.Listed) error {
	if l.Directory != "" && l.Directory != id {
		return fmt.Errorf("%w: it holds an object of directory %s", provider.ErrAnswer, l.Directory)
	}
	return nil
}

// usable reports an id that a register can have; no event could have brought another one.
func (s *stager) usable(id string) bool {
	return id != "" && len(id) <= directory.MaxID && directory.Text(id, directory.MaxID) == id
}

// add stages what was kept when there is enough of it. A page without rows, too, makes the lease longer in time.
func (s *stager) add(ctx context.Context, n int) error {
	if s.held += n; s.held < s.r.Page && n > 0 {
		return nil
	}
	return s.flush(ctx)
}

func (s *stager) flush(ctx context.Context) error {
	if err := s.r.Store.Stage(ctx, s.run, s.rows, s.r.lease()); err != nil {
		return err
	}
	s.rows.Users, s.rows.Groups, s.rows.Memberships, s.held = s.rows.Users[:0], s.rows.Groups[:0], s.rows.Memberships[:0], 0
	return nil
}

// active is the state that gives access; see directory.Person.
const active = "active"

func clean(s string) string { return directory.Text(s, directory.MaxText) }

// cleaned makes a person storable, as a decoder does: one of them must not keep all others from being compared.
func cleaned(p directory.Person) directory.Person {
	p.IDPID, p.State, p.FirstName, p.LastName, p.Name = directory.Text(p.IDPID, directory.MaxID), clean(p.State), clean(p.FirstName), clean(p.LastName), clean(p.Name)
	p.Email = directory.Text(p.Email, directory.MaxEmail)
	if len(p.Attributes) == 0 {
		p.Attributes = nil
		return p
	}
	attributes := make(map[string]string, len(p.Attributes))
	for name, value := range p.Attributes {
		attributes[clean(name)] = clean(value)
	}
	p.Attributes = attributes
	return p
}
