package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/poller"
	"github.com/rollcallhq/rollcall/internal/store"
)

// polled are the sources whose log this process may read.
func (a *App) polled() (out []*source) {
	for _, s := range a.sources {
		if a.apis[s.name] != nil && s.config.Polled() {
			out = append(out, s)
		}
	}
	return out
}

// poll reads the logs of the sources until the context ends, as soon as the database is open.
func (a *App) poll(ctx context.Context) error {
	db := a.store.wait(ctx)
	if db == nil {
		return nil
	}
	pollers := map[string]*poller.Poller{}
	for _, s := range a.polled() {
		pollers[s.name] = a.newPoller(s, db)
	}
	a.pollers.Store(&pollers)
	var running sync.WaitGroup
	errs := make(chan error, len(pollers))
	for _, p := range pollers {
		running.Go(func() { errs <- p.Run(ctx) })
	}
	running.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (a *App) newPoller(s *source, db store.Store) *poller.Poller {
	at, ago, _ := s.config.Poll.Start() // the configuration was checked
	return poller.New(poller.Config{
		Source: s.name, Events: a.apis[s.name], Queue: a.queue, Store: db,
		Types: s.config.Poll.Events, Start: poller.Start{At: at, Ago: ago}, Retention: s.config.Poll.Retention, Every: s.config.Poll.Every,
		Webhooks: s.config.Webhooks(), Log: a.log, Registerer: a.registry,
	})
}

// poke lets the log be read now of a source whose delivery came too late, if this process reads it.
func (a *App) poke(source string) {
	if pollers := a.pollers.Load(); pollers != nil && (*pollers)[source] != nil {
		(*pollers)[source].Poke()
	}
}

// pollFares is what readiness tells of a log, whoever reads it.
func (a *App) pollFares(ctx context.Context, source string) error {
	s := a.store.get()
	if s == nil {
		return errors.New("the database is not open yet")
	}
	found, err := pollOf(ctx, s, source)
	if err != nil {
		return err
	}
	return found.Trouble()
}

// pollOf is how far the log of a source is read.
func pollOf(ctx context.Context, s store.Pulling, source string) (store.Poll, error) {
	polls, err := s.Polls(ctx)
	if err != nil {
		return store.Poll{}, err
	}
	for _, p := range polls {
		if p.Source == source {
			return p, nil
		}
	}
	return store.Poll{}, fmt.Errorf("the log of %s: %w: it was never read\nhint: is a worker running whose configuration has this source's api.key?", source, store.ErrNotFound)
}

// log examines how far the log of a source is read. That nobody reads it is no finding: the service may not run yet.
func (d *doctor) log(ctx context.Context, source string) (string, error) {
	if d.unwell("database") {
		return "", needs("the database")
	}
	var found store.Poll
	_, err := d.withStore(ctx, func(s store.Store) (_ string, err error) {
		found, err = pollOf(ctx, s, source)
		return "", err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "it was never read", nil
	case err != nil:
		return "", err
	case !found.Held():
		return "all through " + told(found.Watermark) + " is in the ledger; nobody reads it now", nil
	}
	return "all through " + told(found.Watermark) + " is in the ledger", found.Trouble()
}

// told writes an event's time.
func told(t time.Time) string {
	if t.IsZero() {
		return "nothing"
	}
	return t.UTC().Format(time.RFC3339)
}
