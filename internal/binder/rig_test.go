package binder_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	_ "modernc.org/sqlite"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// rig is a store and an application's database of a test's own.
type rig struct {
	testing.TB
	store  store.Store
	truth  *sql.DB // the store's own
	schema string  // before the store's tables
	app    *binder.Database
	events int
}

// schema is the application's. effects says what took effect; nothing in it keeps a change from doing so twice.
const schema = `
	CREATE TABLE app_tenants (id integer PRIMARY KEY, organization text NOT NULL);
	CREATE TABLE app_users (id %s, tenant integer, external_id text, email text, name text, disabled integer NOT NULL DEFAULT 0);
	CREATE TABLE app_members (user_id integer NOT NULL, group_id text NOT NULL, PRIMARY KEY (user_id, group_id));
	CREATE TABLE app_roles (user_id integer NOT NULL, role text NOT NULL, PRIMARY KEY (user_id, role));
	CREATE TABLE app_sessions (id integer PRIMARY KEY, user_id integer NOT NULL);
	CREATE TABLE effects (id %s, seq integer NOT NULL, kind text NOT NULL, account text, app_id text, what text)`

// The places where an application's tables can be.
var places = map[string]func(testing.TB) *rig{
	"PostgreSQL, in one database":             func(t testing.TB) *rig { return onPostgres(t, true) },
	"PostgreSQL, in two databases":            func(t testing.TB) *rig { return onPostgres(t, false) },
	"SQLite, in one file":                     func(t testing.TB) *rig { return onSQLite(t, true) },
	"SQLite, in two files":                    func(t testing.TB) *rig { return onSQLite(t, false) },
	"PostgreSQL, the application's in a file": onBoth,
}

// everywhere runs a test with the application in every place.
func everywhere(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Parallel()
	for name, open := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func onPostgres(t testing.TB, own bool) *rig {
	t.Helper()
	dsn := testenv.Database(t)
	r := newRig(t, openPostgres(t, dsn))
	if !own {
		dsn = testenv.Database(t)
	}
	r.onPostgres(dsn, own)
	return r
}

func openPostgres(t testing.TB, dsn string) store.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), store.Config{DSN: dsn, Environment: "test", Binary: "1.2.3", Roles: roleRules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func onSQLite(t testing.TB, own bool) *rig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rollcall.db")
	s, err := sqlite.Open(t.Context(), store.Config{DSN: file, Environment: "test", Binary: "1.2.3", Roles: roleRules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r := newRig(t, s)
	if !own {
		file = filepath.Join(t.TempDir(), "app.db")
	}
	r.onSQLite(file, own)
	return r
}

func onBoth(t testing.TB) *rig {
	t.Helper()
	r := newRig(t, openPostgres(t, testenv.Database(t)))
	r.onSQLite(filepath.Join(t.TempDir(), "app.db"), false)
	return r
}

// roleRules give a role by a group, and another one by a slug.
var roleRules = directory.NewRoles(directory.RoleRule{Role: "admin", Groups: []string{"group_admins"}}, directory.RoleRule{Role: "editor", Groups: []string{"group_editors"}})

func newRig(t testing.TB, s store.Store) *rig {
	t.Helper()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, store: s}
	switch s := s.(type) {
	case *postgres.Store:
		r.truth, r.schema = s.Reader.DB, "rollcall."
	case *sqlite.Store:
		r.truth = s.Reader.DB
	}
	return r
}

func (r *rig) onPostgres(dsn string, own bool) {
	r.Helper()
	db := open(r, "pgx", dsn)
	db.SetMaxOpenConns(30)
	r.app = &binder.Database{SQL: db, Kind: binder.Postgres, Own: own, Compile: postgres.Compile, Marks: postgres.Marks()}
	r.exec(fmt.Sprintf(schema, "serial PRIMARY KEY", "serial PRIMARY KEY"))
}

func (r *rig) onSQLite(file string, own bool) {
	r.Helper()
	db := open(r, "sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?_txlock=immediate&_pragma=busy_timeout(8000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	marks := sqlite.Marks("rollcall_bound")
	if own {
		marks = sqlite.Marks("bound")
	}
	r.app = &binder.Database{SQL: db, Kind: binder.SQLite, Own: own, Compile: postgres.Compile, Marks: marks}
	r.exec(fmt.Sprintf(schema, "integer PRIMARY KEY", "integer PRIMARY KEY"))
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

// exec runs statements in the application's database.
func (r *rig) exec(statements string, args ...any) {
	r.Helper()
	if _, err := r.app.SQL.ExecContext(context.WithoutCancel(r.Context()), statements, args...); err != nil {
		r.Fatalf("exec %s: %v", statements, err)
	}
}

// rows returns what the application's database answers: a line a row, its columns with blanks between.
func (r *rig) rows(query string) []string {
	r.Helper()
	return read(r, r.app.SQL, query)
}

func read(t testing.TB, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(context.WithoutCancel(t.Context()), query)
	for n := 0; err != nil && strings.Contains(err.Error(), "57P01") && n < 10; n++ { // a test cut this connection, too
		rows, err = db.QueryContext(context.WithoutCancel(t.Context()), query)
	}
	if err != nil {
		t.Fatalf("query %s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	columns, _ := rows.Columns()
	lines := []string{}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = v.String
			if !v.Valid {
				texts[i] = "-"
			}
		}
		lines = append(lines, strings.Join(texts, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// shows fails the test unless the application's database answers so.
func (r *rig) shows(query string, want ...string) {
	r.Helper()
	if diff := cmp.Diff(want, r.rows(query), cmpEmpty); diff != "" {
		r.Errorf("%s (-want +got):\n%s", query, diff)
	}
}

var cmpEmpty = cmp.Transformer("lines", func(lines []string) []string { return append([]string{}, lines...) })

// results returns what came of every change of somebody, by sequence: kind, result, rows.
func (r *rig) results(account string) []string {
	r.Helper()
	return read(r, r.truth, `SELECT kind, bound_result, bound_rows FROM `+r.schema+`changes WHERE account_key = '`+account+`' ORDER BY seq`)
}

// came fails the test unless this came of somebody's changes.
func (r *rig) came(account string, want ...string) {
	r.Helper()
	if diff := cmp.Diff(want, r.results(account), cmpEmpty); diff != "" {
		r.Errorf("what came of %s's changes (-want +got):\n%s", account, diff)
	}
}

// config binds what most tests want, quickly and by the wall clock.
func (r *rig) config() binder.Config {
	return binder.Config{
		Store: r.store, Database: r.app, Mode: store.Enforce, RetryFirst: 20 * time.Millisecond, RetryLongest: 100 * time.Millisecond, LinkRetry: 40 * time.Millisecond,
		Poll: 10 * time.Millisecond, Environment: "test", Log: zerolog.New(zerolog.NewTestWriter(r.TB)).Level(zerolog.InfoLevel), Registerer: prometheus.NewRegistry(),
		Link: &binder.Link{SQL: `SELECT id FROM app_users WHERE external_id = @idp_id`},
		Bindings: []binder.Binding{
			{Name: "join", On: kinds("account.activated", "account.updated"), Statements: []string{
				`INSERT INTO app_users (external_id, email, name) SELECT CAST(@idp_id AS text), CAST(@email AS text), CAST(@name AS text) WHERE CAST(@app_id AS text) IS NULL`,
				`UPDATE app_users SET external_id = @idp_id, email = @email, name = @name, disabled = 0 WHERE external_id = @idp_id`,
			}},
			{Name: "leave", On: kinds("account.deactivated"), Statements: []string{`UPDATE app_users SET disabled = 1 WHERE id = @app_id`}},
			{Name: "grant", On: kinds("grant.added"), Statements: []string{`INSERT INTO app_members (user_id, group_id) VALUES (@app_id, @group_id) ON CONFLICT DO NOTHING`}},
			{Name: "revoke", On: kinds("grant.revoked"), Statements: []string{`DELETE FROM app_members WHERE user_id = @app_id AND group_id = @group_id`}},
			{Name: "role", On: kinds("role.added"), Statements: []string{`INSERT INTO app_roles (user_id, role) VALUES (@app_id, @role) ON CONFLICT DO NOTHING`}},
			{Name: "unrole", On: kinds("role.revoked"), Statements: []string{`DELETE FROM app_roles WHERE user_id = @app_id AND role = @role`}},
		},
	}
}

func kinds(names ...string) (out []directory.ChangeKind) {
	for _, name := range names {
		out = append(out, directory.ChangeKind(name))
	}
	return out
}

// everyKind is all that a binding can be on.
var everyKind = kinds("account.activated", "account.updated", "account.deactivated", "grant.added", "grant.revoked", "role.added", "role.revoked",
	"group.created", "group.updated", "group.ended", "directory.activated", "directory.ended")

// effect records every change that takes effect.
func effect(name string) binder.Binding {
	return binder.Binding{Name: name, On: everyKind, Statements: []string{
		`INSERT INTO effects (seq, kind, account, app_id, what) VALUES (CAST(@seq AS integer), @change, @account, @app_id, '` + name + `')`,
	}}
}

func (r *rig) binder(change ...func(c *binder.Config)) *binder.Binder {
	r.Helper()
	c := r.config()
	for _, f := range change {
		f(&c)
	}
	b, err := binder.New(c)
	if err != nil {
		r.Fatalf("New() = %v", err)
	}
	return b
}

// start runs a binder until the test ends, or stop is called.
func (r *rig) start(change ...func(c *binder.Config)) (b *binder.Binder, stop func()) {
	r.Helper()
	b = r.binder(change...)
	return b, r.run(b)
}

func (r *rig) run(b *binder.Binder) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.Errorf("Run() = %v, want nil", err)
		}
	})
	r.Cleanup(stop)
	return stop
}

// drained binds all that can be.
func (r *rig) drained(b *binder.Binder) {
	r.Helper()
	if err := b.Drain(r.Context()); err != nil {
		r.Fatalf("Drain() = %v", err)
	}
}

// until waits for something that a binder makes true.
func (r *rig) until(what string, done func() bool) {
	r.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(2 * time.Minute); !done(); {
		select {
		case <-ticker.C:
		case <-deadline:
			r.Fatalf("this did not come: %s\n%s", what, strings.Join(read(r, r.truth, `SELECT seq, account_key, kind, bound_result, bound_attempts, bound_error, posted_result, posted_error FROM `+r.schema+`changes ORDER BY seq`), "\n"))
		}
	}
}

// settle waits until no change waits.
func (r *rig) settle() {
	r.Helper()
	r.until("nothing that waits", func() bool { return r.waiting() == 0 })
}

// waiting is how many changes wait; more than any while the database does not answer.
func (r *rig) waiting() (n int) {
	if err := r.truth.QueryRowContext(context.WithoutCancel(r.Context()), `SELECT count(*) FROM `+r.schema+`changes WHERE bound_at IS NULL`).Scan(&n); err != nil {
		return 1 << 30
	}
	return n
}

// fold folds events, a minute after each other, as if they had come by webhook.
func (r *rig) fold(events ...directory.Event) {
	r.Helper()
	for i := range events {
		r.events++
		events[i].ID = fmt.Sprintf("event_%06d", r.events)
		events[i].Occurred = directorytest.Start.Add(time.Duration(r.events) * time.Second)
	}
	for batch := range slices.Chunk(events, 200) {
		if err := storetest.Fold(context.WithoutCancel(r.Context()), r.store, batch); err != nil {
			r.Fatalf("Fold() = %v", err)
		}
	}
}

// joins is a user event of somebody.
func joins(name string, change ...func(e *directory.Event)) directory.Event {
	e := directory.Event{
		Source: "workos", Type: "dsync.user.updated", Directory: "directory_1", Organization: "org_1", Subject: directory.SubjectUser,
		User: &directory.Person{
			ID: "user_" + name, IDPID: name, State: "active", Created: directorytest.Start,
			Profile: directory.Profile{Email: name + "@example.com", Name: name},
		},
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

func leaves(name string, change ...func(e *directory.Event)) directory.Event {
	e := joins(name, change...)
	e.Type, e.Removes = "dsync.user.deleted", true
	return e
}

func added(group, name string, change ...func(e *directory.Event)) directory.Event {
	e := joins(name, change...)
	e.Type, e.Subject, e.User = "dsync.group.user_added", directory.SubjectMembership, nil
	e.Membership = &directory.Membership{Group: group, User: "user_" + name}
	return e
}

func removed(group, name string, change ...func(e *directory.Event)) directory.Event {
	e := added(group, name, change...)
	e.Type, e.Removes = "dsync.group.user_removed", true
	return e
}

func in(name string) func(e *directory.Event) {
	return func(e *directory.Event) { e.Directory = name }
}

func named(name string) func(e *directory.Event) {
	return func(e *directory.Event) {
		if e.User != nil {
			e.User.Name = name
		}
	}
}

func mailed(address string) func(e *directory.Event) {
	return func(e *directory.Event) { e.User.Email = address }
}

// link returns what is known of somebody's row.
func (r *rig) link(name string) store.Link {
	r.Helper()
	lane := store.Lane{Scope: directory.Scope{Source: "workos", Directory: "directory_1"}, Account: name}
	links, err := r.store.LinksOf(context.WithoutCancel(r.Context()), nil, []store.Lane{lane})
	if err != nil {
		r.Fatalf("LinksOf() = %v", err)
	}
	return links[lane]
}
