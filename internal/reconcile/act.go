package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// findings are what comparing a directory found, and what comes of it.
type findings struct {
	r        *Reconciler
	run      *store.Run
	listed   provider.ListedDirectory
	known    store.KnownDirectory
	compared store.Comparison
	counts   map[store.DriftKind]store.DriftCount
	planned  bool // nothing is done about them

	short       string // why people and groups that are not listed may be there all the same
	holdLeavers string // why nothing is taken away; "" when it is
	holdLosers  string // why no memberships and groups are taken away
}

// guard decides whether what would be taken away is too much for nobody to have said it, now or in many runs of a day.
func (f *findings) guard(ctx context.Context) error {
	g, c := f.r.Guard, f.compared
	before, err := f.r.ended(ctx, f.run)
	if err != nil {
		return err
	}
	why := f.short // the better reason where there are both: whom a listing lacks nobody should approve
	if c.Leavers > 0 && g.Exceeded(c.Leavers+before, c.Active+before) {
		exceeded := fmt.Sprintf("%d of %d active accounts would end", c.Leavers, c.Active)
		if before > 0 {
			exceeded += fmt.Sprintf(", after %d within a day", before)
		}
		why = strings.TrimPrefix(why+"; "+exceeded+", which is more than the guard allows", "; ")
	}
	f.holdLeavers = why
	if g.Exceeded(c.Losers, c.Active) {
		f.holdLosers = fmt.Sprintf("%d of %d active accounts would lose a group, which is more than the guard allows", c.Losers, c.Active)
	}
	return nil
}

const (
	guardSpan = 24 * time.Hour // in which the guard counts who was ended by listings alone
	guardRuns = 2000           // more than begin in that time
)

// ended is how many accounts of the run's directory earlier runs ended by themselves within the guard's span.
func (r *Reconciler) ended(ctx context.Context, run *store.Run) (n int64, err error) {
	runs, err := r.Store.Runs(ctx, store.RunFilter{Source: run.Source, Directory: run.Directory, Repairs: true, Limit: guardRuns})
	for _, earlier := range runs {
		if earlier.ID != run.ID && earlier.Begun.After(run.Begun.Add(-guardSpan)) {
			n += earlier.Kinds[store.ShouldBeInactive].Repaired
		}
	}
	return n, err
}

// guarded holds what a guard stops.
func (f *findings) guarded(it Item) Item {
	removes := it.Kind.Removes() || it.leaves
	if it.Action == Repairs && (removes && f.holdLeavers != "" || removes && !it.leaves && f.holdLosers != "") {
		it.Action = Held
	}
	return it
}

// heldFor says why something was held; "" when nothing was.
func (f *findings) heldFor() string {
	var held int64
	for _, c := range f.counts {
		held += c.Held
	}
	if held == 0 {
		return ""
	}
	var why []string
	for _, w := range []string{f.holdLeavers, f.holdLosers} {
		if w != "" && !slices.Contains(why, w) {
			why = append(why, w)
		}
	}
	return strings.Join(why, "; ") + ": held until somebody approves it"
}

// count counts an item as what became of it.
func (f *findings) count(it Item) {
	c := f.counts[it.Kind]
	c.Found++
	switch it.Action {
	case Repairs:
		if !f.planned {
			c.Repaired++
		}
	case Asks:
		c.Asked++
	case Held:
		c.Held++
	}
	f.counts[it.Kind] = c
}

// each calls fn for every finding, judged, what takes something away first.
func (f *findings) each(ctx context.Context, fn func(it Item) error) error {
	var after store.DriftKey
	for {
		page, err := f.r.Store.Drift(ctx, f.run.ID, after, f.r.Page)
		if err != nil {
			return err
		}
		for _, d := range page {
			if err := fn(f.judge(d)); err != nil {
				return err
			}
			after = d.DriftKey
		}
		if len(page) < f.r.Page {
			return nil
		}
		if err := f.stay(ctx); err != nil {
			return err
		}
	}
}

// repair puts what may be repaired into the queue, once all are confirmed whom the listing lacks.
func (f *findings) repair(ctx context.Context) error {
	if err := f.confirm(ctx, Repairs, 0); err != nil {
		return err
	}
	if err := f.confirmMembers(ctx); err != nil {
		return err
	}
	return f.each(ctx, func(it Item) error {
		if it.Action == Repairs {
			err := f.r.enqueue(ctx, f.run.Source, it.Event, func() error { return f.stay(ctx) })
			if errors.Is(err, directory.ErrInvalid) {
				f.r.Log.Error().Err(err).Str("directory", f.run.Directory).Str("subject", it.Event.In(f.run.Source).SubjectID()).Msg("what is listed cannot be written down; it is left as it is")
				it.Action = Asks
			} else if err != nil {
				return err
			}
		}
		f.count(it)
		return nil
	})
}

// errEnough ends a look at the findings.
var errEnough = errors.New("enough")

// confirm looks up the people who are to leave because they are not listed, as many as most, if that is set. What would only be done with
// somebody's approval counts when action is empty.
func (f *findings) confirm(ctx context.Context, action Action, most int) error {
	n := 0
	err := f.each(ctx, func(it Item) error {
		if it.Kind != store.ShouldBeInactive || most > 0 && n == most {
			return errEnough
		}
		if it.Event.Type != repair.UserUnlisted || action != "" && it.Action != action {
			return nil
		}
		n++
		return f.lookUp(ctx, it)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// lookUp asks for somebody who is not listed. Whom the provider knows as active all the same, its listing lacks: it is no ground to
// take anything from anybody.
func (f *findings) lookUp(ctx context.Context, it Item) error {
	l, err := f.r.Listing.User(ctx, it.Register.User)
	switch {
	case errors.Is(err, provider.ErrNotListed):
		return nil
	case err != nil:
		return fmt.Errorf("look up %s, who is not listed: %w", it.Register.User, err)
	case l.User != nil && l.User.State == active && (l.Directory == "" || l.Directory == f.run.Directory):
		return fmt.Errorf("%w: %s is one of them\nhint: it is tried again; if it stays so, tell the provider's support", ErrLacking, it.Register.User)
	}
	return nil
}

// confirmMembers asks for the groups of people who are to leave one because it does not list them: nobody counts the members of a group,
// so that a listing of them which ends too early looks like a whole one. The guard bounds how many people they are.
func (f *findings) confirmMembers(ctx context.Context) error {
	groups := map[string]map[string]bool{} // by user
	return f.each(ctx, func(it Item) error {
		if it.Kind != store.ExtraMembership || it.Action != Repairs {
			return nil
		}
		user := it.Register.User
		if groups[user] == nil {
			var err error
			if groups[user], err = f.groupsOf(ctx, user); err != nil {
				return err
			}
		}
		if groups[user][it.Register.Group] {
			return fmt.Errorf("%w: the members of group %s lack %s\nhint: it is tried again; if it stays so, tell the provider's support", ErrLacking, it.Register.Group, user)
		}
		return nil
	})
}

// groupsOf are the groups that a user is in by the user's own listing; of one whom the provider does not know there are none.
func (f *findings) groupsOf(ctx context.Context, user string) (map[string]bool, error) {
	groups := map[string]bool{}
	err := f.r.Listing.GroupsOf(ctx, user, func(_ context.Context, p provider.ListedPage) error {
		for _, l := range p.Items {
			if l.Group != nil {
				groups[l.Group.ID] = true
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, provider.ErrNotListed) {
		return nil, fmt.Errorf("list the groups of %s, whom one of them does not list: %w", user, err)
	}
	return groups, nil
}

// enqueue puts the repair into the queue, waiting while that is full or away: nobody else waits for it. It calls waits between two tries.
func (r *Reconciler) enqueue(ctx context.Context, source string, e repair.Event, waits func() error) error {
	body, err := e.Body()
	if err != nil {
		return fmt.Errorf("repair %s: %w", e.In(source).SubjectID(), err)
	}
	d := queue.Delivery{Source: source, ID: e.ID, Directory: e.Directory, Origin: queue.Reconcile, Received: r.Now(), Body: body}
	for {
		_, err := r.Queue.Enqueue(ctx, d)
		if err == nil || !errors.Is(err, queue.ErrFull) && !errors.Is(err, queue.ErrUnavailable) {
			return err
		}
		if err := waits(); err != nil {
			return err
		}
		timer := time.NewTimer(fullWait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// stay makes the run's lease longer.
func (f *findings) stay(ctx context.Context) error {
	return f.r.Store.Stage(ctx, f.run.ID, store.Staged{}, f.r.lease())
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
