package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// RunConverging runs the suite of store.Converging.
func RunConverging(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, timed){
		"events are as late as they were received and folded":  testLags,
		"what did not happen just then is not late":            testNotLate,
		"changes are as late as they took effect":              testBoundLag,
		"the slowest leaver is known, and how many there were": testLeavers,
		"leavers who wait are counted where they are told of":  testLeaversWait,
		"dead events are counted by class":                     testDeadTallies,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := timed{bound: bound{Store: b.open(t, config(directory.DecisionDeprovision))}, now: time.Now().UTC().Truncate(time.Millisecond)}
			test(t, s)
		})
	}
}

// timed is a store in which things happen at times before now.
type timed struct {
	bound
	now time.Time
}

func (s timed) ago(d time.Duration) time.Time { return s.now.Add(-d) }

// heard keeps an event in the ledger that was received and folded so long after its time.
func (s timed) heard(t testing.TB, scope directory.Scope, id, origin string, occurred time.Time, received, folded time.Duration) {
	t.Helper()
	e := store.Entry{
		EventKey: store.EventKey{Source: scope.Source, ID: id}, Type: "dsync.user.deleted", Directory: scope.Directory, Occurred: occurred,
		Received: occurred.Add(received), Folded: occurred.Add(folded), Origin: origin, Outcome: store.Applied,
	}
	s.update(t, scope, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Ledger: []store.Entry{e}})
	})
}

// changed saves a change of an event, and returns its number.
func (s timed) changed(t testing.TB, scope directory.Scope, event string, kind directory.ChangeKind, account string) int64 {
	t.Helper()
	return s.save(t, scope, []directory.Change{{Scope: scope, Kind: kind, Account: account, Event: event, Occurred: s.now}})[0]
}

func (s timed) lags(t testing.TB) []store.Lag {
	t.Helper()
	lags, err := s.Lags(t.Context(), s.ago(time.Hour), s.ago(24*time.Hour))
	if err != nil {
		t.Fatalf("Lags() = %v", err)
	}
	return lags
}

func testLags(t *testing.T, s timed) {
	for n, received := range []int{4, 1, 3, 2} {
		s.heard(t, acme, fmt.Sprint("event_", n), "hook", s.ago(30*time.Minute), time.Duration(received)*time.Second, time.Duration(10+received)*time.Second)
	}
	s.heard(t, acme, "event_before", "poll", s.ago(20*time.Hour), time.Minute, 2*time.Minute)
	s.heard(t, acme, "event_long_before", "hook", s.ago(25*time.Hour), time.Minute, 20*time.Minute)
	s.heard(t, bolt, "event_5", "hook", s.ago(2*time.Hour), -time.Second, time.Second)
	want := []store.Lag{
		{
			Scope: acme, Heard: s.ago(30 * time.Minute).Add(4 * time.Second),
			Received: store.Span{Recent: 4, Median: 2 * time.Second, Most: 4 * time.Second, Worst: time.Minute},
			Folded:   store.Span{Recent: 4, Median: 12 * time.Second, Most: 14 * time.Second, Worst: 2 * time.Minute},
		},
		{Scope: bolt, Heard: s.ago(2 * time.Hour).Add(-time.Second), Folded: store.Span{Worst: time.Second}},
	}
	if diff := cmp.Diff(want, s.lags(t)); diff != "" {
		t.Errorf("Lags() differ (-want +got):\n%s", diff)
	}
}

func testNotLate(t *testing.T, s timed) {
	p := polled{s.Store}
	s.heard(t, acme, "event_1", "poll", s.ago(3*time.Hour), 170*time.Minute, 170*time.Minute) // from before the log was first read
	s.heard(t, acme, "event_2", "poll", s.ago(time.Hour), 30*time.Minute, 31*time.Minute)
	for _, origin := range []string{"replay", "reconcile", "operator"} {
		s.heard(t, acme, "event_"+origin, origin, s.ago(20*time.Hour), 1199*time.Minute, 1199*time.Minute)
	}
	if lags := s.lags(t); len(lags) != 1 || lags[0].Folded.Worst != 170*time.Minute {
		t.Errorf("Lags() before the log is read = %+v", lags)
	}
	p.move(t, ann, p.take(t, ann), store.PollMove{PollCursor: store.PollCursor{After: "event_2"}, Began: s.ago(9 * time.Hour), Started: s.ago(2 * time.Hour)})
	if lags := s.lags(t); len(lags) != 1 || lags[0].Folded != (store.Span{Recent: 1, Median: 31 * time.Minute, Most: 31 * time.Minute, Worst: 31 * time.Minute}) {
		t.Errorf("Lags() = %+v, want those of the one event that was told of as it happened", lags)
	}
}

// between reports that a duration ended about now.
func (s timed) between(d, least time.Duration) bool {
	return d >= least && d <= least+time.Since(s.now)+time.Second
}

func testBoundLag(t *testing.T, s timed) {
	s.mode(t, acme, store.Enforce)
	s.mode(t, bolt, store.Enforce)
	s.heard(t, acme, "event_1", "hook", s.ago(time.Hour), 0, 0)
	s.heard(t, bolt, "event_2", "hook", s.ago(2*time.Hour), 0, 0)
	s.heard(t, acme, "event_3", "hook", s.ago(20*time.Hour), 0, 0)
	s.done(t, store.Bound, store.ResultBound, s.changed(t, acme, "event_1", directory.AccountActivated, "ada"))
	posted := s.changed(t, bolt, "event_2", directory.AccountActivated, "bob")
	s.done(t, store.Bound, store.ResultNone, posted)
	s.done(t, store.Posted, store.ResultBound, posted)
	for _, result := range []string{store.ResultObserved, store.ResultSkipped, store.ResultNoAccount} {
		s.done(t, store.Bound, result, s.changed(t, acme, "event_3", directory.AccountActivated, result))
	}
	s.done(t, store.Bound, store.ResultBound, s.changed(t, acme, "nobody's", directory.AccountActivated, "eve"))
	lags := s.lags(t)
	for i, least := range []time.Duration{time.Hour, 2 * time.Hour} {
		got := lags[i].Bound
		if got.Recent != 1 || got.Median != got.Worst || got.Most != got.Worst || !s.between(got.Worst, least) {
			t.Errorf("Lags() of %s = %+v, want one change that took effect after %s", lags[i].Directory, got, least)
		}
	}
}

func (s timed) leavers(t testing.TB) []store.Leavers {
	t.Helper()
	all, err := s.Leavers(t.Context(), s.ago(24*time.Hour))
	if err != nil {
		t.Fatalf("Leavers() = %v", err)
	}
	return all
}

func testLeavers(t *testing.T, s timed) {
	s.mode(t, acme, store.Enforce)
	for n, ago := range []time.Duration{time.Hour, 5 * time.Hour, 3 * time.Hour} {
		event := fmt.Sprint("event_", n)
		s.heard(t, acme, event, "hook", s.ago(ago), time.Second, 2*time.Second)
		seq := s.changed(t, acme, event, directory.AccountDeactivated, fmt.Sprint("leaver_", n))
		s.done(t, store.Bound, store.ResultBound, seq)
		s.done(t, store.Posted, store.ResultNone, seq)
	}
	s.heard(t, acme, "event_9", "hook", s.ago(9*time.Hour), 0, 0)
	for kind, result := range map[directory.ChangeKind]string{directory.GrantRevoked: store.ResultBound, directory.AccountDeactivated: store.ResultNoAccount} {
		seq := s.changed(t, acme, "event_9", kind, "other")
		s.done(t, store.Bound, result, seq)
		s.done(t, store.Posted, store.ResultNone, seq)
	}
	all := s.leavers(t)
	if len(all) != 1 || all[0].Done != 3 || !s.between(all[0].Median, 3*time.Hour) || all[0].Waiting != 0 {
		t.Fatalf("Leavers() = %+v, want three of %s", all, acme.Directory)
	}
	worst := all[0].Worst
	want := store.Leaver{Account: "leaver_1", Event: "event_1", Occurred: s.ago(5 * time.Hour), Received: s.ago(5 * time.Hour).Add(time.Second)}
	if diff := cmp.Diff(want, worst, cmpopts.IgnoreFields(store.Leaver{}, "Folded", "Bound")); diff != "" {
		t.Errorf("the slowest leaver is another (-want +got):\n%s", diff)
	}
	if !s.between(worst.Took(s.now), 5*time.Hour) || worst.Folded.IsZero() || worst.Bound.Before(worst.Folded.Truncate(time.Millisecond)) { // SQLite has no finer time
		t.Errorf("the slowest leaver took %s, folded %s, bound %s", worst.Took(s.now), worst.Folded, worst.Bound)
	}
}

func testLeaversWait(t *testing.T, s timed) {
	s.mode(t, acme, store.Enforce)
	s.mode(t, bolt, store.Observe)
	s.heard(t, acme, "event_1", "hook", s.ago(time.Hour), time.Second, 2*time.Second)
	s.changed(t, acme, "event_1", directory.AccountDeactivated, "ada")
	s.changed(t, acme, "resync", directory.AccountDeactivated, "bob")
	s.changed(t, acme, "event_1", directory.AccountActivated, "cyd")
	s.changed(t, bolt, "event_1", directory.AccountDeactivated, "dan")
	all := s.leavers(t)
	if len(all) != 1 || all[0].Scope != acme || all[0].Waiting != 2 || all[0].Done != 0 {
		t.Fatalf("Leavers() = %+v, want the two of %s that wait", all, acme.Directory)
	}
	got := all[0].Oldest
	if got.Account != "ada" || got.Event != "event_1" || !got.Occurred.Equal(s.ago(time.Hour)) || !got.Bound.IsZero() || got.Took(s.now) != time.Hour {
		t.Errorf("Leavers() has %+v waiting longest", got)
	}
	if n := len(s.all(t)); n != 4 {
		t.Fatalf("there are %d changes", n)
	}
	for _, c := range s.all(t)[:2] { // what is still to be posted waits, too
		s.done(t, store.Bound, store.ResultBound, c.Seq)
	}
	if all := s.leavers(t); len(all) != 1 || all[0].Waiting != 2 || !all[0].Oldest.Bound.IsZero() {
		t.Errorf("Leavers() = %+v, want two that wait to be posted", all)
	}
}

func testDeadTallies(t *testing.T, s timed) {
	dead := func(id, class string, parked, due time.Time) store.Dead {
		return store.Dead{EventKey: store.EventKey{Source: "workos", ID: id}, Class: class, Body: []byte("{}"), Received: s.now, Parked: parked, Due: due}
	}
	all := []store.Dead{
		dead("1", "invalid", s.ago(time.Hour), time.Time{}), dead("2", "invalid", s.ago(2*time.Hour), time.Time{}),
		dead("3", "data", s.now, time.Time{}), dead("4", "future", s.now, s.now.Add(time.Hour)),
	}
	var ledger []store.Entry
	for _, d := range all {
		ledger = append(ledger, store.Entry{EventKey: d.EventKey, Outcome: store.Parked, Received: s.now, Occurred: s.now})
	}
	s.update(t, acme, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Ledger: ledger, Dead: all})
	})
	got, err := s.DeadTallies(t.Context())
	if err != nil {
		t.Fatalf("DeadTallies() = %v", err)
	}
	want := []store.DeadTally{
		{Source: "workos", Class: "data", Count: 1, Oldest: s.now}, {Source: "workos", Class: "future", Deferred: 1},
		{Source: "workos", Class: "invalid", Count: 2, Oldest: s.ago(2 * time.Hour)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DeadTallies() differ (-want +got):\n%s", diff)
	}
}
