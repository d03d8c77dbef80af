package binder_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestWhatAProbeFoundIsLookedAtAgainUntilItIsClean(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		var ahead atomic.Int64
		r.exec(`INSERT INTO app_users (id, email) VALUES (1, 'ada@example.com')`)
		r.exec(`INSERT INTO app_sessions (id, user_id) VALUES (10, 1), (11, 1)`)
		r.start(existing, func(c *binder.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			c.Probes = []binder.Probe{{Name: "sessions", SQL: `SELECT id FROM app_sessions WHERE user_id = @app_id ORDER BY id`}}
		})
		r.fold(joins("ada"))
		r.settle()
		r.fold(leaves("ada"))
		verdict := func() string {
			verdicts, err := r.store.Verdicts(context.WithoutCancel(t.Context()), account("ada"))
			if err != nil {
				t.Fatal(err)
			}
			if len(verdicts) == 0 {
				return ""
			}
			return verdicts[0].Result + " " + verdicts[0].Detail
		}
		r.until("the first verdict", func() bool { return verdict() == "dirty 2 rows: 10, 11" })
		r.exec(`DELETE FROM app_sessions WHERE id = 10`)
		ahead.Store(int64(2 * time.Minute))
		r.until("the second verdict", func() bool { return verdict() == "dirty 1 row: 11" })
		r.exec(`DELETE FROM app_sessions`)
		ahead.Store(int64(10 * time.Minute))
		r.until("the last verdict", func() bool { return verdict() == "clean " })
	})
}

// Leavers are probed beside the binding: by then somebody may be back, with all that they have.
func TestWhoIsBackBeforeTheyAreProbedHasNothingLeftOver(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	s := &slowProbe{Store: r.store, probing: make(chan struct{}), goOn: make(chan struct{})}
	r.start(func(c *binder.Config) {
		c.Store = s
		c.Probes = []binder.Probe{{Name: "active", SQL: `SELECT id FROM app_users WHERE id = @app_id AND disabled = 0`}}
	})
	r.fold(joins("ada"), joins("bob"))
	r.settle()
	r.fold(leaves("ada"))
	<-s.probing // and whoever probes does nothing else meanwhile
	r.fold(leaves("bob"))
	r.settle()
	r.fold(joins("bob"))
	r.settle()
	r.fold(joins("cyd"))
	r.settle()
	r.fold(leaves("cyd"))
	r.settle()
	close(s.goOn)
	r.until("that cyd, who left last, is probed", func() bool { return len(r.verdicts("cyd")) > 0 })
	if got := r.verdicts("bob"); len(got) > 0 {
		t.Errorf("of bob, who is back, the probes said %q, want nothing", got)
	}
	if got, want := r.verdicts("ada"), []string{"active clean"}; !slices.Equal(got, want) {
		t.Errorf("of ada the probes said %q, want %q", got, want)
	}
}

// slowProbe is a store that says when the first verdict is about to be saved, and waits with it.
type slowProbe struct {
	store.Store
	first         sync.Once
	probing, goOn chan struct{}
}

func (s *slowProbe) SaveVerdicts(ctx context.Context, v []store.Verdict) error {
	s.first.Do(func() {
		close(s.probing)
		select {
		case <-s.goOn:
		case <-ctx.Done():
		}
	})
	return s.Store.SaveVerdicts(ctx, v)
}

// A probe that was renamed says nothing any more, and what it said last is neither taken again, over and over, nor counted.
func TestWhatAProbeSaidThatIsNoMoreIsNotTakenAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		probe := func(name string) func(c *binder.Config) {
			return func(c *binder.Config) {
				c.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
				c.Probes = []binder.Probe{{Name: name, SQL: `SELECT id FROM app_sessions WHERE user_id = @app_id`}}
			}
		}
		var left []directory.Event
		for i := range 100 {
			left = append(left, joins(fmt.Sprint("person", i)))
		}
		before := r.binder(probe("before"))
		r.fold(left...)
		r.drained(before)
		r.exec(`INSERT INTO app_sessions (id, user_id) SELECT id, id FROM app_users`)
		for i := range left {
			left[i] = leaves(fmt.Sprint("person", i))
		}
		r.fold(left...)
		r.drained(before)
		if found, err := r.store.Findings(t.Context(), []string{"before"}); err != nil || found[binder.Dirty] != 100 {
			t.Fatalf("Findings() = %v, %v, want 100 with something left", found, err)
		}
		s := &counting{Store: r.store}
		after := r.binder(probe("after"), func(c *binder.Config) { c.Store = s })
		if err := after.ProbeMissing(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := s.asked.Swap(0); n != 100 {
			t.Errorf("the probe that is new looked at %d, want all 100 who left before", n)
		}
		if err := after.ProbeAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := s.asked.Load(); n != 0 {
			t.Errorf("%d were probed again at once, want none", n)
		}
	})
}

// counting is a store that counts whose verdicts are saved, and fails when that does not end.
type counting struct {
	store.Store
	asked atomic.Int64
}

func (s *counting) SaveVerdicts(ctx context.Context, v []store.Verdict) error {
	if s.asked.Add(1) > 1000 {
		return errors.New("there is no end of it")
	}
	return s.Store.SaveVerdicts(ctx, v)
}

// verdicts returns what the probes said of somebody, each its name and result.
func (r *rig) verdicts(name string) (said []string) {
	r.Helper()
	verdicts, err := r.store.Verdicts(context.WithoutCancel(r.Context()), account(name))
	if err != nil {
		r.Fatalf("Verdicts() = %v", err)
	}
	for _, v := range verdicts {
		said = append(said, v.Probe+" "+v.Result)
	}
	return said
}
