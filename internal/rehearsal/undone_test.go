package rehearsal

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/rollcallhq/rollcall/internal/testenv"
)

func databases(t *testing.T) map[string]*sql.DB {
	t.Helper()
	out := map[string]*sql.DB{}
	for name, where := range map[string][2]string{
		"postgres": {"pgx", testenv.Database(t)}, "sqlite": {"sqlite", "file:" + filepath.Join(t.TempDir(), "app.db")},
	} {
		db, err := sql.Open(where[0], where[1])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		out[name] = db
	}
	return out
}

func TestNothingThatARehearsalDoesStays(t *testing.T) {
	t.Parallel()
	for name, db := range databases(t) {
		t.Run(name, func(t *testing.T) {
			must := func(s interface {
				Exec(string, ...any) (sql.Result, error)
			}, text string, args ...any) {
				t.Helper()
				if _, err := s.Exec(text, args...); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
			count := func(s interface {
				QueryRow(string, ...any) *sql.Row
			}) (n int) {
				t.Helper()
				if err := s.QueryRow(`SELECT count(*) FROM people`).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			must(db, `CREATE TABLE people (id int)`)
			within, end, err := undone(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			kept, err := within.Begin()
			if err != nil {
				t.Fatal(err)
			}
			must(kept, `INSERT INTO people VALUES ($1)`, 1)
			if err := kept.Commit(); err != nil {
				t.Fatal(err)
			}
			failed, err := within.Begin()
			if err != nil {
				t.Fatal(err)
			}
			must(failed, `INSERT INTO people VALUES ($1)`, 2)
			if _, err := failed.Exec(`INSERT INTO nowhere VALUES (1)`); err == nil {
				t.Fatal("a table that is not there took a row")
			}
			if err := failed.Rollback(); err != nil {
				t.Fatal(err)
			}
			if n := count(within); n != 1 {
				t.Errorf("%d people within, want the one of the transaction that was committed", n)
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if n := count(db); n != 0 {
				t.Errorf("%d people stayed, want none", n)
			}
		})
	}
}
