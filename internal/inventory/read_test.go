package inventory_test

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// databases are those that an application may have.
var databases = map[string]func(t *testing.T) *sql.DB{
	"postgres": func(t *testing.T) *sql.DB { return open(t, "pgx", testenv.Database(t)) },
	"sqlite": func(t *testing.T) *sql.DB {
		path := url.URL{Path: filepath.Join(t.TempDir(), "app.db")}
		return open(t, "sqlite", "file:"+path.EscapedPath()+"?_txlock=immediate&_pragma=busy_timeout(100)&_pragma=journal_mode(WAL)")
	},
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// application is one with two users and their teams.
func application(t *testing.T, kind string, db *sql.DB) inventory.Application {
	t.Helper()
	execute(
		t, db, `CREATE TABLE users (id integer PRIMARY KEY, tenant text, mail text, idp text, active boolean, glass boolean)`,
		`CREATE TABLE members (user_id integer, team text, dir text)`,
		`INSERT INTO users VALUES (1, 't1', 'ada@example.com', 'ada', true, true), (2, NULL, NULL, NULL, true, false), (3, 't1', NULL, NULL, false, false)`,
		`INSERT INTO members VALUES (1, 'g1', 'd1'), (2, NULL, NULL)`,
	)
	return inventory.Application{
		DB: db, Kind: kind, Accounts: `SELECT mail AS "Email", 'x' AS more, idp AS external, tenant, id FROM users WHERE active ORDER BY id`,
		Memberships: `SELECT user_id, team AS group_id, dir AS directory_id FROM members ORDER BY user_id`, Protected: `SELECT id AS whatever FROM users WHERE glass`,
	}
}

// listed is a sink that keeps everything.
type listed struct {
	IDs         []string
	Accounts    []inventory.Account
	Memberships []inventory.Membership
	during      func()
}

func (l *listed) Protected(id string)               { l.IDs = append(l.IDs, id) }
func (l *listed) Membership(m inventory.Membership) { l.Memberships = append(l.Memberships, m) }
func (l *listed) Account(a inventory.Account) {
	l.Accounts = append(l.Accounts, a)
	if l.during != nil {
		l.during()
	}
}

func onBoth(t *testing.T, test func(t *testing.T, kind string, db *sql.DB)) {
	t.Helper()
	for kind, open := range databases {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind, open(t))
		})
	}
}

func TestColumnsAreReadByNameAsText(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kind string, db *sql.DB) {
		a := application(t, kind, db)
		var got listed
		if err := a.Read(t.Context(), &got); err != nil {
			t.Fatalf("Read() = %v", err)
		}
		want := listed{
			IDs: []string{"1"}, Accounts: []inventory.Account{{ID: "1", Tenant: "t1", Email: "ada@example.com", External: "ada"}, {ID: "2"}},
			Memberships: []inventory.Membership{{User: "1", Group: "g1", Directory: "d1"}, {User: "2"}},
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(listed{})); diff != "" {
			t.Errorf("Read() gave (-want +got):\n%s", diff)
		}
	})
}

func TestIdsOfAnyTypeAreReadAsTheyLook(t *testing.T) {
	t.Parallel()
	const id = "0b6cb2a4-6f3d-4a58-9d5e-2f0f1a7c9f10"
	for kind, expressions := range map[string][]string{
		"postgres": {"'" + id + "'::uuid", "9007199254740993::bigint", "12.50::numeric", "'x'::varchar", "true"},
		"sqlite":   {"'" + id + "'", "9007199254740993", "'12.50'", "CAST('x' AS blob)", "'true'"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var got listed
			a := inventory.Application{DB: databases[kind](t), Kind: kind}
			for _, e := range expressions {
				a.Accounts = "SELECT " + e + " AS id"
				if err := a.Read(t.Context(), &got); err != nil {
					t.Fatalf("Read() of %s = %v", e, err)
				}
			}
			want := []inventory.Account{{ID: id}, {ID: "9007199254740993"}, {ID: "12.50"}, {ID: "x"}, {ID: "true"}}
			if diff := cmp.Diff(want, got.Accounts); diff != "" {
				t.Errorf("Read() gave (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAListingCannotWrite(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kind string, db *sql.DB) {
		a := application(t, kind, db)
		db.SetMaxOpenConns(1)
		a.Accounts = `DELETE FROM users RETURNING id`
		err := a.Read(t.Context(), &listed{})
		if err == nil || !strings.Contains(err.Error(), "application.inventory.accounts") {
			t.Errorf("Read() of a statement that deletes = %v, want a refusal that names the statement", err)
		}
		var n int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM users`).Scan(&n); err != nil || n != 3 {
			t.Errorf("%d users are left, %v; want 3", n, err)
		}
		execute(t, db, `DELETE FROM users`) // the connection can write again
	})
}

func TestAListingNeitherBlocksWritersNorSeesThem(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kind string, db *sql.DB) {
		a := application(t, kind, db)
		got := listed{during: func() { execute(t, db, `DELETE FROM members`) }}
		if err := a.Read(t.Context(), &got); err != nil || len(got.Memberships) != 2 {
			t.Errorf("Read() = %v with %d memberships, want the 2 of when it began", err, len(got.Memberships))
		}
	})
}

func TestAListingThatCannotBeReadSaysWhy(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kind string, db *sql.DB) {
		whole := application(t, kind, db)
		for name, c := range map[string]struct {
			change func(*inventory.Application)
			want   []string
		}{
			"no id": {
				func(a *inventory.Application) { a.Accounts = `SELECT id AS user_id, mail FROM users` },
				[]string{`application.inventory.accounts gives no column "id"; it gives user_id, mail`, "hint: "},
			},
			"no group": {
				func(a *inventory.Application) { a.Memberships = `SELECT user_id FROM members` },
				[]string{`application.inventory.memberships gives no column "group_id"; it gives user_id`, "hint: "},
			},
			"a null id": {
				func(a *inventory.Application) { a.Accounts = `SELECT NULL AS id` },
				[]string{`application.inventory.accounts: column "id" is null`, "hint: "},
			},
			"no such table": {
				func(a *inventory.Application) { a.Protected = `SELECT id FROM nothing` },
				[]string{"application.protected", "nothing", "hint: "},
			},
		} {
			a := whole
			c.change(&a)
			err := a.Read(t.Context(), &listed{})
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: Read() = %v, want %q in it", name, err, want)
				}
			}
		}
	})
}

func TestReadingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kind string, db *sql.DB) {
		a := application(t, kind, db)
		ctx, cancel := context.WithCancel(t.Context())
		a.Accounts = `WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100000000) SELECT id FROM n`
		if err := a.Read(ctx, &listed{during: cancel}); err == nil {
			t.Error("Read() = nil after its context ended")
		}
		db.SetMaxOpenConns(1)
		execute(t, db, `DELETE FROM users`)
	})
}
