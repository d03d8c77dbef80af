package app

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// withApplication makes an application in an SQLite file, with a statement for leavers and one for what they have left.
func withApplication(t testing.TB, c config.Config) config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	exec(t, "sqlite", "file:"+path, `CREATE TABLE users (id integer PRIMARY KEY, external_id text, disabled integer)`)
	c.Application.DSN = config.Sensitive("sqlite:" + path)
	c.Application.Link.SQL = `SELECT id FROM users WHERE external_id = @idp_id`
	c.Application.Bindings = []config.Binding{{On: []string{"account.deactivated"}, Name: "lock-out", SQL: []string{`UPDATE users SET disabled = 1 WHERE id = @app_id`}}}
	c.Application.Probes = []config.Probe{{Name: "user", SQL: `SELECT id FROM users WHERE id = @app_id AND disabled = 0`}}
	return c
}

func exec(t testing.TB, driver, dsn, statements string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

func TestTheDoctorPreparesTheApplicationsStatements(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	if text, ok := finding(t, c, "application"); ok {
		t.Errorf("of no application the doctor says %q", text)
	}
	c = withApplication(t, c)
	if text, ok := finding(t, c, "application"); !ok || text != "1 bindings and 1 probes fit its database" {
		t.Errorf("of an application that is well the doctor says %q", text)
	}
	path, _ := c.Application.DSN.File()
	exec(t, "sqlite", "file:"+path, `CREATE TABLE rollcall_bound (seq integer); DROP TABLE rollcall_bound`) // which the doctor has not made

	for name, wrong := range map[string]struct {
		change func(a *config.Application)
		want   []string
	}{
		"a column": {func(a *config.Application) {
			a.Bindings = []config.Binding{{On: []string{"role.added"}, Name: "give", SQL: []string{`DELETE FROM users WHERE id = @app_id`, `UPDATE users SET rle = @role`}}}
		}, []string{"give, statement 2: ", "no such column: rle", "\nhint: mend the statement or the schema"}},
		"a probe": {
			func(a *config.Application) { a.Probes = []config.Probe{{Name: "keys", SQL: `SELECT id FROM api_keys`}} },
			[]string{"probe keys, statement 1: ", "no such table: api_keys"},
		},
		"a parameter": {func(a *config.Application) { a.Link.SQL = `SELECT id FROM users WHERE id = @usr` }, []string{"link.sql", "usr"}},
		"the file":    {func(a *config.Application) { a.DSN = "sqlite:/nowhere/app.db" }, []string{"/nowhere/app.db", "\nhint: application.dsn is sqlite: and the path"}},
		"the server": {
			func(a *config.Application) { a.DSN = "postgres://rollcall@127.0.0.1:1/app" },
			[]string{"reach the application's database: ", "\nhint: is application.dsn right, and the server up?"},
		},
	} {
		c := c
		wrong.change(&c.Application)
		text, ok := finding(t, c, "application")
		if ok {
			t.Errorf("%s: the doctor finds all well: %s", name, text)
		}
		wants(t, name, text, wrong.want...)
	}
}

func TestTheDoctorNeedsTheAddressOfTheApplication(t *testing.T) {
	t.Parallel()
	c := withApplication(t, testConfig(t))
	c.Application.DSN = "file:/nowhere/dsn"
	for _, f := range Doctor(t.Context(), c, "v0") {
		if f.Name == "application" && f.Needs != "its address" {
			t.Errorf("of an address that cannot be read the doctor says %+v, want that it needs it", f)
		}
		if f.Name == "secret application.dsn" && f.Err == nil {
			t.Errorf("of its secret the doctor says %+v, want what is wrong", f)
		}
	}
}

func TestTheDoctorSaysWithWhatSomebodyElseMakesTheTableOfMarks(t *testing.T) {
	t.Parallel()
	dsn, role := testenv.Database(t), fmt.Sprintf("doctor_%d", time.Now().UnixNano())
	exec(t, "pgx", dsn, `CREATE TABLE users (id integer PRIMARY KEY, external_id text, disabled integer); CREATE ROLE `+role+` LOGIN; GRANT ALL ON users TO `+role)
	t.Cleanup(func() { exec(t, "pgx", dsn, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	c := withApplication(t, testConfig(t))
	c.Application.DSN = config.Sensitive(u.String())
	text, ok := finding(t, c, "application")
	if ok {
		t.Errorf("the doctor finds all well: %s", text)
	}
	wants(t, "the finding", text, "permission denied", "let somebody who may run, once:\nCREATE SCHEMA IF NOT EXISTS rollcall;\nCREATE TABLE IF NOT EXISTS rollcall.bound (")

	exec(t, "pgx", dsn, text[strings.Index(text, "CREATE SCHEMA"):strings.LastIndex(text, ";\n")]+`; GRANT USAGE ON SCHEMA rollcall TO `+role+`; GRANT ALL ON rollcall.bound TO `+role)
	if text, ok := finding(t, c, "application"); !ok {
		t.Errorf("when somebody has run it the doctor says %q", text)
	}
}

func TestAProcessWhoseBindingsAreBrokenIsReadyAndSaysSo(t *testing.T) {
	t.Parallel()
	c := withApplication(t, testConfig(t))
	well := run(t, c).ready()
	until(t, "the bindings are well", func() bool {
		status, text := well.get("/readyz?verbose")
		return status == http.StatusOK && strings.Contains(text, "bindings (shared) ok")
	})

	c = withApplication(t, testConfig(t))
	c.Application.Bindings[0].SQL = []string{`UPDATE users SET gone = 1 WHERE id = @app_id`}
	broken := run(t, c).ready()
	until(t, "the broken binding is named", func() bool {
		status, text := broken.get("/readyz?verbose")
		return status == http.StatusOK && strings.Contains(text, "bindings (shared) failed: lock-out is broken: lock-out, statement 1: ") && strings.Contains(text, "no such column: gone")
	})
}
