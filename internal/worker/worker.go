// Package worker takes deliveries from the queue and makes the database follow: decode, fold, commit, and only then
// acknowledge.
//
// It may be killed at any point. What it had not committed is still queued; what it had committed but not acknowledged
// is found in the ledger when it comes again. Any number of workers may run; each partition of the queue is one
// worker's at a time, and the locks of the database keep even a worker that lost its lease from doing harm.
package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// Source is what the worker knows of a configured sender.
type Source struct {
	Provider   provider.Provider
	Attributes []string // further attributes to keep; see provider.Options
}

// Config is what a worker needs. Queue, Store and Sources have no default.
type Config struct {
	Queue   queue.Queue
	Store   store.Store
	Sources map[string]Source

	Batch  int           // events a transaction, at most; 0 is 256
	MaxAge time.Duration // older events are ignored; 0 is 95 days, negative is no limit
	Ahead  time.Duration // events further in the future are deferred; 0 is 5 minutes
	Chunk  int           // members of an expansion a transaction; 0 is 500
	Renew  time.Duration // between two renewals of a lease; 0 is 3 s, a third of the queue's lease
	Grace  time.Duration // that the batch in hand gets to finish when Run's context ends; 0 is 15 s

	Binary string // for the ledger
	Digest string // of the configuration, for the ledger

	Changed func() // called after a commit with changes, by several goroutines; must not wait; may be nil

	// Rehired is called after a commit by which another user governs an active account than before, by several goroutines; it must not
	// wait; may be nil.
	Rehired func(user directory.ID)

	Log        zerolog.Logger
	Registerer prometheus.Registerer // nil registers nothing
	Now        func() time.Time      // nil is time.Now
}

// Worker folds. Make it with New; use it from one goroutine.
type Worker struct {
	Config
	metrics metrics
	ended   chan struct{} // poked when a fold left an expansion behind
	told    chan struct{} // poked when a fold moved a directory
}

const (
	ledgerAge        = 95 * 24 * time.Hour // more than the provider's 90 days of retention
	clockSkew        = 5 * time.Minute
	readWait         = 500 * time.Millisecond
	renewEvery       = 3 * time.Second
	lastBatch        = 15 * time.Second
	dueEvery         = time.Second
	dueAgain         = time.Minute // until a deferred event that is still not folded is put into the queue once more
	dueAtOnce        = 100
	expandEvery      = time.Second
	unconfiguredWait = time.Minute // a newer configuration may know the source by then
	heldEvery        = 15 * time.Second
	heldAgain        = time.Hour // between two alarms about the same directory
	expandAtOnce     = 100       // directories, a chunk each
	conflicts        = 5         // lost races before a batch waits
	defaultBatch     = 256
	defaultChunk     = 500
)

// New returns a worker that has not begun.
func New(c Config) *Worker {
	if c.Batch <= 0 {
		c.Batch = defaultBatch
	}
	if c.Chunk <= 0 {
		c.Chunk = defaultChunk
	}
	if c.Renew <= 0 {
		c.Renew = renewEvery
	}
	if c.Grace <= 0 {
		c.Grace = lastBatch
	}
	if c.MaxAge == 0 {
		c.MaxAge = ledgerAge
	}
	if c.Ahead == 0 {
		c.Ahead = clockSkew
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Rehired == nil {
		c.Rehired = func(directory.ID) {}
	}
	return &Worker{Config: c, metrics: newMetrics(c.Registerer), ended: make(chan struct{}, 1), told: make(chan struct{}, 1)}
}

// Run works until the context ends, then finishes the batch in hand within the grace, returns its leases and returns
// nil. Whatever a queue or database answers, it goes on trying.
func (w *Worker) Run(ctx context.Context) error {
	var g sync.WaitGroup
	for n := range queue.Partitions {
		g.Go(func() { w.partition(ctx, n) })
	}
	g.Go(func() { w.deferred(ctx) })
	g.Go(func() { w.expansions(ctx) })
	g.Go(func() { w.held(ctx) })
	g.Wait()
	return nil
}

// partition waits for the partition's lease, works while it has it, and waits again when it loses it.
func (w *Worker) partition(ctx context.Context, n int) {
	log := w.Log.With().Int("partition", n).Logger()
	retry := newBackoff()
	for ctx.Err() == nil {
		lease, err := w.Queue.Acquire(ctx, n)
		switch {
		case err == nil:
			retry.Reset()
			w.metrics.partitions.Inc()
			w.hold(ctx, lease, log)
			w.metrics.partitions.Dec()
		case errors.Is(err, queue.ErrHeld):
			wait(ctx, 200*time.Millisecond+rand.N(300*time.Millisecond)) //nolint:gosec // jitter
		case ctx.Err() == nil:
			log.Warn().Err(err).Msg("partition not to be had; trying again")
			wait(ctx, retry.NextBackOff())
		}
	}
}

// hold works through a partition until the context ends or the lease is lost.
func (w *Worker) hold(ctx context.Context, lease queue.Lease, log zerolog.Logger) {
	ctx, lost := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		w.renew(ctx, lease, lost, log)
	}()
	defer func() {
		lost()
		<-renewed
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := lease.Release(ctx); err != nil && !errors.Is(err, queue.ErrLeaseLost) {
			log.Warn().Err(err).Msg("lease not returned; it ends by itself in seconds")
		}
	}()

	retry := newBackoff()
	for ctx.Err() == nil {
		err := w.batch(ctx, lease)
		switch {
		case err == nil:
			retry.Reset()
		case errors.Is(err, queue.ErrLeaseLost):
			log.Warn().Msg("lease lost to another worker; what was committed stays, the rest is theirs")
			return
		case ctx.Err() == nil:
			w.metrics.failures.Inc()
			log.Error().Err(err).Msg("batch not done; nothing is acknowledged, trying again")
			wait(ctx, retry.NextBackOff())
		}
	}
}

// renew keeps the lease alive while batches take their time.
func (w *Worker) renew(ctx context.Context, lease queue.Lease, lost context.CancelFunc, log zerolog.Logger) {
	ticker := time.NewTicker(w.Renew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := lease.Renew(ctx); errors.Is(err, queue.ErrLeaseLost) {
				lost()
				return
			} else if err != nil && ctx.Err() == nil {
				log.Warn().Err(err).Msg("lease not renewed; trying again")
			}
		}
	}
}

// batch reads the head of the partition, saves what it says and acknowledges it. A batch that was read is finished
// though the context ends, within a bound.
func (w *Worker) batch(ctx context.Context, lease queue.Lease) error {
	entries, err := lease.Read(ctx, w.Batch, readWait)
	if err != nil || len(entries) == 0 {
		return err
	}
	ctx, cancel := withGrace(ctx, w.Grace)
	defer cancel()
	if err := w.save(ctx, w.items(entries)); err != nil {
		return fmt.Errorf("fold %d deliveries from %s: %w", len(entries), entries[0].Ref, err)
	}
	refs := make([]queue.Ref, len(entries))
	for i, e := range entries {
		refs[i] = e.Ref
	}
	if err := lease.Ack(ctx, refs...); err != nil {
		return fmt.Errorf("acknowledge %d deliveries: %w", len(refs), err)
	}
	return nil
}

// withGrace returns a context that ends a while after its parent does, so that work in hand is finished.
func withGrace(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(grace, cancel) })
	return ctx, func() { stop(); cancel() }
}

func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = 50*time.Millisecond, 2, 5*time.Second
	return b
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
