package binder

import (
	"context"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// PreviewAtOnce is Preview with so many lanes a transaction at most.
func (b *Binder) PreviewAtOnce(ctx context.Context, scope directory.Scope, changes []directory.Change, atOnce int) (Preview, error) {
	return b.preview(ctx, scope, changes, atOnce)
}

// PreviewApart is the slow way that Preview has to agree with: each lane in a transaction of its own, with savepoints around all
// that may fail.
func (b *Binder) PreviewApart(ctx context.Context, scope directory.Scope, changes []directory.Change) (Preview, error) {
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
	for _, key := range order {
		if err := b.previewApart(ctx, &p, key, lanes[key]); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (b *Binder) previewApart(ctx context.Context, p *Preview, key store.Lane, changes []store.WaitingChange) error {
	s, ctx, err := b.begin(ctx, false)
	if err != nil {
		return err
	}
	defer s.undo()
	a := b.newAttempt(s, true)
	a.dry, a.store = true, nil
	l := a.lane(key)
	l.changes = append(l.changes, changes...)
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
	p.add(a, l, before, changes)
	return nil
}

// LookAtSpared looks once whether what took nothing is to be told again.
func (b *Binder) LookAtSpared(ctx context.Context) error { return b.lookAtSpared(ctx) }

// ProbeMissing probes once those whom nobody has probed since they left.
func (b *Binder) ProbeMissing(ctx context.Context) error { return b.probeMissing(ctx) }

// ProbeAgain takes verdicts again once that are not clean.
func (b *Binder) ProbeAgain(ctx context.Context) error { return b.probeAgain(ctx) }
