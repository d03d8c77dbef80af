package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

var errBroken = errors.New("broken on purpose")

func TestReplayedDeliveryIsAppliedOnce(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"), added("e2", 2, "eng", "ada"))
		r.replay(joins("e1", 1, "ada")) // twice in one batch
		r.start()
		r.settle()
		before := r.ledger("e1")
		r.replay(joins("e1", 1, "ada"), added("e2", 2, "eng", "ada"), joins("e1", 1, "ada"))
		r.settle()
		if after := r.ledger("e1"); after != before || after.Outcome != store.Applied {
			t.Errorf("the ledger says %+v after a replay, want what it said before: %+v", after, before)
		}
		if diff := cmp.Diff([]string{"account.activated idp-ada", "grant.added idp-ada eng"}, r.changes()); diff != "" {
			t.Errorf("changes: want (-), got (+):\n%s", diff)
		}
		r.check()
	})
}

func TestLedgerSaysWhatCameOfEachDelivery(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		r.send(joins("e2", 2, "ada"))
		r.settle()
		r.wantOutcome("e2", store.Applied)
		r.send(joins("e1", 1, "ada"))
		r.settle()
		got := r.ledger("e1")
		want := store.Entry{
			EventKey: store.EventKey{Source: "workos", ID: "e1"}, Type: "dsync.user.updated", Subject: "user_ada", Directory: "directory_1", Organization: "org_1",
			Occurred: directorytest.Start.Add(time.Minute), Received: directorytest.Start, Origin: "hook", Outcome: store.Superseded, KeyVersion: "3",
			SignedAt: directorytest.Start, Binary: "1.2.3", Config: "digest",
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(store.Entry{}, "Folded", "BodySHA256")); diff != "" || len(got.BodySHA256) != 64 || got.Folded.IsZero() {
			t.Errorf("ledger: want (-), got (+):\n%s\nand a hash and a time in %+v", diff, got)
		}
	})
}

func TestNothingIsAcknowledgedBeforeItsCommit(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"))
		var failures atomic.Int64
		acknowledged := make(chan store.Entry, 1)
		r.start(func(c *worker.Config) {
			c.Store = &steps{Store: r.store, saved: func(context.Context, store.Batch) error {
				if n := failures.Add(1); n <= 3 {
					return errBroken
				}
				return nil
			}}
			c.Queue = &handled{Queue: r.queue, ack: func(context.Context, []queue.Ref) error {
				acknowledged <- r.ledger("e1")
				return nil
			}}
		})
		r.until("three failures before COMMIT", func() bool {
			if n := failures.Load(); n < 3 && (r.depth() != 1 || r.ledger("e1").ID != "") {
				t.Fatalf("after %d failures: %d queued and ledger %+v, want it queued and unknown", n, r.depth(), r.ledger("e1"))
			}
			return failures.Load() >= 3
		})
		if e := <-acknowledged; e.Outcome != store.Applied {
			t.Errorf("when it was acknowledged the ledger said %q, want applied", e.Outcome)
		}
		r.settle()
		r.check()
	})
}

func TestDeathBetweenCommitAndAckLosesAndRepeatsNothing(t *testing.T) {
	everywhere(t, settings{lease: 300 * time.Millisecond}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"), added("e2", 2, "eng", "ada"))
		committed := make(chan struct{})
		stop := r.start(func(c *worker.Config) {
			c.Queue = &handled{Queue: r.queue, ack: func(ctx context.Context, _ []queue.Ref) error {
				close(committed)
				<-ctx.Done() // it never gets there
				return ctx.Err()
			}}
			c.Grace = time.Millisecond
		})
		<-committed
		stop()
		before, changes := r.ledger("e1"), r.changes()
		if r.depth() != 2 || before.Outcome != store.Applied || len(changes) != 2 {
			t.Fatalf("%d queued, ledger %q, changes %q: want 2, applied and 2", r.depth(), before.Outcome, changes)
		}
		r.start()
		r.settle()
		if diff := cmp.Diff(changes, r.changes()); diff != "" || r.ledger("e1") != before {
			t.Errorf("the second worker changed something:\n%s\n%+v", diff, r.ledger("e1"))
		}
		r.check()
	})
}

func TestUndecodableBodyIsParkedWholeAndNothingWaitsBehindIt(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		bodies := map[string][]byte{
			"not JSON": []byte("\xff\x00 garbage"), "empty": {}, "no event in it": []byte("nothing"), "of another shape": []byte(`[1,2,3]`),
			"no user":           plain(joins("no user", 1, "ada", func(e *directory.Event) { e.User.ID = "" })).Body,
			"NUL in its fields": plain(joins("NUL in its fields", 1, "ada\x00")).Body,
		}
		for name, body := range bodies {
			r.deliver(queue.Delivery{ID: name, Directory: "directory_1", Body: body})
		}
		r.deliver(queue.Delivery{Source: "real", ID: "typed", Body: []byte(`{"id":"typed","event":"dsync.user.created","data":{},"created_at":"2026-07-31T10:00:00Z"}`)})
		r.send(joins("e1", 1, "ada"))
		r.start()
		r.settle()
		r.wantOutcome("e1", store.Applied)
		for name, body := range bodies {
			d := r.dead("workos", name)
			if string(d.Body) != string(body) {
				t.Errorf("%s: the body kept is %q, want %q", name, d.Body, body)
			}
			if d.Class != "invalid" && d.Class != "undecodable" || d.Error == "" || d.KeyVersion != "3" {
				t.Errorf("%s: parked as %+v, want its class, reason and key version", name, d)
			}
			r.wantOutcome(name, store.Parked)
		}
		if d := r.dead("real", "typed"); d.Type != "dsync.user.created" || strings.HasPrefix(d.Error, "invalid") {
			t.Errorf("of a known type: parked as %+v, want its type, and the class said once", d)
		}
	})
}

func TestEventOfASourceThatThisWorkerDoesNotKnowYetIsFoldedOnceItDoes(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		d := plain(joins("e1", 1, "ada", func(e *directory.Event) { e.Source = "newer" }))
		d.Source = "newer"
		r.deliver(d)
		r.deliver(queue.Delivery{Source: "no\x00body", ID: "odd", Directory: "directory_1", Body: []byte("{}")})
		r.send(joins("e2", 1, "bob"))
		stop := r.start()
		r.settle()
		r.wantOutcome("e2", store.Applied)
		for source, id := range map[string]string{"newer": "e1", "nobody": "odd"} {
			if d := r.dead(source, id); d.Class != "unconfigured" || d.Due.IsZero() {
				t.Errorf("of an unknown source: parked as %+v, want it to be tried again", d)
			}
		}
		stop()
		r.start(func(c *worker.Config) { c.Sources["newer"] = c.Sources["workos"] })
		r.advance(2 * time.Minute)
		r.until("the event is applied", func() bool { return r.ledger("e1").Outcome == store.Applied })
	})
}

func TestDeliveryWithoutUsableTimesIsFoldedAllTheSame(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		d := plain(joins("e1", 1, "ada"))
		d.SignedAt = time.UnixMilli(1 << 60) // some 36 million years from now
		if _, err := r.queue.Enqueue(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.settle()
		if got := r.ledger("e1"); got.Outcome != store.Applied || !got.Received.Equal(r.clock()) || !got.SignedAt.IsZero() {
			t.Errorf("the ledger says %+v, want it applied, received when it was folded, signed nobody knows when", got)
		}
	})
}

func TestPanicInADecoderParksThatEventOnly(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"))
		r.deliver(queue.Delivery{ID: "e2", Directory: "directory_1", Body: []byte("panic: this body")})
		r.send(joins("e3", 3, "bob"))
		r.start()
		r.settle()
		if d := r.dead("workos", "e2"); d.Class != "undecodable" || string(d.Body) != "panic: this body" {
			t.Errorf("parked as %+v, want it undecodable and whole", d)
		}
		r.wantOutcome("e1", store.Applied)
		r.wantOutcome("e3", store.Applied)
	})
}

func TestEventThatTheDatabaseRefusesIsFoundByHalvingAndParked(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.exec(r.dialect.refuse)
		poison := func(e *directory.Event) { e.User.FirstName = "poison" }
		for n := range 100 {
			e := joins(fmt.Sprintf("e%02d", n), n%40, fmt.Sprint("person", n))
			if n == 13 || n == 77 {
				poison(&e)
			}
			r.send(e)
		}
		var transactions atomic.Int64
		stop := r.start(func(c *worker.Config) {
			c.Store = &steps{Store: r.store, began: func(context.Context) error { transactions.Add(1); return nil }}
		})
		r.settle()
		stop()
		for n := range 100 {
			id, want := fmt.Sprintf("e%02d", n), store.Applied
			if n == 13 || n == 77 {
				want = store.Parked
				if d := r.dead("workos", id); d.Class != "data" || !strings.Contains(string(d.Body), "poison") {
					t.Errorf("%s is parked as %+v, want class data and its body", id, d)
				}
			}
			r.wantOutcome(id, want)
		}
		if n := transactions.Load(); n > 40 {
			t.Errorf("it took %d transactions, want the few of halving", n)
		}
		if active := r.check(); len(active) != 98 {
			t.Errorf("%d are active, want 98", len(active))
		}
	})
}

func TestEventThatTheFoldFailsOnIsParkedAlone(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"), joins("e2", 2, "poison"), joins("e3", 3, "bob"))
		r.start(func(c *worker.Config) {
			c.Store = &steps{Store: r.store, state: func(need directory.Need, s *directory.State) *directory.State {
				if slices.ContainsFunc(need.Users, func(id directory.ID) bool { return id.ID == "user_poison" }) {
					return nil // what it folds into is not there
				}
				return s
			}}
		})
		r.settle()
		if d := r.dead("workos", "e2"); d.Class != "data" || len(d.Body) == 0 {
			t.Errorf("parked as %+v, want class data and its body", d)
		}
		r.wantOutcome("e1", store.Applied)
		r.wantOutcome("e3", store.Applied)
	})
}

func TestUnknownTypeIsIgnored(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.deliver(queue.Delivery{Source: "real", ID: "event_1", Body: []byte(`{"id":"event_1","event":"kitten.created","data":{},"created_at":"2026-07-31T10:00:00Z"}`)})
		r.start()
		r.settle()
		if got := r.ledger("event_1"); got.Outcome != store.Ignored || got.Type != "kitten.created" || !strings.Contains(got.Reason, "kitten.created") {
			t.Errorf("the ledger says %+v, want it ignored with type and reason", got)
		}
	})
}

func TestEventThatIsTooOldIsIgnored(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		edge := r.clock().Add(-95 * 24 * time.Hour)
		at := func(when time.Time) func(e *directory.Event) {
			return func(e *directory.Event) { e.Occurred = when }
		}
		r.send(joins("e1", 0, "ada", at(edge)), joins("e2", 0, "bob", at(edge.Add(-time.Microsecond))))
		r.start()
		r.settle()
		r.wantOutcome("e1", store.Applied)
		if got := r.ledger("e2"); got.Outcome != store.Ignored || !strings.Contains(got.Reason, "max_event_age") {
			t.Errorf("a microsecond past the age: %+v, want it ignored, saying by which setting", got)
		}
	})
}

func TestForcedDeliveryIsNotLostBehindAPlainOneOfTheSameBatch(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		old := joins("e1", 0, "ada", func(e *directory.Event) { e.Occurred = r.clock().Add(-100 * 24 * time.Hour) })
		r.send(old)
		r.replay(old)
		r.start()
		r.settle()
		r.wantOutcome("e1", store.Applied)
	})
}

func TestEventFromTheFutureIsFoldedWhenItsTimeHasCome(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		ahead := func(d time.Duration) func(e *directory.Event) {
			return func(e *directory.Event) { e.Occurred = r.clock().Add(d) }
		}
		r.send(joins("e1", 0, "ada", ahead(5*time.Minute)), joins("e2", 0, "bob", ahead(5*time.Minute+time.Microsecond)))
		r.start()
		r.settle()
		r.wantOutcome("e1", store.Applied) // clocks differ a little
		r.wantOutcome("e2", store.Parked)
		if d := r.dead("workos", "e2"); d.Class != "future" || !d.Due.Equal(r.clock().Add(5*time.Minute+time.Microsecond)) {
			t.Errorf("deferred as %+v, want it due at its own time", d)
		}
		r.advance(5*time.Minute + time.Microsecond)
		r.until("the deferred event folded", func() bool { return r.ledger("e2").Outcome == store.Applied })
		r.settle()
		if _, err := r.store.DeadEvent(t.Context(), "workos", "e2"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("DeadEvent() afterwards = %v, want ErrNotFound", err)
		}
		r.check()
	})
}

func TestDeferredEventThatIsDueIsQueuedOnceWhileFoldingStandsStill(t *testing.T) {
	t.Parallel()
	r := onSQLite(t, settings{})
	r.send(joins("e1", 0, "ada", func(e *directory.Event) { e.Occurred = r.clock().Add(time.Hour) }))
	stop := r.start()
	r.until("it is deferred", func() bool { return r.ledger("e1").Outcome == store.Parked })
	stop()
	r.advance(2 * time.Hour)
	var looks atomic.Int64
	r.start(func(c *worker.Config) {
		c.Store = &steps{
			Store: r.store, due: func() { looks.Add(1) },
			began: func(context.Context) error { return errBroken },
		}
	})
	r.until("three looks at what is due", func() bool { return looks.Load() > 3 })
	if r.depth() != 1 {
		t.Errorf("%d entries are queued, want the one", r.depth())
	}
}

func TestForcedReplayOpensParkedAndIgnoredEventsAgainInPlace(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.exec(r.dialect.refuse)
		old := joins("e1", 0, "ada", func(e *directory.Event) { e.Occurred = r.clock().AddDate(-1, 0, 0) })
		poison := joins("e2", 2, "bob", func(e *directory.Event) { e.User.FirstName = "poison" })
		r.send(old, poison)
		r.start()
		r.settle()
		r.wantOutcome("e1", store.Ignored)
		r.wantOutcome("e2", store.Parked)

		r.replay(poison) // still refused: still parked, once
		r.settle()
		r.wantOutcome("e2", store.Parked)

		r.exec(r.dialect.relent)
		r.replay(old, poison)
		r.settle()
		for _, id := range []string{"e1", "e2"} {
			if got := r.ledger(id); got.Outcome != store.Applied || got.Origin != "replay" || got.Reason != "" {
				t.Errorf("%s after its replay: %+v, want it applied, by replay, for no reason", id, got)
			}
		}
		if dead, err := r.store.DeadEvents(t.Context(), store.EventFilter{}); err != nil || len(dead) != 0 {
			t.Errorf("DeadEvents() = %v, %v, want none", dead, err)
		}
		if got := r.check(); len(got) != 2 {
			t.Errorf("active: %q, want both", got)
		}
	})
}

func TestEndOfAGroupIsExpandedInChunksThatNothingWaitsFor(t *testing.T) {
	everywhere(t, settings{policy: directory.DecisionDeprovision}, func(t *testing.T, r *rig) {
		const people = 210
		for n := range people {
			name := fmt.Sprintf("person%03d", n)
			r.send(joins("u"+name, 1, name), added("m"+name, 2, "eng", name))
		}
		var mu sync.Mutex
		var sizes []int
		firstChunk, goOn := make(chan struct{}), make(chan struct{})
		s := &steps{Store: r.store, chunkSizes: func(n int) {
			mu.Lock()
			defer mu.Unlock()
			sizes = append(sizes, n)
		}}
		var looks atomic.Int64
		s.expanding = func(ctx context.Context, limit int) ([]store.PendingExpansion, error) {
			p, err := r.store.Expansions(ctx, limit)
			if len(p) > 0 && looks.Add(1) == 2 { // one chunk is done: stand still until told to go on
				close(firstChunk)
				<-goOn
			}
			return p, err
		}
		r.start(func(c *worker.Config) { c.Store, c.Chunk = s, 50 })
		r.until("everybody is in", func() bool { return r.depth() == 0 })
		r.send(groupEnds("end", 3, "eng"))
		<-firstChunk
		r.send(leaves("leaver", 4, "person200"), joins("joiner", 4, "newcomer"))
		r.until("events of the directory go on meanwhile", func() bool { return r.ledger("joiner").Outcome == store.Applied })
		close(goOn)
		r.settle()
		if got := r.check(); len(got) != people {
			t.Errorf("%d accounts and grants are active, want %d accounts and no grant", len(got), people)
		}
		mu.Lock()
		got := slices.Clone(sizes)
		mu.Unlock()
		if diff := cmp.Diff([]int{50, 50, 50, 50, 10}, got); diff != "" {
			t.Errorf("chunks: want (-), got (+):\n%s", diff)
		}
		r.send(directoryEnds("gone", 5))
		r.until("nobody is left", func() bool { return r.ledger("gone").Outcome == store.Applied })
		r.settle()
		if got := r.check(); len(got) != 0 {
			t.Errorf("active after the directory's end: %q, want nobody", got)
		}
	})
}

func TestExpansionThatFailsKeepsNoOtherWaiting(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		for _, d := range []string{"directory_1", "directory_2"} {
			for _, e := range []directory.Event{joins("u"+d, 1, "ada"), added("m"+d, 2, "eng", "ada"), groupEnds("g"+d, 3, "eng")} {
				in(d)(&e)
				r.send(e)
			}
		}
		var broken atomic.Int64
		r.start(func(c *worker.Config) {
			c.Store = &steps{Store: r.store, chunk: func(id int64) error {
				broken.CompareAndSwap(0, id) // whichever comes first
				if broken.Load() == id {
					return errBroken
				}
				return nil
			}}
		})
		r.until("the other expansion is done", func() bool {
			p, err := r.store.Expansions(t.Context(), 10)
			return err == nil && len(p) == 1 && p[0].ID == broken.Load()
		})
	})
}

func TestShutdownFinishesTheBatchInHandAndReturnsItsLeases(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"))
		loaded, goOn := make(chan struct{}), make(chan struct{})
		stop := r.start(func(c *worker.Config) {
			c.Store = &steps{Store: r.store, loaded: func(context.Context, directory.Need) error {
				close(loaded)
				<-goOn
				return nil
			}}
		})
		<-loaded
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		r.until("idle partitions are given back while the batch is still in hand", func() bool {
			s, err := r.queue.Stats(t.Context())
			held := 0
			for _, p := range s.Partitions {
				if p.Leased {
					held++
				}
			}
			return err == nil && held == 1
		})
		close(goOn)
		<-stopped
		r.wantOutcome("e1", store.Applied)
		if r.depth() != 0 {
			t.Error("the batch in hand is not acknowledged")
		}
		for n := range queue.Partitions {
			if _, err := r.queue.Acquire(t.Context(), n); err != nil {
				t.Errorf("Acquire(%d) right after = %v, want nil: the lease was not returned", n, err)
			}
		}
	})
}

func TestRunReturnsWithinItsGraceThoughTheDatabaseHangs(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"))
		hung := make(chan struct{})
		stop := r.start(func(c *worker.Config) {
			c.Grace = 200 * time.Millisecond
			c.Store = &steps{Store: r.store, loaded: func(ctx context.Context, _ directory.Need) error {
				close(hung)
				<-ctx.Done()
				return ctx.Err()
			}}
		})
		<-hung
		began := time.Now()
		stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("Run() returned after %s, want about its grace of 200ms", took)
		}
		if r.depth() != 1 || r.ledger("e1").ID != "" {
			t.Errorf("%d queued and ledger %+v, want it queued and unknown", r.depth(), r.ledger("e1"))
		}
	})
}
