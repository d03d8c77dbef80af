package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

func TestEachKindOfDriftIsFoundAndRepairedAndASecondLookFindsNothing(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.hires(1, "same", "gone", "suspended", "renamed", "moved")
		r.listing.teams = map[string]team{"eng": {name: "Engineering", updated: r.at(1)}, "old": {name: "Old", updated: r.at(1)}, "titled": {name: "Before", updated: r.at(1)}}
		r.fold(r.told(1, "user_same"), r.told(1, "user_gone"), r.told(1, "user_suspended"), r.told(1, "user_renamed"), r.told(1, "user_moved"),
			r.toldGroup(1, "eng", false), r.toldGroup(1, "old", false), r.toldGroup(1, "titled", false), r.member(1, "eng", "user_moved", false), r.member(1, "old", "user_same", false))
		// What events missed:
		delete(r.listing.users, "user_gone")
		delete(r.listing.teams, "old")
		r.hires(5, "new")
		for id, change := range map[string]func(*person){"user_suspended": func(p *person) { p.state = "suspended" }, "user_renamed": func(p *person) { p.email = "other@example.com" }} {
			p := r.listing.users[id]
			p.updated = r.at(5)
			change(&p)
			r.listing.users[id] = p
		}
		r.listing.teams["titled"] = team{name: "After", updated: r.at(5)}
		r.listing.teams["ops"] = team{name: "Operations", members: []string{"user_moved", "user_new", "user_same"}}

		lines, _, _ := r.plan()
		want := []string{
			"repair should_be_inactive: gone@example.com", "repair should_be_inactive: suspended@example.com",
			"repair extra_membership: moved@example.com in Engineering", "repair extra_group: Old", "repair missing_directory: Acme", "repair missing_group: Operations",
			"repair missing_account: new@example.com", "repair attributes: other@example.com", "repair attributes: After",
			"repair missing_membership: moved@example.com in Operations", "repair missing_membership: new@example.com in Operations", "repair missing_membership: same@example.com in Operations",
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Fatalf("Plan(): want (-), got (+):\n%s", diff)
		}
		r.wantActive("same", "gone", "suspended", "renamed", "moved", "moved/eng", "same/old") // a plan repairs nothing
		run := r.repair()
		if !run.Complete || run.Found() != 12 || run.Open() != 0 || run.Users != 5 || run.Groups != 3 || run.Memberships != 3 || run.Active != 5 {
			t.Errorf("Repair() = %+v, want 12 found and none left", run)
		}
		r.wantActive("same", "renamed", "moved", "new", "moved/ops", "new/ops", "same/ops")
		if lines, _, _ := r.plan(); len(lines) != 0 {
			t.Errorf("Plan() once more = %q, want nothing", lines)
		}
		for _, e := range r.ledger() {
			if e.Origin == string(queue.Reconcile) && (!strings.Contains(e.Reason, "(run "+run.ID+")") || e.Outcome != store.Applied || !strings.HasPrefix(e.ID, "reconcile_"+run.ID)) {
				t.Errorf("ledger: %+v, want it applied, with the run that it came of", e)
			}
		}
	})
}

func TestAListingThatIsCutShortDeletesNobody(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known(many(4)...)
		r.listing.teams = map[string]team{"a": {name: "A", members: []string{"user_p000", "user_p001", "user_p002"}}, "b": {name: "B"}, "c": {name: "C"}}
		delete(r.listing.users, "user_p003")
		r.hires(2, "new", "new2")
		for _, what := range []string{"users", "groups", "members"} {
			r.listing.cut = what
			r.fails(provider.ErrCutShort)
		}
		r.listing.cut = ""
		r.listing.another = true
		r.fails(provider.ErrAnswer)
		r.listing.another = false
		r.listing.stale = time.Hour
		r.fails(provider.ErrCutShort)
		r.listing.stale = 0
		r.listing.gone = true
		r.fails(provider.ErrNotListed)
		r.listing.gone = false
		r.repair()
		r.wantActive("p000", "p001", "p002", "new", "new2", "p000/a", "p001/a", "p002/a")
	})
}

func TestAListingThatLacksPeopleStopsAtTheGuardAndNamesIt(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known(many(40)...)
		r.listing.teams = map[string]team{"eng": {name: "Engineering"}}
		r.fold(r.toldGroup(1, "eng", false), r.member(1, "eng", "user_p000", false))
		for _, name := range many(40)[28:] {
			delete(r.listing.users, "user_"+name)
		}
		r.hires(2, "new")
		run := r.repair()
		if want := "12 of 40 active accounts would end, which is more than the guard allows: held until somebody approves it"; run.Reason != want || !run.Complete {
			t.Errorf("Repair() says %q, want %q", run.Reason, want)
		}
		want := map[store.DriftKind]store.DriftCount{
			store.ShouldBeInactive: {Found: 12, Held: 12}, store.ExtraMembership: {Found: 1, Held: 1}, store.MissingAccount: {Found: 1, Repaired: 1},
		}
		if diff := cmp.Diff(want, run.Kinds); diff != "" {
			t.Errorf("kinds: want (-) removals held and the newcomer in, got (+):\n%s", diff)
		}
		if got := len(r.active()); got != 42 {
			t.Errorf("%d lines of active accounts and grants, want all 40, the grant, and the newcomer", got)
		}
		lines, file, _ := r.plan()
		if len(lines) != 13 || lines[0] != "hold should_be_inactive: p028@example.com" {
			t.Errorf("Plan() = %q, want 12 people and a membership held", lines)
		}
		if done := r.apply(file); done.Written != 13 {
			t.Errorf("Apply() = %+v, want 13 written", done)
		}
		if got := len(r.active()); got != 29 {
			t.Errorf("%d lines after it was approved, want 28 and the newcomer", got)
		}
	})
}

func TestManyRunsTakeNoMoreInADayThanTheGuardAllows(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known(many(40)...)
		r.hires(2, "new")
		gone := func(from, to int) store.Run {
			for _, name := range many(40)[from:to] {
				delete(r.listing.users, "user_"+name)
			}
			return r.repair()
		}
		if run := gone(0, 4); run.Kinds[store.ShouldBeInactive].Repaired != 4 || run.Reason != "" {
			t.Fatalf("the first run says %q and did %+v, want four people out", run.Reason, run.Kinds)
		}
		run := gone(4, 8)
		if want := "4 of 37 active accounts would end, after 4 within a day, which is more than the guard allows: held until somebody approves it"; run.Reason != want || run.Kinds[store.ShouldBeInactive].Held != 4 {
			t.Errorf("the second run says %q and did %+v, want %q", run.Reason, run.Kinds, want)
		}
	})
}

func TestTheGuardHasItsEdges(t *testing.T) {
	t.Parallel()
	g := reconcile.Guard{Accounts: 50, Percent: 10, Floor: 5}
	for what, c := range map[string]struct {
		losing, active int64
		want           bool
	}{
		"none of none": {0, 0, false}, "the floor of five": {5, 5, false}, "one more": {6, 6, true}, "a tenth": {10, 100, false}, "more than a tenth": {11, 100, true},
		"fifty of many": {50, 100_000, false}, "fifty-one of many": {51, 100_000, true},
	} {
		if got := g.Exceeded(c.losing, c.active); got != c.want {
			t.Errorf("%s: Exceeded(%d, %d) = %v, want %v", what, c.losing, c.active, got, c.want)
		}
	}
}

func TestTooManyWhoWouldLoseAGroupAreHeldAndLeaversAreNot(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known(many(40)...)
		r.listing.teams = map[string]team{"all": {name: "All", updated: r.at(1)}}
		events := []directory.Event{r.toldGroup(1, "all", false)}
		for _, name := range many(40) {
			events = append(events, r.member(1, "all", "user_"+name, false))
		}
		r.fold(events...)
		delete(r.listing.users, "user_p039")
		delete(r.listing.teams, "all")
		run := r.repair()
		if want := "40 of 40 active accounts would lose a group"; !strings.HasPrefix(run.Reason, want) {
			t.Errorf("Repair() says %q, want %q", run.Reason, want)
		}
		if c := run.Kinds; c[store.ExtraGroup].Held != 1 || c[store.ShouldBeInactive].Repaired != 1 {
			t.Errorf("kinds: %+v, want the group held and the leaver gone", c)
		}
	})
}

// A look at one person is another question to the provider than its listing.
func TestWhoIsNotListedAndKnownAllTheSameStopsEverything(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada", "bob", "eve")
		delete(r.listing.users, "user_ada")
		r.listing.lacks["user_eve"] = true
		run := r.fails(reconcile.ErrLacking)
		if !strings.Contains(run.Reason, "user_eve") {
			t.Errorf("the run says %q, want who is one of them", run.Reason)
		}
		if _, _, err := r.reconciler().Plan(t.Context(), theDirectory, nil, nil); !errors.Is(err, reconcile.ErrLacking) {
			t.Errorf("Plan() = %v, want ErrLacking", err)
		}
		r.listing.failsFor = map[string]error{"user_eve": provider.ErrThrottled}
		r.fails(provider.ErrThrottled)
		r.listing.failsFor = nil
		r.listing.users["user_eve"] = person{idp: "idp-eve", state: "inactive", email: "eve@example.com"}
		r.repair()
		r.wantActive("bob")
	})
}

func TestAProviderThatCountsMoreThanItListsTakesNothingAway(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada", "bob")
		delete(r.listing.users, "user_ada")
		r.hires(2, "new")
		r.listing.counted = 3
		run := r.repair()
		if !strings.HasPrefix(run.Reason, "the provider lists 2 users, and counts 3") || run.Kinds[store.ShouldBeInactive].Held != 1 {
			t.Errorf("Repair() = %+v, want the leaver held, and why", run)
		}
		r.wantActive("ada", "bob", "new")
		r.listing.counted = 2
		r.repair()
		r.wantActive("bob", "new")
	})
}

func TestWhatTheProviderCountsAndDoesNotListIsSaidBesideTheGuard(t *testing.T) {
	t.Parallel()
	r := onSQLite(t, directory.DecisionKeep)
	r.known("ada", "bob", "eve")
	r.guard = reconcile.Guard{Accounts: 1, Percent: 1, Floor: 1}
	delete(r.listing.users, "user_ada")
	delete(r.listing.users, "user_bob")
	r.listing.counted = 3
	const want = "the provider lists 1 users, and counts 3; 2 of 3 active accounts would end, which is more than the guard allows: held until somebody approves it"
	if run := r.repair(); run.Reason != want {
		t.Errorf("Repair() says %q, want %q", run.Reason, want)
	}
	r.wantActive("ada", "bob", "eve")
}

func TestGroupsThatTheProviderCountsAndDoesNotListStay(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		r.listing.counted = 1
		r.listing.teams["group_a"] = team{name: "A"}
		r.repair()
		delete(r.listing.teams, "group_a")
		r.listing.countedTeams = 1
		run := r.repair()
		if run.Reason != "the provider lists 0 groups, and counts 1: held until somebody approves it" || run.Kinds[store.ExtraGroup].Held != 1 {
			t.Errorf("Repair() = %+v, want the group held, and why", run)
		}
		r.listing.countedTeams = 0
		if run := r.repair(); run.Kinds[store.ExtraGroup].Repaired != 1 {
			t.Errorf("Repair() = %+v, want the group ended", run)
		}
	})
}

// Nobody counts the members of a group, so that a listing of them which is cut short looks like a whole one.
func TestWhoIsNoMemberByTheGroupAndIsByTheirOwnGroupsStopsEverything(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada", "bob")
		r.listing.teams["group_a"] = team{name: "A", members: []string{"user_ada", "user_bob"}}
		r.fold(r.toldGroup(1, "group_a", false), r.member(1, "group_a", "user_ada", false), r.member(1, "group_a", "user_bob", false))
		r.wantActive("ada", "bob", "ada/group_a", "bob/group_a")
		r.listing.lonely = map[string]bool{"user_ada": true}
		r.fails(reconcile.ErrLacking)
		r.wantActive("ada", "bob", "ada/group_a", "bob/group_a")
		r.listing.lonely = nil
		r.listing.teams["group_a"] = team{name: "A", members: []string{"user_ada"}}
		if run := r.repair(); run.Kinds[store.ExtraMembership].Repaired != 1 {
			t.Errorf("Repair() = %+v, want the membership ended", run)
		}
		r.wantActive("ada", "bob", "ada/group_a")
	})
}

func TestATombstoneThatIsListedAsActiveAsksUnlessItChangedLater(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("old", "later", "same", "timeless")
		r.fold(r.leaves(10, "user_old"), r.leaves(10, "user_later"), r.leaves(10, "user_same"), r.leaves(10, "user_timeless"))
		for name, at := range map[string]time.Time{"old": r.at(9), "later": r.at(10).Add(time.Microsecond), "same": r.at(10), "timeless": {}} {
			p := r.listing.users["user_"+name]
			p.updated = at
			r.listing.users["user_"+name] = p
		}
		run := r.repair()
		r.wantActive("later")
		if c := run.Kinds[store.Tombstone]; c != (store.DriftCount{Found: 4, Repaired: 1, Asked: 3}) || run.Open() != 3 {
			t.Errorf("tombstones: %+v, want three asked for", c)
		}
		lines, file, _ := r.plan()
		want := []string{"ask tombstone: old@example.com", "ask tombstone: same@example.com", "ask tombstone: timeless@example.com"}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("Plan(): want (-), got (+):\n%s", diff)
		}
		r.apply(file)
		r.wantActive("later", "old", "same", "timeless")
		for _, e := range r.ledger() {
			if e.Origin == "reconcile" && e.Subject == "user_old" && !strings.HasSuffix(e.Reason, "; approved by olga: looked at it") {
				t.Errorf("the ledger says %q, want who approved it", e.Reason)
			}
		}
	})
}

func TestARemovedMembershipThatIsListedAsks(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada", "bob")
		r.listing.teams = map[string]team{
			"eng": {name: "Engineering", updated: r.at(1), members: []string{"user_ada", "user_bob"}}, "back": {name: "Back", updated: r.at(20), members: []string{"user_ada"}},
			"ended": {name: "Ended", updated: r.at(1), members: []string{"user_ada"}}, "ended and back": {name: "Ended and back", updated: r.at(1), members: []string{"user_ada"}},
		}
		r.fold(r.toldGroup(1, "eng", false), r.member(2, "eng", "user_ada", false), r.member(3, "eng", "user_ada", true), r.toldGroup(10, "back", true), r.member(2, "back", "user_ada", false),
			r.toldGroup(10, "ended", true), r.member(2, "ended and back", "user_ada", false), r.toldGroup(3, "ended and back", true), r.toldGroup(4, "ended and back", false))
		lines, _, _ := r.plan()
		want := []string{
			"repair missing_group: Back", "ask missing_group: Ended", "repair missing_membership: ada@example.com in Back", "ask missing_membership: ada@example.com in Ended",
			"repair missing_membership: ada@example.com in Ended and back", "ask missing_membership: ada@example.com in Engineering", "repair missing_membership: bob@example.com in Engineering",
		}
		slices.Sort(want)
		slices.Sort(lines)
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("Plan(): want (-), got (+):\n%s", diff)
		}
		r.repair()
		r.wantActive("ada", "bob", "bob/eng", "ada/back", "ada/ended and back")
		_, file, _ := r.plan()
		r.apply(file)
		r.wantActive("ada", "bob", "bob/eng", "ada/back", "ada/ended and back", "ada/eng", "ada/ended")
		if lines, _, _ := r.plan(); len(lines) != 0 {
			t.Errorf("Plan() once more = %q, want nothing", lines)
		}
	})
}

func TestWhatDiffersWithoutALaterChangeAsks(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		p := r.listing.users["user_ada"]
		p.email = "lovelace@example.com"
		r.listing.users["user_ada"] = p
		if lines, _, _ := r.plan(); !slices.Equal(lines, []string{"ask attributes: lovelace@example.com"}) {
			t.Errorf("Plan() = %q, want it asked for", lines)
		}
		p.updated = r.at(1).Add(time.Microsecond)
		r.listing.users["user_ada"] = p
		if lines, _, _ := r.plan(); !slices.Equal(lines, []string{"repair attributes: lovelace@example.com"}) {
			t.Errorf("Plan() = %q, want it repaired", lines)
		}
	})
}

// A directory that gives all its people new ids of their own would end every account, and make others.
func TestPeopleWhoBecomeOthersCountAsLeavers(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known(many(8)...)
		for id, p := range r.listing.users {
			p.idp, p.updated = "another-"+p.idp, r.at(5)
			r.listing.users[id] = p
		}
		run := r.repair()
		if c := run.Kinds[store.Attributes]; c.Held != 8 || !strings.HasPrefix(run.Reason, "8 of 8 active accounts would end") {
			t.Errorf("Repair() = %+v (%s), want all eight held", c, run.Reason)
		}
	})
}

func TestClocksThatAreTooFarApartRefuse(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		r.hires(2, "bob")
		for _, skew := range []time.Duration{-5*time.Minute - 2*time.Second, 5*time.Minute + 2*time.Second} {
			r.listing.skew = skew
			if run := r.fails(reconcile.ErrSkew); run.Skew.Round(time.Minute) != skew.Round(time.Minute) {
				t.Errorf("the run records a skew of %s, want %s", run.Skew, skew)
			}
		}
		r.listing.skew = -4 * time.Minute
		if run := r.repair(); run.Fence.After(r.now().Add(-5 * time.Minute)) {
			t.Errorf("repairs are dated %s, want a minute before the provider's clock, which is 4 minutes behind", run.Fence)
		}
		r.wantActive("ada", "bob")
		r.listing.skew = 4 * time.Minute
		if run := r.repair(); run.Fence.After(run.Begun.Add(-time.Minute).Add(time.Second)) {
			t.Errorf("repairs are dated %s, want a minute before our clock, which is behind", run.Fence)
		}
	})
}

func TestAnEventThatArrivesDuringTheRunWins(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("stays", "leaves")
		delete(r.listing.users, "user_stays") // back by the time that the listing is over
		fence := time.Now()
		r.listing.during = func() {
			late := func(e directory.Event) directory.Event {
				e.Occurred = fence
				return e
			}
			r.hires(1, "stays")
			r.send(late(r.told(1, "user_stays")), late(r.leaves(1, "user_leaves")))
			r.settle()
		}
		run := r.repair()
		if run.Found() != 0 {
			t.Errorf("Repair() found %+v, want nothing: what changed during the run is no drift", run.Kinds)
		}
		r.wantActive("stays")

		r.listing.during = nil
		r.hires(2, "new")
		other := r.told(1, "user_new")
		run = r.repair()
		other.Occurred, other.User.State, other.Removes = run.Fence.Add(time.Microsecond), "inactive", true
		r.send(other)
		r.settle()
		r.wantActive("stays") // it arrives after the repair, and was said after the listing began
	})
}

func TestADirectoryThatEndedIsLeftAlone(t *testing.T) {
	for name, policy := range map[string]directory.Decision{"held": directory.DecisionKeep, "ended": directory.DecisionDeprovision} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, policy, func(t *testing.T, r *rig) {
				r.known("ada")
				r.fold(r.toldDirectory(5, true))
				r.settle()
				r.hires(9, "new")
				delete(r.listing.users, "user_ada")
				r.fails(reconcile.ErrLeftAlone)
			})
		})
	}
}

func TestADirectoryThatIsNotActiveAtItsProviderIsLeftAlone(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		delete(r.listing.users, "user_ada")
		for _, state := range []string{"inactive", "validating", "deleting", "invalid_credentials", "something new"} {
			r.listing.state = state
			r.fails(reconcile.ErrLeftAlone)
		}
	})
}

func TestADirectoryThatEndsWhileItIsListedIsLeftAlone(t *testing.T) {
	for name, ends := range map[string]func(r *rig){
		"its provider takes it down": func(r *rig) { r.listing.state = "deleting" },
		"an event says so":           func(r *rig) { r.fold(r.toldDirectory(5, true)); r.settle() },
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
				r.known("ada", "bob")
				delete(r.listing.users, "user_ada") // its people go first
				r.listing.during = func() { ends(r) }
				r.fails(reconcile.ErrLeftAlone)
			})
		})
	}
}

func TestOfTwoRunsAtOnceOneIsRefused(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		r.hires(2, "bob")
		reached, wait := make(chan struct{}), make(chan struct{})
		r.listing.reached, r.listing.waitWith = reached, wait
		var first error
		var running sync.WaitGroup
		running.Go(func() { _, first = r.reconciler().Repair(t.Context(), theDirectory, "one") })
		<-reached
		if _, err := r.reconciler().Repair(t.Context(), theDirectory, "two"); !errors.Is(err, store.ErrRunning) {
			t.Errorf("a second Repair() = %v, want ErrRunning", err)
		}
		close(wait)
		running.Wait()
		r.settle()
		if first != nil {
			t.Errorf("the first Repair() = %v, want nil", first)
		}
		r.wantActive("ada", "bob")
	})
}

func TestARunThatIsStoppedSaysSoAndLetsTheNextOneIn(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada")
		ctx, cancel := context.WithCancel(t.Context())
		r.listing.during = cancel
		run, err := r.reconciler().Repair(ctx, theDirectory, "test")
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Repair() = %v, want context.Canceled", err)
		}
		runs, err := r.store.Runs(t.Context(), store.RunFilter{ID: run.ID})
		if err != nil || len(runs) != 1 || runs[0].Ended.IsZero() || runs[0].Complete {
			t.Errorf("Runs() = %+v, %v, want it ended and incomplete", runs, err)
		}
		r.listing.during = nil
		r.repair()
	})
}

func TestAPlanIsRefusedWhenTheDirectoryMovedOn(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada", "bob", "eve")
		delete(r.listing.users, "user_ada")
		delete(r.listing.users, "user_bob")
		_, file, run := r.plan()
		a := reconcile.Approval{By: "olga", Reason: "x"}
		r.send(r.told(30, "user_eve"), func() directory.Event {
			e := r.event(30)
			e.Subject, e.User = directory.SubjectUser, &directory.Person{ID: "user_bob", IDPID: "idp-bob", State: "active"}
			return e
		}())
		r.settle()
		plan, _, moved, err := reconcile.Check(t.Context(), r.store, bytes.NewReader(file), a, r.now())
		if err != nil || len(moved) != 1 || moved[0].Who != "bob@example.com" || moved[0].Now.Time() != r.at(30) {
			t.Errorf("Check() = %+v, %v, want that bob has moved", moved, err)
		}
		if plan.Digest == "" || plan.Digest != run.Digest || plan.Leavers != 2 || plan.Items != 2 {
			t.Errorf("the plan: %+v, want two leavers, and the digest that the run has: %s", plan, run.Digest)
		}
		a.Only = map[store.DriftKind]bool{store.Tombstone: true}
		if _, approved, moved, err := reconcile.Check(t.Context(), r.store, bytes.NewReader(file), a, r.now()); err != nil || len(moved) != 0 || approved.Items != 0 {
			t.Errorf("Check() of other kinds = %+v, %v, %v, want nothing", approved, moved, err)
		}
		if _, _, _, err := reconcile.Check(t.Context(), r.store, bytes.NewReader(file), a, r.now().Add(reconcile.PlanMaxAge+time.Minute)); !errors.Is(err, reconcile.ErrPlan) {
			t.Errorf("Check() a day later = %v, want ErrPlan", err)
		}
	})
}

func TestAPlanIsAppliedOnce(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.known("ada", "bob")
		delete(r.listing.users, "user_ada")
		_, file, _ := r.plan()
		if done := r.apply(file); done != (reconcile.Applied{Written: 1}) {
			t.Errorf("Apply() = %+v, want one written", done)
		}
		r.wantActive("bob")
		if done := r.apply(file); done != (reconcile.Applied{Already: 1}) {
			t.Errorf("Apply() again = %+v, want it there already", done)
		}
		runs, err := r.store.Runs(t.Context(), store.RunFilter{Last: true})
		if err != nil || len(runs) != 1 || runs[0].Trigger != "apply" || runs[0].Reason != "approved by olga: looked at it" {
			t.Errorf("Runs() = %+v, %v, want who applied a plan", runs, err)
		}
	})
}

func TestAPlanThatSomebodyEditedIsNone(t *testing.T) {
	t.Parallel()
	r := onSQLite(t, directory.DecisionKeep)
	r.known("ada", "bob")
	delete(r.listing.users, "user_ada")
	r.hires(2, "new")
	_, file, _ := r.plan()
	lines := strings.SplitAfter(strings.TrimSuffix(string(file), "\n"), "\n")
	for what, text := range map[string]string{
		"empty": "", "no plan": "{}\n", "cut": strings.Join(lines[:len(lines)-1], ""), "a line less": lines[0] + lines[2] + lines[3],
		"another word": strings.Replace(string(file), "user_ada", "user_bob", 1), "a line twice": lines[0] + lines[1] + lines[1] + lines[2] + lines[3],
		"a newer form": strings.Replace(string(file), `"rollcall_plan":1`, `"rollcall_plan":2`, 1), "no JSON": lines[0] + `{"kind":` + "\n" + lines[3],
		"another directory": strings.Replace(string(file), `"directory":"directory_1"`, `"directory":"directory_2"`, 1),
	} {
		if _, err := reconcile.ReadPlan(strings.NewReader(text), nil); !errors.Is(err, reconcile.ErrPlan) {
			t.Errorf("ReadPlan of %s = %v, want ErrPlan", what, err)
		}
	}
	if plan, err := reconcile.ReadPlan(bytes.NewReader(file), nil); err != nil || plan.Items != 2 || plan.Kinds[store.MissingAccount][reconcile.Repairs] != 1 {
		t.Errorf("ReadPlan() = %+v, %v, want both", plan, err)
	}
}

// Whatever the registers hold, what is approved makes them say what the directory lists.
func TestAnyRegistersComeToWhatIsListed(t *testing.T) {
	everywhere(t, directory.DecisionKeep, func(t *testing.T, r *rig) {
		r.page = 50
		for seed := range uint64(3) {
			name := fmt.Sprintf("seed %d", seed)
			r.random(seed)
			want := r.expected()
			for range 3 { // what a group's or person's own return makes effective shows in the next look
				_, file, _ := r.plan()
				r.apply(file)
			}
			if lines, _, _ := r.plan(); len(lines) != 0 {
				t.Errorf("%s: Plan() = %q, want nothing", name, lines)
			}
			if diff := cmp.Diff(want, r.active()); diff != "" {
				t.Errorf("%s: want (-) what is listed, got (+):\n%s", name, diff)
			}
		}
	})
}
