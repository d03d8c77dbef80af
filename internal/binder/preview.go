package binder

import (
	"context"
	"fmt"
	"slices"
	"strings"

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

// Preview does what the changes of a directory would do, each account's in a transaction that is undone, and counts. Nothing
// is stored, and no mark is written; what a statement does outside of the transaction, as to a sequence, is not undone.
func (b *Binder) Preview(ctx context.Context, scope directory.Scope, changes []directory.Change) (Preview, error) {
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
	for _, key := range order {
		if err := b.previewLane(ctx, &p, key, lanes[key]); err != nil {
			return p, fmt.Errorf("preview %d changes of %s: %w", len(changes), scope.Directory, err)
		}
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

func (b *Binder) previewLane(ctx context.Context, p *Preview, key store.Lane, changes []store.WaitingChange) error {
	s, ctx, err := b.begin(ctx, false)
	if err != nil {
		return err
	}
	defer s.undo()
	a := b.newAttempt(s, true)
	a.dry, a.store = true, nil
	l := a.lane(key)
	l.changes = changes
	err = a.loadLinks(ctx, []store.Lane{key})
	if err == nil {
		err = a.find(ctx, l)
	}
	before := l.link
	if err == nil {
		err = a.bindLane(ctx, l)
	}
	if err != nil {
		return err
	}
	p.add(a, l, before)
	return nil
}

// add counts what came of a lane. before is the link as it was before anything ran.
func (p *Preview) add(a *attempt, l *lane, before store.Link) {
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
	for _, f := range a.failed {
		if l.deactivates(f.Seq) {
			p.Unsure++
		}
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

// deactivates reports whether a change that is still to be done is a deactivation.
func (l *lane) deactivates(seq int64) bool {
	return slices.ContainsFunc(l.changes, func(c store.WaitingChange) bool { return c.Seq == seq && c.Kind == directory.AccountDeactivated })
}
