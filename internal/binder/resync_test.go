package binder_test

import (
	"slices"
	"testing"

	"github.com/rollcallhq/rollcall/internal/store"
)

// The application was restored from a backup: what was taken from people after it is theirs again, and no difference to what is
// so now would say that it has to be taken.
func TestResyncRevokesWhatIsNoLongerSo(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b := r.binder()
		drain := func() {
			t.Helper()
			if err := b.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.store.Admit(t.Context(), store.Enforce); err != nil {
			t.Fatal(err)
		}
		r.fold(joins("ada"), added("group_1", "ada"), added("group_2", "ada"), added("group_admins", "ada"), joins("bob"), added("group_1", "bob"))
		drain()
		r.shows(`SELECT group_id FROM app_members JOIN app_users u ON u.id = user_id WHERE external_id = 'ada' ORDER BY group_id`, "group_1", "group_2", "group_admins")
		r.shows(`SELECT role FROM app_roles`, "admin")
		r.fold(removed("group_1", "ada"), removed("group_admins", "ada"), leaves("bob"))
		drain()
		r.shows(`SELECT group_id FROM app_members JOIN app_users u ON u.id = user_id WHERE external_id = 'ada'`, "group_2")

		r.exec(`UPDATE app_users SET disabled = 0`)
		r.exec(`INSERT INTO app_members (user_id, group_id) SELECT id, 'group_1' FROM app_users WHERE external_id = 'ada'`)
		r.exec(`INSERT INTO app_members (user_id, group_id) SELECT id, 'group_admins' FROM app_users WHERE external_id = 'ada'`)
		r.exec(`INSERT INTO app_roles (user_id, role) SELECT id, 'admin' FROM app_users WHERE external_id = 'ada'`)
		p, changes := r.plan(b, true)
		for _, want := range []string{"account.deactivated bob", "grant.revoked adagroup_1", "grant.revoked adagroup_admins", "role.revoked adaadmin"} {
			if !slices.Contains(changes, want) {
				t.Errorf("resync would tell %q, want %q among it", changes, want)
			}
		}
		if _, err := b.Tell(t.Context(), p, enforced("restored"), "resync"); err != nil {
			t.Fatalf("Tell() = %v", err)
		}
		drain()
		r.shows(`SELECT group_id FROM app_members JOIN app_users u ON u.id = user_id WHERE external_id = 'ada'`, "group_2")
		r.shows(`SELECT role FROM app_roles`)
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0`, "ada")
	})
}
