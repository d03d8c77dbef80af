package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/queue"
)

// gate lets deliveries into the queue once it is known what a 200 may promise: a queue that could lose them needs every
// source's consent.
type gate struct {
	queue   queue.Queue
	refused []string // sources that have not accepted a loss, and are not polled
	log     zerolog.Logger
	class   *prometheus.GaugeVec
	open    atomic.Bool
	asked   atomic.Bool      // the queue has been asked once, whatever came of it
	found   queue.Durability // the last answer; run's own
	every   time.Duration    // between two looks at a queue that answers
}

const (
	durabilityEvery = time.Minute
	durabilityRetry = 500 * time.Millisecond
)

var errNotYetKnown = errors.New("it is not yet known how durable the queue is")

func newGate(q queue.Queue, c config.Config, log zerolog.Logger, r prometheus.Registerer) *gate {
	g := &gate{queue: q, log: log, refused: unaccepting(c), every: durabilityEvery, class: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "rollcall_queue_durability", Help: "1 for the class of what survives that the queue was found to have.",
	}, []string{"class"})}
	r.MustRegister(g.class)
	return g
}

// unaccepting returns the sources that have not accepted a loss. What the queue loses of a source that is polled is read again: the
// cursor is not past it.
func unaccepting(c config.Config) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		if s := c.Sources[name]; s.Webhooks() && !s.Polled() && !s.AcceptLoss {
			names = append(names, name)
		}
	}
	return names
}

// Enqueue implements handlers.Enqueuer.
func (g *gate) Enqueue(ctx context.Context, d queue.Delivery) (queue.Result, error) {
	if !g.open.Load() {
		return 0, fmt.Errorf("enqueue %s: %w: %w", d.ID, queue.ErrUnavailable, errNotYetKnown)
	}
	return g.queue.Enqueue(ctx, d)
}

// begun is a local check: until the queue has been asked once, every delivery would be answered 503, though all may be
// well. A queue that does not answer keeps nobody unready.
func (g *gate) begun(context.Context) error {
	if !g.asked.Load() {
		return errNotYetKnown
	}
	return nil
}

// run asks the queue how durable it is until it answers, refuses to start on an answer that the sources have not
// accepted, and goes on looking: a queue that becomes weaker while deliveries are promised is an alarm.
func (g *gate) run(ctx context.Context) error {
	silent := false
	for wait := durabilityRetry; ; {
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		d, err := g.queue.Durability(asking)
		cancel()
		if err == nil {
			if err := g.judge(d); err != nil {
				return err
			}
			wait = g.every
		} else if !g.open.Load() && ctx.Err() == nil {
			if !silent {
				g.log.Warn().Err(err).Msg("the queue cannot be reached; deliveries are answered 503 until it can")
			}
			silent, wait = true, min(2*wait, 2*time.Second)
		}
		g.asked.Store(true)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (g *gate) judge(d queue.Durability) error {
	changed := g.found != d
	g.found = d
	if changed {
		g.class.Reset()
		g.class.WithLabelValues(string(d.Class)).Set(1)
	}
	weak := d.Class != queue.Fsynced && len(g.refused) > 0
	switch {
	case weak && !g.open.Load():
		return weakQueue(d, g.refused)
	case weak && changed:
		g.log.Error().Err(weakQueue(d, g.refused)).Msg("the queue became less durable; what is answered 200 may be lost")
	case changed && d.Detail != "":
		g.log.Warn().Str("durability", string(d.Class)).Str("detail", d.Detail).Msg("queue")
	case changed:
		g.log.Info().Str("durability", string(d.Class)).Msg("queue")
	}
	g.open.Store(true)
	return nil
}

// weakQueue is the error of a queue that could lose what these sources were promised.
func weakQueue(d queue.Durability, sources []string) error {
	detail := ""
	if d.Detail != "" {
		detail = " (" + d.Detail + ")"
	}
	return fmt.Errorf("the queue is of class %s: deliveries of %s that were answered 200 could be lost%s\n"+
		"hint: set appendonly yes, appendfsync always and maxmemory-policy noeviction in Redis, or accept_loss_until_reconcile: true in these sources",
		d.Class, strings.Join(sources, ", "), detail)
}
