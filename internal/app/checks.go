package app

import (
	"context"
	"errors"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/internal/config"
)

// checks are what readiness looks at. The local ones are this process's own; the shared ones only show.
func (a *App) checks() []handlers.Check {
	checks := []handlers.Check{{Name: "configuration", Local: true, Probe: func(context.Context) error { return nil }}}
	if a.config.Has(config.Receiver) {
		checks = append(checks, handlers.Check{Name: "queue's durability known", Local: true, Probe: func(ctx context.Context) error { return a.gate.begun(ctx) }})
		for _, s := range hooked(a.sources) {
			checks = append(checks, handlers.Check{Name: "keys of " + s.name, Local: true, Probe: func(context.Context) error {
				_, err := s.keys()
				return err
			}})
		}
	}
	checks = append(checks, handlers.Check{Name: "queue", Probe: func(ctx context.Context) error {
		_, err := a.queue.Stats(ctx)
		return err
	}})
	if a.config.Has(config.Worker) {
		checks = append(checks, handlers.Check{Name: "database", Probe: func(ctx context.Context) error {
			s := a.store.get()
			if s == nil {
				return errors.New("it is not open yet; the log says why")
			}
			return s.Check(ctx)
		}})
	}
	for _, s := range a.sources {
		if a.apis[s.name] != nil {
			checks = append(checks, handlers.Check{Name: "API key of " + s.name, Probe: func(context.Context) error {
				_, err := a.ring.Current(apiKey(s.name))
				return err
			}})
		}
	}
	for _, s := range a.polled() {
		checks = append(checks, handlers.Check{Name: "log of " + s.name, Probe: func(ctx context.Context) error { return a.pollFares(ctx, s.name) }})
	}
	if a.config.Binds() {
		checks = append(checks, handlers.Check{Name: "bindings", Probe: a.fares})
	}
	return checks
}
