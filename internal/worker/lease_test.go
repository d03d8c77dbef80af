package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

// A lease says who should work on a partition, and no more: a worker may stand still past the end of its own and wake
// up at any step. These tests stop one there and let another take over.

// shortLease is less than the time between two renewals: whoever stands still, or idles, loses it.
const shortLease = 250 * time.Millisecond

// pausing is a worker that stops once at a step, until told to go on.
type pausing struct {
	reached, goOn chan struct{}
	once          sync.Once
}

func newPausing() *pausing {
	return &pausing{reached: make(chan struct{}), goOn: make(chan struct{})}
}

func (p *pausing) pause() {
	p.once.Do(func() {
		close(p.reached)
		<-p.goOn
	})
}

// at makes the worker of this configuration pause at a step.
func (p *pausing) at(step string, c *worker.Config) {
	s, h := &steps{Store: c.Store}, &handled{Queue: c.Queue}
	switch step {
	case "before it locks":
		s.began = func(context.Context) error { p.pause(); return nil }
	case "between load and save":
		s.loaded = func(context.Context, directory.Need) error { p.pause(); return nil }
	case "between save and commit":
		s.saved = func(context.Context, store.Batch) error { p.pause(); return nil }
	case "between commit and ack":
		h.ack = func(context.Context, []queue.Ref) error { p.pause(); return nil }
	}
	c.Store, c.Queue = s, h
}

// waiting reports whether a transaction of this rig's database waits for a directory's lock.
func (r *rig) waiting() bool {
	n, err := r.dialect.count(r.t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	return err == nil && n > 0
}

func TestWorkerThatStandsStillPastItsLeaseLeavesNoGrantOfALeaver(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before it locks", "between load and save", "between save and commit", "between commit and ack"} {
		for order, events := range map[string][2]directory.Event{
			"the joiner first": {added("e2", 2, "eng", "ada"), leaves("e3", 3, "ada")},
			"the leaver first": {leaves("e3", 3, "ada"), added("e2", 2, "eng", "ada")},
		} {
			t.Run(step+", "+order, func(t *testing.T) {
				everywhere(t, settings{lease: shortLease}, func(t *testing.T, r *rig) {
					r.overtake(step, events[0], events[1])
				})
			})
		}
	}
}

// overtake lets a first worker stand still at a step with one event in hand, while a second takes the partition over and
// finds another event too.
func (r *rig) overtake(step string, first, second directory.Event) {
	r.t.Helper()
	if err := storetest.Fold(r.t.Context(), r.store, []directory.Event{joins("e1", 1, "ada")}); err != nil {
		r.t.Fatal(err)
	}
	slow := newPausing()
	r.send(first)
	r.start(func(c *worker.Config) { slow.at(step, c) })
	<-slow.reached
	r.send(second)
	var awake atomic.Bool
	took, folded := make(chan struct{}), make(chan struct{})
	var onceTook, onceFolded sync.Once
	r.start(func(c *worker.Config) {
		c.Store = &steps{
			Store: r.store,
			began: func(context.Context) error { onceTook.Do(func() { close(took) }); return nil },
			loaded: func(context.Context, directory.Need) error {
				if step == "between load and save" || step == "between save and commit" {
					if !awake.Load() {
						r.t.Error("the second worker read the directory while the first was between its own read and its commit")
					}
				}
				return nil
			},
			committed: func(context.Context) error { onceFolded.Do(func() { close(folded) }); return nil },
		}
	})
	<-took // the first one's lease is lost
	switch {
	case step == "before it locks" || step == "between commit and ack":
		<-folded
	case r.dialect.schema != "": // PostgreSQL shows its locks
		r.until("the second worker waits for the directory's lock", r.waiting)
	}
	awake.Store(true)
	close(slow.goOn)
	r.settle()
	if got := r.check(); len(got) != 0 || r.survivors() != 0 {
		r.t.Errorf("active: %q, want nobody", got)
	}
	for _, id := range []string{"e2", "e3"} {
		r.wantOutcome(id, store.Applied)
	}
}

func TestWorkerThatIsCutOffBetweenLoadAndSaveSavesNothingWhenItWakes(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, settings{lease: shortLease})
	if err := storetest.Fold(t.Context(), r.store, []directory.Event{joins("e1", 1, "ada")}); err != nil {
		t.Fatal(err)
	}
	slow := newPausing()
	r.send(added("e2", 2, "eng", "ada"))
	r.start(func(c *worker.Config) { slow.at("between load and save", c) })
	<-slow.reached
	r.send(leaves("e3", 3, "ada"))
	r.start()
	r.until("the second worker waits for the directory's lock", r.waiting)
	// What idle_in_transaction_session_timeout does after ten seconds:
	r.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	r.until("the second worker folded the leaver", func() bool { return r.ledger("e3").Outcome == store.Applied })
	close(slow.goOn)
	r.settle()
	if got := r.check(); len(got) != 0 {
		t.Errorf("active: %q, want nobody", got)
	}
	want := []string{"account.activated idp-ada", "grant.added idp-ada eng", "account.deactivated idp-ada", "grant.revoked idp-ada eng"}
	if diff := cmp.Diff(want, r.changes()); diff != "" {
		t.Errorf("changes, each once: want (-), got (+):\n%s", diff)
	}
}

func TestWorkersThatKeepLosingTheirLeasesFoldToWhatTheModelSays(t *testing.T) {
	for seed, policy := range []directory.Decision{directory.DecisionKeep, directory.DecisionDeprovision} {
		t.Run(fmt.Sprintf("policy %s", policy), func(t *testing.T) {
			everywhere(t, settings{lease: shortLease, policy: policy}, func(t *testing.T, r *rig) {
				events := directorytest.Generate(uint64(seed), 300)
				for _, e := range directorytest.Shuffled(uint64(seed), events) {
					d := plain(e)
					d.Force = true // so that the queue keeps the repeated ones
					r.deliver(d)
				}
				var left atomic.Int64
				left.Store(60)
				dawdle := func(ctx context.Context) error { return dawdle(ctx, &left) }
				stops := make([]func(), 3)
				for n := range stops {
					stops[n] = r.start(func(c *worker.Config) {
						c.Batch, c.Chunk = 12, 2
						c.Store = &steps{
							Store:  r.store,
							began:  dawdle,
							loaded: func(ctx context.Context, _ directory.Need) error { return dawdle(ctx) },
							saved:  func(ctx context.Context, _ store.Batch) error { return dawdle(ctx) },
						}
						c.Queue = &handled{Queue: r.queue, ack: func(ctx context.Context, _ []queue.Ref) error { return dawdle(ctx) }}
					})
				}
				r.until("enough dawdling, with never a grant of somebody inactive", func() bool {
					if n := r.survivors(); n != 0 {
						t.Fatalf("%d grants of inactive accounts", n)
					}
					return left.Load() <= 0 || r.depth() == 0
				})
				for _, stop := range stops {
					stop()
				}
				r.start(func(c *worker.Config) { c.Renew = shortLease / 10 }) // what is left, on a machine however slow
				r.settle()
				dump := storetest.Check(t, r.store)
				if diff := cmp.Diff(directorytest.Model(events, policy), directorytest.Outcome(dump)); diff != "" {
					t.Errorf("model (-), database (+):\n%s", diff)
				}
				r.wantLedger(events)
			})
		})
	}
}

// dawdle stands still for a while now and then, often longer than a lease lasts, while there are times left.
func dawdle(ctx context.Context, left *atomic.Int64) error {
	if rand.IntN(4) > 0 || left.Add(-1) < 0 {
		return nil
	}
	timer := time.NewTimer(rand.N(2 * shortLease))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wantLedger compares the ids in the ledger with those of the events: each is there, once.
func (r *rig) wantLedger(events []directory.Event) {
	r.t.Helper()
	entries, err := r.store.Events(r.t.Context(), store.EventFilter{Limit: 1_000_000})
	if err != nil {
		r.t.Fatal(err)
	}
	var got, want []string
	for _, e := range entries {
		got = append(got, e.ID)
	}
	for _, e := range events {
		want = append(want, e.ID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("ids in the ledger: want (-), got (+):\n%s", diff)
	}
}
