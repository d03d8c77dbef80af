package poller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

const (
	skew        = 10 * time.Second // between the clocks of who puts deliveries into the queue
	abreast     = 16               // events that are on their way into the queue
	standsAfter = time.Minute
	againLater  = time.Minute
)

// errStands says that a page does not reach the ledger.
var errStands = errors.New("the workers have not folded what the log told of")

// page is a page of the log on its way into the ledger.
type page struct {
	end      store.PollCursor // behind its last event
	open     []*pending       // what the ledger was not known to hold
	read     time.Time
	looked   time.Time     // for events that do not reach the ledger, last
	patience time.Duration // until that is done again
	missed   int64         // events whose webhook had not come
}

// pending is an event of which the ledger does not know.
type pending struct {
	queue.Delivery
	late    bool      // its webhook should have come
	offered time.Time // to the queue, last; zero while it was not
}

func (e *pending) key() store.EventKey { return store.EventKey{Source: e.Source, ID: e.ID} }

// offered reports that the queue was offered all that the ledger lacked.
func (p *page) offered() bool {
	for _, e := range p.open {
		if e.offered.IsZero() {
			return false
		}
	}
	return true
}

func (r *reading) newPage(got provider.LogPage) *page {
	now := time.Now()
	p := &page{end: store.PollCursor{After: got.After}, read: now, looked: now, patience: r.Again}
	for _, e := range got.Events {
		if !e.Created.IsZero() {
			p.end.Occurred = e.Created
		}
		p.open = append(p.open, &pending{Delivery: r.delivery(e), late: r.late(e.Created, got.Date)})
	}
	if p.end.Occurred.IsZero() {
		p.end.Occurred = r.next.Occurred
	}
	return p
}

// delivery is the event as the receiver would queue it.
func (r *reading) delivery(e provider.LogEvent) queue.Delivery {
	d := queue.Delivery{Source: r.Source, ID: keyOf(e), Directory: e.Directory, Origin: queue.Poll, Received: r.Now(), Body: e.Body}
	if d.ID != e.ID {
		d.Directory = ""
	}
	return d
}

// keyOf is what the ledger will know the event by: an id that only Rollcall's own events have, it takes from nobody else.
func keyOf(e provider.LogEvent) string {
	if operator.IsID(e.ID) || repair.IsID(e.ID) {
		e.ID = ""
	}
	return e.Key()
}

// late reports whether the event's webhook should have come: it is not of before the log was first read, nor only just made.
func (r *reading) late(created, now time.Time) bool {
	return r.Webhooks && !created.IsZero() && !created.Before(r.at.Started) && now.Sub(created) >= r.Late
}

// offer puts into the queue what the ledger lacks of the page and the queue was not offered yet, a few at a time: one that is a file
// writes them together. They get there in about their order, which saves the fold work and is nothing that it needs. After an error some
// of them may wait to be offered.
func (r *reading) offer(ctx context.Context, p *page) error {
	before := len(p.open)
	if err := r.ask(ctx, p); err != nil {
		return err
	}
	r.metrics.events.WithLabelValues("known").Add(float64(before - len(p.open)))
	var missed atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(abreast)
	for _, e := range p.open {
		if !e.offered.IsZero() {
			continue
		}
		g.Go(func() error {
			result, err := r.enqueue(ctx, e, false)
			if err == nil && result == queue.Accepted && e.late {
				missed.Add(1)
			}
			return err
		})
	}
	err := g.Wait()
	p.missed += missed.Load()
	return err
}

func (r *reading) enqueue(ctx context.Context, e *pending, force bool) (queue.Result, error) {
	d := e.Delivery
	d.Force = force
	result, err := r.Queue.Enqueue(ctx, d)
	if err != nil {
		return result, err
	}
	what := "queued"
	switch {
	case force:
		what = "forced"
	case result == queue.Duplicate:
		what = "seen"
	}
	r.metrics.events.WithLabelValues(what).Inc()
	e.offered = r.Now()
	return result, nil
}

// ask strikes from the page what the ledger holds, whatever came of it: parked and ignored events are held, too.
func (r *reading) ask(ctx context.Context, p *page) error {
	keys := make([]store.EventKey, len(p.open))
	for i, e := range p.open {
		keys[i] = e.key()
	}
	known, err := r.Store.Known(ctx, keys)
	if err != nil {
		return err
	}
	var open []*pending
	for _, e := range p.open {
		if _, held := known[e.key()]; !held {
			open = append(open, e)
		}
	}
	p.open = open
	return nil
}

// whole reports whether the ledger holds the page. What does not get there is offered to the queue again.
func (r *reading) whole(ctx context.Context, p *page) (bool, error) {
	if len(p.open) == 0 {
		return true, nil // and the cursor could not be moved when this was seen
	}
	if err := r.ask(ctx, p); err != nil || len(p.open) == 0 {
		return err == nil, err
	}
	if time.Since(p.looked) >= p.patience {
		if err := r.offerAgain(ctx, p); err != nil {
			return false, err
		}
		p.looked, p.patience = time.Now(), min(2*p.patience, againLater)
	}
	if waits := time.Since(p.read); waits > standsAfter {
		return false, fmt.Errorf("%w: %d events wait since %s\nhint: is a worker running? `rollcall queue` shows what waits, its log says why; the cursor moves when they are folded",
			errStands, len(p.open), waits.Round(time.Second))
	}
	return len(p.open) == 0, nil
}

// offerAgain offers what the queue has lost, and by force what it has seen, does not hold any more, and the ledger does not know: the
// database was restored to a state before. The queue is looked at before the ledger is, so that nothing is on its way between
// the two: it gives up only what is committed.
func (r *reading) offerAgain(ctx context.Context, p *page) error {
	stats, err := r.Queue.Stats(ctx)
	if err != nil {
		return err
	}
	if err := r.ask(ctx, p); err != nil {
		return err
	}
	for _, e := range p.open {
		if !drained(stats, e) {
			continue
		}
		result, err := r.enqueue(ctx, e, false)
		if err == nil && result == queue.Duplicate {
			_, err = r.enqueue(ctx, e, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drained reports that the event cannot wait in the queue any more.
func drained(s queue.Stats, e *pending) bool {
	p := s.Partitions[e.Partition()]
	return p.Depth == 0 || p.Oldest.After(e.offered.Add(skew))
}
