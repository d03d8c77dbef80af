package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/worker"
)

// storeHandle is the database once it has been opened.
type storeHandle struct {
	mu     sync.Mutex // guards store
	store  store.Store
	opened chan struct{} // closed then
}

func newStoreHandle() *storeHandle { return &storeHandle{opened: make(chan struct{})} }

func (h *storeHandle) set(s store.Store) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.store = s
	close(h.opened)
}

// wait returns the database as soon as it is open; nil when the context ends before.
func (h *storeHandle) wait(ctx context.Context) store.Store {
	select {
	case <-h.opened:
		return h.get()
	case <-ctx.Done():
		return nil
	}
}

func (h *storeHandle) get() store.Store {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.store
}

func (h *storeHandle) close() error {
	if s := h.get(); s != nil {
		return s.Close()
	}
	return nil
}

// work opens the database, waiting for it as long as it takes, and folds until the context ends.
func (a *App) work(ctx context.Context) error {
	if err := a.openStore(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	return worker.New(worker.Config{
		Queue: a.queue, Store: a.store.get(), Sources: a.workerSources(),
		Renew: a.config.Queue.Lease / 3, Batch: a.config.Worker.Batch, MaxAge: a.config.Worker.MaxEventAge, Ahead: a.config.Worker.Ahead,
		Binary: a.version, Digest: a.config.Digest(), Changed: a.changed, Rehired: a.rehired, Log: a.log, Registerer: a.registry,
	}).Run(ctx)
}

// openStore returns nil when the database is open and its schema is this binary's, or the context ended. Trouble that
// waiting cannot mend is an error.
func (a *App) openStore(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, 5*time.Second
	for logged := ""; ; {
		err := a.tryStore(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil || refuses(err) {
			return err
		}
		if err.Error() != logged {
			logged = err.Error()
			a.log.Warn().Err(err).Msg("the database cannot be used yet; deliveries wait in the queue")
		}
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (a *App) tryStore(ctx context.Context) error {
	s, err := a.connectStore(ctx)
	if err != nil {
		return err
	}
	if err := prepare(ctx, s, a.config.Store.Migrate); err != nil {
		return errors.Join(err, s.Close())
	}
	if n, err := s.RemapRoles(ctx, roles(a.config).Digest()); err != nil {
		return errors.Join(err, s.Close())
	} else if n > 0 {
		a.log.Info().Int("directories", n).Msg("the mapping of roles has changed; everybody's roles are worked out again")
	}
	if err := s.Check(ctx); err != nil {
		a.log.Warn().Err(err).Msg("database")
	}
	a.store.set(s)
	return nil
}

func (a *App) connectStore(ctx context.Context) (store.Store, error) {
	s, err := OpenStore(ctx, a.config, a.version)
	if err == nil {
		return s, nil
	}
	if _, isRef := a.config.Store.DSN.Ref(); !isRef || a.config.Store.Backend == config.BackendSQLite {
		err = fmt.Errorf("%w: %w", errUnusable, err)
	}
	return nil, err
}

// firstLook bounds how long a database that does not answer delays the start.
const firstLook = 3 * time.Second

// lookAtStore refuses, before anything listens, a database that answers and is not one to work on. It changes nothing,
// and leaves one that does not answer to work.
func (a *App) lookAtStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	s, err := a.connectStore(ctx)
	if err == nil {
		if err = prepare(ctx, s, false); errors.Is(err, ErrPending) && a.config.Store.Migrate {
			err = nil // work migrates
		}
		err = errors.Join(err, s.Close())
	}
	if refuses(err) {
		return err
	}
	return nil
}

// errUnusable is a database that waiting does not mend: a malformed address, a file that cannot be made.
var errUnusable = errors.New("the database cannot be used")

// refuses reports that a database answered, and is not one to work on.
func refuses(err error) bool {
	for _, target := range []error{errUnusable, ErrPending, store.ErrEnvironment, store.ErrTooOld, store.ErrChecksum} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
