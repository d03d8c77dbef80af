package directory_test

import (
	"testing"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Operators' decisions on the ends of directories, and their taking them back.

func (w *world) wantHeld(want bool) {
	w.t.Helper()
	if r := w.state.Snapshot().Directories[0]; r.Held() != want {
		w.t.Fatalf("Held() = %t, want %t; the register is %+v", r.Held(), want, r)
	}
}

func TestDecisionTakenBackLeavesTheEndToThePolicy(t *testing.T) {
	t.Parallel()
	story := []directory.Event{connection("e1", 1, "active"), user("e2", 2, ada()), membership("m3", 3, "eng", "user_ada"), connection("e4", 4, "active", deleted)}
	lives := []string{"directory_1 grant idp-ada eng", "directory_1 idp-ada ada@example.com"}

	w := newWorld(t, directory.DecisionKeep)
	w.fold(story...)
	w.wantHeld(true)
	w.fold(decision("d5", 5, directory.DecisionKeep))
	w.wantHeld(false)
	w.fold(decision("d6", 6, directory.DecisionRelease))
	w.wantHeld(true) // it is an alarm again
	w.wantActive(lives...)
	w.fold(decision("d7", 7, directory.DecisionDeprovision))
	w.wantActive()
	w.fold(decision("d8", 8, directory.DecisionRelease))
	w.wantActive(lives...)
	w.wantHeld(true)

	w = newWorld(t, directory.DecisionDeprovision)
	w.fold(story...)
	w.wantActive()
	w.fold(decision("d5", 5, directory.DecisionKeep))
	w.wantActive(lives...)
	w.fold(decision("d6", 6, directory.DecisionRelease))
	w.wantActive()
	w.wantHeld(false)
}

func TestDecisionTakenBackDoesNotCountWhenItArrivesLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(connection("e1", 1, "active"), user("e2", 2, ada()), connection("e4", 4, "active", deleted), decision("d6", 6, directory.DecisionRelease))
	if won := w.fold(decision("d5", 5, directory.DecisionDeprovision)); won[0] {
		t.Error("a decision won that had been taken back")
	}
	w.wantActive("directory_1 idp-ada ada@example.com")
	if r := w.state.Snapshot().Directories[0]; r.Decision != directory.DecisionNone || r.DecisionVersion.EventID() != "d6" {
		t.Errorf("the register has decision %q of %s, want none of d6", r.Decision, r.DecisionVersion.EventID())
	}
}

func TestDecidedSaysWhatADecisionWouldMakeOfADirectory(t *testing.T) {
	t.Parallel()
	for _, policy := range []directory.Decision{directory.DecisionKeep, directory.DecisionDeprovision} {
		for _, before := range [][]directory.Event{
			{connection("e1", 1, "active")},
			{connection("e4", 4, "active", deleted)},
			{connection("e4", 4, "active", deleted), decision("d5", 5, directory.DecisionDeprovision)},
			{connection("e4", 4, "active", deleted), decision("d5", 5, directory.DecisionDeprovision), connection("e6", 6, "active")},
		} {
			for _, d := range []directory.Decision{directory.DecisionKeep, directory.DecisionDeprovision, directory.DecisionRelease} {
				w := newWorld(t, policy)
				w.fold(before...)
				was := w.state.Snapshot().Directories[0]
				got := was.Decided(d, policy)
				w.fold(decision("d9", 9, d))
				want := w.state.Snapshot().Directories[0]
				if got.Ended != want.Ended || got.EndFloor != want.EndFloor || got.Decision != want.Decision || got.Held() != want.Held() {
					t.Errorf("policy %s, %d events: Decided(%s) = %+v, and it became %+v", policy, len(before), d, got, want)
				}
			}
		}
	}
}
