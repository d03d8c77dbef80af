package binder_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// existing makes bindings that create nobody: people come to the application by another way.
func existing(c *binder.Config) {
	c.Bindings[0].Statements = []string{`UPDATE app_users SET external_id = @idp_id, name = @name, disabled = 0 WHERE id = @app_id`}
	c.Link.ByEmail = `SELECT id FROM app_users WHERE lower(email) = lower(@email)`
}

func TestSomebodyWhomTheApplicationDoesNotKnowIsToldOfLater(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(existing)
		r.fold(joins("ada"), added("group_admins", "ada"), joins("bob"), leaves("bob"))
		r.settle()
		r.came("ada", "account.activated bound 0", "grant.added no application account 0", "role.added no application account 0")
		r.came("bob", "account.activated skipped 0", "account.deactivated no application account 0")
		if got := r.link("ada"); got.State != store.Unlinked || got.Next.IsZero() {
			t.Errorf("the link = %+v, want none, to be looked up again", got)
		}
		r.exec(`INSERT INTO app_users (email) VALUES ('ADA@example.com'), ('bob@example.com')`) // by single sign-on
		r.until("the links", func() bool { return r.link("ada").State == store.Linked && r.link("bob").State == store.Linked })
		r.until("what was missed", func() bool { return len(r.results("ada")) == 6 && len(r.results("bob")) == 3 })
		r.settle()
		r.came("ada", "account.activated bound 0", "grant.added no application account 0", "role.added no application account 0",
			"account.activated bound 1", "grant.added bound 1", "role.added bound 1")
		r.came("bob", "account.activated skipped 0", "account.deactivated no application account 0", "account.deactivated bound 1")
		r.shows(`SELECT external_id, name, disabled, role FROM app_users LEFT JOIN app_roles ON user_id = app_users.id ORDER BY email`, "ada ada 0 admin", "- - 1 -")
		r.until("that it is noted as told", func() bool { return r.link("ada").Next.IsZero() })
		if got := r.link("ada"); got.How != "email" {
			t.Errorf("the link = %+v, want it found by email", got)
		}
	})
}

func TestARecycledEmailInheritsNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (email, name) VALUES ('a@example.com', 'the first')`)
		r.start(existing)
		r.fold(joins("ada", mailed("a@example.com")), added("group_1", "ada"))
		r.settle()
		first := r.link("ada")
		r.fold(leaves("ada", mailed("a@example.com")), joins("alan", mailed("a@example.com")), added("group_2", "alan"))
		r.until("a link that is taken", func() bool { return r.link("alan").State == store.Taken && r.waiting() == 2 })
		if got := r.link("alan"); got.AppID != first.AppID || !strings.Contains(got.Detail, "ada") {
			t.Errorf("the link = %+v, want it to name the row and the other account", got)
		}
		r.shows(`SELECT external_id, name, disabled FROM app_users`, "ada ada 1")
		r.shows(`SELECT group_id FROM app_members`)
		r.came("alan", "account.activated - -", "grant.added - -")

		r.exec(`UPDATE app_users SET email = 'old@example.com'`)
		r.exec(`INSERT INTO app_users (email) VALUES ('a@example.com')`)
		// They may be told twice: when nobody has the address for a moment, and when the link is found before the changes are tried again.
		r.until("that the newcomer has what is theirs", func() bool { return len(r.rows(`SELECT 1 FROM app_members WHERE group_id = 'group_2'`)) == 1 })
		r.until("that they are told", func() bool {
			return len(r.rows(`SELECT 1 FROM app_users WHERE external_id = 'alan' AND disabled = 0`)) == 1
		})
		r.shows(`SELECT external_id, disabled FROM app_users ORDER BY id`, "ada 1", "alan 0")
		r.shows(`SELECT group_id FROM app_members`, "group_2")
	})
}

func TestNobodyIsMadeSomebodyElseByABinding(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(func(c *binder.Config) {
			c.Link.ByEmail = `SELECT id FROM app_users WHERE email = @email`
			c.Bindings[0].Statements = []string{ // takes over whatever has the email
				`UPDATE app_users SET name = @name WHERE email = 'shared@example.com'`,
				`INSERT INTO app_users (external_id, email, name) SELECT CAST(@idp_id AS text), 'shared@example.com', CAST(@name AS text) WHERE NOT EXISTS (SELECT 1 FROM app_users)`,
			}
			c.Link.ByEmail = `SELECT id FROM app_users WHERE email = 'shared@example.com' AND name = @name`
		})
		r.fold(joins("ada"))
		r.settle()
		r.fold(joins("alan"))
		r.until("a link that is taken", func() bool { return r.link("alan").State == store.Taken })
		r.shows(`SELECT external_id, name FROM app_users`, "ada ada") // what it did is undone
		r.came("alan", "account.activated - -")
	})
}

func TestWhatIsHeldWaitsForSomebodyToLook(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_tenants (id, organization) VALUES (1, 'org_1'), (3, 'org_3'), (4, 'org_3')`)
		r.exec(`INSERT INTO app_users (id, tenant, email) VALUES (11, 1, 'ada@example.com'), (12, 1, 'ada@example.com'), (13, 1, 'bob@example.com')`)
		r.start(existing, func(c *binder.Config) {
			c.Tenant = `SELECT id FROM app_tenants WHERE organization = @organization_id`
			c.Link.ByEmail = `SELECT id FROM app_users WHERE tenant = CAST(@tenant AS integer) AND email = @email ORDER BY id`
		})
		of := func(organization string) func(*directory.Event) {
			return func(e *directory.Event) { e.Organization = organization }
		}
		r.fold(joins("ada"), leaves("ada"), joins("bob"), joins("cyd", of("org_2")), joins("dan", of("org_3")))
		r.until("three that are held", func() bool {
			held, err := r.store.Links(context.WithoutCancel(t.Context()), store.LinkFilter{Held: true})
			return err == nil && len(held) == 3 && r.waiting() == 4
		})
		for name, want := range map[string]struct {
			state  store.LinkState
			detail string
		}{
			"ada": {store.Ambiguous, "link.by_email gives several rows: 11, 12"},
			"cyd": {store.Unmapped, `tenant.sql gives no row for organization "org_2"`},
			"dan": {store.Ambiguous, "tenant.sql gives several tenants: 3, 4"},
		} {
			if got := r.link(name); got.State != want.state || got.Detail != want.detail {
				t.Errorf("the link of %s is %s, %q, want %s, %q", name, got.State, got.Detail, want.state, want.detail)
			}
		}
		r.came("ada", "account.activated - -", "account.deactivated - -")
		r.came("bob", "account.activated bound 1")

		ada := r.link("ada")
		ada.State, ada.AppID, ada.How, ada.By, ada.Next = store.Linked, "12", "operator", "op@example.com", time.Time{}
		r.until("the decision", func() bool { // one that is looked up at the same moment may hide it
			if err := r.store.SaveLink(context.WithoutCancel(t.Context()), nil, ada); err != nil {
				t.Fatal(err)
			}
			return len(r.rows(`SELECT 1 FROM app_users WHERE id = 12 AND disabled = 1`)) == 1
		})
		r.exec(`INSERT INTO app_tenants (id, organization) VALUES (2, 'org_2')`)
		r.exec(`DELETE FROM app_tenants WHERE id = 4`)
		r.settle()
		r.shows(`SELECT id, disabled FROM app_users ORDER BY id`, "11 0", "12 1", "13 0")
		r.came("ada", "account.activated skipped 0", "account.deactivated bound 1")
	})
}

func TestALookupThatFailsFailsItsChangesOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`CREATE TABLE external (id integer PRIMARY KEY, idp text)`)
		b, _ := r.start(func(c *binder.Config) {
			c.Link.SQL = `SELECT id FROM external WHERE idp = @idp_id`
			c.Bindings = []binder.Binding{effect("effects")}
		})
		r.fold(joins("ada"))
		r.settle()
		r.exec(`ALTER TABLE external RENAME COLUMN idp TO idp_id`)
		r.fold(joins("ada", named("A")), leaves("ada"))
		r.until("a failure", func() bool { return len(r.failures()) > 0 && status(b, "link.sql").State == binder.StateFailing })
		if got := r.failures()[0]; !strings.Contains(got, "link.sql") || !strings.Contains(got, "idp") {
			t.Errorf("the failure is %q, want the statement and the column in it", got)
		}
		r.exec(`ALTER TABLE external RENAME COLUMN idp_id TO idp`)
		r.settle()
	})
}

func TestALookupStoresNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, email) VALUES (7, 'ada@example.com')`)
		b := r.binder(existing)
		r.fold(joins("ada"), joins("bob"))
		got, err := b.Lookup(t.Context(), account("ada"))
		if err != nil || got.State != store.Linked || got.AppID != "7" || got.How != "email" || !got.Active {
			t.Errorf("Lookup(ada) = %+v, %v, want row 7 by email", got, err)
		}
		if got, err := b.Lookup(t.Context(), account("bob")); err != nil || got.State != store.Unlinked {
			t.Errorf("Lookup(bob) = %+v, %v, want none", got, err)
		}
		if _, err := b.Lookup(t.Context(), account("cyd")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Lookup(cyd) = %v, want %v", err, store.ErrNotFound)
		}
		if got := r.link("ada"); got.State != "" {
			t.Errorf("the link = %+v, want none stored", got)
		}
	})
}

func account(name string) directory.ID {
	return directory.ID{Scope: directory.Scope{Source: "workos", Directory: "directory_1"}, ID: name}
}

func TestAProbeSaysWhatALeaverHasLeft(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b, _ := r.start(existing, func(c *binder.Config) {
			c.Probes = []binder.Probe{
				{Name: "sessions", SQL: `SELECT id FROM app_sessions WHERE user_id = @app_id ORDER BY id`},
				{Name: "upset", SQL: `SELECT id FROM app_sessions WHERE CAST(id AS text) = @app_id AND 1 / (id - 1) > 0`},
			}
		})
		r.exec(`INSERT INTO app_users (id, email) VALUES (1, 'ada@example.com'), (2, 'bob@example.com')`)
		r.exec(`INSERT INTO app_sessions (id, user_id) VALUES (10, 1), (11, 1), (20, 2)`)
		r.fold(joins("ada"), joins("bob"))
		r.settle()
		r.exec(`DELETE FROM app_sessions WHERE id = 20`)
		r.fold(leaves("ada"), leaves("bob"), leaves("cyd"))
		r.settle()
		verdict := func(name, probe string) string {
			verdicts, err := r.store.Verdicts(context.WithoutCancel(t.Context()), account(name))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range verdicts {
				if v.Probe == probe {
					return v.Result + " " + v.Detail
				}
			}
			return ""
		}
		r.until("the verdicts", func() bool { return verdict("ada", "sessions") != "" && verdict("bob", "sessions") != "" })
		if got := verdict("ada", "sessions"); got != "dirty 2 rows: 10, 11" {
			t.Errorf("the verdict on ada = %q, want it dirty, with the rows", got)
		}
		if got := verdict("bob", "sessions"); got != "clean " {
			t.Errorf("the verdict on bob = %q, want it clean", got)
		}
		got, err := b.Probe(t.Context(), account("cyd"))
		if err != nil || len(got) != 2 || got[0].Result != binder.Unknown {
			t.Errorf("Probe(cyd) = %+v, %v, want it unknown: nobody knows whom to look for", got, err)
		}
		r.exec(`DELETE FROM app_sessions`)
		if got, err = b.Probe(t.Context(), account("ada")); err != nil || got[0].Result != binder.Clean || got[0].Seq == 0 {
			t.Errorf("Probe(ada) = %+v, %v, want it clean now, after the deactivation", got, err)
		}
		if got := verdict("ada", "sessions"); got != "clean " {
			t.Errorf("the verdict on ada = %q, want the new one stored", got)
		}
	})
}

func TestAPreviewChangesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, email) VALUES (1, 'ada@example.com'), (2, 'bob@example.com'), (3, 'eve@example.com'), (4, 'eve@example.com')`)
		r.exec(`INSERT INTO app_members (user_id, group_id) VALUES (1, 'group_1')`)
		b := r.binder(existing)
		of := func(kind directory.ChangeKind, name string, edit ...func(*directory.Change)) directory.Change {
			c := directory.Change{Kind: kind, Account: name, After: &directory.Face{IDPID: name, Active: true, Profile: directory.Profile{Email: name + "@example.com", Name: name}}}
			for _, e := range edit {
				e(&c)
			}
			return c
		}
		group := func(id string) func(*directory.Change) { return func(c *directory.Change) { c.Group = id } }
		role := func(name string) func(*directory.Change) { return func(c *directory.Change) { c.Role = name } }
		changes := []directory.Change{
			of(deactivated, "ada"), of(revoked, "ada", group("group_1")), of(activated, "bob"), of(roleGiven, "bob", role("admin")), of(granted, "bob", group("group_2")),
			of(activated, "cyd"), of(granted, "cyd", group("group_2")), of(activated, "eve"), {Kind: directory.GroupCreated, Group: "group_2"},
		}
		before := r.rows(`SELECT * FROM app_users ORDER BY id`)
		got, err := b.Preview(t.Context(), account("").Scope, changes)
		if err != nil {
			t.Fatalf("Preview() = %v", err)
		}
		got.Failures = nil
		want := binder.Preview{
			Activated: 3, Deactivated: 1, Granted: 2, Revoked: 1, RolesAdded: 1, Other: 1, Linked: 2, Unlinked: 1, Held: 1,
			Leavers: []binder.Leaver{{Account: account("ada"), AppID: "1", Email: "ada@example.com"}},
			Results: map[string]int{"bound": 6, "no application account": 1, "no binding": 1}, Rows: map[string]int64{"leave": 1, "revoke": 1, "join": 1, "role": 1, "grant": 1}, Failed: 1,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Preview() (-want +got):\n%s", diff)
		}
		r.shows(`SELECT * FROM app_users ORDER BY id`, before...)
		r.shows(`SELECT user_id, group_id FROM app_members`, "1 group_1")
		if got := r.link("ada"); got.State != "" {
			t.Errorf("the link = %+v, want none stored", got)
		}
	})
}

const (
	activated   = directory.AccountActivated
	deactivated = directory.AccountDeactivated
	granted     = directory.GrantAdded
	revoked     = directory.GrantRevoked
	roleGiven   = directory.RoleAdded
)

func TestProtectedUsersAreListed(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, disabled) VALUES (1, 0), (2, 5), (3, 5)`)
		b := r.binder(func(c *binder.Config) { c.Protected = `SELECT id FROM app_users WHERE disabled = 5` })
		got, err := b.Protected(t.Context())
		if diff := cmp.Diff(map[string]bool{"2": true, "3": true}, got); err != nil || diff != "" {
			t.Errorf("Protected() = %v (-want +got):\n%s", err, diff)
		}
	})
}

// Two people of one address are found in one row: it is one account's, and the other's waits until somebody says whose it is, though
// the link is saved after the transaction in which the row was made.
func TestARowThatWasJustMadeIsOneAccountsAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b := r.binder(func(c *binder.Config) {
			c.Link = &binder.Link{SQL: `SELECT id FROM app_users WHERE email = @email`}
			c.Bindings[0].Statements = []string{`INSERT INTO app_users (external_id, email) SELECT CAST(@idp_id AS text), CAST(@email AS text) WHERE NOT EXISTS (SELECT 1 FROM app_users WHERE email = @email)`}
		})
		shared := mailed("shared@example.com")
		r.fold(joins("ada", shared), joins("bob", shared), added("group_admins", "ada"), added("group_editors", "bob"))
		r.drained(b)
		first, second := "ada", "bob"
		if r.link(first).State != store.Linked {
			first, second = second, first
		}
		if one, other := r.link(first), r.link(second); one.State != store.Linked || other.State != store.Taken {
			t.Errorf("the links are %q and %q, want one linked and one taken", one.State, other.State)
		}
		role := map[string]string{"ada": "admin", "bob": "editor"}[first]
		r.shows(`SELECT external_id, role FROM app_users JOIN app_roles ON user_id = app_users.id`, first+" "+role)
		for _, line := range r.results(second) {
			if !strings.HasSuffix(line, " - -") {
				t.Errorf("of %s, whose row is %s's, came %q, want that it waits", second, first, line)
			}
		}
	})
}
