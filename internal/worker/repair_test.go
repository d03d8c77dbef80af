package worker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// What a directory's own listing shows goes the way of all events, and of no webhook.

func unlists(minute int, name string) repair.Event {
	return repair.Event{
		ID: repair.NewID("RUN", repair.UserUnlisted, name), Type: repair.UserUnlisted, Directory: "directory_1", Organization: "org_1",
		Occurred: directorytest.Start.Add(time.Duration(minute) * time.Minute), Why: "not listed any more (run RUN)",
		User: &directory.Person{ID: "user_" + name, IDPID: "idp-" + name, State: repair.State, Profile: directory.Profile{Email: name + "@example.com"}},
	}
}

// repairing is the delivery of a repair.
func (r *rig) repairing(e repair.Event) queue.Delivery {
	r.t.Helper()
	body, err := e.Body()
	if err != nil {
		r.t.Fatalf("Body(%s) = %v", e.ID, err)
	}
	return queue.Delivery{Source: "workos", ID: e.ID, Directory: e.Directory, Origin: queue.Reconcile, Body: body}
}

func TestRepairsAreFoldedUnderTheirOwnTimeAndTheLedgerSaysWhy(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		r.send(joins("e1", 1, "ada"), joins("e2", 1, "bob"), joins("e9", 9, "bob"))
		ada, bob := unlists(5, "ada"), unlists(5, "bob")
		r.deliver(r.repairing(ada))
		r.deliver(r.repairing(bob))
		r.settle()
		if diff := cmp.Diff([]string{"directory_1 idp-bob bob@example.com"}, r.check()); diff != "" {
			t.Errorf("want (-) what was said after the listing to count, got (+):\n%s", diff)
		}
		got := r.ledger(ada.ID)
		if got.Outcome != store.Applied || got.Origin != "reconcile" || got.Type != repair.UserUnlisted || got.Reason != ada.Why {
			t.Errorf("ledger: %+v, want where it came from, and why", got)
		}
	})
}

func TestAWebhookIsNeverTakenForARepair(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		r.send(joins("e1", 1, "ada"))
		for _, origin := range []queue.Origin{queue.Hook, queue.Poll, queue.Replay, queue.Operator} {
			d := r.repairing(unlists(9, "ada"))
			d.Source, d.ID, d.Origin = "real", string(origin), origin
			d.Body = []byte(strings.Replace(string(d.Body), repair.NewID("RUN", repair.UserUnlisted, "ada"), "event_"+string(origin), 1))
			r.deliver(d)
		}
		r.settle()
		if got := r.changes(); slices.ContainsFunc(got, func(c string) bool { return strings.HasPrefix(c, "account.deactivated") }) {
			t.Errorf("changes: %q; a webhook ended an account as a listing would", got)
		}
	})
}

// Were it kept under that id, what Rollcall itself says under it would be taken for a repetition.
func TestAWebhookUnderAnIDOfOursTakesNothingAwayFromIt(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		r.send(joins("e1", 1, "ada"))
		genuine := unlists(5, "ada")
		for _, id := range []string{genuine.ID, "operator_01ARZ3NDEKTSV4RRFFQ69G5FAV"} {
			forged := joins(id, 2, "eve")
			d := plain(forged)
			d.ID = "delivery of " + id // the queue's memory of ids is another matter
			r.deliver(d)
		}
		r.settle()
		if got := r.ledger(genuine.ID); got.Outcome != "" {
			t.Errorf("the ledger has %s as %q from a webhook", genuine.ID, got.Outcome)
		}
		dead, err := r.store.DeadEvents(t.Context(), store.EventFilter{})
		if err != nil || len(dead) != 2 || !strings.HasPrefix(dead[0].ID, "sha256:") || !strings.Contains(dead[0].Error, "only Rollcall's own") {
			t.Errorf("DeadEvents() = %+v, %v, want both parked under their hashes", dead, err)
		}
		r.deliver(r.repairing(genuine))
		r.settle()
		r.wantOutcome(genuine.ID, store.Applied)
		if active := r.check(); len(active) != 0 {
			t.Errorf("active: %q, want nobody", active)
		}
	})
}

func TestARepairThatCannotBeReadIsParked(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		d := r.repairing(unlists(1, "ada"))
		d.Body = []byte(strings.Replace(string(d.Body), `"version":1`, `"version":7`, 1))
		r.deliver(d)
		r.settle()
		if got := r.dead("workos", d.ID); got.Class != "invalid" || got.Origin != "reconcile" || got.Type != repair.UserUnlisted || !strings.Contains(got.Error, "version 7") {
			t.Errorf("dead event %+v, want it kept, and the reason", got)
		}
	})
}
