package binder

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

const (
	sparedAtOnce = 500
	sparedLooks  = 20 // at so many of them in one go; more are looked at in the next ones
)

// lookAtSpared tells again what took nothing when it happened, once the reason for that is gone: nobody keeps it any more, or
// the person is protected no more, or an operator has ended that account.
func (b *Binder) lookAtSpared(ctx context.Context) error {
	if err := b.lookAtKept(ctx); err != nil {
		return err
	}
	return b.lookAtProtected(ctx)
}

func (b *Binder) lookAtKept(ctx context.Context) error {
	for range sparedLooks {
		lapsed, next, err := b.Store.Spared(ctx, store.SparedFilter{Result: store.ResultKept, After: b.keptAfter, Limit: sparedAtOnce})
		if err == nil {
			err = b.tellSpared(ctx, lapsed, store.ResultKept)
		}
		if err != nil {
			return err
		}
		if b.keptAfter = next; next == 0 {
			return nil
		}
	}
	return nil
}

func (b *Binder) lookAtProtected(ctx context.Context) error {
	accounts := map[directory.ID]bool{}
	filter := store.SparedFilter{Result: store.ResultProtected, Limit: sparedAtOnce}
	for {
		spared, next, err := b.Store.Spared(ctx, filter)
		if err != nil {
			return err
		}
		over, err := b.over(ctx, spared)
		if err != nil {
			return err
		}
		var ended []store.SparedChange
		for _, c := range spared {
			if over[c.Seq] {
				ended = append(ended, c)
			} else {
				accounts[directory.ID{Scope: c.Scope, ID: c.Account}] = true
			}
		}
		if err := b.tellSpared(ctx, ended, store.ResultProtected); err != nil {
			return err
		}
		if filter.After = next; next == 0 {
			b.metrics.spared.Set(float64(len(accounts)))
			return nil
		}
	}
}

// over returns which of the changes spare nobody any more: the person is not protected, or an operator has ended the account
// by itself since.
func (b *Binder) over(ctx context.Context, spared []store.SparedChange) (map[int64]bool, error) {
	over := map[int64]bool{}
	if len(spared) == 0 {
		return over, nil
	}
	protected, err := b.Protected(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range spared {
		decided := false
		if protected[c.AppID] {
			if decided, err = b.decidedOn(ctx, c.ChangeRow, c.At); err != nil {
				return nil, err
			}
		}
		over[c.Seq] = decided || !protected[c.AppID]
	}
	return over, nil
}

// decidedOn reports whether an operator has ended the change's account by itself since a time.
func (b *Binder) decidedOn(ctx context.Context, c store.ChangeRow, since time.Time) (bool, error) {
	if face(c.Change).User == "" {
		return false, nil // nobody whom a decision could name
	}
	found, err := b.Store.Events(ctx, store.EventFilter{
		Source: c.Source, Directory: c.Directory, Subject: face(c.Change).User, Type: deprovisioned, Since: since, Limit: 1,
	})
	return len(found) > 0, err
}

// tellSpared tells changes again that took nothing, by new ones, a directory after the other. Under the directory's lock it
// looks whether that has been done meanwhile, or another account of the person is to take the same. What the new ones take is
// decided when they are bound.
func (b *Binder) tellSpared(ctx context.Context, spared []store.SparedChange, cause string) error {
	byScope := map[directory.Scope][]store.SparedChange{}
	var order []directory.Scope
	for _, c := range spared {
		if byScope[c.Scope] == nil {
			order = append(order, c.Scope)
		}
		byScope[c.Scope] = append(byScope[c.Scope], c)
	}
	for _, scope := range order {
		changes := byScope[scope]
		err := b.Store.Update(ctx, []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
			batch, err := b.sparedAgain(ctx, changes, cause)
			if err != nil {
				return err
			}
			return tx.Save(ctx, batch)
		})
		if err != nil {
			return fmt.Errorf("tell %d changes of %s again: %w", len(changes), scope.Directory, err)
		}
		b.Log.Info().Str("source", scope.Source).Str("directory", scope.Directory).Int("changes", len(changes)).Str("cause", cause).
			Msg("what took nothing is told again: the reason for it is gone")
	}
	if len(spared) > 0 {
		poke(b.woken[0])
		poke(b.woken[1])
	}
	return nil
}

// sparedAgain makes new changes of those of one directory that nobody has told again meanwhile.
func (b *Binder) sparedAgain(ctx context.Context, changes []store.SparedChange, cause string) (batch store.Batch, err error) {
	still := map[int64]bool{}
	last := changes[len(changes)-1].Seq
	for after := changes[0].Seq - 1; after < last; {
		now, next, err := b.Store.Spared(ctx, store.SparedFilter{Scope: changes[0].Scope, Result: cause, After: after, Limit: sparedAtOnce})
		if err != nil {
			return batch, err
		}
		for _, c := range now {
			still[c.Seq] = true
		}
		if after = next; next == 0 {
			break
		}
	}
	at := b.Now().UTC().Truncate(time.Microsecond)
	for _, c := range changes {
		if !still[c.Seq] {
			continue
		}
		told := c.Change
		told.Event, told.Occurred = cause+":"+c.Account+":"+at.Format(time.RFC3339Nano), at
		batch.Delta.Changes = append(batch.Delta.Changes, told)
	}
	return batch, nil
}
