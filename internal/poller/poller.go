// Package poller reads a provider's ordered log of events into the queue, so that what no webhook brought is not lost.
//
// It moves a cursor through the log, a page at a time, and only past events that the ledger holds: whatever is lost between
// the provider and the database, the queue with all that was in it included, is read again. Webhooks never move the cursor.
package poller

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// Queue is what of a queue.Queue is used.
type Queue interface {
	Enqueue(ctx context.Context, d queue.Delivery) (queue.Result, error)
	Stats(ctx context.Context) (queue.Stats, error)
}

// Config is what a poller needs. Source, Events, Queue and Store have no default.
type Config struct {
	Source string
	Events provider.Log
	Queue  Queue
	Store  store.Pulling

	Types     []string      // the provider's names of the events to read; empty is all that its decoder knows
	Start     Start         // where the log is read from when it never was
	Retention time.Duration // for how long the provider keeps events; 0 is as long as it says itself, about 90 days
	Every     time.Duration // between two polls when the log has told all; 0 is 5 s
	Webhooks  bool          // the source has webhooks, too; what they did not bring is counted

	Lease  time.Duration // that a process which no longer answers keeps the source; 0 is 30 s
	Least  time.Duration // between two polls, however often it is poked; 0 is 1 s
	Late   time.Duration // an event is this old when the log tells of it: its webhook was missed; 0 is 5 s
	Again  time.Duration // after which events that did not reach the ledger are first looked for in the queue; 0 is 250 ms
	Slowly time.Duration // between two tries after trouble that somebody has to mend; 0 is 1 minute

	Log        zerolog.Logger
	Registerer prometheus.Registerer // nil registers nothing
	Now        func() time.Time      // only says when a delivery was received; nil is time.Now
}

// Start is where a log is read from: at a time, or so long before the provider's now. The zero value is the oldest that the
// provider keeps.
type Start struct {
	At  time.Time
	Ago time.Duration
}

const (
	usually    = 90 * 24 * time.Hour // that a provider keeps events
	every      = 5 * time.Second
	leaseFor   = 30 * time.Second
	least      = time.Second
	late       = 5 * time.Second
	again      = 250 * time.Millisecond
	slowly     = time.Minute
	atOnce     = 4 // pages that are on their way into the ledger
	releasing  = time.Second
	lookFirst  = 10 * time.Millisecond // at the ledger, for a page on its way
	lookLater  = 500 * time.Millisecond
	retryFirst = 100 * time.Millisecond
	retryLater = 10 * time.Second
)

// Poller reads the log of one source. Make it with New.
type Poller struct {
	Config
	lease   store.PollLease
	metrics *metrics
	poked   chan struct{}
}

// New returns a poller that has not begun.
func New(c Config) *Poller {
	c.Every, c.Lease, c.Least = cmp.Or(c.Every, every), cmp.Or(c.Lease, leaseFor), cmp.Or(c.Least, least)
	c.Late, c.Again, c.Slowly = cmp.Or(c.Late, late), cmp.Or(c.Again, again), cmp.Or(c.Slowly, slowly)
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Log = c.Log.With().Str("source", c.Source).Logger()
	return &Poller{
		Config: c, lease: store.PollLease{Source: c.Source, Holder: rand.Text(), For: c.Lease},
		metrics: newMetrics(c.Source, c.Registerer), poked: make(chan struct{}, 1),
	}
}

// Poke makes the poller poll now, if it is the one that does. It does not wait.
func (p *Poller) Poke() {
	select {
	case p.poked <- struct{}{}:
	default:
	}
}

// Run polls until the context ends, and returns nil: of all processes that run it, one at a time. Whatever a provider, queue
// or database answers, it goes on trying.
func (p *Poller) Run(ctx context.Context) error {
	retry := newBackoff(retryFirst, retryLater)
	for ctx.Err() == nil {
		at, err := p.Store.TakePoll(ctx, p.lease)
		switch {
		case err == nil:
			retry.Reset()
			p.hold(ctx, at)
		case errors.Is(err, store.ErrLeased):
			wait(ctx, jittered(min(p.Every, p.Lease/3)))
		case ctx.Err() == nil:
			p.Log.Warn().Err(err).Msg("the log cannot be polled; trying again")
			wait(ctx, retry.NextBackOff())
		}
	}
	return nil
}

// hold polls from there until the context ends, the lease is lost, or somebody else moved the cursor.
func (p *Poller) hold(ctx context.Context, at store.Poll) {
	p.metrics.begin(at)
	defer p.metrics.end()
	ctx, lost := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { p.renew(ctx, lost) })
	defer func() {
		lost()
		renewing.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releasing)
		defer cancel()
		if err := p.Store.ReleasePoll(ctx, p.lease); err != nil {
			p.Log.Warn().Err(err).Msg("the poll's lease not returned; it ends by itself in seconds")
		}
	}()
	r := newReading(p, at)
	for ctx.Err() == nil {
		err := r.round(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, store.ErrConflict):
			p.Log.Info().Msg("the cursor was moved, or the lease lost; looking where it is")
			return
		default:
			wait(ctx, r.trouble(ctx, err))
		}
	}
}

// renew keeps the lease while pages take their time.
func (p *Poller) renew(ctx context.Context, lost context.CancelFunc) {
	ticker := time.NewTicker(p.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := p.Store.TakePoll(ctx, p.lease); errors.Is(err, store.ErrLeased) {
			p.Log.Warn().Msg("another process polls; this one had stood still")
			lost()
			return
		} else if err != nil && ctx.Err() == nil {
			p.Log.Warn().Err(err).Msg("the poll's lease not renewed; trying again")
		}
	}
}

func newBackoff(first, longest time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = first, 2, longest
	return b
}

// wait returns when the time is over or the context ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// jittered is about the time.
func jittered(d time.Duration) time.Duration {
	return d - d/8 + mathrand.N(d/4+1) //nolint:gosec // jitter
}
