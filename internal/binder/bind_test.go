package binder_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

func TestAJoinerMovesAndLeaves(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start()
		r.fold(joins("ada"), joins("bob"), added("group_admins", "ada"), added("group_1", "ada"))
		r.settle()
		r.shows(`SELECT external_id, email, disabled FROM app_users ORDER BY external_id`, "ada ada@example.com 0", "bob bob@example.com 0")
		r.shows(`SELECT external_id, group_id FROM app_members JOIN app_users ON user_id = app_users.id ORDER BY group_id`, "ada group_1", "ada group_admins")
		r.shows(`SELECT external_id, role FROM app_roles JOIN app_users ON user_id = app_users.id`, "ada admin")

		r.fold(removed("group_admins", "ada"), joins("bob", mailed("robert@example.com")))
		r.settle()
		r.shows(`SELECT group_id FROM app_members`, "group_1")
		r.shows(`SELECT role FROM app_roles`)
		r.shows(`SELECT email FROM app_users WHERE external_id = 'bob'`, "robert@example.com")

		r.fold(leaves("ada"))
		r.settle()
		r.shows(`SELECT external_id, disabled FROM app_users ORDER BY external_id`, "ada 1", "bob 0")
		r.shows(`SELECT group_id FROM app_members`)
		r.came("ada", "account.activated bound 2", "grant.added bound 1", "role.added bound 1", "grant.added bound 1",
			"grant.revoked bound 1", "role.revoked bound 1", "account.deactivated bound 1", "grant.revoked bound 1")
		if got := r.link("ada"); got.State != store.Linked || got.How != "binding" || got.By != "rollcall" {
			t.Errorf("the link = %+v, want it found where the binding made the row", got)
		}
	})
}

func TestADirectoryThatIsObservedChangesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(func(c *binder.Config) { c.Mode = store.Observe })
		r.fold(joins("ada"), leaves("bob"))
		r.settle()
		r.came("ada", "account.activated observed -")
		r.came("bob", "account.deactivated observed -")
		r.shows(`SELECT external_id FROM app_users`)
	})
}

// killers are how connections of each place are cut.
var killers = map[string]string{
	"PostgreSQL, in one database":  `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`,
	"PostgreSQL, in two databases": `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`,
	"SQLite, in one file":          "",
	"SQLite, in two files":         "",
}

func TestEachChangeTakesEffectOnceAndInOrder(t *testing.T) {
	t.Parallel()
	for place, kill := range killers {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			r := places[place](t)
			exactlyOnce(t, r, kill)
		})
	}
}

// exactlyOnce has three binders bind a few thousand changes, while their connections are cut and the store fails now and then
// to note what took effect.
func exactlyOnce(t *testing.T, r *rig, kill string) {
	people := 300
	if kill == "" {
		people = 40
	}
	forgets := &forgetful{Store: r.store}
	for range 3 {
		r.start(func(c *binder.Config) {
			c.Link, c.Store, c.Batch = nil, forgets, 16
			c.Bindings = []binder.Binding{effect("one"), effect("two")}
		})
	}
	stop := r.cutting(kill)
	random := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		var events []directory.Event
		for range people {
			events = append(events, anything(random, people))
		}
		r.foldStubbornly(events)
	}
	r.until("most changes", func() bool { return r.waiting() < 20 })
	cuts := stop()
	r.settle()
	r.shows(`SELECT seq, what, count(*) FROM effects GROUP BY seq, what HAVING count(*) <> 1`)
	r.shows(`SELECT a.account, a.seq, b.seq FROM effects a JOIN effects b ON a.account = b.account AND a.what = b.what AND a.id < b.id AND a.seq > b.seq
		AND a.kind NOT IN ('account.deactivated', 'grant.revoked', 'role.revoked')`) // removals alone pass what failed
	var bound []string
	for _, seq := range read(t, r.truth, `SELECT seq FROM `+r.schema+`changes WHERE bound_result = 'bound' ORDER BY seq`) {
		bound = append(bound, seq+" one", seq+" two")
	}
	r.shows(`SELECT seq, what FROM effects ORDER BY seq, what`, bound...)
	if kill != "" && cuts < 5 {
		t.Errorf("connections were cut %d times, too few to show anything", cuts)
	}
	t.Logf("%d cuts, %d changes bound, %d skipped, %d forgotten by the store", cuts, len(bound)/2, len(read(t, r.truth, `SELECT 1 FROM `+r.schema+`changes WHERE bound_result = 'skipped'`)), forgets.times.Load())
}

// anything is an event about one of so many people, who come, move and leave.
func anything(random *rand.Rand, people int) directory.Event {
	name := fmt.Sprint("p", random.IntN(people))
	switch random.IntN(6) {
	case 0:
		return leaves(name)
	case 1, 2:
		return added(fmt.Sprint("group_", random.IntN(5)), name)
	case 3:
		return removed(fmt.Sprint("group_", random.IntN(5)), name)
	default:
		return joins(name, named(fmt.Sprint(random.Int())))
	}
}

// cutting cuts connections of the application's database until it is stopped, and returns how often it did: twenty times a second, but not before
// anything has been bound since the last time, however slow the machine is.
func (r *rig) cutting(statement string) (stop func() (cuts int)) {
	if statement == "" {
		return func() int { return 0 }
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	var g sync.WaitGroup
	cuts := 0
	g.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for before := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			var bound int
			err := r.truth.QueryRowContext(ctx, `SELECT count(*) FROM `+r.schema+`changes WHERE bound_at IS NOT NULL`).Scan(&bound)
			if err == nil && bound > before {
				before = bound
				_, _ = r.app.SQL.ExecContext(ctx, statement)
				cuts++
			}
		}
	})
	return func() int { cancel(); g.Wait(); return cuts }
}

// foldStubbornly folds though connections are cut.
func (r *rig) foldStubbornly(events []directory.Event) {
	r.Helper()
	for i := range events {
		r.events++
		events[i].ID = fmt.Sprintf("event_%06d", r.events)
		events[i].Occurred = directorytest.Start.Add(time.Duration(r.events) * time.Second)
	}
	r.until("a fold", func() bool { return storetest.Fold(r.Context(), r.store, events) == nil })
}

// forgetful is a store that fails to settle now and then.
type forgetful struct {
	store.Store
	calls, times atomic.Int64
}

var errForgot = errors.New("the store forgot")

func (f *forgetful) Settle(ctx context.Context, s store.Session, track store.Track, done []store.Done, failed []store.Failed, posted bool) error {
	if f.calls.Add(1)%5 == 0 {
		f.times.Add(1)
		return errForgot
	}
	return f.Store.Settle(ctx, s, track, done, failed, posted)
}

func TestWhatFailsDoesNotDelayTheRemoval(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`CREATE TABLE picky (name text NOT NULL CHECK (name <> 'poison'))`)
		r.start(func(c *binder.Config) {
			c.RetryFirst, c.RetryLongest = time.Hour, time.Hour
			c.Bindings = append(c.Bindings, binder.Binding{Name: "picky", On: kinds("account.updated"), Statements: []string{`INSERT INTO picky (name) VALUES (@name)`}})
		})
		r.fold(joins("ada"), joins("bob"), added("group_1", "ada"), added("group_2", "ada"))
		r.settle()
		r.fold(joins("ada", named("poison")), added("group_3", "ada"), joins("bob", named("robert")))
		r.until("a failure", func() bool { return r.waiting() == 2 })
		r.fold(removed("group_1", "ada"))
		r.until("a revocation", func() bool { return r.waiting() == 2 })
		r.shows(`SELECT group_id FROM app_members`, "group_2")
		r.came("ada", "account.activated bound 2", "grant.added bound 1", "grant.added bound 1", "account.updated - -", "grant.added - -", "grant.revoked bound 1")
		r.came("bob", "account.activated bound 2", "account.updated bound 2")
		r.fold(leaves("ada"))
		r.settle()
		r.came("ada", "account.activated bound 2", "grant.added bound 1", "grant.added bound 1", "account.updated skipped 0", "grant.added skipped 0", "grant.revoked bound 1",
			"account.deactivated bound 1", "grant.revoked bound 1", "grant.revoked bound 0")
		r.shows(`SELECT external_id, disabled FROM app_users ORDER BY external_id`, "ada 1", "bob 0")
	})
}

func TestWhatFailedIsTriedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`CREATE TABLE picky (name text NOT NULL UNIQUE)`)
		r.exec(`INSERT INTO picky (name) VALUES ('ada')`)
		b, _ := r.start(func(c *binder.Config) {
			c.Bindings = append(c.Bindings, effect("effects"), binder.Binding{Name: "picky", On: kinds("account.activated"), Statements: []string{`INSERT INTO picky (name) VALUES (@name)`}})
		})
		r.fold(joins("ada"), joins("bob"), added("group_1", "ada"))
		r.until("three failures", func() bool { return status(b, "picky").Failures >= 3 })
		if got := status(b, "picky"); got.State != binder.StateFailing || !strings.Contains(got.Error, "picky") {
			t.Errorf("the status = %+v, want that it fails, and why", got)
		}
		r.came("ada", "account.activated - -", "grant.added - -")
		r.came("bob", "account.activated bound 4")
		r.exec(`DELETE FROM picky WHERE name = 'ada'`)
		r.settle()
		r.came("ada", "account.activated bound 4", "grant.added bound 2")
		r.shows(`SELECT account, kind, count(*) FROM effects WHERE account = 'ada' GROUP BY account, kind ORDER BY kind`, "ada account.activated 1", "ada grant.added 1")
	})
}

func status(b *binder.Binder, name string) binder.BindingStatus {
	for _, s := range b.Status() {
		if s.Name == name {
			return s
		}
	}
	return binder.BindingStatus{}
}

func TestARenamedColumnBreaksItsBindingOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`CREATE TABLE notes (text text)`)
		r.exec(`CREATE TABLE other (text text)`)
		b, _ := r.start(func(c *binder.Config) {
			c.Bindings = append(c.Bindings, effect("effects"), binder.Binding{Name: "notes", On: kinds("account.activated"), Statements: []string{
				`INSERT INTO other (text) VALUES (@name)`, `INSERT INTO notes (text) VALUES (@name)`,
			}})
		})
		r.fold(joins("ada"))
		r.settle()
		r.exec(`ALTER TABLE notes RENAME COLUMN text TO body`)
		r.fold(joins("bob"), joins("cyd"))
		r.until("a broken binding", func() bool { return status(b, "notes").State == binder.StateBroken })
		if got := status(b, "notes").Error; !strings.Contains(got, "notes, statement 2") || !strings.Contains(got, "text") {
			t.Errorf("the status says %q, want the binding, the statement and the column", got)
		}
		r.until("all other bindings", func() bool { return len(r.rows(`SELECT 1 FROM effects`)) == 3 })
		r.shows(`SELECT external_id FROM app_users ORDER BY external_id`, "ada", "bob", "cyd")
		r.shows(`SELECT text FROM other`, "ada") // a binding takes effect wholly or not at all
		r.came("bob", "account.activated - -")
		r.fold(leaves("bob"))
		r.until("a removal", func() bool { return r.waiting() == 1 })
		r.came("bob", "account.activated skipped 0", "account.deactivated bound 2")
		if got := status(b, "join"); got.State != binder.StateOK {
			t.Errorf("another binding's status = %+v, want ok", got)
		}
	})
}

func TestStatementsThatTheDatabaseDoesNotTakeAreNamed(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b := r.binder(func(c *binder.Config) {
			c.Tenant = `SELECT id FROM no_such_table WHERE organization = @organization_id`
			c.Probes = []binder.Probe{{Name: "sessions", SQL: `SELECT id FROM app_sessions WHERE no_such_column = @app_id`}}
			c.Bindings = append(c.Bindings, binder.Binding{Name: "new", On: kinds("group.created"), Statements: []string{
				`INSERT INTO effects (seq, kind) VALUES (1, @change)`, `INSERT INTO effects (seq, kind, colour) VALUES (1, @change, @name)`,
			}})
		})
		problems := b.Prepare(t.Context())
		want := []string{"new 2 colour", "tenant.sql 1 no_such_table", "probe sessions 1 no_such_column"}
		if len(problems) != len(want) {
			t.Fatalf("Prepare() = %v, want %d problems", problems, len(want))
		}
		for i, p := range problems {
			name, word := want[i][:strings.LastIndex(want[i], " ")], want[i][strings.LastIndex(want[i], " ")+1:]
			if got := fmt.Sprint(p.Binding, " ", p.Statement); got != name || !strings.Contains(p.Message, word) {
				t.Errorf("problem %d = %q, %q, want %q with %q", i, got, p.Message, name, word)
			}
		}
	})
}

func TestADeactivationThatTouchesNoRowFails(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start()
		r.fold(joins("ada"), joins("bob"))
		r.settle()
		r.exec(`UPDATE app_users SET id = 1000 WHERE external_id = 'ada'`)
		r.fold(leaves("ada"), leaves("bob"))
		r.until("a failure", func() bool { return len(r.failures()) == 1 && r.waiting() == 1 })
		if got := r.failures()[0]; !strings.Contains(got, "leave touched no row of ") {
			t.Errorf("the failure is %q, want the binding and the application's account in it", got)
		}
		r.came("ada", "account.activated bound 2", "account.deactivated - -")
		r.came("bob", "account.activated bound 2", "account.deactivated bound 1")
		id := r.link("ada").AppID
		r.exec(`UPDATE app_users SET id = ` + id + ` WHERE external_id = 'ada'`)
		r.settle()
		r.came("ada", "account.activated bound 2", "account.deactivated bound 1")
	})
}

// failures are the errors of the changes that fail.
func (r *rig) failures() []string {
	r.Helper()
	return read(r, r.truth, `SELECT bound_error FROM `+r.schema+`changes WHERE bound_at IS NULL AND bound_error IS NOT NULL AND bound_attempts > 0 ORDER BY seq`)
}

func TestWhoeverLeavesByTwoDirectoriesIsDeactivatedByTheLast(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(func(c *binder.Config) {
			c.Bindings = append(c.Bindings, effect("effects"))
		})
		r.fold(joins("ada"), added("group_admins", "ada"))
		r.settle()
		r.fold(joins("ada", in("directory_2")), added("group_admins", "ada", in("directory_2")))
		r.settle()
		r.shows(`SELECT count(*) FROM app_users`, "1")
		r.fold(leaves("ada"))
		r.settle()
		r.shows(`SELECT disabled FROM app_users`, "0")
		r.shows(`SELECT role FROM app_roles`, "admin")
		r.shows(`SELECT kind FROM effects WHERE kind IN ('account.deactivated', 'role.revoked')`)
		kept := read(t, r.truth, `SELECT kind FROM `+r.schema+`changes WHERE bound_result = 'kept' ORDER BY kind`)
		if got := strings.Join(kept, " "); got != "account.deactivated role.revoked" {
			t.Errorf("kept were %q, want the deactivation and the role", got)
		}
		r.fold(leaves("ada", in("directory_2")))
		r.settle()
		r.shows(`SELECT disabled FROM app_users`, "1")
		r.shows(`SELECT role FROM app_roles`)
	})
}

func TestASlowBindingDoesNotDelayTheFold(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	r.start(func(c *binder.Config) {
		c.Bindings = []binder.Binding{{Name: "slow", On: kinds("account.activated"), Statements: []string{`SELECT pg_sleep(1.5) WHERE CAST(@account AS text) <> ''`}}, effect("effects")}
		c.Link = nil
	})
	r.fold(joins("ada"))
	r.until("a binding that runs", func() bool {
		return len(r.rows(`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'SELECT pg_sleep%' AND clock_timestamp() - query_start > interval '200 ms'`)) > 0
	})
	for i := range 20 {
		r.fold(joins("ada", named(fmt.Sprint(i))))
	}
	r.shows(`SELECT kind FROM effects`) // it still runs
	r.settle()
	r.shows(`SELECT kind, count(*) FROM effects GROUP BY kind ORDER BY kind`, "account.activated 1", "account.updated 20")
}

func TestAStatementThatTakesTooLongFailsAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		endless := `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) INSERT INTO effects (seq, kind) SELECT 1, 'endless' FROM n WHERE CAST(@account AS text) = 'ada' AND i < 0`
		r.start(func(c *binder.Config) {
			c.StatementTimeout = 150 * time.Millisecond
			c.Bindings = append(c.Bindings, binder.Binding{Name: "endless", On: kinds("account.updated"), Statements: []string{endless}})
		})
		r.fold(joins("ada"), joins("bob"))
		r.settle()
		r.fold(joins("ada", named("A")), joins("cyd"))
		r.until("a failure, and all others", func() bool { return len(r.failures()) == 1 && r.waiting() == 1 })
		r.fold(leaves("ada"))
		r.settle()
		r.came("ada", "account.activated bound 2", "account.updated skipped 0", "account.deactivated bound 1")
	})
}

func TestAConstraintThatIsCheckedAtTheEndFailsAlone(t *testing.T) {
	t.Parallel()
	for place, own := range map[string]bool{"in one database": true, "in two databases": false} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			r := onPostgres(t, own)
			r.exec(`CREATE TABLE names (name text PRIMARY KEY); INSERT INTO names (name) VALUES ('bob');
				CREATE TABLE late (name text NOT NULL REFERENCES names (name) DEFERRABLE INITIALLY DEFERRED)`)
			r.start(func(c *binder.Config) {
				c.Bindings = append(c.Bindings, binder.Binding{Name: "late", On: kinds("account.activated"), Statements: []string{`INSERT INTO late (name) VALUES (@account)`}})
			})
			r.fold(joins("ada"), joins("bob"))
			r.until("a failure, and all others", func() bool { return len(r.failures()) == 1 && r.waiting() == 1 })
			r.came("bob", "account.activated bound 3")
			r.exec(`INSERT INTO names (name) VALUES ('ada')`)
			r.settle()
			r.came("ada", "account.activated bound 3")
			r.shows(`SELECT name FROM late ORDER BY name`, "ada", "bob")
		})
	}
}

func TestWhatIsInHandIsFinishedWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	_, stop := r.start(func(c *binder.Config) {
		c.Bindings = []binder.Binding{{Name: "slow", On: kinds("account.activated"), Statements: []string{`SELECT pg_sleep(0.5) WHERE CAST(@account AS text) <> ''`}}, effect("effects")}
		c.Link = nil
	})
	r.fold(joins("ada"))
	r.until("a binding that runs", func() bool {
		return len(r.rows(`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'SELECT pg_sleep%'`)) > 0
	})
	stop()
	r.came("ada", "account.activated bound 2")
	r.shows(`SELECT kind FROM effects`, "account.activated")
}
