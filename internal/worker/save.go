package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// save brings the items into the database in one transaction. An item that the database refuses for its data is found
// by halving and parked; the others go on as if it had not been there.
func (w *Worker) save(ctx context.Context, items []item) error {
	began := time.Now()
	saved, err := w.saveOnce(ctx, items)
	for n := 0; errors.Is(err, store.ErrConflict) && n < conflicts; n++ {
		saved, err = w.saveOnce(ctx, items)
	}
	switch {
	case err == nil:
		w.metrics.folded(saved, time.Since(began), w.Now())
		w.report(saved.items)
		return nil
	case !errors.Is(err, store.ErrData):
		return err
	case len(items) == 1 && items[0].dead == nil:
		return w.save(ctx, []item{items[0].parked(err)})
	case len(items) == 1:
		return err
	}
	if err := w.save(ctx, items[:len(items)/2]); err != nil {
		return err
	}
	return w.save(ctx, items[len(items)/2:])
}

// report logs what was kept for somebody to look at, and what an operator decided.
func (w *Worker) report(items []item) {
	for _, it := range items {
		if it.event != nil && it.entry.Origin == string(queue.Operator) {
			w.Log.Info().Str("event", it.entry.ID).Str("source", it.entry.Source).Str("directory", it.entry.Directory).Str("type", it.entry.Type).
				Str("outcome", string(it.entry.Outcome)).Str("reason", it.entry.Reason).Msg("an operator decided")
		}
		if it.dead != nil && it.dead.Due.IsZero() {
			w.Log.Error().Str("event", it.entry.ID).Str("source", it.entry.Source).Str("directory", it.entry.Directory).Str("class", it.dead.Class).
				Msg("event parked; `rollcall dead show` says why")
		}
	}
}

// saved is what one transaction brought in.
type saved struct {
	items []item // those that were new to the ledger, with their outcomes
	delta directory.Delta
}

// saveOnce tries once.
func (w *Worker) saveOnce(ctx context.Context, items []item) (done saved, err error) {
	err = w.Store.Update(ctx, scopes(items), func(ctx context.Context, tx store.Tx) error {
		done, err = foldInto(ctx, tx, items)
		return err
	})
	if err != nil {
		return saved{}, err
	}
	if len(done.delta.Changes) > 0 {
		w.Changed()
	}
	for _, c := range done.delta.Changes {
		if user, is := rehired(c); is {
			w.Rehired(user)
		}
	}
	if len(done.delta.Expansions) > 0 {
		poke(w.ended)
	}
	if len(done.delta.Directories) > 0 {
		poke(w.told)
	}
	return done, nil
}

// rehired returns the user who governs an active account now, where another one did.
func rehired(c directory.Change) (directory.ID, bool) {
	if c.Kind != directory.AccountActivated && c.Kind != directory.AccountUpdated || c.Before == nil || c.Before.User == "" || c.Before.User == c.After.User {
		return directory.ID{}, false
	}
	return directory.ID{Scope: c.Scope, ID: c.After.User}, true
}

func foldInto(ctx context.Context, tx store.Tx, items []item) (saved, error) {
	keys := make([]store.EventKey, len(items))
	for i, it := range items {
		keys[i] = it.entry.EventKey
	}
	state, known, err := tx.Load(ctx, directory.NeedOf(events(items)), keys)
	if err != nil {
		return saved{}, err
	}
	fresh := unknown(items, known)
	if len(fresh) == 0 {
		return saved{}, nil
	}
	batch, err := fold(state, fresh)
	if err != nil {
		return saved{}, err
	}
	return saved{fresh, batch.Delta}, tx.Save(ctx, batch)
}

func events(items []item) []directory.Event {
	var out []directory.Event
	for _, it := range items {
		if it.event != nil {
			out = append(out, *it.event)
		}
	}
	return out
}

func scopes(items []item) []directory.Scope { return directory.NeedOf(events(items)).Scopes }

// unknown returns the items that the ledger does not hold, and the forced ones that it may hold again.
func unknown(items []item, known map[store.EventKey]store.Entry) []item {
	var fresh []item
	for _, it := range items {
		old, seen := known[it.entry.EventKey]
		if seen && (!it.force || !old.Outcome.Reopens()) {
			continue
		}
		it.entry.Reopen = seen
		fresh = append(fresh, it)
	}
	return fresh
}

// fold folds the items' events, writes the outcomes into the items, and returns what is to be saved. A panic is taken
// for the fault of one of the events: a process that ends at it would end at it again.
func fold(state *directory.State, items []item) (batch store.Batch, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the fold failed on it: %v", store.ErrData, p)
		}
	}()
	won := state.Fold(events(items))
	batch.Delta = state.TakeDelta()
	for i := range items {
		it := &items[i]
		if it.event != nil {
			it.entry.Outcome = store.Superseded
			if won[0] {
				it.entry.Outcome = store.Applied
			}
			won = won[1:]
		}
		batch.Ledger = append(batch.Ledger, it.entry)
		if it.dead != nil {
			batch.Dead = append(batch.Dead, *it.dead)
		}
	}
	return batch, nil
}
