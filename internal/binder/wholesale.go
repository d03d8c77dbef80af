package binder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Plan is what telling the application of a whole directory would do: the net difference between what it was told and what
// is, and never what happened in between.
type Plan struct {
	directory.Scope
	Everything bool               // as if it had been told nothing
	Changes    []directory.Change // leavers first
	Accounts   int                // of the directory
	Protected  []Leaver           // who would have to be deactivated, and whom nothing wholesale deactivates: left out
	Preview

	shielded map[string]bool // the application's users whom nothing wholesale deactivates
}

// ErrMoved says that somebody would lose access who was not in the plan.
var ErrMoved = errors.New("the directory has moved on since it was looked at")

// Plan returns what telling the application of a directory would do now, without doing it.
func (b *Binder) Plan(ctx context.Context, scope directory.Scope, everything bool) (p Plan, err error) {
	p = Plan{Scope: scope, Everything: everything}
	err = b.Store.Update(ctx, []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
		p.Changes, p.Accounts, err = difference(ctx, tx, scope, everything)
		return err
	})
	if err != nil {
		return p, err
	}
	if p.shielded, err = b.Protected(ctx); err != nil {
		return p, err
	}
	if p.Preview, err = b.Preview(ctx, scope, p.Changes); err != nil {
		return p, err
	}
	spoken, err := b.spoken(ctx, p)
	if err != nil {
		return p, err
	}
	for _, l := range p.Leavers {
		if _, alone := spoken[removal{account: l.Account.ID, kind: directory.AccountDeactivated}]; p.shielded[l.AppID] && !alone {
			p.Protected = append(p.Protected, l)
		}
	}
	if len(p.Protected) == 0 {
		return p, nil
	}
	p.Changes = p.without(p.Changes, spoken)
	p.Preview, err = b.Preview(ctx, scope, p.Changes)
	return p, err
}

// removal is what a removal takes.
type removal struct {
	account     string
	kind        directory.ChangeKind
	group, role string
}

func removalOf(c directory.Change) removal { return removal{c.Account, c.Kind, c.Group, c.Role} }

// spoken returns the directory's words on single people whom nothing wholesale deactivates, as far as they wait to be told:
// what is left of these changes takes the same, and is no less their word.
func (b *Binder) spoken(ctx context.Context, p Plan) (map[removal]directory.Change, error) {
	if len(p.shielded) == 0 {
		return nil, nil
	}
	var lanes []store.Lane
	for _, c := range p.Changes {
		if c.Kind.Removes() {
			lanes = append(lanes, store.Lane{Scope: p.Scope, Account: c.Account})
		}
	}
	links, err := b.Store.LinksOf(ctx, nil, lanes)
	if err != nil {
		return nil, err
	}
	lanes = slices.DeleteFunc(lanes, func(l store.Lane) bool { return links[l].State != store.Linked || !p.shielded[links[l].AppID] })
	spoken, mercy := map[removal]directory.Change{}, b.newMercy(nil)
	for _, track := range []store.Track{store.Bound, store.Posted} {
		waiting, err := b.Store.Waiting(ctx, nil, track, lanes)
		if err != nil {
			return nil, err
		}
		for _, c := range waiting {
			wholesale, _, err := mercy.wholesale(ctx, c)
			if err != nil {
				return nil, err
			}
			if c.Kind.Removes() && !wholesale {
				spoken[removalOf(c.Change)] = c.Change
			}
		}
	}
	return spoken, nil
}

func difference(ctx context.Context, tx store.Tx, scope directory.Scope, everything bool) ([]directory.Change, int, error) {
	announced, told, err := tx.Announced(ctx, scope)
	if err != nil {
		return nil, 0, err
	}
	if !everything {
		return directory.Difference(announced, told), len(announced.Accounts), nil
	}
	given, err := tx.Given(ctx, scope)
	if err != nil {
		return nil, 0, err
	}
	return afresh(announced, given), len(announced.Accounts), nil
}

// afresh is the difference to an application of which nothing is known but what it may ever have been given: leavers, then what
// is not so any more, then all that is.
func afresh(announced, given directory.Announced) []directory.Change {
	changes := directory.Difference(announced, directory.Announced{})
	n := slices.IndexFunc(changes, func(c directory.Change) bool { return c.Kind != directory.AccountDeactivated })
	if n < 0 {
		n = len(changes)
	}
	gone := slices.DeleteFunc(directory.Difference(announced, given), func(c directory.Change) bool {
		return c.Kind != directory.GrantRevoked && c.Kind != directory.RoleRevoked && c.Kind != directory.GroupEnded
	})
	return slices.Insert(changes, n, gone...)
}

// without leaves out all that protected accounts would lose but what the directory's word on them alone takes.
func (p Plan) without(changes []directory.Change, spoken map[removal]directory.Change) []directory.Change {
	spared := map[string]bool{}
	for _, l := range p.Protected {
		spared[l.Account.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(changes), func(c directory.Change) bool {
		_, alone := spoken[removalOf(c)]
		return c.Kind.Removes() && spared[c.Account] && !alone
	})
}

// Tell does what a plan says, once: it sets the mode, lays aside what waited, and has the difference told as it is now. Cause is
// "enforce" or "resync". Somebody who would lose access and is not in the plan is ErrMoved, and nothing is done. It returns how
// many changes will be told.
func (b *Binder) Tell(ctx context.Context, p Plan, m store.ModeRow, cause string) (int, error) {
	planned := map[string]bool{}
	for _, c := range p.Changes {
		if c.Kind == directory.AccountDeactivated {
			planned[c.Account] = true
		}
	}
	now := b.Now().UTC()
	event := fmt.Sprintf("%s:%s:%s", cause, p.Directory, now.Format("20060102T150405.000000Z"))
	told := 0
	err := b.Store.Update(ctx, []directory.Scope{p.Scope}, func(ctx context.Context, tx store.Tx) error {
		changes, _, err := difference(ctx, tx, p.Scope, p.Everything)
		if err != nil {
			return err
		}
		spoken, err := b.spoken(ctx, Plan{Scope: p.Scope, Changes: changes, shielded: p.shielded})
		if err != nil {
			return err
		}
		changes = p.without(changes, spoken)
		for i := range changes {
			if changes[i].Kind == directory.AccountDeactivated && !planned[changes[i].Account] {
				return fmt.Errorf("%w: %s would lose access, too", ErrMoved, changes[i].Account)
			}
			changes[i].Event, changes[i].Occurred = event, now
			if word, alone := spoken[removalOf(changes[i])]; alone {
				changes[i].Event, changes[i].Occurred = word.Event, word.Occurred
			}
		}
		told = len(changes)
		if _, err := tx.Discard(ctx, p.Scope, store.ResultObserved); err != nil {
			return err
		}
		if err := tx.SetMode(ctx, m); err != nil {
			return err
		}
		return tx.Save(ctx, store.Batch{
			Delta: directory.Delta{Changes: changes},
			Ledger: []store.Entry{{
				EventKey: store.EventKey{Source: p.Source, ID: event}, Type: "rollcall.directory." + cause, Subject: p.Directory, Directory: p.Directory,
				Occurred: now, Received: now, Origin: "operator", Outcome: store.Applied, Reason: directory.Text(strings.TrimSuffix("by "+m.By+": "+m.Reason, ": "), directory.MaxText),
			}},
		})
	})
	if err == nil {
		b.Wake()
	}
	return told, err
}

// Guard bounds how many leavers one wholesale act may have before somebody confirms their number.
type Guard struct {
	Accounts int // more of them
	Percent  int // or more than this part of the directory's accounts
	Floor    int // but never so few, or fewer
}

// Exceeded reports whether so many leavers of so many accounts need to be confirmed.
func (g Guard) Exceeded(leavers, accounts int) bool {
	return leavers > g.Floor && (leavers > g.Accounts || leavers*100 > g.Percent*accounts)
}
