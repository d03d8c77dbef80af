// Package examples holds applications' tables with their bindings, for operators to copy from. It is all tests: what is copied
// has to be right.
package examples_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"go.yaml.in/yaml/v3"
	_ "modernc.org/sqlite"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// example is what the tests know of an example beside its files.
type example struct {
	driver string
	user   string // address, directory's id, and whether they are in, of a user
	signOn string // what a single sign-on inserts that knows nothing of directories: an address, for the organization Example
	login  string // another session of a user
	users  string // the table of users
	access string // how many things a user could get in or do something with: sessions, roles, teams, keys, and those of their service accounts
	team   string // name of a group's team, and whether it is archived
}

var examples = map[string]example{
	"rails": {
		driver: "pgx", users: `users`,
		access: `SELECT (SELECT count(*) FROM sessions WHERE user_id = $1) + (SELECT count(*) FROM role_assignments WHERE user_id = $1)
			+ (SELECT count(*) FROM memberships WHERE user_id = $1) + (SELECT count(*) FROM oauth_access_tokens WHERE resource_owner_id = $1 AND revoked_at IS NULL)
			+ (SELECT count(*) FROM service_accounts WHERE owner_id = $1 AND disabled_at IS NULL)
			+ (SELECT count(*) FROM api_tokens WHERE revoked_at IS NULL AND (bearer_type = 'User' AND bearer_id = $1
				OR bearer_type = 'ServiceAccount' AND bearer_id IN (SELECT id FROM service_accounts WHERE owner_id = $1)))`,
		user:   `SELECT email, COALESCE(directory_user_id, ''), deactivated_at IS NULL FROM users WHERE id = $1`,
		signOn: `INSERT INTO users (organization_id, email, created_at, updated_at) SELECT id, $1, now(), now() FROM organizations WHERE name = 'Example'`,
		login:  `INSERT INTO sessions (user_id, created_at, updated_at) VALUES ($1, now(), now())`,
		team:   `SELECT name, archived_at IS NOT NULL FROM teams WHERE directory_group_id = $1`,
	},
	"node": {
		driver: "pgx", users: `"User"`,
		access: `SELECT (SELECT count(*) FROM "Session" WHERE "userId" = $1) + (SELECT count(*) FROM "UserRole" WHERE "userId" = $1)
			+ (SELECT count(*) FROM "TeamMember" WHERE "userId" = $1)
			+ (SELECT count(*) FROM "Account" WHERE "userId" = $1 AND num_nonnulls("refresh_token", "access_token", "id_token") > 0)
			+ (SELECT count(*) FROM "ServiceAccount" WHERE "ownerId" = $1 AND "disabledAt" IS NULL)
			+ (SELECT count(*) FROM "ApiKey" WHERE "revokedAt" IS NULL
				AND ("userId" = $1 OR "serviceAccountId" IN (SELECT "id" FROM "ServiceAccount" WHERE "ownerId" = $1)))`,
		user:   `SELECT COALESCE("email", ''), COALESCE("directoryUserId", ''), "disabledAt" IS NULL FROM "User" WHERE "id" = $1`,
		signOn: `INSERT INTO "User" ("id", "organizationId", "email", "updatedAt") SELECT gen_random_uuid(), "id", $1, now() FROM "Organization" WHERE "name" = 'Example'`,
		login:  `INSERT INTO "Session" ("id", "sessionToken", "userId", "expires") VALUES (gen_random_uuid(), gen_random_uuid(), $1, now())`,
		team:   `SELECT "name", "archivedAt" IS NOT NULL FROM "Team" WHERE "directoryGroupId" = $1`,
	},
	"go": {
		driver: "pgx", users: `app_users`, access: plainAccess,
		user:   `SELECT email, COALESCE(external_id, ''), disabled_at IS NULL FROM app_users WHERE id = $1`,
		signOn: `INSERT INTO app_users (tenant_id, email) VALUES ('tenant-1', $1)`,
		login:  `INSERT INTO app_sessions (user_id, token_hash, expires_at) VALUES ($1, 'another of ' || $1, now())`,
		team:   `SELECT name, archived_at IS NOT NULL FROM app_teams WHERE group_id = $1`,
	},
	"sqlite": {
		driver: "sqlite", users: `app_users`, access: plainAccess,
		user:   `SELECT email, COALESCE(external_id, ''), disabled_at IS NULL FROM app_users WHERE id = $1`,
		signOn: `INSERT INTO app_users (tenant_id, email) VALUES ('tenant-1', $1)`,
		login:  `INSERT INTO app_sessions (user_id, token_hash, expires_at) VALUES ($1, 'another of ' || $1, 'tomorrow')`,
		team:   `SELECT name, archived_at IS NOT NULL FROM app_teams WHERE group_id = $1`,
	},
}

const plainAccess = `SELECT (SELECT count(*) FROM app_sessions WHERE user_id = $1) + (SELECT count(*) FROM app_roles WHERE user_id = $1)
	+ (SELECT count(*) FROM app_team_members WHERE user_id = $1) + (SELECT count(*) FROM app_service_accounts WHERE owner_id = $1 AND disabled_at IS NULL)
	+ (SELECT count(*) FROM app_api_keys WHERE revoked_at IS NULL
		AND (owner_id = $1 OR service_account_id IN (SELECT id FROM app_service_accounts WHERE owner_id = $1)))`

// parameters are those that a statement may name.
var parameters = []string{
	"source", "directory_id", "organization_id", "tenant", "account", "user_id", "idp_id", "email", "first_name", "last_name", "name", "state",
	"attributes", "app_id", "group_id", "group_name", "role", "seq", "change", "event", "occurred", "cause", "owner", "active",
}

func TestEveryStatementPreparesOnItsDatabase(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		for where, text := range r.app.statements() {
			compiled, _, err := postgres.Compile(text, parameters)
			if err != nil {
				t.Errorf("%s: %v", where, err)
				continue
			}
			if err := prepare(t.Context(), r.db, compiled); err != nil {
				t.Errorf("%s: %v\n%s", where, err, compiled)
			}
		}
	})
}

func prepare(ctx context.Context, db *sql.DB, text string) error {
	statement, err := db.PrepareContext(ctx, text)
	if err != nil {
		return err
	}
	defer func() { _ = statement.Close() }()
	return nil
}

func TestEveryFolderIsTested(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := examples[entry.Name()]; entry.IsDir() && !ok {
			t.Errorf("nothing tests %s", entry.Name())
		}
	}
}

func TestAnExampleBindsEveryKindOfChange(t *testing.T) {
	t.Parallel()
	kinds := []string{
		"account.activated", "account.updated", "account.deactivated", "grant.added", "grant.revoked", "role.added", "role.revoked",
		"group.created", "group.updated", "group.ended", "directory.activated", "directory.ended",
	}
	each(t, func(t *testing.T, r *rig) {
		for _, b := range r.app.Bindings {
			for _, on := range b.On {
				if !slices.Contains(kinds, on) {
					t.Errorf("a binding is for %q, which is no kind of change", on)
				}
			}
		}
		for _, kind := range kinds {
			if !slices.ContainsFunc(r.app.Bindings, func(b binding) bool { return slices.Contains(b.On, kind) }) {
				t.Errorf("no binding is for %s", kind)
			}
		}
	})
}

// each runs a test on every example, with its tables and what its seed puts in, in a database of its own.
func each(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	for name := range examples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, name))
		})
	}
}

func newRig(t *testing.T, name string) *rig {
	t.Helper()
	r := &rig{example: examples[name], name: name, t: t, app: read(t, filepath.Join(name, "rollcall.yaml")), links: map[string]string{}}
	var address string
	if r.driver == "pgx" {
		r.dsn = testenv.Copy(t, name, r.fill)
		address = r.dsn
	} else {
		path := copied(t, name, func(path string) error { return r.fill("sqlite:" + path) })
		r.dsn, address = "sqlite:"+path, fileAddress(path)
	}
	db, err := sql.Open(r.driver, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r.db = db
	return r
}

func fileAddress(path string) string {
	return "file:" + path + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"
}

// fill makes the database that tests get copies of: the example's tables, what its seed puts in, and, where they share it,
// Rollcall's own.
func (r *rig) fill(dsn string) (err error) {
	address := dsn
	if path, file := strings.CutPrefix(dsn, "sqlite:"); file {
		address = fileAddress(path)
	}
	db, err := sql.Open(r.driver, address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, file := range []string{"schema.sql", "seed.sql"} {
		script, err := os.ReadFile(filepath.Join(r.name, file))
		if err != nil {
			return err
		}
		if _, err := db.ExecContext(context.Background(), string(script)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if r.app.DSN == "" {
		return r.migrate("store.dsn=" + dsn)
	}
	return nil
}

// migrate makes Rollcall's own tables, in the place that this says.
func (r *rig) migrate(place string) error {
	c, err := r.read(place)
	if err != nil {
		return err
	}
	s, err := app.OpenStore(context.Background(), c, "test")
	if err != nil {
		return err
	}
	_, err = s.Migrate(context.Background())
	return errors.Join(err, s.Close())
}

// files are what copies of SQLite files are made of, by name.
var files sync.Map

// copied returns the path of a copy of a file that fill makes, once for all tests.
func copied(t *testing.T, name string, fill func(path string) error) string {
	t.Helper()
	made, _ := files.LoadOrStore(name, sync.OnceValues(func() ([]byte, error) {
		folder, err := os.MkdirTemp("", "rollcall-examples-")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		path := filepath.Join(folder, "model.db")
		if err := fill(path); err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	}))
	content, err := made.(func() ([]byte, error))()
	path := filepath.Join(t.TempDir(), name+".db")
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatalf("make the file %s: %v", name, err)
	}
	return path
}

// application is the part of a configuration that the examples are about.
type application struct {
	DSN       string
	Mode      string
	Tenant    struct{ SQL string }
	Link      link
	Bindings  []binding
	Roles     []mapping
	Probes    []probe
	Inventory struct{ Accounts, Memberships string }
	Protected string
	Guard     map[string]int
	Owners    map[string]string
	Rehearsal struct {
		SignIn texts `yaml:"sign_in"`
	}
}

type link struct {
	SQL     string
	ByEmail string `yaml:"by_email"`
}

type binding struct {
	On   texts
	Name string
	SQL  texts
}

type mapping struct {
	Role          string
	Groups, Slugs []string
}

type probe struct{ Name, SQL string }

// texts is one text or a list of them.
type texts []string

// UnmarshalYAML takes either.
func (l *texts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = texts{n.Value}
		return nil
	}
	return n.Decode((*[]string)(l))
}

func read(t *testing.T, path string) application {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		Application application
		Rest        map[string]any `yaml:",inline"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&whole); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return whole.Application
}

// statements returns every statement, by where it stands.
func (a *application) statements() map[string]string {
	all := map[string]string{
		"tenant": a.Tenant.SQL, "link.sql": a.Link.SQL, "link.by_email": a.Link.ByEmail,
		"inventory.accounts": a.Inventory.Accounts, "inventory.memberships": a.Inventory.Memberships, "protected": a.Protected,
	}
	for _, b := range a.Bindings {
		for _, text := range b.SQL {
			all[strings.Join(b.On, ", ")+" "+b.Name+": "+text] = text
		}
	}
	for _, p := range a.Probes {
		all["probe "+p.Name] = p.SQL
	}
	for _, text := range a.Rehearsal.SignIn {
		all["rehearsal.sign_in: "+text] = text
	}
	return all
}

// rig tells an example's database of changes as Rollcall does: it looks the link up, runs the statements in order in one
// transaction, and looks again. It knows nothing of locks, marks and retries. links are app ids by the directory's.
type rig struct {
	example
	name  string
	t     *testing.T
	app   application
	db    *sql.DB
	dsn   string
	links map[string]string
}

// values are a change's parameters; what is not there is unknown.
type values map[string]string

// person returns what changes of somebody in the organization Example say.
func person(idpID, email string) values {
	return values{
		"source": "workos", "directory_id": "directory_01EXAMPLE", "organization_id": "org_01EXAMPLE", "account": idpID, "idp_id": idpID,
		"email": email, "first_name": "New", "last_name": "Name", "active": "true",
	}
}

// with returns the values and some more, given as names and values in turn.
func (v values) with(more ...string) values {
	all := values{}
	for name, value := range v {
		all[name] = value
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// tell binds a change, which must work, and returns how many rows it touched.
func (r *rig) tell(kind string, v values) (rows int64) {
	r.t.Helper()
	rows, err := r.try(kind, v)
	if err != nil {
		r.t.Fatalf("%s of %v: %v", kind, v, err)
	}
	return rows
}

func (r *rig) try(kind string, v values) (rows int64, err error) {
	r.t.Helper()
	v = v.with("tenant", r.one(r.app.Tenant.SQL, v))
	if id := r.find(v); id != "" {
		v = v.with("app_id", id)
	}
	tx, err := r.db.BeginTx(r.t.Context(), nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	for _, b := range r.app.Bindings {
		if !slices.Contains(b.On, kind) {
			continue
		}
		for _, text := range b.SQL {
			compiled, args := r.compile(text, v)
			result, err := tx.ExecContext(r.t.Context(), compiled, args...)
			if err != nil {
				return 0, err
			}
			n, _ := result.RowsAffected()
			rows += n
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	r.find(v)
	return rows, nil
}

// find returns the row that somebody is, or nothing; it never changes.
func (r *rig) find(v values) string {
	r.t.Helper()
	key := v["idp_id"]
	if r.links[key] == "" && key != "" {
		v = v.with("tenant", r.one(r.app.Tenant.SQL, v))
		r.links[key] = cmp.Or(r.one(r.app.Link.SQL, v), r.one(r.app.Link.ByEmail, v))
	}
	return r.links[key]
}

func (r *rig) compile(text string, v values) (string, []any) {
	r.t.Helper()
	compiled, names, err := postgres.Compile(text, parameters)
	if err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
	args := make([]any, len(names))
	for i, name := range names {
		if value, ok := v[name]; ok && value != "" {
			args[i] = value
		}
	}
	return compiled, args
}

// list returns the first column of what a query finds.
func (r *rig) list(text string, v values) []string {
	r.t.Helper()
	compiled, args := r.compile(text, v)
	rows, err := r.db.QueryContext(r.t.Context(), compiled, args...)
	if err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		r.t.Fatal(err)
	}
	var found []string
	row := make([]any, len(columns))
	for rows.Next() {
		var first string
		row[0] = &first
		for i := range row[1:] {
			row[i+1] = new(any)
		}
		if err := rows.Scan(row...); err != nil {
			r.t.Fatalf("%s: %v", text, err)
		}
		found = append(found, first)
	}
	if err := rows.Err(); err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
	return found
}

// one returns what a query finds that finds one row or none.
func (r *rig) one(text string, v values) string {
	r.t.Helper()
	found := r.list(text, v)
	if len(found) > 1 {
		r.t.Fatalf("%s of %v finds %q, want one", text, v, found)
	}
	return strings.Join(found, "")
}

// left returns how many rows each probe finds of a user.
func (r *rig) left(appID string) map[string]int {
	r.t.Helper()
	found := map[string]int{}
	for _, p := range r.app.Probes {
		if n := len(r.list(p.SQL, values{"app_id": appID})); n > 0 {
			found[p.Name] = n
		}
	}
	return found
}

// row is a user's row.
type row struct {
	Email, DirectoryID string
	Active             bool
}

func (r *rig) rowOf(appID string) row {
	r.t.Helper()
	var u row
	if err := r.db.QueryRowContext(r.t.Context(), r.user, appID).Scan(&u.Email, &u.DirectoryID, &u.Active); err != nil {
		r.t.Fatalf("user %q: %v", appID, err)
	}
	return u
}

func (r *rig) exec(statement string, args ...any) {
	r.t.Helper()
	if _, err := r.db.ExecContext(r.t.Context(), statement, args...); err != nil {
		r.t.Fatalf("%s: %v", statement, err)
	}
}
