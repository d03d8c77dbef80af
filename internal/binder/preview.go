package binder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Preview is what changes would do to the application.
type Preview struct {
	Activated, Updated, Deactivated int // accounts
	Granted, Revoked                int // memberships of groups
	RolesAdded, RolesRevoked        int
	Other                           int // changes of groups and of the directory

	Linked, Unlinked, Held int // accounts with changes, by what is known of their row; 0 when no link is configured

	Leavers  []Leaver         // linked accounts that would be deactivated, in the order of their changes
	Results  map[string]int   // changes by what would come of them
	Rows     map[string]int64 // that each binding would touch
	Unsure   int              // deactivations that would fail at this time, and end somebody's access when they do not
	Failed   int              // changes that would fail
	Failures []string         // why, of the first of them
}

// Leaver is an account of the application that would be deactivated.
type Leaver struct {
	Account       directory.ID
	AppID, Tenant string
	Email         string
}

const failuresNamed = 20

const (
	previewAtOnce = 64                     // lanes that a transaction of a preview takes on at most
	previewFor    = 100 * time.Millisecond // after which it takes on no more: a file lets nobody else write meanwhile
)

// Preview does what the changes of a directory would do, each account's alone and undone before the next one's, and counts.
// Nothing is stored, and no mark is written; what a statement does outside of the transaction, as to a sequence, is not undone.
func (b *Binder) Preview(ctx context.Context, scope directory.Scope, changes []directory.Change) (Preview, error) {
	return b.preview(ctx, scope, changes, previewAtOnce)
}

func (b *Binder) preview(ctx context.Context, scope directory.Scope, changes []directory.Change, atOnce int) (Preview, error) {
	p := Preview{Results: map[string]int{}, Rows: map[string]int64{}}
	var order []store.Lane
	lanes := map[store.Lane][]store.WaitingChange{}
	for i, c := range changes {
		c.Scope = scope
		p.count(c.Kind)
		row := store.WaitingChange{ChangeRow: store.ChangeRow{Seq: int64(i + 1), Change: c}}
		if lanes[row.Lane()] == nil {
			order = append(order, row.Lane())
		}
		lanes[row.Lane()] = append(lanes[row.Lane()], row)
	}
	if b.Database == nil {
		return p, nil
	}
	for len(order) > 0 {
		n, err := b.previewLanes(ctx, &p, order[:min(len(order), atOnce)], lanes)
		if err != nil {
			return p, fmt.Errorf("preview %d changes of %s: %w", len(changes), scope.Directory, err)
		}
		order = order[n:]
	}
	return p, nil
}

func (p *Preview) count(kind directory.ChangeKind) {
	switch kind {
	case directory.AccountActivated:
		p.Activated++
	case directory.AccountUpdated:
		p.Updated++
	case directory.AccountDeactivated:
		p.Deactivated++
	case directory.GrantAdded:
		p.Granted++
	case directory.GrantRevoked:
		p.Revoked++
	case directory.RoleAdded:
		p.RolesAdded++
	case directory.RoleRevoked:
		p.RolesRevoked++
	default:
		p.Other++
	}
}

// previewLanes previews lanes in one transaction, one after the other behind a savepoint, whose end frees what was locked after it.
// It returns how many it did.
func (b *Binder) previewLanes(parent context.Context, p *Preview, keys []store.Lane, changes map[store.Lane][]store.WaitingChange) (int, error) {
	s, ctx, err := b.begin(parent, false)
	if err != nil {
		return 0, err
	}
	defer s.undo()
	a := b.newAttempt(s, false)
	a.dry, a.store = true, nil
	for _, key := range keys {
		a.lane(key)
	}
	if err := a.loadLinks(ctx, keys); err != nil {
		return 0, err
	}
	if _, err := s.ExecContext(ctx, `SAVEPOINT account`); err != nil {
		return 0, err
	}
	began := time.Now()
	for i, key := range keys {
		if i > 0 && time.Since(began) > previewFor {
			return i, nil
		}
		if err := a.previewLane(ctx, p, a.lanes[key], changes[key]); err != nil {
			return i, err
		}
	}
	return len(keys), nil
}

// previewLane previews a lane without savepoints of its own; when something fails, again with them, so that it is told what
// fails and what does not.
func (a *attempt) previewLane(ctx context.Context, p *Preview, l *lane, changes []store.WaitingChange) error {
	fresh := *l
	for _, apart := range []bool{false, true} {
		*l, a.apart = fresh, apart
		l.changes = slices.Clone(changes)
		a.done, a.failed, a.marks, a.wrote = nil, nil, nil, false
		err := a.find(ctx, l)
		before := l.link
		if err == nil {
			err = a.bindLane(ctx, l)
		}
		if a.fatal(err) || errors.Is(err, errLost) {
			return err
		}
		if _, undone := a.session.ExecContext(ctx, `ROLLBACK TO SAVEPOINT account`); undone != nil {
			return fmt.Errorf("%w: %w", errLost, cmp.Or(err, undone))
		}
		if err == nil {
			p.add(a, l, before, changes)
			return nil
		}
		if apart {
			return err
		}
	}
	return nil
}

// add counts what came of a lane's changes. before is the link as it was before anything ran.
func (p *Preview) add(a *attempt, l *lane, before store.Link, changes []store.WaitingChange) {
	if a.Link != nil && l.key.Account != "" {
		switch {
		case l.link.State.Held():
			p.Held++
		case before.State == store.Linked:
			p.Linked++
		default:
			p.Unlinked++
		}
	}
	for _, d := range a.done {
		p.Results[d.Result]++
		if d.change.Kind == directory.AccountDeactivated && d.Result == store.ResultBound && d.link.State == store.Linked {
			p.Leavers = append(p.Leavers, Leaver{
				Account: directory.ID{Scope: l.key.Scope, ID: l.key.Account}, AppID: d.link.AppID, Tenant: d.link.Tenant, Email: face(d.change.Change).Email,
			})
		}
	}
	for _, m := range a.marks {
		p.Rows[m.Binding] += m.Rows
	}
	for _, c := range changes {
		done := slices.ContainsFunc(a.done, func(d settled) bool { return d.Seq == c.Seq })
		if c.Kind == directory.AccountDeactivated && !done {
			p.Unsure++
		}
	}
	for _, f := range a.failed {
		p.Failed++
		why := fmt.Sprintf("%s: %s", l.key.Account+l.key.Group, strings.ReplaceAll(f.Error, "\nhint: ", "; "))
		if len(p.Failures) < failuresNamed && !slices.Contains(p.Failures, why) {
			p.Failures = append(p.Failures, why)
		}
	}
}

// Protected returns the ids of the application's users whom nothing wholesale deactivates.
func (b *Binder) Protected(ctx context.Context) (map[string]bool, error) {
	ids := map[string]bool{}
	if b.protected == nil {
		return ids, nil
	}
	err := b.read(ctx, func(ctx context.Context, a *attempt) (err error) {
		ids, err = protectedIDs(ctx, a.session, *b.protected)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("protected: %w", err)
	}
	return ids, nil
}
