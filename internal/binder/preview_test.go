package binder_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
)

// about is a change of a plan of somebody with this name.
func about(kind directory.ChangeKind, name string, edit ...func(*directory.Change)) directory.Change {
	c := directory.Change{Kind: kind, Account: name, After: &directory.Face{
		User: "user_" + name, IDPID: name, Active: kind != deactivated, Organization: "org_1", Profile: directory.Profile{Email: name + "@example.com", Name: name},
	}}
	for _, f := range edit {
		f(&c)
	}
	return c
}

func ofGroup(id string) func(*directory.Change) { return func(c *directory.Change) { c.Group = id } }
func ofRole(name string) func(*directory.Change) {
	return func(c *directory.Change) { c.Role = name }
}

// manifold makes an application's people, and changes of so many of them, of each sort that there is: whom the application has or
// does not have, or has twice; who joins, moves and leaves; what works and what fails, in the middle and at the end.
func (r *rig) manifold(n int) (changes []directory.Change) {
	r.Helper()
	r.exec(`CREATE TABLE app_teams (id text PRIMARY KEY, made text)`)
	r.exec(`INSERT INTO app_tenants (id, organization) VALUES (1, 'org_1')`)
	changes = append(changes, directory.Change{Kind: directory.GroupCreated, Group: "group_1"}, directory.Change{Kind: directory.DirectoryActivated})
	for i := range n {
		name := fmt.Sprint("person", i)
		known := func() {
			r.exec(`INSERT INTO app_users (id, external_id, email) VALUES ($1, $2, $3)`, 1000+i, name, name+"@example.com")
			r.exec(`INSERT INTO app_members (user_id, group_id) VALUES ($1, 'group_2')`, 1000+i)
		}
		join := []directory.Change{about(activated, name), about(granted, name, ofGroup("group_1")), about(granted, name, ofGroup(fmt.Sprint("group_", i%5))), about(roleGiven, name, ofRole("admin"))}
		switch i % 8 {
		case 0: // is there already
			known()
			changes = append(changes, join...)
		case 1: // leaves
			known()
			changes = append(changes, about(deactivated, name), about(revoked, name, ofGroup("group_2")))
		case 2: // leaves, and is not there
			changes = append(changes, about(deactivated, name), about(revoked, name, ofGroup("group_2")))
		case 3: // has a grant in the middle that fails
			known()
			changes = append(changes, join[0], about(granted, name, ofGroup("group_bad")), join[1], about(revoked, name, ofGroup("group_2")))
		case 4: // is there twice by their address
			r.exec(`INSERT INTO app_users (email) VALUES ($1), ($2)`, name+"@example.com", name+"@example.com")
			changes = append(changes, append(join, about(deactivated, name))...)
		case 5: // cannot be let in
			changes = append(changes, about(activated, name, func(c *directory.Change) { c.After.Name = "bad" }), join[1])
		case 6: // leaves, which fails
			known()
			r.exec(`UPDATE app_users SET disabled = 7 WHERE id = $1`, 1000+i)
			changes = append(changes, about(deactivated, name))
		default: // is made
			changes = append(changes, join...)
		}
	}
	r.exec(`INSERT INTO app_users (id, external_id) VALUES (999, 'boss')`)
	changes = append(changes, about(deactivated, "boss"))
	for i := range changes {
		changes[i].Event = "enforce:directory_1:now" // what is wholesale spares the boss
	}
	return changes
}

// failing are bindings that fail for some, lookups by address too, and a tenant.
func failing(c *binder.Config) {
	c.Tenant = `SELECT id FROM app_tenants WHERE organization = @organization_id`
	c.Link.ByEmail = `SELECT id FROM app_users WHERE email = @email AND external_id IS NULL`
	c.Bindings = append(c.Bindings, binder.Binding{Name: "team", On: kinds("grant.added", "group.created"), Statements: []string{`INSERT INTO app_teams (id, made) VALUES (@group_id, @account) ON CONFLICT DO NOTHING`}})
	for i, b := range c.Bindings {
		switch b.Name {
		case "grant":
			c.Bindings[i].Statements = []string{`INSERT INTO app_members (user_id, group_id) VALUES (@app_id, NULLIF(@group_id, 'group_bad')) ON CONFLICT DO NOTHING`}
		case "join":
			c.Bindings[i].Statements = append(slices.Clone(b.Statements), `INSERT INTO app_members (user_id, group_id) SELECT id, NULLIF(name, 'bad') FROM app_users WHERE name = 'bad'`)
		case "leave":
			c.Bindings[i].Statements = []string{`UPDATE app_users SET disabled = 1 WHERE id = @app_id AND disabled <> 7`}
		}
	}
	c.Log = zerolog.Nop()
}

func TestAPreviewOfManyAtOnceIsThatOfEachByItself(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		changes := r.manifold(40)
		b := r.binder(failing, spared)
		before := r.rows(`SELECT * FROM app_users ORDER BY id`)
		want, err := b.PreviewApart(t.Context(), account("").Scope, changes)
		if err != nil {
			t.Fatalf("PreviewApart() = %v", err)
		}
		if want.Unsure < 10 || want.Held != 5 || want.Unlinked < 10 || want.Linked < 15 || len(want.Leavers) != 5 || want.Failed < 20 || want.Results["bound"] < 40 {
			t.Errorf("PreviewApart() = %+v, want something of each sort", want)
		}
		for _, atOnce := range []int{1, 7, 64} {
			got, err := b.PreviewAtOnce(t.Context(), account("").Scope, changes, atOnce)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("with %d lanes a transaction, the preview is (-want +got), %v:\n%s", atOnce, err, diff)
			}
		}
		r.shows(`SELECT * FROM app_users ORDER BY id`, before...)
		r.shows(`SELECT * FROM app_teams`)
	})
}

// What the guard counts: whoever would lose access as soon as what fails now does not.
func TestADeactivationThatDoesNotGetThroughNowIsUnsureInAPreview(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, external_id, email) VALUES (1, 'ada', 'ada@example.com'), (2, 'bob', NULL), (3, NULL, 'cyd@example.com'), (4, NULL, 'cyd@example.com')`)
		leavers := []directory.Change{about(deactivated, "ada"), about(revoked, "ada", ofGroup("group_1")), about(deactivated, "bob"), about(deactivated, "cyd"), about(deactivated, "nobody")}
		for why, c := range map[string]struct {
			change       func(c *binder.Config)
			sure, unsure int
		}{
			"all is well": {func(*binder.Config) {}, 2, 0},
			"the statement fails for one": {func(c *binder.Config) {
				c.Bindings[1].Statements = []string{`UPDATE app_users SET disabled = 1 WHERE id = @app_id AND external_id <> 'bob'`}
			}, 1, 1},
			"who it is cannot be told":      {existing, 2, 1}, // of cyd
			"who it is cannot be looked up": {func(c *binder.Config) { c.Link.SQL = `SELECT nothing FROM app_users WHERE external_id = @idp_id` }, 0, 4},
		} {
			got, err := r.binder(c.change, func(c *binder.Config) { c.Log = zerolog.Nop() }).Preview(t.Context(), account("").Scope, leavers)
			if err != nil || len(got.Leavers) != c.sure || got.Unsure != c.unsure {
				t.Errorf("when %s, the preview has %d leavers and is unsure of %d, %v; want %d and %d", why, len(got.Leavers), got.Unsure, err, c.sure, c.unsure)
			}
		}
	})
}

// Whoever wants a row that a preview touched gets it when that account is done, not when the preview is.
func TestAPreviewLocksNothingOfAnAccountThatIsDone(t *testing.T) {
	t.Parallel()
	r := places["PostgreSQL, in two databases"](t)
	r.exec(`INSERT INTO app_users (id, external_id) VALUES (1, 'ada'), (2, 'bob')`)
	b := r.binder(func(c *binder.Config) { c.LockTimeout, c.StatementTimeout = 20*time.Second, 20*time.Second })
	tx, err := r.app.SQL.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), `UPDATE app_users SET name = 'the other one''s' WHERE id = 2`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := b.Preview(t.Context(), account("").Scope, []directory.Change{about(deactivated, "ada"), about(deactivated, "bob")})
		ended <- err
	}()
	r.until("a preview that waits for bob's row", func() bool {
		return strings.Join(r.rows(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`), "") == "1"
	})
	if _, err := tx.ExecContext(t.Context(), `SELECT id FROM app_users WHERE id = 1 FOR UPDATE NOWAIT`); err != nil {
		t.Errorf("ada's row, which the preview has done with: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Preview() = %v", err)
	}
}

// BenchmarkPreview previews the same people both ways, and reports how long an account takes.
func BenchmarkPreview(b *testing.B) {
	for _, place := range []string{"PostgreSQL, in one database", "PostgreSQL, in two databases", "SQLite, in one file"} {
		r := places[place](b)
		var changes []directory.Change
		for i := range 1000 {
			name := fmt.Sprint("person", i)
			if i%2 == 0 {
				r.exec(`INSERT INTO app_users (id, external_id, email) VALUES ($1, $2, $3)`, 1000+i, name, name+"@example.com")
			}
			if i%5 == 0 {
				changes = append(changes, about(deactivated, name))
				continue
			}
			changes = append(changes, about(activated, name), about(granted, name, ofGroup("group_1")), about(granted, name, ofGroup("group_2")), about(roleGiven, name, ofRole("admin")))
		}
		r.exec(`CREATE UNIQUE INDEX app_users_external ON app_users (external_id)`)
		made := r.binder(func(c *binder.Config) { c.Log = zerolog.Nop() }, spared)
		for _, way := range []string{"apart", "at once"} {
			b.Run(place+"/"+way, func(b *testing.B) {
				for b.Loop() {
					preview := made.PreviewApart
					if way == "at once" {
						preview = made.Preview
					}
					if _, err := preview(b.Context(), account("").Scope, changes); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "µs/account")
			})
		}
	}
}
