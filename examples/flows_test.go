package examples_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Users that every seed has in the organization Example, without an id of the directory's; and one whom no seed has.
var (
	ada   = person("idp-ada", "ada@example.com")     // with everything that one can have
	grace = person("idp-grace", "grace@example.com") // with everything but a role
	emmy  = person("idp-emmy", "Emmy@Example.com")
)

func TestNothingIsLeftOfALeaver(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.tell("account.activated", ada)
		id, others := r.find(ada), r.left(r.find(grace))
		before := r.left(id)
		for _, p := range r.app.Probes {
			if before[p.Name] == 0 {
				t.Errorf("before the end, the probe %s finds nothing of ada", p.Name)
			}
		}
		r.tell("account.deactivated", ada)
		if left := r.left(id); len(left) != 0 {
			t.Errorf("after the end, the probes find %v of ada", left)
		}
		if slices.Contains(r.list(r.app.Inventory.Accounts, nil), id) {
			t.Error("after the end, the inventory still lists ada")
		}
		if got := r.rowOf(id); got.Active || got.DirectoryID != "idp-ada" {
			t.Errorf("the row is %+v, want it kept, inactive, with the directory's id", got)
		}
		if rows := r.tell("account.deactivated", ada); rows == 0 {
			t.Error("a second end touches no row, as if nobody were linked")
		}
		if diff := cmp.Diff(others, r.left(r.find(grace))); diff != "" {
			t.Errorf("ada's end changed what grace has (-before +after):\n%s", diff)
		}
	})
}

func TestSomebodyWhoLeftBeforeTheyWereLinkedLosesAccess(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		if rows := r.tell("account.deactivated", ada); rows == 0 {
			t.Error("the end touches no row")
		}
		id := r.find(ada)
		if left := r.left(id); len(left) != 0 {
			t.Errorf("the probes find %v", left)
		}
		if got := r.one(r.app.Link.SQL, ada.with("tenant", r.one(r.app.Tenant.SQL, ada))); got != id {
			t.Errorf("link.sql finds %q afterwards, want %q: the row does not say whose it is", got, id)
		}
	})
}

func TestARehiredPersonGetsWhatTheDirectorySays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.tell("account.activated", ada)
		r.tell("role.added", ada.with("role", "admin"))
		r.tell("grant.added", ada.with("group_id", "group-1", "group_name", "Engineering"))
		id := r.find(ada)
		r.tell("account.deactivated", ada)

		back := person("idp-ada", "ada.king@example.com")
		r.tell("account.activated", back)
		if diff := cmp.Diff(map[string]int{"user": 1}, r.left(id)); diff != "" {
			t.Errorf("on their return somebody has something (-want +got):\n%s", diff)
		}
		if got, want := r.rowOf(id), (row{"ada.king@example.com", "idp-ada", true}); got != want {
			t.Errorf("the row is %+v, want %+v", got, want)
		}
		r.tell("role.added", back.with("role", "billing"))
		r.tell("grant.added", back.with("group_id", "group-1", "group_name", "Engineering"))
		r.exec(r.login, id)
		left := r.left(id)
		if left["roles"] != 1 || left["sessions"] != 1 || left["teams"]+left["memberships"] != 1 {
			t.Errorf("they have %v, want one role, one team, one session", left)
		}
	})
}

func TestARecycledAddressInheritsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.tell("account.activated", ada)
		id, next := r.find(ada), person("idp-next", "ada@example.com")
		if _, err := r.try("account.activated", next); err == nil {
			t.Error("somebody got in with an address that another still has")
		}
		if got := r.find(next); got != "" {
			t.Fatalf("somebody with ada's address is linked with the user %s", got)
		}
		r.tell("account.deactivated", ada)
		r.tell("account.activated", next)
		newcomer := r.find(next)
		if newcomer == id || newcomer == "" {
			t.Fatalf("somebody with ada's old address is the user %q, ada is %q", newcomer, id)
		}
		if diff := cmp.Diff(map[string]int{"user": 1}, r.left(newcomer)); diff != "" {
			t.Errorf("somebody inherits something (-want +got):\n%s", diff)
		}
		if got := r.rowOf(id); got.Active || got.DirectoryID != "idp-ada" {
			t.Errorf("ada's row became %+v", got)
		}
		if _, err := r.try("account.activated", ada); err == nil {
			t.Error("ada came back with an address that another has")
		}
		r.tell("account.deactivated", next)
		r.tell("account.activated", ada)
		if got := r.rowOf(id); !got.Active || got.Email != "ada@example.com" {
			t.Errorf("when the address is free again, ada's row is %+v", got)
		}
	})
}

func TestTheAddressOfSomebodyWhoLeftLongAgoIsFree(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		next := person("idp-next", "former@example.com")
		if got := r.find(next); got != "" {
			t.Fatalf("somebody is linked with the user %s, who left", got)
		}
		r.tell("account.activated", next)
		if got, want := r.rowOf(r.find(next)), (row{"former@example.com", "idp-next", true}); got != want {
			t.Errorf("the row is %+v, want %+v", got, want)
		}
	})
}

func TestAnAddressLinksOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.tell("account.activated", person("idp-ada", "ADA@Example.com"))
		id := r.find(ada)
		if got, want := r.rowOf(id), (row{"ada@example.com", "idp-ada", true}); got != want {
			t.Errorf("the row is %+v, want %+v", got, want)
		}
		// Another directory's account of hers, linked by hand, changes whose the row is as little as one that asks by its address.
		second := person("idp-second", "ada@example.com")
		if got := r.find(second); got != "" {
			t.Errorf("a second account is linked with the user %s, whom another has", got)
		}
		r.links["idp-second"] = id
		for _, kind := range []string{"account.activated", "account.updated", "account.deactivated"} {
			r.tell(kind, second.with("directory_id", "directory_01SECOND"))
			if got := r.rowOf(id); got.DirectoryID != "idp-ada" {
				t.Errorf("%s of a second account made the row %+v", kind, got)
			}
			if got := r.one(r.app.Link.SQL, ada.with("tenant", r.one(r.app.Tenant.SQL, ada))); got != id {
				t.Errorf("after %s of a second account, link.sql finds %q for ada, want %q", kind, got, id)
			}
		}
	})
}

func TestAJoinerIsOneRowHoweverOftenTold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		before := len(r.list(r.app.Inventory.Accounts, nil))
		insert := func() {
			compiled, args := r.compile(r.app.Bindings[0].SQL[0], emmy.with("tenant", r.one(r.app.Tenant.SQL, emmy)))
			r.exec(compiled, args...)
		}
		insert()
		insert() // nobody looked the link up in between
		r.tell("account.activated", emmy)
		r.tell("account.activated", emmy)
		r.tell("account.updated", emmy)
		if got := len(r.list(r.app.Inventory.Accounts, nil)); got != before+1 {
			t.Errorf("%d users are active, want %d", got, before+1)
		}
		if got, want := r.rowOf(r.find(emmy)), (row{"emmy@example.com", "idp-emmy", true}); got != want {
			t.Errorf("the row is %+v, want %+v", got, want)
		}
	})
}

func TestNobodyIsInsertedWhoCouldNotBeFoundAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		nameless := emmy.with("idp_id", "")
		if rows := r.tell("account.activated", nameless); rows != 0 {
			t.Errorf("%d rows for somebody without the directory's id, want none", rows)
		}
	})
}

func TestAUserMadeBySingleSignOnIsLinkedLater(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		if got := r.find(emmy); got != "" {
			t.Fatalf("emmy is the user %s already", got)
		}
		r.exec(r.signOn, "emmy@example.com")
		id := r.find(emmy)
		r.tell("account.activated", emmy)
		r.tell("role.added", emmy.with("role", "admin"))
		if got, want := r.rowOf(id), (row{"emmy@example.com", "idp-emmy", true}); got != want {
			t.Errorf("the row is %+v, want %+v", got, want)
		}
		if got := r.left(id); got["roles"] != 1 {
			t.Errorf("they have %v, want a role", got)
		}
	})
}

func TestAMoverHasTheirGroupsAndRoles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.tell("account.activated", emmy)
		id := r.find(emmy)
		expect := func(when string, roles, teams int) {
			t.Helper()
			got := r.left(id)
			if got["roles"] != roles || got["teams"]+got["memberships"] != teams {
				t.Errorf("%s, they have %v, want %d roles and %d teams", when, got, roles, teams)
			}
		}
		admins, it := emmy.with("group_id", "group-admins", "group_name", "Admins"), emmy.with("group_id", "group-it", "group_name", "IT")
		for range 2 {
			r.tell("grant.added", admins)
			r.tell("grant.added", it)
			r.tell("role.added", emmy.with("role", "admin"))
			expect("in two groups that give one role", 1, 2)
		}
		r.tell("grant.revoked", admins)
		expect("out of one of them", 1, 1)
		r.tell("grant.revoked", it)
		r.tell("role.revoked", emmy.with("role", "admin"))
		expect("out of both", 0, 0)
		if _, err := r.try("role.added", emmy.with("role", "emperor")); err == nil {
			t.Error("a role that the application does not have was given")
		}
	})
}

func TestATeamFollowsItsGroup(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		group := values{"source": "workos", "directory_id": "directory_01EXAMPLE", "organization_id": "org_01EXAMPLE", "group_id": "group-1"}
		expect := func(name string, archived bool) {
			t.Helper()
			var gotName string
			var gotArchived bool
			if err := r.db.QueryRowContext(t.Context(), r.team, "group-1").Scan(&gotName, &gotArchived); err != nil {
				t.Fatal(err)
			}
			if gotName != name || gotArchived != archived {
				t.Errorf("the team is %q, archived %t; want %q, %t", gotName, gotArchived, name, archived)
			}
		}
		r.tell("account.activated", emmy)
		r.tell("grant.added", emmy.with("group_id", "group-1")) // before anything said what the group is called
		expect("group-1", false)
		r.tell("group.created", group.with("group_name", "Engineering"))
		expect("Engineering", false)
		r.tell("grant.added", emmy.with("group_id", "group-1", "group_name", "An old name"))
		expect("Engineering", false)
		r.tell("group.updated", group.with("group_name", "Engines"))
		expect("Engines", false)
		if got := len(r.list(r.app.Inventory.Memberships, nil)); got != 1 {
			t.Errorf("the inventory has %d memberships by the directory, want 1", got)
		}
		r.tell("group.ended", group.with("group_name", "Engines"))
		expect("Engines", true)
		r.tell("grant.revoked", emmy.with("group_id", "group-1"))
		if got := len(r.list(r.app.Inventory.Memberships, nil)); got != 0 {
			t.Errorf("the inventory has %d memberships of a group that ended", got)
		}
		r.tell("group.created", group.with("group_name", "Engineering"))
		expect("Engineering", false)
	})
}

func TestAnOldDirectorysEndLeavesTheNewOne(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		directory := values{"source": "workos", "directory_id": "directory_01EXAMPLE", "organization_id": "org_01EXAMPLE"}
		next := directory.with("directory_id", "directory_01NEXT")
		r.tell("directory.activated", directory)
		r.tell("directory.activated", next)
		if rows := r.tell("directory.ended", directory); rows != 0 {
			t.Errorf("the old directory's end touches %d rows", rows)
		}
		if rows := r.tell("directory.ended", next); rows != 1 {
			t.Errorf("the new directory's end touches %d rows, want 1", rows)
		}
	})
}

func TestADirectoryReachesItsOwnOrganizationOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		stranger := person("idp-stranger", "ada@example.com").with("organization_id", "org_01OTHER", "directory_id", "directory_01OTHER")
		if got := r.find(stranger); got != "" {
			t.Errorf("another organization's directory is linked with the user %s", got)
		}
		if got := r.one(r.app.Tenant.SQL, values{"organization_id": "org_01NOBODY"}); got != "" {
			t.Errorf("an organization that nobody knows is %s", got)
		}
		if got := r.one(r.app.Tenant.SQL, nil); got != "" {
			t.Errorf("no organization is %s", got)
		}
	})
}

func TestTheBreakGlassAdministratorIsNobodysAccount(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		protected := r.list(r.app.Protected, nil)
		if len(protected) != 1 || r.rowOf(protected[0]).Email != "breakglass@example.com" {
			t.Fatalf("protected are %q, want the one break-glass administrator", protected)
		}
		claim := person("idp-claim", "breakglass@example.com")
		if _, err := r.try("account.activated", claim); err == nil {
			t.Error("somebody got in with the break-glass administrator's address")
		}
		if got := r.find(claim); got != "" {
			t.Errorf("somebody is linked with the user %s by its address", got)
		}
	})
}
