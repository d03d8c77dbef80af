package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Returned asks for the groups of a user who governs an account that another one governed before: somebody who came back under a new
// id. Providers need not tell of memberships that they think unchanged. What was never heard of is repaired; nothing is taken away.
func (r *Reconciler) Returned(ctx context.Context, user directory.ID) error {
	run, asked := newRun(), r.Now()
	fence := asked
	var groups []directory.Team
	err := r.Listing.GroupsOf(ctx, user.ID, func(_ context.Context, p provider.ListedPage) error {
		if late := skew(p.Date, asked, r.Now()); late.Abs() > r.Tolerance {
			return ErrSkew
		} else if late < 0 && p.Date.Before(fence) {
			fence = p.Date
		}
		for _, l := range p.Items {
			if err := of(user.Directory, l); err != nil {
				return err
			}
			if l.Group != nil {
				groups = append(groups, *l.Group)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the groups of user %s: %w", user.ID, err)
	}
	keys := make([]store.RegisterKey, len(groups))
	for i, g := range groups {
		keys[i] = store.RegisterKey{Group: g.ID, User: user.ID}
	}
	seen, err := r.Store.Seen(ctx, user.Scope, keys)
	if err != nil {
		return err
	}
	for i, g := range groups {
		if seen[i] != "" {
			continue
		}
		e := repair.Event{
			ID: repair.NewID(run, repair.MembershipListed, g.ID+"\x00"+user.ID), Type: repair.MembershipListed, Directory: user.Directory,
			Occurred: fence.Add(-margin).UTC().Truncate(time.Microsecond), Why: fmt.Sprintf("a member, as the directory lists somebody who returned (run %s)", run),
			Membership: &directory.Membership{Group: g.ID, User: user.ID, GroupName: clean(g.Name)},
		}
		if err := r.enqueue(ctx, user.Source, e, func() error { return nil }); err != nil {
			return err
		}
	}
	return nil
}
