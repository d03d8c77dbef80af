package binder

import (
	"context"
	"sync"
	"time"

	exponential "github.com/cenkalti/backoff/v5"

	"github.com/rollcallhq/rollcall/internal/store"
)

// track brings the lanes of one way to the application to those who work on them.
type track struct {
	*Binder
	name    store.Track
	workers int
	batch   int // lanes that one of them takes at once
	woken   <-chan struct{}

	// work does what can be done in these lanes, and finishes what it began though its first context ends. It says in which
	// of them nothing came of it. Its error is trouble that concerns all lanes.
	work func(stop, ctx context.Context, lanes []store.Lane) (still []store.Lane, err error)

	// What follows belongs to run alone.
	waiting []store.Lane
	hand    map[store.Lane]bool // those somebody works on
	still   map[store.Lane]bool // in which nothing came of it, since the last poll
	busy    int
	stale   bool // there may be more than waiting says
	results chan result
	pause   time.Time // until when trouble is left alone
	retry   *exponential.ExponentialBackOff
	said    bool
}

type result struct {
	lanes, still []store.Lane
	err          error
}

func (b *Binder) newTrack(name store.Track, workers, batch int, woken <-chan struct{}, work func(stop, ctx context.Context, lanes []store.Lane) ([]store.Lane, error)) *track {
	return &track{
		Binder: b, name: name, workers: workers, batch: batch, woken: woken, work: work, stale: true,
		hand: map[store.Lane]bool{}, still: map[store.Lane]bool{}, results: make(chan result, workers), retry: newBackoff(),
	}
}

// run works until the context ends, and returns when everybody has finished.
func (t *track) run(stop context.Context) {
	ctx, cancel := withGrace(stop, t.Grace)
	defer cancel()
	var g sync.WaitGroup
	defer g.Wait()
	ticker := time.NewTicker(t.Poll)
	defer ticker.Stop()
	for stop.Err() == nil {
		t.fill(stop)
		for t.busy < t.workers && len(t.waiting) > 0 {
			lanes := t.take()
			g.Go(func() {
				still, err := t.work(stop, ctx, lanes)
				t.results <- result{lanes, still, err}
			})
		}
		select {
		case <-stop.Done():
		case r := <-t.results:
			t.finished(r)
		case <-t.woken:
			t.stale = true
		case <-ticker.C:
			t.stale = true
			clear(t.still)
		}
	}
}

// fill looks for lanes when none are left and somebody could work on them.
func (t *track) fill(ctx context.Context) {
	if len(t.waiting) > 0 || !t.stale || t.busy == t.workers || time.Now().Before(t.pause) {
		return
	}
	lanes, err := t.Store.Lanes(ctx, t.name, t.Now(), len(t.hand)+len(t.still)+8*t.batch)
	if err != nil {
		t.trouble(ctx, err)
		return
	}
	t.stale = false
	for _, l := range lanes {
		if !t.hand[l] && !t.still[l] {
			t.waiting = append(t.waiting, l)
		}
	}
}

// take is the next worker's part of what waits: as much as any other's.
func (t *track) take() []store.Lane {
	free := t.workers - t.busy
	n := min(t.batch, (len(t.waiting)+free-1)/free)
	lanes := t.waiting[:n:n]
	t.waiting = t.waiting[n:]
	t.busy++
	for _, l := range lanes {
		t.hand[l] = true
	}
	return lanes
}

func (t *track) finished(r result) {
	t.busy--
	for _, l := range r.lanes {
		delete(t.hand, l)
	}
	for _, l := range r.still {
		t.still[l] = true
	}
	if r.err != nil {
		t.waiting = nil // they are looked for again when it is over
		t.trouble(context.Background(), r.err)
		return
	}
	if len(r.still) < len(r.lanes) {
		t.stale = true // more may have come meanwhile
		t.retry.Reset()
		if t.said {
			t.Log.Info().Str("track", string(t.name)).Msg("changes take effect again")
			t.said = false
		}
	}
}

// trouble leaves everything alone for a while. It is logged once, until it is over.
func (t *track) trouble(ctx context.Context, err error) {
	t.stale = true
	t.pause = time.Now().Add(t.retry.NextBackOff())
	if !t.said && ctx.Err() == nil {
		t.Log.Error().Err(err).Str("track", string(t.name)).Msg("no change takes effect at this time; none is lost, and all is tried again")
		t.said = true
	}
}

func newBackoff() *exponential.ExponentialBackOff {
	e := exponential.NewExponentialBackOff()
	e.InitialInterval, e.Multiplier, e.MaxInterval = 50*time.Millisecond, 2, 5*time.Second
	return e
}

// withGrace returns a context that ends a while after its parent does, so that work in hand is finished.
func withGrace(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(grace, cancel) })
	return ctx, func() { stop(); cancel() }
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// poke wakes whoever waits, without waiting.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
