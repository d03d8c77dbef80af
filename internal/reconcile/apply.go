package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// Approval is who agrees to a plan, and to what of it.
type Approval struct {
	By, Reason string
	Only       map[store.DriftKind]bool // nil is all kinds
	Binary     string                   // for the ledger
}

func (a Approval) covers(it Item) bool { return a.Only == nil || a.Only[it.Kind] }

// Applied is what came of a plan.
type Applied struct {
	Written int64 // for a worker to take into the queue
	Already int64 // that somebody applied before
}

// Moved is a register that is not what it was when the plan was made.
type Moved struct {
	Item
	Now directory.Version
}

const atOnce = 100 // bodies in memory, and in a transaction

// Store is what applying a plan needs.
type Store interface {
	store.Reconciling
	Update(ctx context.Context, scopes []directory.Scope, fn func(ctx context.Context, tx store.Tx) error) error
}

// Class is that of the dead events that approved repairs are until a worker takes them, and waiting is why they are parked.
const (
	Class   = "reconcile"
	waiting = "it waits for a worker"
)

// Check reads a plan and returns what it says of the kinds approved, and which registers have moved since it was made, up to a few of
// them. It does nothing.
func Check(ctx context.Context, s store.Reconciling, in io.Reader, a Approval, now time.Time) (plan, approved Plan, moved []Moved, err error) {
	var items []Item
	look := func(scope directory.Scope) error {
		m, err := movedOf(ctx, s, scope, items)
		moved, items = append(moved, m...), items[:0]
		return err
	}
	var totals Totals
	plan, err = ReadPlan(in, func(p Plan, it Item) error {
		if !a.covers(it) {
			return nil
		}
		totals.add(it.Kind, it.Action, it.leaves, it.returns)
		if items = append(items, it); len(items) < pageRows {
			return nil
		}
		return look(p.Scope)
	})
	if err == nil {
		err = look(plan.Scope)
	}
	approved = plan
	approved.Totals = totals
	if err == nil && now.Sub(plan.Made) > PlanMaxAge {
		err = fmt.Errorf("%w: it was made at %s, more than %s ago\nhint: make it anew with `rollcall reconcile plan`", ErrPlan, moment(plan.Made), PlanMaxAge)
	}
	return plan, approved, moved, err
}

func movedOf(ctx context.Context, s store.Reconciling, scope directory.Scope, items []Item) (moved []Moved, err error) {
	keys := make([]store.RegisterKey, len(items))
	for i, it := range items {
		keys[i] = it.Register
	}
	seen, err := s.Seen(ctx, scope, keys)
	for i, v := range seen {
		if v != items[i].Seen && v.EventID() != items[i].Event.ID {
			moved = append(moved, Moved{items[i], v})
		}
	}
	return moved, err
}

// Apply writes the repairs of a plan, which Check has just looked at, down as events that are due, for a worker to take into the
// queue, and records the run. A second Apply of a plan writes what the first did not.
func Apply(ctx context.Context, s Store, plan Plan, in io.Reader, a Approval, now time.Time) (done Applied, err error) {
	run := store.Run{ID: newRun(), Scope: plan.Scope, Trigger: store.TriggerApply, Begun: now.UTC().Truncate(time.Microsecond), Kinds: map[store.DriftKind]store.DriftCount{}}
	if err := s.BeginRun(ctx, run, now.Add(lease)); err != nil {
		return done, err
	}
	var items []Item
	write := func() error {
		n, err := writeDown(ctx, s, run.Scope, items, a, now)
		done.Written, done.Already = done.Written+n, done.Already+int64(len(items))-n
		for _, it := range items {
			c := run.Kinds[it.Kind]
			c.Found, c.Repaired = c.Found+1, c.Repaired+1
			run.Kinds[it.Kind] = c
		}
		items = items[:0]
		return err
	}
	_, err = ReadPlan(in, func(_ Plan, it Item) error {
		if !a.covers(it) {
			return nil
		}
		if items = append(items, it); len(items) < atOnce {
			return nil
		}
		return write()
	})
	if err == nil {
		err = write()
	}
	run.Complete, run.Fence, run.Active, run.Digest = err == nil, plan.Fence, plan.Active, plan.Digest
	run.Reason, run.Ended = directory.Text("approved by "+a.By+": "+a.Reason, directory.MaxText), run.Begun
	return done, errors.Join(err, s.EndRun(context.WithoutCancel(ctx), run))
}

// writeDown parks the repairs, due at once, and returns how many were not there yet.
func writeDown(ctx context.Context, s Store, scope directory.Scope, items []Item, a Approval, now time.Time) (n int64, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	var all []store.EventKey
	var b store.Batch
	for _, it := range items {
		e := it.Event
		e.Why = directory.Text(fmt.Sprintf("%s; approved by %s: %s", e.Why, a.By, a.Reason), directory.MaxText)
		body, err := e.Body()
		if err != nil {
			return 0, err
		}
		sum := sha256.Sum256(body)
		key := store.EventKey{Source: scope.Source, ID: e.ID}
		all = append(all, key)
		b.Ledger = append(b.Ledger, store.Entry{
			EventKey: key, Type: e.Type, Subject: e.In(scope.Source).SubjectID(), Directory: e.Directory, Organization: e.Organization, Occurred: e.Occurred,
			Received: now, Origin: string(queue.Reconcile), Outcome: store.Parked, Reason: waiting, BodySHA256: hex.EncodeToString(sum[:]), Binary: a.Binary,
		})
		b.Dead = append(b.Dead, store.Dead{
			EventKey: key, Type: e.Type, Directory: e.Directory, Class: Class, Error: waiting, Body: body, Origin: string(queue.Reconcile), Received: now, Due: now,
		})
	}
	err = s.Update(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		_, known, err := tx.Load(ctx, directory.Need{}, all)
		if err != nil {
			return err
		}
		var fresh store.Batch
		for i := range b.Ledger {
			if _, there := known[all[i]]; !there {
				fresh.Ledger, fresh.Dead = append(fresh.Ledger, b.Ledger[i]), append(fresh.Dead, b.Dead[i])
			}
		}
		n = int64(len(fresh.Ledger))
		return tx.Save(ctx, fresh)
	})
	return n, err
}
