package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// deferred puts events whose time has come back into the queue; the fold opens their ledger entry again.
func (w *Worker) deferred(ctx context.Context) {
	ticker := time.NewTicker(dueEvery)
	defer ticker.Stop()
	asked := map[dueEvent]time.Time{}
	for {
		if err := w.enqueueDue(ctx, asked); err != nil && ctx.Err() == nil {
			w.Log.Warn().Err(err).Msg("deferred events not looked at; trying again")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// dueEvent is an event that is due since a time. One that was parked again and made due again is another.
type dueEvent struct {
	store.EventKey
	since int64 // µs
}

// enqueueDue does so once. What it did is kept in asked, so that a partition that stands still is not filled with
// one event over and over.
func (w *Worker) enqueueDue(ctx context.Context, asked map[dueEvent]time.Time) error {
	due, err := w.Store.Due(ctx, w.Now(), dueAtOnce)
	if err != nil {
		return err
	}
	maps.DeleteFunc(asked, func(_ dueEvent, at time.Time) bool { return time.Since(at) > dueAgain })
	for _, d := range due {
		event := dueEvent{d.EventKey, d.Due.UnixMicro()}
		if _, waits := asked[event]; waits {
			continue
		}
		_, err := w.Queue.Enqueue(ctx, queue.Delivery{
			Source: d.Source, ID: d.ID, Directory: d.Directory, Origin: queue.Origin(d.Origin), Received: d.Received,
			KeyVersion: d.KeyVersion, SignedAt: d.SignedAt, Body: d.Body, Force: true,
		})
		if err != nil {
			return err
		}
		asked[event] = time.Now()
	}
	return nil
}

// expansions carries the ends of groups and directories through to their members, a chunk a transaction, directories in
// turn, so that none of them waits for another's end.
func (w *Worker) expansions(ctx context.Context) {
	ticker := time.NewTicker(expandEvery)
	defer ticker.Stop()
	for {
		more, err := w.expandSome(ctx)
		if err != nil && ctx.Err() == nil {
			w.Log.Warn().Err(err).Msg("expansion not moved on; trying again")
		}
		if more && err == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-w.ended:
		case <-ticker.C:
		}
	}
}

// expandSome does a chunk of every directory's oldest expansion. One that fails keeps no other from going on.
func (w *Worker) expandSome(ctx context.Context) (more bool, err error) {
	pending, err := w.Store.Expansions(ctx, expandAtOnce)
	if err != nil {
		return false, err
	}
	for _, p := range pending {
		if failed := w.expand(ctx, p); failed != nil {
			err = errors.Join(err, fmt.Errorf("expansion %d of %s: %w", p.ID, p.Directory, failed))
		}
	}
	return len(pending) > 0, err
}

// expand does one chunk of an expansion.
func (w *Worker) expand(ctx context.Context, p store.PendingExpansion) error {
	saved, err := store.Expand(ctx, w.Store, p, w.Chunk)
	if err != nil {
		return err
	}
	if len(saved.Delta.Changes) > 0 {
		w.Changed()
	}
	w.metrics.changed(saved.Delta.Changes)
	w.metrics.expanded.Add(float64(saved.Progress.Members))
	return nil
}

// poke wakes whoever looks at a ticker, without waiting for its tick.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
