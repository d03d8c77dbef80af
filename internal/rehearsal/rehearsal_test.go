package rehearsal_test

import (
	"context"
	"database/sql"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/rehearsal"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// schema is an application's, whose people have a session from the moment they are let in.
const schema = `
	CREATE TABLE people (id %s, external_id text NOT NULL UNIQUE, name text, active integer NOT NULL DEFAULT 1);
	CREATE TABLE members (person integer NOT NULL, team text NOT NULL, PRIMARY KEY (person, team));
	CREATE TABLE person_roles (person integer NOT NULL, role text NOT NULL, PRIMARY KEY (person, role));
	CREATE TABLE sessions (id %s, person integer NOT NULL);
	INSERT INTO people (external_id, name) VALUES ('eve', 'Eve');
	INSERT INTO sessions (person) VALUES (1)`

var tables = []string{"people", "members", "person_roles", "sessions"}

// kinds are the databases that an application can be in.
var kinds = map[string]func(testing.TB) *binder.Database{
	"PostgreSQL": func(t testing.TB) *binder.Database { return onPostgres(t, testenv.Database(t)) },
	"SQLite": func(t testing.TB) *binder.Database {
		db := open(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "app.db")+"?_txlock=immediate")
		return &binder.Database{SQL: db, Kind: binder.SQLite, Compile: postgres.Compile, Marks: sqlite.Marks("rollcall_bound")}
	},
}

func onPostgres(t testing.TB, dsn string) *binder.Database {
	t.Helper()
	return &binder.Database{SQL: open(t, "pgx", dsn), Kind: binder.Postgres, Compile: postgres.Compile, Marks: postgres.Marks()}
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t testing.TB, db *sql.DB, statements string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

func makeSchema(t testing.TB, d *binder.Database) {
	t.Helper()
	id := map[string]string{binder.Postgres: "serial PRIMARY KEY", binder.SQLite: "integer PRIMARY KEY"}[d.Kind]
	run(t, d.SQL, fmt.Sprintf(schema, id, id))
}

var bothGive = []directory.RoleRule{{Role: "admin", Groups: []string{"Admins", "IT"}}}

// bindings are right, and each has a name that a test can make it wrong by.
func bindings() []binder.Binding {
	return []binder.Binding{
		{Name: "join", On: []directory.ChangeKind{directory.AccountActivated, directory.AccountUpdated}, Statements: []string{
			`INSERT INTO people (external_id, name) SELECT CAST(@idp_id AS text), CAST(@name AS text) WHERE CAST(@app_id AS text) IS NULL`,
			`UPDATE people SET name = @name, active = 1 WHERE external_id = @idp_id`,
			`INSERT INTO sessions (person) SELECT id FROM people WHERE external_id = @idp_id`,
		}},
		{Name: "leave", On: []directory.ChangeKind{directory.AccountDeactivated}, Statements: []string{`UPDATE people SET active = 0 WHERE id = @app_id`}},
		{Name: "end-sessions", On: []directory.ChangeKind{directory.AccountDeactivated}, Statements: []string{`DELETE FROM sessions WHERE person = @app_id`}},
		{Name: "grant", On: []directory.ChangeKind{directory.GrantAdded}, Statements: []string{`INSERT INTO members (person, team) VALUES (@app_id, @group_id) ON CONFLICT DO NOTHING`}},
		{Name: "revoke", On: []directory.ChangeKind{directory.GrantRevoked}, Statements: []string{`DELETE FROM members WHERE person = @app_id AND team = @group_id`}},
		{Name: "role", On: []directory.ChangeKind{directory.RoleAdded}, Statements: []string{`INSERT INTO person_roles (person, role) VALUES (@app_id, @role) ON CONFLICT DO NOTHING`}},
		{Name: "unrole", On: []directory.ChangeKind{directory.RoleRevoked}, Statements: []string{`DELETE FROM person_roles WHERE person = @app_id AND role = @role`}},
	}
}

// rehearse plays everything with these bindings, and roles by these rules.
func rehearse(t testing.TB, d *binder.Database, rules []directory.RoleRule, edit func(b *binder.Binding), change ...func(r *rehearsal.Config, c *binder.Config)) ([]rehearsal.Case, error) {
	t.Helper()
	roles := directory.NewRoles(rules...)
	s, err := sqlite.Open(t.Context(), store.Config{DSN: filepath.Join(t.TempDir(), "rehearsal.db"), Environment: "rehearsal", Binary: "1.2.3", Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := bindings()
	for i := range all {
		edit(&all[i])
	}
	c := rehearsal.Config{
		Store: s, Database: d, Organization: "org_1", Roles: roles, Role: "admin", RoleGroups: []string{"Admins", "IT"}, Active: active,
	}
	b := binder.Config{
		Store: s, Mode: store.Enforce, Environment: "rehearsal", Bindings: all, Link: &binder.Link{SQL: `SELECT id FROM people WHERE external_id = @idp_id`},
		Probes: []binder.Probe{{Name: "sessions", SQL: `SELECT id FROM sessions WHERE person = @app_id`}},
	}
	for _, f := range change {
		f(&c, &b)
	}
	c.Binder = func(d *binder.Database) (*binder.Binder, error) {
		b.Database = d
		return binder.New(b)
	}
	return rehearsal.Run(t.Context(), c)
}

// active asks who is in.
func active(ctx context.Context, db *sql.DB) (map[string]bool, error) {
	rows, err := db.QueryContext(ctx, `SELECT id FROM people WHERE active = 1`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	ids := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, rows.Err()
}

const (
	joiner, mover, leaver, suspended = "a joiner gets in", "a mover changes groups", "a leaver loses access", "somebody suspended loses access"
	unknown                          = "a leaver whom nobody told of before loses nothing of others"
	rehire, recycled                 = "a rehire gets back in", "a recycled address inherits nothing"
	twoGroups                        = "leaving one of two groups keeps their role"
	oneGroup, found                  = "leaving a group takes its role", "a probe finds what people make by using the application"
	groupEnds, directoryEnds         = "a group that ends takes its memberships along", "a directory that ends takes everybody's access"
)

var everybodyWhoLeaves = []string{leaver, suspended, rehire, recycled, directoryEnds}

func TestEachMistakeFailsTheSituationsThatItHurts(t *testing.T) {
	t.Parallel()
	for mistake, c := range map[string]struct {
		rules []directory.RoleRule
		edit  map[string]string // the binding's name, and its statement
		fails []string
		says  string
	}{
		"none": {},
		"nobody is matched who leaves": {
			edit:  map[string]string{"leave": `UPDATE people SET active = 0 WHERE id = @app_id AND 1 = 0`, "end-sessions": `DELETE FROM sessions WHERE person = @app_id AND 1 = 0`},
			fails: everybodyWhoLeaves, says: "leave, end-sessions touched no row of ",
		},
		"a session is left": {
			edit:  map[string]string{"end-sessions": `DELETE FROM sessions WHERE person = @app_id AND id < 0`},
			fails: everybodyWhoLeaves, says: "probe sessions says dirty of somebody who left: 1 row",
		},
		"somebody who left is listed": {
			edit:  map[string]string{"leave": `UPDATE people SET active = 1 WHERE id = @app_id`},
			fails: everybodyWhoLeaves, says: "inventory lists ",
		},
		"a leaver takes everybody along": {
			edit:  map[string]string{"leave": `UPDATE people SET active = 0 WHERE CAST(@app_id AS text) IS NOT NULL`},
			fails: []string{leaver}, says: "does not list ",
		},
		"a role goes with the first of its groups": {
			rules: []directory.RoleRule{{Role: "admin", Groups: []string{"Admins"}}},
			fails: []string{twoGroups}, says: "the role admin was revoked though another group gives it",
		},
		"a role cannot be revoked": {
			edit:  map[string]string{"unrole": `UPDATE person_roles SET role = NULL WHERE person = @app_id AND role = @role`},
			fails: []string{twoGroups}, says: "role.revoked did not bind: unrole, statement 1: ",
		},
		"a membership stays": {
			edit:  map[string]string{"revoke": "DELETE FROM members\n WHERE person = @app_id AND team = @group_name"},
			fails: []string{mover, twoGroups, groupEnds},
			says: "grant.revoked touched no row, and grant.added of the same had touched 1: nothing was taken away by " +
				"revoke, statement 1 (DELETE FROM members WHERE person = @app_id AND team = @group_name)\nhint: ",
		},
		"a role stays": {
			edit:  map[string]string{"unrole": `DELETE FROM person_roles WHERE role = @account`},
			fails: []string{twoGroups},
			says:  "role.revoked touched no row, and role.added of the same had touched 1: nothing was taken away by unrole, statement 1 (DELETE FROM person_roles WHERE role = @account)",
		},
		"nobody is let in": {
			edit:  map[string]string{"join": `UPDATE people SET name = @name WHERE id = @app_id`},
			fails: []string{joiner, mover, leaver, suspended, unknown, rehire, recycled, twoGroups, groupEnds, directoryEnds}, says: "",
		},
	} {
		for kind, make := range kinds {
			t.Run(mistake+", "+kind, func(t *testing.T) {
				t.Parallel()
				d := make(t)
				makeSchema(t, d)
				before := contents(t, d)
				rules := c.rules
				if rules == nil {
					rules = bothGive
				}
				cases, err := rehearse(t, d, rules, func(b *binder.Binding) {
					if text, wrong := c.edit[b.Name]; wrong {
						b.Statements = []string{text}
					}
				})
				if err != nil || len(cases) != 10 {
					t.Fatalf("Run() = %d cases, %v, want 10", len(cases), err)
				}
				var failed []string
				for _, s := range cases {
					if s.Err == nil {
						continue
					}
					failed = append(failed, s.Name)
					if !strings.Contains(s.Err.Error(), c.says) {
						t.Errorf("%s: %v\nwant %q in it", s.Name, s.Err, c.says)
					}
				}
				if diff := cmp.Diff(c.fails, failed); diff != "" {
					t.Errorf("what fails (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(before, contents(t, d)); diff != "" {
					t.Errorf("something stays (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// failures returns what is wrong, by case.
func failures(t testing.TB, cases []rehearsal.Case, err error) map[string]string {
	t.Helper()
	if err != nil {
		t.Fatalf("Run() = %v", err)
	}
	wrong := map[string]string{}
	for _, c := range cases {
		if c.Err != nil {
			wrong[c.Name] = c.Err.Error()
		}
	}
	return wrong
}

func TestWhatPeopleMakeByUsingTheApplicationIsMissedWhereNothingTakesIt(t *testing.T) {
	t.Parallel()
	const key = `INSERT INTO sessions (person) SELECT id FROM people WHERE id = @app_id AND external_id = @idp_id`
	for what, c := range map[string]struct {
		key   string
		makes bool // a binding makes sessions, so that there is one without anybody who signs in
		ends  bool
		fails []string
		says  string
	}{
		"it is taken":                              {key: key, ends: true},
		"nothing takes it":                         {key: key, fails: everybodyWhoLeaves, says: "probe sessions says dirty of somebody who left: 1 row"},
		"nothing takes it, and nobody signs in":    {},
		"nobody signs in, and a binding lets them": {makes: true, fails: everybodyWhoLeaves, says: "probe sessions says dirty of somebody who left: 1 row"},
		"it touches no row": {
			key: key + ` AND 1 = 0`, ends: true, fails: []string{joiner, mover, leaver, suspended, unknown, rehire, recycled, twoGroups, groupEnds, directoryEnds, found},
			says: "signing-in touched no row of ",
		},
		"it fails": {
			key: `INSERT INTO sessions (id, person) VALUES (1, @app_id)`, ends: true,
			fails: []string{joiner, mover, leaver, suspended, unknown, rehire, recycled, twoGroups, groupEnds, directoryEnds, found}, says: "signing-in, statement 1: ",
		},
		"no probe finds it": {
			key: `INSERT INTO person_roles (person, role) SELECT CAST(CAST(@app_id AS text) AS integer), 'key ' || count(*) FROM person_roles`, ends: true, fails: []string{found}, says: "signing-in made something that no probe finds",
		},
	} {
		for kind, make := range kinds {
			t.Run(what+", "+kind, func(t *testing.T) {
				t.Parallel()
				d := make(t)
				makeSchema(t, d)
				before := contents(t, d)
				cases, err := rehearse(t, d, bothGive, func(b *binder.Binding) {
					switch {
					case b.Name == "join" && !c.makes:
						b.Statements = b.Statements[:2]
					case b.Name == "end-sessions" && !c.ends:
						b.Statements = []string{`UPDATE people SET active = 0 WHERE id = @app_id`}
					}
				}, func(r *rehearsal.Config, b *binder.Config) {
					if c.key != "" {
						r.SignIn = []string{"signing-in"}
						b.Bindings = append(b.Bindings, binder.Binding{Name: "signing-in", Statements: []string{c.key}})
					}
				})
				var failed []string
				wrong := failures(t, cases, err)
				for _, s := range cases {
					if text, is := wrong[s.Name]; is {
						failed = append(failed, s.Name)
						if !strings.Contains(text, c.says) {
							t.Errorf("%s: %s\nwant %q in it", s.Name, text, c.says)
						}
					}
				}
				if diff := cmp.Diff(c.fails, failed); diff != "" {
					t.Errorf("what fails (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(before, contents(t, d)); diff != "" {
					t.Errorf("something stays (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestAGrantOrRoleThatNothingIsForRevokingIsNamed(t *testing.T) {
	t.Parallel()
	d := kinds["SQLite"](t)
	makeSchema(t, d)
	cases, err := rehearse(t, d, []directory.RoleRule{{Role: "admin", Groups: []string{"Admins"}}}, func(b *binder.Binding) {
		if b.Name == "revoke" || b.Name == "unrole" {
			b.On = []directory.ChangeKind{directory.DirectoryEnded}
		}
	}, func(r *rehearsal.Config, _ *binder.Config) { r.RoleGroups = []string{"Admins"} })
	wrong := failures(t, cases, err)
	for situation, want := range map[string]string{
		mover:    "no binding is for grant.revoked, and grant.added touched 1 rows: nothing takes them away\nhint: ",
		oneGroup: "no binding is for role.revoked, and role.added touched 1 rows: nothing takes them away\nhint: ",
	} {
		if !strings.Contains(wrong[situation], want) {
			t.Errorf("%s: %q\nwant %q in it", situation, wrong[situation], want)
		}
	}
	if _, fails := wrong[leaver]; fails {
		t.Errorf("a leaver loses all by the end of the account, and yet: %s", wrong[leaver])
	}
}

// What goes with the account or the group is not missed when it is revoked afterwards.
func TestWhatWentWithTheGroupIsNotMissedWhenItIsRevoked(t *testing.T) {
	t.Parallel()
	d := kinds["SQLite"](t)
	makeSchema(t, d)
	cases, err := rehearse(t, d, bothGive, func(b *binder.Binding) {
		switch b.Name {
		case "end-sessions":
			b.Statements = append(b.Statements, `DELETE FROM members WHERE person = @app_id`)
		case "role":
			b.On, b.Statements = append(b.On, directory.GroupEnded), []string{
				`INSERT INTO person_roles (person, role) SELECT CAST(@app_id AS integer), @role WHERE @app_id IS NOT NULL`, `DELETE FROM members WHERE team = @group_id AND @app_id IS NULL`,
			}
		}
	})
	if wrong := failures(t, cases, err); len(wrong) > 0 {
		t.Errorf("these fail: %q", wrong)
	}
}

// contents are how many rows each table has, and whether there are marks.
func contents(t testing.TB, d *binder.Database) (lines []string) {
	t.Helper()
	for _, table := range tables {
		var n int
		if err := d.SQL.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(table, " ", n))
	}
	_, err := d.Marks.Of(t.Context(), d.SQL, []int64{1})
	return append(lines, fmt.Sprint("marks ", err == nil))
}

func TestStatementsThatDoNotFitAreNamedBeforeAnythingIsPlayed(t *testing.T) {
	t.Parallel()
	for kind, make := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := make(t)
			makeSchema(t, d)
			cases, err := rehearse(t, d, bothGive, func(b *binder.Binding) {
				if b.Name == "unrole" || b.Name == "grant" {
					b.Statements = []string{`DELETE FROM members WHERE person = @app_id`, `DELETE FROM members WHERE nobody_` + b.Name + ` = @app_id`}
				}
			})
			if err != nil || len(cases) != 2 {
				t.Fatalf("Run() = %d cases, %v, want one of each statement", len(cases), err)
			}
			for _, name := range []string{"grant", "unrole"} {
				i := slices.IndexFunc(cases, func(c rehearsal.Case) bool { return c.Name == "the database takes "+name })
				if i < 0 || cases[i].Err == nil || !strings.Contains(cases[i].Err.Error(), name+", statement 2: ") || !strings.Contains(cases[i].Err.Error(), "nobody_"+name) {
					t.Errorf("Run() = %v, want a case that failed of %s", cases, name)
				}
			}
		})
	}
}

func TestWhoMayNotMakeTheTableOfMarksIsToldWithWhat(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	owner := onPostgres(t, dsn)
	makeSchema(t, owner)
	role := fmt.Sprintf("rehearsal_%d", time.Now().UnixNano())
	run(t, owner.SQL, `CREATE ROLE `+role+` LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role+`; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO `+role)
	t.Cleanup(func() {
		_, err := owner.SQL.ExecContext(context.WithoutCancel(t.Context()), `DROP OWNED BY `+role+`; DROP ROLE `+role)
		if err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	d := onPostgres(t, u.String())
	cases, err := rehearse(t, d, bothGive, func(*binder.Binding) {})
	for _, c := range cases {
		err = errors.Join(err, c.Err)
	}
	if err == nil {
		t.Fatal("somebody who may not make a table rehearsed")
	}
	for _, want := range []string{"permission denied", "hint: let somebody who may run, once:", "CREATE SCHEMA IF NOT EXISTS rollcall;", "CREATE TABLE IF NOT EXISTS rollcall.bound ("} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q in it", err, want)
		}
	}
}

func TestAReportCountsWhatItHolds(t *testing.T) {
	t.Parallel()
	cases := []rehearsal.Case{
		{Name: "one", Took: 1500 * time.Millisecond},
		{Name: "two <&>", Took: time.Second, Err: errors.New("no \x00 & <row>\nhint: look"), Steps: []rehearsal.Step{
			{Kind: directory.AccountDeactivated, Result: store.ResultBound, Rows: 2, Probes: []store.Verdict{{Probe: "sessions", Result: "dirty"}}},
			{Kind: directory.GrantRevoked, Error: "it failed"},
		}},
	}
	var text strings.Builder
	if err := rehearsal.JUnit(&text, cases); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Suites []struct {
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Time     string `xml:"time,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(text.String()), &got); err != nil {
		t.Fatalf("the report cannot be read: %v\n%s", err, text.String())
	}
	if len(got.Suites) != 1 || got.Suites[0].Tests != 2 || got.Suites[0].Failures != 1 || got.Suites[0].Time != "2.500" || len(got.Suites[0].Cases) != 2 {
		t.Fatalf("the report says %+v, want 2 tests, of which 1 failed, in 2.500 s", got.Suites)
	}
	well, failed := got.Suites[0].Cases[0], got.Suites[0].Cases[1]
	if well.Failure != nil || failed.Name != "two <&>" || failed.Failure == nil || failed.Failure.Message != "no \uFFFD & <row>" {
		t.Errorf("the cases are %+v and %+v", well, failed)
	}
	if failed.Failure != nil && !slices.Equal(strings.Split(failed.Failure.Text, "\n")[1:4], []string{"hint: look", "account.deactivated: bound, 2 rows; sessions dirty", "grant.revoked: : it failed"}) {
		t.Errorf("the failure's text is %q, want the hint and what took effect", failed.Failure.Text)
	}
}
