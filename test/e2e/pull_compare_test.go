package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/test/rig"
)

// compared waits until a worker has compared the directory, and returns what came of it.
func (p *pulled) compared(t *testing.T, id string) (run store.Run) {
	t.Helper()
	rig.Until(t, "directory "+id+" is compared", func() bool {
		runs, err := p.Store.Runs(t.Context(), store.RunFilter{Source: "workos", Directory: id, Repairs: true, Last: true, Limit: 1})
		if err != nil || len(runs) == 0 {
			return false
		}
		run = runs[0]
		return !run.Ended.IsZero()
	})
	return run
}

// says runs a command that has to end with this code, and to say these words.
func (p *pulled) says(t *testing.T, code int, words string, command ...string) {
	t.Helper()
	got, out, talk := p.Command(t, command...)
	if said := strings.Join(strings.Fields(out+talk), " "); got != code || !strings.Contains(said, words) {
		t.Errorf("%s: exit code %d, want %d and %q\n%s%s", strings.Join(command, " "), got, code, words, out, talk)
	}
}

// learned is a site that knows all of a directory, and where nobody works.
func learned(t *testing.T, seed uint64, people, groups, memberships int, until func(w *simulator.World, directoryID string)) (p *pulled, directoryID string) {
	t.Helper()
	world := simulator.NewWorld(simulator.WorldConfig{Seed: seed, Start: time.Now().Add(-time.Hour)})
	p = newPulled(t, world, rig.Options{Set: []string{withoutHooks}})
	of := world.FirstSync(people, groups, memberships)
	until(world, of)
	process := p.Serve(t, workerAlone)
	p.converges(t)
	process.Terminate()
	process.Ended(t)
	world.Advance(time.Since(world.Now()))
	return p, of
}

func nothingMore(*simulator.World, string) {}

// unchanged checks that the database is what the provider is, and that no event but its own is in the ledger.
func (p *pulled) unchanged(t *testing.T) {
	t.Helper()
	mustHold(t, p.Site, p.world.Truth(), p.told())
}

func TestAListingThatIsCutShortDeletesNobody(t *testing.T) {
	t.Parallel()
	p, of := learned(t, 26, 130, 5, 2, nothingMore)
	p.api.Change(func(c *simulator.APIConfig) { c.Faults.CutShort = 1 })
	p.Serve(t, workerAlone, comparing)
	run := p.compared(t, of)
	p.unchanged(t)
	if run.Users != 100 || run.Open() == 0 {
		t.Errorf("the comparison is of %d users and leaves %d findings, want 100 users, and what they lack left", run.Users, run.Open())
	}
	p.says(t, 5, "the provider lists 100 users, and counts 130; 30 of 130 active accounts would end", "reconcile", "status")
	p.says(t, 5, "30 of should be inactive by the listing of "+of, "status")
}

// The end of a group takes its members' grants, so that groups count as people do.
func TestAListingOfGroupsThatIsCutShortEndsNone(t *testing.T) {
	t.Parallel()
	p, of := learned(t, 30, 3, 101, 1, nothingMore)
	p.api.Change(func(c *simulator.APIConfig) { c.Faults.CutShort = 1 })
	p.Serve(t, workerAlone, comparing)
	run := p.compared(t, of)
	p.unchanged(t)
	if n := run.Kinds[store.ExtraGroup]; run.Groups != 100 || n.Held != 1 {
		t.Errorf("the comparison is of %d groups and holds the end of %d, want 100 and 1", run.Groups, n.Held)
	}
	p.says(t, 5, "the provider lists 100 groups, and counts 101: held until somebody approves it", "reconcile", "status")
}

func TestAListingThatBreaksOffDeletesNobody(t *testing.T) {
	t.Parallel()
	p, of := learned(t, 27, 130, 5, 2, nothingMore)
	p.api.Change(func(c *simulator.APIConfig) { c.Faults.Disconnect = 1 })
	p.Serve(t, workerAlone, comparing)
	run := p.compared(t, of)
	p.unchanged(t)
	if run.Complete || run.Found() != 0 {
		t.Errorf("the comparison is complete: %t, and found %d, want neither", run.Complete, run.Found())
	}
	p.says(t, 5, "list the users", "reconcile", "status")
	p.says(t, 8, of+" was never compared with its whole listing", "status")
}

func TestAListingThatLacksAThirdOfItsPeopleStopsAtTheGuard(t *testing.T) {
	t.Parallel()
	p, of := learned(t, 28, 150, 5, 2, nothingMore)
	p.api.Change(func(c *simulator.APIConfig) { c.Faults.Lacking, c.Faults.CountsToo = 0.3, true })
	p.Serve(t, workerAlone, comparing)
	run := p.compared(t, of)
	p.unchanged(t)
	if n := run.Kinds[store.ShouldBeInactive].Held; n < 30 || n > 60 {
		t.Errorf("%d people are held, want about 45", n)
	}
	p.says(t, 5, "of 150 active accounts would end, which is more than the guard allows", "reconcile", "status")
	p.says(t, 5, "of should be inactive by the listing of "+of, "status")
}

// Its provider lists somebody as active who it said was deleted, and shows no change since.
func TestATombstonedPersonWhoIsListedAsActiveComesBackOnlyWhenSomebodyAgrees(t *testing.T) {
	t.Parallel()
	p, of := learned(t, 29, 20, 3, 0, func(w *simulator.World, id string) {
		for _, who := range w.Active(id)[:4] {
			w.Leave(who)
		}
	})
	p.api.Change(func(c *simulator.APIConfig) { c.Faults.Ghosts = 1 })
	p.Serve(t, workerAlone, comparing)
	run := p.compared(t, of)
	p.unchanged(t)
	if n := run.Kinds[store.Tombstone]; n.Asked != 4 || n.Repaired != 0 {
		t.Errorf("of 4 people who left %d are asked for and %d brought back, want all asked for", n.Asked, n.Repaired)
	}
	p.says(t, 5, "4 found that somebody has to approve", "reconcile", "status")
	p.says(t, 5, "and not changed at its provider since", "reconcile", "plan", of)
	p.says(t, 8, "4 of tombstone by the listing of "+of, "status")
}
