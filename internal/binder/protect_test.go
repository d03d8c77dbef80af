package binder_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

// spared protects two of the application's users.
func spared(c *binder.Config) {
	c.Protected = `SELECT id FROM app_users WHERE external_id IN ('boss', 'owner')`
}

// endDirectory ends directory_1: its provider deletes it, and an operator decides what that means.
func (r *rig) endDirectory() {
	r.Helper()
	r.fold(
		directory.Event{Source: "workos", Type: "dsync.deleted", Directory: "directory_1", Subject: directory.SubjectDirectory, Removes: true, Connection: &directory.Connection{Name: "One"}},
		directory.Event{Source: "workos", Type: "rollcall.directory.deprovision", Directory: "directory_1", Subject: directory.SubjectDecision, Decision: directory.DecisionDeprovision},
	)
	for more := true; more; {
		var err error
		if more, err = storetest.Expand(context.WithoutCancel(r.Context()), r.store, 100); err != nil {
			r.Fatalf("Expand() = %v", err)
		}
	}
}

// deprovisioned is an operator's word on one person.
func deprovisioned(name string) directory.Event {
	e := leaves(name)
	e.Type = "rollcall.account.deprovisioned"
	return e
}

// decided writes into the ledger what an operator decided of one person just now.
func (r *rig) decided(name string) {
	r.Helper()
	scope := directory.Scope{Source: "workos", Directory: "directory_1"}
	err := r.store.Update(r.Context(), []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Ledger: []store.Entry{{
			EventKey: store.EventKey{Source: "workos", ID: "operator_" + name}, Type: "rollcall.account.deprovisioned", Subject: "user_" + name, Directory: "directory_1",
			Occurred: time.Now(), Received: time.Now(), Origin: "operator", Outcome: store.Superseded,
		}}})
	})
	if err != nil {
		r.Fatalf("Update() = %v", err)
	}
}

func TestTheEndOfADirectoryTakesNothingFromWhomIsProtected(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(spared)
		r.fold(joins("ada"), joins("boss"), joins("owner"), added("group_admins", "ada"), added("group_admins", "boss"))
		r.settle()
		for _, longAgo := range []directory.Event{deprovisioned("boss"), joins("boss")} {
			r.fold(longAgo)
			r.settle()
		}
		r.endDirectory()
		r.sparedWere("boss account.deactivated", "boss grant.revoked", "boss role.revoked", "owner account.deactivated")
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0 ORDER BY external_id`, "boss", "owner")
		r.shows(`SELECT external_id, role FROM app_roles JOIN app_users ON user_id = app_users.id`, "boss admin")
		r.shows(`SELECT external_id, group_id FROM app_members JOIN app_users ON user_id = app_users.id`, "boss group_admins")

		r.decided("boss")
		r.until("that boss is out", func() bool {
			return slices.Equal(r.rows(`SELECT external_id FROM app_users WHERE disabled = 0`), []string{"owner"}) && len(r.rows(`SELECT 1 FROM app_roles`))+len(r.rows(`SELECT 1 FROM app_members`)) == 0
		})
		r.settle()
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0`, "owner")
	})
}

// sparedWere waits until nothing waits, and fails the test unless these changes, each an account and a kind, and no others took
// nothing from whom is protected.
func (r *rig) sparedWere(want ...string) {
	r.Helper()
	r.settle()
	if diff := cmp.Diff(want, read(r, r.truth, `SELECT account_key, kind FROM `+r.schema+`changes WHERE bound_result = 'protected' ORDER BY account_key, kind`), cmpEmpty); diff != "" {
		r.Errorf("what took nothing from whom is protected (-want +got):\n%s", diff)
	}
}

func TestWhoWasSparedGoesOnWhenTheirDirectoryComesBack(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(spared)
		r.fold(joins("boss"), added("group_admins", "boss"))
		r.settle()
		r.endDirectory()
		r.sparedWere("boss account.deactivated", "boss grant.revoked", "boss role.revoked")
		r.fold(
			directory.Event{Source: "workos", Type: "dsync.activated", Directory: "directory_1", Subject: directory.SubjectDirectory, Connection: &directory.Connection{Name: "One"}},
			joins("boss", named("The Boss")), added("group_2", "boss"),
		)
		r.settle()
		r.shows(`SELECT name, disabled, group_id FROM app_users JOIN app_members ON user_id = app_users.id ORDER BY group_id`, "The Boss 0 group_2", "The Boss 0 group_admins")
		r.fold(leaves("boss"))
		r.settle()
		r.shows(`SELECT disabled FROM app_users`, "1")
	})
}

func TestWhoIsProtectedNoMoreLosesWhatTheyWereSpared(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`CREATE TABLE shields (external_id text)`)
		r.exec(`INSERT INTO shields (external_id) VALUES ('boss'), ('owner')`)
		r.start(func(c *binder.Config) {
			c.Protected = `SELECT id FROM app_users WHERE external_id IN (SELECT external_id FROM shields)`
		})
		r.fold(joins("boss"), added("group_1", "boss"), joins("owner"))
		r.settle()
		r.endDirectory()
		r.sparedWere("boss account.deactivated", "boss grant.revoked", "owner account.deactivated")
		r.exec(`DELETE FROM shields WHERE external_id = 'boss'`)
		r.until("that boss is out", func() bool {
			return slices.Equal(r.rows(`SELECT external_id FROM app_users WHERE disabled = 1`), []string{"boss"}) && len(r.rows(`SELECT 1 FROM app_members`)) == 0
		})
		r.settle()
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0`, "owner")
		r.came("owner", "account.activated bound 2", "account.deactivated protected 0")
	})
}

// Whoever is found in the application only after their directory ended is told of then, and it was the directory's end all the same.
func TestWhoIsProtectedAndLinkedAfterTheDirectoryEndedLosesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(spared, existing)
		r.fold(joins("ada"), joins("boss"), joins("owner"))
		r.fold(leaves("owner"))
		r.settle()
		r.endDirectory()
		r.settle()
		r.exec(`INSERT INTO app_users (id, external_id) VALUES (1, 'ada'), (2, 'boss'), (3, 'owner')`)
		r.until("ada and owner are out", func() bool {
			return slices.Equal(r.rows(`SELECT external_id FROM app_users WHERE disabled = 0`), []string{"boss"})
		})
		r.until("that boss is spared", func() bool { return slices.Contains(r.results("boss"), "account.deactivated protected 0") })
		r.sparedWere("boss account.deactivated")
	})
}

func TestWhoIsProtectedLosesAccessByAWordOnThemAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(spared)
		r.fold(joins("boss"), added("group_admins", "boss"), joins("owner"))
		r.settle()
		r.fold(leaves("boss"), deprovisioned("owner"))
		r.settle()
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0`)
		r.shows(`SELECT role FROM app_roles`)
	})
}

// A store that was restored from a backup numbers changes anew. What the application's database says of an earlier one of the
// same number says nothing of this one.
func TestAMarkOfAnotherChangeSettlesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		effects := func(c *binder.Config) { c.Link, c.Bindings = nil, []binder.Binding{effect("one")} }
		b := r.binder(effects)
		if err := b.Drain(t.Context()); err != nil { // which makes the table
			t.Fatal(err)
		}
		r.fold(joins("ada"), joins("bob"))
		changes, err := r.store.Changes(t.Context(), store.ChangeFilter{Limit: 10})
		if err != nil || len(changes) != 2 {
			t.Fatalf("Changes() = %d, %v, want 2", len(changes), err)
		}
		stale, own := changes[0], changes[1]
		before := stale
		before.Event = "event_of_before"
		err = r.app.Marks.Add(t.Context(), r.app.SQL, []store.Mark{
			{Seq: stale.Seq, Binding: "one", Change: before.Fingerprint()}, {Seq: own.Seq, Binding: "one", Change: own.Fingerprint()},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.shows(`SELECT seq, kind FROM effects`, fmt.Sprint(stale.Seq, " ", stale.Kind))
		r.came("ada", "account.activated bound 1")
		r.came("bob", "account.activated bound 0")
	})
}
