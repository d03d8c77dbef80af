package worker

import (
	"context"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// held looks for directories that the provider deleted and whose accounts still count because nobody decided otherwise. They
// are an alarm for as long as that lasts: nobody announces their leavers any more.
func (w *Worker) held(ctx context.Context) {
	ticker := time.NewTicker(heldEvery)
	defer ticker.Stop()
	said := map[directory.Scope]time.Time{}
	for {
		if err := w.lookForHeld(ctx, said); err != nil && ctx.Err() == nil {
			w.Log.Warn().Err(err).Msg("held directories not looked for; trying again")
		}
		select {
		case <-ctx.Done():
			return
		case <-w.told:
		case <-ticker.C:
		}
	}
}

// lookForHeld counts them, and logs each when it is new and then now and again. When that was is kept in said.
func (w *Worker) lookForHeld(ctx context.Context, said map[directory.Scope]time.Time) error {
	held, err := w.Store.Held(ctx)
	if err != nil {
		return err
	}
	for source := range w.Sources {
		w.metrics.held.WithLabelValues(source).Set(0)
	}
	still := map[directory.Scope]bool{}
	for _, d := range held {
		still[d.Scope] = true
		w.metrics.held.WithLabelValues(d.Source).Inc()
		if last, ok := said[d.Scope]; ok && time.Since(last) < heldAgain {
			continue
		}
		said[d.Scope] = time.Now()
		w.Log.Error().Str("source", d.Source).Str("directory", d.Directory).Str("organization", d.Organization).Time("ended", d.Floor.Time()).
			Msg("this directory was deleted at the provider and its accounts are held: they keep their access, and the provider no longer announces who leaves; `rollcall directories hold` or `deprovision` decides")
	}
	for scope := range said {
		if !still[scope] {
			delete(said, scope)
		}
	}
	return nil
}
