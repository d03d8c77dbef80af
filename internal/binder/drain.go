package binder

import (
	"context"
	"fmt"
	"time"
)

// Drain binds what can be bound in the application's database at this time, and returns when nothing is left but what fails or
// waits: for a rehearsal, or a command. It posts nothing. Directories are admitted first, in the binder's mode.
func (b *Binder) Drain(ctx context.Context) error {
	if b.Database == nil {
		return nil
	}
	if err := b.createMarks(ctx, true); err != nil {
		return err
	}
	if err := b.prepare(ctx, b.all()); err != nil {
		return err
	}
	if _, err := b.Store.Admit(ctx, b.Mode); err != nil {
		return err
	}
	t, began := b.bound(1), b.Now()
	t.at = func() time.Time { return began } // what fails from here on waits, however soon its time comes
	for moved := false; ctx.Err() == nil; {
		if err := t.look(ctx); err != nil {
			return err
		}
		class, ok := t.next()
		if !ok && !moved {
			return nil
		}
		if moved = ok; !ok {
			t.due = true // something may have come meanwhile
			continue
		}
		lanes := t.take(class)
		if len(lanes) == 0 {
			continue
		}
		r := t.do(ctx, ctx, class, lanes)
		if t.finished(r); r.err != nil {
			return r.err
		}
	}
	return ctx.Err()
}

// createMarks makes the table of marks when it is not there; or only tries to, and undoes it.
func (b *Binder) createMarks(ctx context.Context, keep bool) error {
	tx, err := b.Database.SQL.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := b.Database.Marks.Create(ctx, tx); err != nil || !keep {
		return err
	}
	return tx.Commit()
}

// Markable reports why marks could not be made in the application's database. It changes nothing.
func (b *Binder) Markable(ctx context.Context) error { return b.createMarks(ctx, false) }
