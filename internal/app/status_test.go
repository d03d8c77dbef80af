package app

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/status"
	"github.com/rollcallhq/rollcall/internal/store"
)

// looked is a database in which runs were made, a minute after another, and what a look at it says.
type looked struct {
	t     *testing.T
	c     config.Config
	store store.Store
	runs  int
}

func newLooked(t *testing.T) *looked {
	t.Helper()
	c := testConfig(t)
	s, err := OpenStore(t.Context(), c, "v0")
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
		_, err = s.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return &looked{t: t, c: c, store: s}
}

func (l *looked) ran(trigger string, kinds map[store.DriftKind]store.DriftCount) {
	l.t.Helper()
	l.runs++
	at := time.Now().UTC().Truncate(time.Second).Add(time.Duration(l.runs-60) * time.Minute)
	r := store.Run{ID: trigger + at.String(), Scope: directory.Scope{Source: "workos", Directory: "acme"}, Trigger: trigger, Begun: at, Ended: at.Add(time.Second), Complete: true, Kinds: kinds}
	err := l.store.BeginRun(l.t.Context(), r, at.Add(time.Minute))
	if err == nil {
		err = l.store.EndRun(l.t.Context(), r)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// says compares the verdict's reasons.
func (l *looked) says(want ...string) {
	l.t.Helper()
	look, err := LookAt(l.t.Context(), l.c, l.store, true)
	if err != nil {
		l.t.Fatal(err)
	}
	var got []string
	for _, r := range status.Judge(look).Reasons {
		got = append(got, string(r.Color)+": "+r.What)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Errorf("the status says (-want +got):\n%s", diff)
	}
}

func TestWhatIsHeldShowsUntilItIsApprovedOf(t *testing.T) {
	t.Parallel()
	l := newLooked(t)
	l.ran("schedule", map[store.DriftKind]store.DriftCount{store.ShouldBeInactive: {Found: 60, Held: 60}, store.Attributes: {Found: 2, Asked: 2}})
	held := "red: 60 of should be inactive by the listing of acme, and not repaired"
	l.says(held, "yellow: 2 of attributes by the listing of acme, and not repaired")
	l.ran(store.TriggerApply, map[store.DriftKind]store.DriftCount{store.Attributes: {Found: 2, Repaired: 2}})
	l.says(held)
	l.ran(store.TriggerApply, map[store.DriftKind]store.DriftCount{store.ShouldBeInactive: {Found: 60, Repaired: 60}})
	l.says()
}

func TestALogThatNobodyEverReadIsNotWell(t *testing.T) {
	t.Parallel()
	l := newLooked(t)
	l.says()
	amend(&l.c, func(s *config.Source) {
		s.API.Key, s.Reconcile = "env:NO_SUCH_KEY", config.Reconcile{Enabled: true, Every: time.Hour}
	})
	l.says("yellow: the log of workos was never read")
}
