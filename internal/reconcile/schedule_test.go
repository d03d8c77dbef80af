package reconcile_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/worker"
)

// lines is a log. mu guards text.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// schedule runs a schedule until the test ends.
func (r *rig) schedule(change ...func(*reconcile.Config)) *reconcile.Schedule {
	s := reconcile.NewSchedule(r.reconciler(change...), time.Hour)
	s.Tick = 5 * time.Millisecond
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Run() = %v, want nil", err)
		}
	})
	return s
}

// runs are those that ended, newest first.
func (r *rig) runs() (ended []store.Run) {
	r.t.Helper()
	runs, err := r.store.Runs(r.t.Context(), store.RunFilter{Limit: 1000})
	if err != nil {
		r.t.Fatalf("Runs() = %v", err)
	}
	for _, run := range runs {
		if !run.Ended.IsZero() {
			ended = append(ended, run)
		}
	}
	return ended
}

func (r *rig) untilRuns(n int) {
	r.t.Helper()
	r.until("a comparison", func() bool { return len(r.runs()) >= n })
}

// set changes the directory while somebody may ask it.
func (r *rig) set(change func(l *listing)) {
	r.listing.mu.Lock()
	defer r.listing.mu.Unlock()
	change(r.listing)
}

// compared records that the directory was compared just now, so that no schedule does.
func (r *rig) compared() {
	r.t.Helper()
	if _, err := r.reconciler().Repair(r.t.Context(), theDirectory, "test"); err != nil {
		r.t.Fatalf("Repair() = %v", err)
	}
}

func TestADirectoryIsComparedWhenItIsDueAndSoonerWhenThatFailed(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		r.hires(2, "new")
		registry, log := prometheus.NewRegistry(), &lines{}
		r.schedule(func(c *reconcile.Config) { c.Metrics, c.Log = reconcile.NewMetrics(registry), zerolog.New(log) })
		r.untilRuns(1)
		r.settle()
		r.wantActive("ada", "new")
		r.advance(59 * time.Minute)
		r.set(func(l *listing) {
			l.cut = "users"
			l.users["user_bob"], l.users["user_eve"] = person{idp: "idp-bob", state: "active"}, person{idp: "idp-eve", state: "active"}
		})
		r.advance(61 * time.Second)
		r.untilRuns(2)
		r.advance(5 * time.Minute)
		r.untilRuns(3)
		if n := log.count("directory not compared with its listing"); n != 1 {
			t.Errorf("%d warnings of one reason, want 1", n)
		}
		r.set(func(l *listing) { l.cut = "" })
		r.advance(5*time.Minute + time.Second)
		r.untilRuns(4)
		r.settle()
		r.wantActive("ada", "new", "bob", "eve")
		for i, want := range []bool{true, false, false, true} {
			if got := r.runs()[i]; got.Complete != want || got.Trigger != "schedule" {
				t.Errorf("run %d: %+v, want complete %v", 4-i, got, want)
			}
		}
		text := `
			# HELP rollcall_reconcile_open Differences that wait for somebody's approval, as each directory's last complete comparison found them.
			# TYPE rollcall_reconcile_open gauge
			rollcall_reconcile_open{source="workos"} 0
			# HELP rollcall_reconcile_runs_total Comparisons of a directory with its own listing, by whether the listing was complete.
			# TYPE rollcall_reconcile_runs_total counter
			rollcall_reconcile_runs_total{complete="no",source="workos"} 2
			rollcall_reconcile_runs_total{complete="yes",source="workos"} 2
		`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(text), "rollcall_reconcile_open", "rollcall_reconcile_runs_total"); err != nil {
			t.Error(err)
		}
	})
}

func TestADirectoryThatIsNotDueIsNotCompared(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		r.repair()
		r.plan()
		asked := func() int {
			r.listing.mu.Lock()
			defer r.listing.mu.Unlock()
			return r.listing.asked["directory"]
		}
		before := asked()
		registry := prometheus.NewRegistry()
		r.schedule(func(c *reconcile.Config) { c.Metrics = reconcile.NewMetrics(registry) })
		r.until("a look at what is due", func() bool { // it tells the metrics at its end
			n, err := testutil.GatherAndCount(registry, "rollcall_reconcile_open")
			return err == nil && n > 0
		})
		if n := len(r.runs()); n != 2 || asked() != before+1 { // the list of directories asks once
			t.Errorf("%d runs, %d looks at the directory, want those before and none", n, asked()-before)
		}
	})
}

func TestWhatWaitsForApprovalIsCounted(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		r.fold(r.leaves(10, "user_ada"))
		registry := prometheus.NewRegistry()
		r.schedule(func(c *reconcile.Config) { c.Metrics = reconcile.NewMetrics(registry) })
		r.until("what waits is counted", func() bool {
			err := testutil.GatherAndCompare(registry, strings.NewReader(`
				# HELP rollcall_reconcile_open Differences that wait for somebody's approval, as each directory's last complete comparison found them.
				# TYPE rollcall_reconcile_open gauge
				rollcall_reconcile_open{source="workos"} 1
			`), "rollcall_reconcile_open")
			return err == nil
		})
	})
}

// A provider makes a new user for somebody who returns, and need not tell of memberships that it thinks unchanged.
func TestTheGroupsOfSomebodyWhoReturnsUnderANewIDAreAskedFor(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB, directory.Decision) *rig{"PostgreSQL and Redis": onPostgres, "SQLite and a file": onSQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, directory.DecisionKeep)
			r.known("ada", "bob")
			r.compared()
			var s *reconcile.Schedule
			r.work(func(c *worker.Config) { c.Rehired = func(user directory.ID) { s.Rehired(user) } })
			r.listing.teams = map[string]team{"eng": {name: "Engineering", members: []string{"user_new"}}, "old": {name: "Old", members: []string{"user_new"}}, "ops": {name: "Operations"}}
			s = r.schedule()
			r.send(r.leaves(5, "user_ada"))
			r.settle()
			r.wantActive("bob")
			r.set(func(l *listing) {
				delete(l.users, "user_ada")
				l.users["user_new"] = person{idp: "idp-ada", state: "active", email: "ada@example.com", created: r.at(9), updated: r.at(9)}
			})
			r.send(r.member(10, "old", "user_new", true), r.told(9, "user_new"))
			r.until("her group is told of", func() bool { return r.repairs() == 1 })
			r.settle()
			r.wantActive("ada", "bob", "ada/eng")
			for _, e := range r.ledger() {
				if e.Origin == "reconcile" && !strings.HasPrefix(e.Reason, "a member, as the directory lists somebody who returned (run ") {
					t.Errorf("ledger: %+v, want why", e)
				}
			}
		})
	}
}

func TestNothingComesOfGroupsOfAReturnedPersonThatCannotBeBelieved(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		r.listing.teams = map[string]team{"a": {members: []string{"user_ada"}}, "b": {members: []string{"user_ada"}}, "c": {members: []string{"user_ada"}}}
		ada := directory.ID{Scope: directory.Scope{Source: "workos", Directory: theDirectory}, ID: "user_ada"}
		for what, change := range map[string]func(l *listing){
			"cut short": func(l *listing) { l.cut = "groups of a user" }, "of another time": func(l *listing) { l.skew = -time.Hour },
		} {
			r.set(change)
			if err := r.reconciler().Returned(t.Context(), ada); err == nil {
				t.Errorf("Returned() of groups that are %s = nil, want an error", what)
			}
			r.set(func(l *listing) { l.cut, l.skew = "", 0 })
		}
		r.settle()
		if n := r.repairs(); n != 0 {
			t.Errorf("%d repairs, want none", n)
		}
		if err := r.reconciler().Returned(t.Context(), ada); err != nil {
			t.Errorf("Returned() = %v", err)
		}
		r.settle()
		r.wantActive("ada", "ada/a", "ada/b", "ada/c")
	})
}

var _ provider.Listing = (*listing)(nil)
