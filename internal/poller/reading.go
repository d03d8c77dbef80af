package poller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// disorder is how much older than the event before it one may be that begins a page: the provider's servers have clocks.
const disorder = time.Minute

// restartsFar is the least time between two restarts that is no alarm.
const restartsFar = time.Hour

// reading is one holder's way through the log. One goroutine uses it.
type reading struct {
	*Poller
	at     store.Poll // the cursor, as the database has it
	window []*page    // behind it, on their way into the ledger, in the order of the log
	next   store.PollCursor
	told   bool // the log has told all, for now
	polled time.Time
	look   *backoff.ExponentialBackOff // at the ledger
	retry  *backoff.ExponentialBackOff // after trouble that passes
	slow   *backoff.ExponentialBackOff // after trouble that somebody has to mend
	said   string                      // what was told of trouble last
	gone   bool                        // the provider did not know the cursor again, and that was waited for
}

func newReading(p *Poller, at store.Poll) *reading {
	r := &reading{
		Poller: p, at: at, next: at.PollCursor, said: at.Error,
		look: newBackoff(lookFirst, lookLater), retry: newBackoff(min(retryFirst, p.Slowly), min(retryLater, p.Slowly)), slow: newBackoff(min(time.Second, p.Slowly), p.Slowly),
	}
	return r
}

// round does the next thing: it reads a page while there is room for one, moves the cursor past what the ledger holds, and waits for
// more. What went wrong can be done again.
func (r *reading) round(ctx context.Context) error {
	if r.at.Moves == 0 {
		return r.start(ctx)
	}
	failed := r.read(ctx)
	moved, err := r.settle(ctx)
	switch {
	case failed != nil || err != nil:
		return errors.Join(failed, err)
	case r.told && len(r.window) == 0:
		return r.rest(ctx)
	case moved || !r.told && len(r.window) < atOnce:
		r.look.Reset()
	default:
		wait(ctx, r.look.NextBackOff())
	}
	return nil
}

// start finds where a log begins that was never read, and keeps that as the first move.
func (r *reading) start(ctx context.Context) error {
	now, err := r.providersNow(ctx)
	if err != nil {
		return err
	}
	begin, since := r.edge(now)
	switch asked := r.Start; {
	case asked.At.After(begin):
		begin, since = asked.At, asked.At
	case asked.Ago > 0 && asked.Ago < now.Sub(begin):
		begin, since = now.Add(-asked.Ago), now.Add(-asked.Ago)
	}
	r.Log.Info().Time("since", begin).Msg("reading the log for the first time")
	if err := r.move(ctx, store.PollMove{PollCursor: store.PollCursor{Since: since}, Began: begin, Started: now}); err != nil {
		return err
	}
	r.next = r.at.PollCursor
	return nil
}

// edge is where the provider's memory ends, and how it is asked to begin there: where nobody says for how long it keeps events, it
// knows itself.
func (r *reading) edge(now time.Time) (begin, since time.Time) {
	if r.Retention == 0 {
		return now.Add(-usually), time.Time{}
	}
	return now.Add(-r.Retention), now.Add(-r.Retention)
}

// providersNow is the provider's clock; where it does not say, the database's.
func (r *reading) providersNow(ctx context.Context) (time.Time, error) {
	p, err := r.Events.Page(ctx, provider.LogQuery{Types: r.Types, Limit: 1})
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the provider's time: %w", err)
	}
	if p.Date.IsZero() {
		return r.at.Now, nil
	}
	return p.Date, nil
}

// read takes the next page into the window, if there is room, and what the ledger lacks of it into the queue.
func (r *reading) read(ctx context.Context) error {
	switch n := len(r.window); {
	case n > 0 && !r.window[n-1].offered():
		return r.offer(ctx, r.window[n-1])
	case r.told || n >= atOnce:
		return nil
	}
	got, err := r.Events.Page(ctx, provider.LogQuery{Types: r.Types, After: r.next.After, Since: since(r.next)})
	r.polled = time.Now()
	switch {
	case errors.Is(err, provider.ErrCursorGone) && r.next.After != "":
		return r.restart(ctx, err)
	case err != nil:
		return fmt.Errorf("read the log: %w", err)
	}
	if err := r.inOrder(got); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	r.metrics.pages.Inc()
	r.told = !got.More || len(got.Events) == 0
	if len(got.Events) == 0 {
		return nil
	}
	p := r.newPage(got)
	r.window = append(r.window, p)
	if p.end.After != r.next.After {
		r.next = p.end
	}
	return r.offer(ctx, p)
}

// since is where a page without a cursor begins; one with a cursor has no such time.
func since(c store.PollCursor) time.Time {
	if c.After != "" {
		return time.Time{}
	}
	return c.Since
}

// inOrder refuses a page from which the cursor cannot go on.
func (r *reading) inOrder(p provider.LogPage) error {
	if len(p.Events) == 0 {
		return nil
	}
	first := p.Events[0]
	if !first.Created.IsZero() && first.Created.Before(r.next.Occurred.Add(-disorder)) {
		return fmt.Errorf("%w: %s of %s follows an event of %s\nhint: the cursor stays where it is and nothing is passed over; tell the provider, and rely on webhooks meanwhile",
			provider.ErrOutOfOrder, first.ID, first.Created.UTC().Format(time.RFC3339), r.next.Occurred.UTC().Format(time.RFC3339))
	}
	if p.More && p.After == r.next.After {
		return fmt.Errorf("%w: a page of %d events ends where it began", provider.ErrAnswer, len(p.Events))
	}
	return nil
}

// restart begins again where the provider's memory does, and says so. A provider that forgets every cursor would have its log read
// over and over: a second restart waits.
func (r *reading) restart(ctx context.Context, gone error) error {
	if since := r.at.Moved.Sub(r.at.Restarted); !r.at.Restarted.IsZero() && since < restartsFar && !r.gone {
		r.gone = true
		return fmt.Errorf("read the log: %w, %s after it was read anew\nhint: is the API key the one of this environment?", gone, since.Round(time.Second))
	}
	now, err := r.providersNow(ctx)
	if err != nil {
		return err
	}
	from := r.at
	begin, since := r.edge(now)
	if err := r.move(ctx, store.PollMove{PollCursor: store.PollCursor{Since: since}, Restart: true}); err != nil {
		return err
	}
	r.window, r.next, r.gone = nil, r.at.PollCursor, false
	r.metrics.restarts.Inc()
	r.Log.Error().Err(gone).Str("cursor", from.After).Time("occurred", from.Occurred).Time("since", begin).
		Msg("the provider no longer knows the cursor; its log is read again from the oldest that it keeps. What it has forgotten only a listing shows")
	return nil
}

// settle moves the cursor past the pages at the front that the ledger holds whole.
func (r *reading) settle(ctx context.Context) (moved bool, err error) {
	for len(r.window) > 0 {
		p := r.window[0]
		if whole, err := r.whole(ctx, p); err != nil || !whole {
			return moved, err
		}
		if p.end.After != r.at.After { // else none of its events could be read, and so none is a cursor
			if err := r.move(ctx, store.PollMove{PollCursor: p.end, Missed: p.missed}); err != nil {
				return moved, err
			}
		}
		r.metrics.missed.Add(float64(p.missed))
		r.window, moved = r.window[1:], true
	}
	return moved, nil
}

// move moves the cursor in the database.
func (r *reading) move(ctx context.Context, to store.PollMove) error {
	at, err := r.Store.MovePoll(ctx, r.lease, r.at, to)
	if err != nil {
		return err
	}
	r.at = at
	r.well()
	return nil
}

// rest says that all is well and waits for the next poll, or to be poked.
func (r *reading) rest(ctx context.Context) error {
	if err := r.Store.NotePoll(ctx, r.lease, r.at, store.PollNote{CaughtUp: true}); err != nil {
		return err
	}
	r.well()
	r.metrics.caughtUp()
	wait(ctx, time.Until(r.polled.Add(r.Least)))
	timer := time.NewTimer(time.Until(r.polled.Add(jittered(r.Every))))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-r.poked:
	case <-timer.C:
	}
	r.told = false
	return nil
}

// well forgets the trouble that was.
func (r *reading) well() {
	r.retry.Reset()
	r.slow.Reset()
	r.metrics.moved(r.at, true)
	if r.said != "" {
		r.Log.Info().Msg("the log is polled again")
		r.said = ""
	}
}

// trouble keeps what went wrong, says it once, and returns how long to wait.
func (r *reading) trouble(ctx context.Context, err error) time.Duration {
	reason, waits := r.kind(err)
	r.metrics.errors.WithLabelValues(reason).Inc()
	r.metrics.moved(r.at, false)
	if err.Error() != r.said {
		r.said = err.Error()
		r.Log.Error().Err(err).Str("reason", reason).Msg("the log is not polled; the cursor stays where it is, trying again")
	}
	_ = r.Store.NotePoll(ctx, r.lease, r.at, store.PollNote{Error: err.Error()}) // the log and the metrics say it, too
	return waits()
}

// kind names the trouble for a metric's label, and says how long to wait: what somebody has to mend is tried again more and more slowly.
func (r *reading) kind(err error) (reason string, waits func() time.Duration) {
	soon, slower := r.retry.NextBackOff, r.slow.NextBackOff
	for _, k := range []struct {
		err    error
		reason string
		waits  func() time.Duration
	}{
		{provider.ErrCursorGone, "cursor_gone", func() time.Duration { return jittered(r.Slowly) }},
		{provider.ErrOutOfOrder, "out_of_order", slower},
		{provider.ErrUnauthorized, "unauthorized", slower}, // a key that was rotated is read soon
		{provider.ErrAnswer, "answer", slower},
		{provider.ErrThrottled, "throttled", soon},
		{queue.ErrFull, "queue_full", soon},
		{queue.ErrUnavailable, "queue", soon},
		{errStands, "ledger", soon},
	} {
		if errors.Is(err, k.err) {
			return k.reason, k.waits
		}
	}
	return "other", soon
}
