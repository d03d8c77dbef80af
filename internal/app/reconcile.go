package app

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
)

// NewReconciler makes what compares a source's directories with their own listings. It repairs nothing by itself unless there is a
// queue.
func NewReconciler(c config.Config, source string, listing provider.Listing, s store.Store) *reconcile.Reconciler {
	return reconcile.New(reconcilerConfig(c, source, listing, s))
}

func reconcilerConfig(c config.Config, source string, listing provider.Listing, s store.Store) reconcile.Config {
	guard := c.Sources[source].Reconcile.Guard
	return reconcile.Config{
		Source: source, Listing: listing, Store: s, Guard: reconcile.Guard{Accounts: guard.Accounts, Percent: guard.Percent, Floor: guard.Floor},
	}
}

// reconciles reports whether this process compares directories.
func (a *App) reconciles() bool {
	return a.config.Has(config.Worker) && slices.ContainsFunc(a.sources, func(s *source) bool { return s.config.Reconcile.Enabled && a.apis[s.name] != nil })
}

// reconcile compares the directories of every source that can be asked, until the context ends.
func (a *App) reconcile(ctx context.Context) error {
	s := a.store.wait(ctx)
	if s == nil {
		return nil
	}
	metrics := reconcile.NewMetrics(a.registry)
	schedules := map[string]*reconcile.Schedule{}
	for _, source := range a.sources {
		conf, api := source.config.Reconcile, a.apis[source.name]
		if !conf.Enabled || api == nil {
			continue
		}
		c := reconcilerConfig(a.config, source.name, api, s)
		c.Queue, c.Metrics, c.Log = a.queue, metrics, a.log
		schedules[source.name] = reconcile.NewSchedule(reconcile.New(c), conf.Every)
	}
	a.schedules.Store(&schedules)
	var running sync.WaitGroup
	errs := make(chan error, len(schedules))
	for name, schedule := range schedules {
		running.Go(func() {
			if err := schedule.Run(ctx); err != nil {
				errs <- fmt.Errorf("source %q: %w", name, err)
			}
		})
	}
	running.Wait()
	close(errs)
	return <-errs
}

// rehired tells of a user who governs an account that another one governed before.
func (a *App) rehired(user directory.ID) {
	if schedules := a.schedules.Load(); schedules != nil && (*schedules)[user.Source] != nil {
		(*schedules)[user.Source].Rehired(user)
	}
}
