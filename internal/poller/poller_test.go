package poller_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/poller"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

func TestWhatNoWebhookBroughtComesFromTheLog(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(95)
		r.work()
		r.poll()
		at := r.caughtUp("event_0095")
		r.wantAll()
		for _, e := range r.log.all() {
			r.wantOnce(e.ID)
		}
		if e := r.ledger()["event_0050"]; e.Origin != "poll" || e.Outcome != store.Applied {
			t.Errorf("event_0050 came by %q and is %q, want poll, applied", e.Origin, e.Outcome)
		}
		if want := r.log.all()[94].Created; !at.Watermark.Equal(want) || !at.Occurred.Equal(want) {
			t.Errorf("the watermark is %s and the cursor's event of %s, want %s", at.Watermark, at.Occurred, want)
		}
		r.log.add(3)
		r.caughtUp("event_0098")
		r.wantAll()
	})
}

func TestAnEventThatTheLogShowsLateIsNotPassedOver(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		events := r.log.add(4)
		r.log.hide("event_0002", "event_0003")
		r.work()
		r.poll()
		r.caughtUp("event_0001")
		r.hook(events[3]) // its webhook is quicker than the log
		r.until("event_0004 in the ledger", func() bool { return r.holds("event_0004") })
		n := len(r.log.asked())
		r.until("another page", func() bool { return len(r.log.asked()) > n+2 })
		if at := r.cursor(); at.After != "event_0001" {
			t.Errorf("a webhook moved the cursor to %s", at.After)
		}
		r.log.hide()
		r.caughtUp("event_0004")
		r.wantAll()
		r.wantOnce("event_0002", "event_0003", "event_0004")
	})
}

func TestTheCursorWaitsForTheLedgerWithAFewPagesOnTheirWay(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(100)
		r.poll()
		r.until("four pages in the queue", func() bool { return r.queue.times("event_0040") == 1 })
		looks := atomic.Int64{}
		r.queue.set(func(queue.Delivery) (queue.Result, bool, error) { looks.Add(1); return 0, false, nil })
		r.until("a look for what does not come", func() bool { s, err := r.queue.Stats(t.Context()); return err == nil && s.Depth() == 40 })
		if at := r.cursor(); at.After != "" || !at.CaughtUp.IsZero() {
			t.Errorf("nothing is folded and the cursor is behind %q, caught up %s", at.After, at.CaughtUp)
		}
		if n := r.queue.times("event_0041"); n != 0 {
			t.Error("a fifth page is on its way, want four")
		}
		r.work()
		r.caughtUp("event_0100")
		r.wantAll()
		r.wantOnce("event_0001", "event_0040", "event_0041", "event_0100")
	})
}

func TestWhatIsLostBetweenQueueAndLedgerIsReadAgain(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(30)
		r.queue.set(func(queue.Delivery) (queue.Result, bool, error) { return queue.Accepted, true, nil }) // and loses it
		_, crash := r.poll()
		r.until("three pages in the queue", func() bool { return r.queue.times("event_0030") == 1 })
		crash()
		if at := r.cursor(); at.After != "" {
			t.Errorf("the ledger holds nothing and the cursor is behind %s", at.After)
		}
		r.queue.set(nil)
		r.work()
		r.poll()
		r.caughtUp("event_0030")
		r.wantAll()
	})
}

func TestWhatTheQueueLosesWhileItIsWaitedForIsOfferedAgain(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(15)
		lost := atomic.Int64{}
		r.queue.set(func(queue.Delivery) (queue.Result, bool, error) { return queue.Accepted, lost.Add(1) <= 15, nil })
		r.work()
		r.poll()
		r.caughtUp("event_0015")
		r.wantAll()
	})
}

func TestAFullQueueLosesNothing(t *testing.T) {
	everywhere(t, 3, func(t *testing.T, r *rig) {
		r.log.add(60)
		r.poll()
		r.until("a full queue", func() bool { return strings.Contains(r.cursor().Error, queue.ErrFull.Error()) })
		if at := r.cursor(); at.After != "" || at.Failed.IsZero() {
			t.Errorf("nothing is folded and the cursor is behind %q; full since %s", at.After, at.Failed)
		}
		r.work()
		at := r.caughtUp("event_0060")
		r.wantAll()
		if at.Error != "" {
			t.Errorf("the poll still says %q", at.Error)
		}
	})
}

func TestOfTwoPollersOnePollsAndTheOtherTakesOver(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(25)
		r.work()
		_, stop := r.poll()
		r.caughtUp("event_0025")
		first := r.cursor().Holder
		tries := atomic.Int64{}
		r.poll(func(c *poller.Config) {
			c.Store = &pulling{Pulling: r.store, take: func() error { tries.Add(1); return nil }}
			c.Events = watchedLog{r.log, func() {
				if holder := r.cursor().Holder; holder == first {
					t.Error("a poller read the log that another one had")
				}
			}}
		})
		r.until("the other one's tries", func() bool { return tries.Load() > 5 })
		r.log.add(25)
		r.caughtUp("event_0050")
		if holder := r.cursor().Holder; holder != first {
			t.Errorf("the source is %s's, want it to stay %s's", holder, first)
		}
		stop()
		r.log.add(25)
		r.caughtUp("event_0075")
		if holder := r.cursor().Holder; holder == first {
			t.Error("the source is still the first poller's, which has stopped")
		}
		r.wantAll()
	})
}

func TestWhoStoodStillPastTheLeaseMovesNothing(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(5)
		r.work()
		stands, on := make(chan struct{}), make(chan struct{})
		var late atomic.Value
		r.poll(func(c *poller.Config) {
			c.Lease = 200 * time.Millisecond
			c.Store = &pulling{
				Pulling: r.store,
				move: func(to store.PollMove) error {
					if to.After == "event_0005" && late.CompareAndSwap(nil, "moving") {
						close(stands)
						<-on
					}
					return nil
				},
				moved: func(to store.PollMove) error {
					if to.After == "event_0005" {
						late.Store("moved")
					}
					return nil
				},
				take: func() error {
					select {
					case <-stands:
						return errDown // it does not renew either
					default:
						return nil
					}
				},
			}
		})
		<-stands
		r.log.add(20)
		r.poll(func(c *poller.Config) { c.Lease = time.Minute })
		at := r.caughtUp("event_0025")
		close(on)
		r.log.add(1)
		after := r.caughtUp("event_0026")
		if late.Load() == "moved" {
			t.Error("who had lost the lease moved the cursor")
		}
		if after.Moves != at.Moves+1 {
			t.Errorf("the cursor moved from %d to %d moves by one page", at.Moves, after.Moves)
		}
		r.wantAll()
	})
}

func TestAnExpiredCursorStartsAgainAtTheEdgeAndSaysSo(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(20)
		stopWork := r.work()
		_, stop := r.poll()
		before := r.caughtUp("event_0020")
		stop()
		stopWork()
		r.log.add(40)
		r.log.advance(91 * 24 * time.Hour) // nobody polls for so long
		fresh := r.log.add(5)
		r.log.forget(60)
		r.work()
		r.poll(func(c *poller.Config) { c.Retention = 30 * 24 * time.Hour })
		at := r.caughtUp("event_0065")
		if at.Restarts != 1 || at.RestartedFrom.After != "event_0020" || at.Restarted.IsZero() {
			t.Errorf("%d restarts, the last at %s from %q, want one from event_0020", at.Restarts, at.Restarted, at.RestartedFrom.After)
		}
		if !at.Began.Equal(before.Began) {
			t.Errorf("the log began to be read at %s, it was %s", at.Began, before.Began)
		}
		for _, e := range fresh {
			if !r.holds(e.ID) {
				t.Errorf("the ledger lacks %s", e.ID)
			}
		}
		if want := r.log.clock().Add(-30 * 24 * time.Hour); !slices.ContainsFunc(r.log.asked(), func(q provider.LogQuery) bool { return q.Since.Equal(want) }) {
			t.Errorf("no page began at %s, 30 days before the provider's now", want)
		}
	})
}

func TestAProviderThatForgetsEveryCursorIsAskedSlowly(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(20)
		r.log.err = func(q provider.LogQuery) error {
			if q.After != "" {
				return fmt.Errorf("%w: %s", provider.ErrCursorGone, q.After)
			}
			return nil
		}
		r.work()
		r.poll(func(c *poller.Config) { c.Slowly = time.Hour })
		r.until("an alarm", func() bool { return strings.Contains(r.cursor().Error, provider.ErrCursorGone.Error()) })
		if at := r.cursor(); at.Restarts != 1 {
			t.Errorf("%d restarts at once, want one", at.Restarts)
		}
	})
}

// The database is a backup of before the second half, with its ledger and its cursor. The queue remembers all of it.
func TestADatabaseThatWasRestoredIsFilledAgain(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		now, lost := r.store, r.fresh()
		r.log.add(20)
		for _, s := range []store.Store{now, lost} { // both know the first half
			r.store = s
			stopWork := r.work()
			_, stop := r.poll()
			r.caughtUp("event_0020")
			stop()
			stopWork()
			if _, err := r.queue.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		r.log.add(40)
		r.store = lost
		stopWork := r.work()
		_, stop := r.poll()
		r.caughtUp("event_0060")
		stop()
		stopWork()
		want, err := r.store.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		r.store = now // what is left
		forced := r.queue.count(&r.queue.forced)
		r.work()
		r.poll()
		r.caughtUp("event_0060")
		r.wantAll()
		if n := r.queue.count(&r.queue.forced) - forced; n != 40 {
			t.Errorf("%d events were forced into the queue, want the 40 that the ledger lacked", n)
		}
		if diff := dumpDiff(t, r.store, want); diff != "" {
			t.Errorf("the restored database differs (-lost +restored):\n%s", diff)
		}
	})
}

func TestWhatWaitsInTheQueueIsNotForced(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		for _, e := range r.log.add(30) {
			r.hook(e)
		}
		stats := atomic.Int64{}
		r.poll(func(c *poller.Config) { c.Queue = statsCounter{r.queue, &stats} })
		r.until("a few looks for what does not reach the ledger", func() bool { return stats.Load() > 3 })
		r.work()
		r.caughtUp("event_0030")
		for _, e := range r.log.all() {
			r.wantOnce(e.ID)
		}
		if n := r.queue.count(&r.queue.forced); n != 0 {
			t.Errorf("%d events were forced into the queue", n)
		}
		if at := r.cursor(); at.Missed != 0 {
			t.Errorf("%d webhooks count as missed, and none was", at.Missed)
		}
	})
}

func TestOurClockTenMinutesAheadChangesNothing(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(10)
		r.work()
		r.poll(func(c *poller.Config) {
			c.Now = func() time.Time { return r.log.clock().Add(10 * time.Minute) }
			c.Start = poller.Start{Ago: 3 * time.Second}
		})
		at := r.caughtUp("event_0010")
		if want := r.log.clock().Add(-3 * time.Second); !at.Began.Equal(want) {
			t.Errorf("the log was read from %s, want %s", at.Began, want)
		}
		if r.holds("event_0006") || !r.holds("event_0007") {
			t.Errorf("the ledger holds %d events, want the last 4", len(r.ledger()))
		}
		r.log.add(1)
		if at = r.caughtUp("event_0011"); at.Missed != 0 {
			t.Errorf("%d webhooks count as missed, though the events are only just made", at.Missed)
		}
	})
}

func TestALogIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		start     poller.Start
		retention time.Duration
		want      time.Duration // before the provider's now
	}{
		"nothing said":                         {want: 90 * day},
		"another retention":                    {retention: 30 * day, want: 30 * day},
		"a time":                               {start: poller.Start{At: newLog().now.Add(-5 * day)}, want: 5 * day},
		"a time that the provider forgot":      {start: poller.Start{At: newLog().now.Add(-500 * day)}, want: 90 * day},
		"a duration":                           {start: poller.Start{Ago: 7 * day}, want: 7 * day},
		"a duration longer than the retention": {start: poller.Start{Ago: 91 * day}, want: 90 * day},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := onSQLite(t, 0)
			r.poll(func(p *poller.Config) { p.Start, p.Retention = c.start, c.retention })
			r.until("a poll", func() bool { return !r.cursor().CaughtUp.IsZero() })
			if got := r.log.clock().Sub(r.cursor().Began); got != c.want {
				t.Errorf("the log is read from %s before the provider's now, want %s", got, c.want)
			}
		})
	}
}

func TestTroubleStopsTheCursorAndIsSaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		breaks func(l *providerLog)
		want   error
	}{
		"a page that is out of order": {func(l *providerLog) { l.err = always(provider.ErrOutOfOrder) }, provider.ErrOutOfOrder},
		"a key that is refused":       {func(l *providerLog) { l.err = always(provider.ErrUnauthorized) }, provider.ErrUnauthorized},
		"a rate limit":                {func(l *providerLog) { l.err = always(provider.ErrThrottled) }, provider.ErrThrottled},
		"a page of what came before": {func(l *providerLog) {
			l.answer = func(q provider.LogQuery, p *provider.LogPage) {
				if q.After != "" {
					p.Events, p.After = []provider.LogEvent{logged(9000, l.now.Add(-24*time.Hour))}, "event_9000"
				}
			}
		}, provider.ErrOutOfOrder},
		"a page that ends where it began": {func(l *providerLog) {
			l.answer = func(q provider.LogQuery, p *provider.LogPage) {
				if q.After != "" {
					p.Events, p.After, p.More = []provider.LogEvent{logged(9000, l.now)}, q.After, true
				}
			}
		}, provider.ErrAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := onSQLite(t, 0)
			r.log.add(5)
			r.work()
			r.poll()
			r.caughtUp("event_0005")
			r.log.do(c.breaks)
			r.log.add(5)
			r.until("trouble", func() bool { return strings.Contains(r.cursor().Error, c.want.Error()) })
			n := len(r.log.asked())
			r.until("a few more tries", func() bool { return len(r.log.asked()) > n+2 })
			if at := r.cursor(); at.After != "event_0005" || at.Failed.IsZero() {
				t.Errorf("the cursor is behind %s, failed since %s, want it behind event_0005", at.After, at.Failed)
			}
			r.log.do(func(l *providerLog) { l.err, l.answer = nil, nil })
			if at := r.caughtUp("event_0010"); at.Error != "" || !at.Failed.IsZero() {
				t.Errorf("all is well again, and the poll says %q since %s", at.Error, at.Failed)
			}
			r.wantAll()
		})
	}
}

func TestADatabaseThatIsDownIsWaitedFor(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(30)
		flaky := func() func() error { // fails, then works
			var n atomic.Int64
			return func() error {
				if n.Add(1)%2 != 0 {
					return errDown
				}
				return nil
			}
		}
		move, moved := flaky(), flaky()
		r.work()
		r.poll(func(c *poller.Config) {
			c.Store = &pulling{
				Pulling: r.store, known: flaky(), take: flaky(),
				move:  func(store.PollMove) error { return move() },
				moved: func(store.PollMove) error { return moved() }, // moved, and nobody heard of it
			}
		})
		r.caughtUp("event_0030")
		r.wantAll()
	})
}

func TestParkedAndIgnoredEventsAreHeld(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(1)
		now := r.log.clock()
		broken := provider.LogEvent{Identity: provider.Identity{ID: "event_broken", Type: "dsync.user.created"}, Created: now, Body: []byte("broken")}
		ignored := provider.LogEvent{Identity: provider.Identity{ID: "event_ignored"}, Created: now, Body: []byte(`{"ID":"event_ignored","Type":"ignored"}`)}
		nameless := provider.LogEvent{Created: now, Body: []byte("nameless")}
		future := logged(700, now.Add(time.Hour))
		for _, e := range []provider.LogEvent{broken, ignored, nameless, future} {
			r.log.put(e)
		}
		r.log.put(logged(800, now.Add(time.Hour)))
		r.work()
		r.poll()
		r.caughtUp("event_0800")
		held := r.ledger()
		for id, want := range map[string]store.Outcome{"event_broken": store.Parked, "event_ignored": store.Ignored, "event_0700": store.Parked} {
			if got := held[id].Outcome; got != want {
				t.Errorf("%s is %q, want %q", id, got, want)
			}
		}
		if len(held) != 6 {
			t.Errorf("the ledger holds %d events, want 6, one of which has no name", len(held))
		}
	})
}

func TestAPageOfWhichNothingCanBeReadIsHeldAndMovesNothing(t *testing.T) {
	t.Parallel()
	r := onSQLite(t, 0)
	r.log.add(3)
	r.work()
	r.poll()
	r.caughtUp("event_0003")
	r.log.do(func(l *providerLog) {
		l.answer = func(q provider.LogQuery, p *provider.LogPage) {
			if q.After == "event_0003" && len(p.Events) == 0 {
				p.Events = []provider.LogEvent{{Identity: provider.Identity{ID: "sha256:abc"}, Body: []byte("unreadable")}}
			}
		}
	})
	r.until("what cannot be read in the ledger", func() bool { return r.holds("sha256:abc") })
	moves, n := r.cursor().Moves, len(r.log.asked())
	r.until("a few more pages", func() bool { return len(r.log.asked()) > n+3 })
	if now := r.cursor().Moves; now != moves {
		t.Errorf("the cursor moved %d times to where it was", now-moves)
	}
	r.log.add(1)
	at := r.caughtUp("event_0004")
	if at.Error != "" {
		t.Errorf("the poll says %q", at.Error)
	}
	r.wantOnce("sha256:abc")
}

func TestWebhooksThatDidNotComeAreCounted(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(10) // of before
		r.work()
		_, stop := r.poll()
		r.caughtUp("event_0010")
		stop()
		events := r.log.add(8)
		for _, e := range events[:3] {
			r.hook(e)
		}
		// The last 5 are of 4, 3, 2, 1 and 0 seconds ago; then of a second more.
		r.log.advance(time.Second)
		r.poll()
		if at := r.caughtUp("event_0018"); at.Missed != 1 {
			t.Errorf("%d webhooks count as missed, want 1: that of the only event which is 5 s old and had none", at.Missed)
		}
	})
}

func TestAPokePollsAtOnce(t *testing.T) {
	t.Parallel()
	r := onSQLite(t, 0)
	r.work()
	p, _ := r.poll(func(c *poller.Config) { c.Every = time.Hour })
	r.until("a poll", func() bool { return !r.cursor().CaughtUp.IsZero() })
	r.log.add(1)
	p.Poke()
	r.caughtUp("event_0001")
}

func TestACursorThatIsMovedBackIsFollowed(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		events := r.log.add(40)
		r.work()
		r.poll()
		before := r.caughtUp("event_0040")
		for _, to := range []store.PollCursor{{After: "event_0005", Occurred: events[4].Created}, {Since: events[9].Created}} {
			n := len(r.log.asked())
			if err := r.store.RewindPoll(t.Context(), source, to, "ops"); err != nil {
				t.Fatal(err)
			}
			r.caughtUp("event_0040")
			again := false
			for _, q := range r.log.asked()[n:] {
				again = again || q.After == to.After && q.Since.Equal(to.Since)
			}
			if !again {
				t.Errorf("no page began at %+v", to)
			}
		}
		if at := r.cursor(); at.Moves <= before.Moves+2 {
			t.Errorf("%d moves, it was %d", at.Moves, before.Moves)
		}
		for _, e := range events {
			r.wantOnce(e.ID)
		}
	})
}

func TestAnEventOfALogThatLooksLikeOneOfOursStopsNothing(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, r *rig) {
		r.log.add(1)
		for _, id := range []string{"reconcile_x", "operator_x"} {
			e := r.log.add(1)[0]
			r.log.do(func(l *providerLog) {
				e.Body = bytes.Replace(e.Body, []byte(e.ID), []byte(id), 1)
				e.ID = id
				l.events[len(l.events)-1] = e
			})
		}
		last := r.log.add(1)[0]
		r.work()
		r.poll()
		r.caughtUp(last.ID)
		parked := 0
		for id, e := range r.ledger() {
			if e.Outcome == store.Parked && strings.HasPrefix(id, "sha256:") {
				parked++
			}
		}
		if parked != 2 || r.holds("reconcile_x") || r.holds("operator_x") {
			t.Errorf("the ledger holds %v, want two parked under their bodies' hashes", r.ledger())
		}
	})
}
