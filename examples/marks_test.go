package examples_test

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// documentedRights returns what the manual lets somebody run in the application's database who may, for the example in Go: the
// table of marks, and a role with the least rights. The role, which is the whole cluster's, gets another name.
func documentedRights(t *testing.T, role string) string {
	t.Helper()
	manual, err := os.ReadFile("../docs/BINDINGS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(manual), "```sql\nCREATE SCHEMA rollcall;")
	script, _, ends := strings.Cut(rest, "```")
	if !begins || !ends {
		t.Fatal("docs/BINDINGS.md has no statements that begin with CREATE SCHEMA rollcall")
	}
	return "CREATE SCHEMA rollcall;" + strings.ReplaceAll(script, "rollcall_app", role)
}

// drop takes a role away again, which is not the database's alone.
func (r *rig) drop(role string) {
	_, err := r.db.ExecContext(context.WithoutCancel(r.t.Context()), `DROP OWNED BY `+role+`; DROP ROLE `+role)
	if err != nil {
		r.t.Error(err)
	}
}

// looks is how a table looks to PostgreSQL: its columns, and what is unique.
func looks(t *testing.T, db *sql.DB, table string) (lines []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `
		SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.collname)
		FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::regclass AND contype IN ('p', 'u') ORDER BY 1`, table)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestTheDocumentedTableOfMarksIsTheOneThatIsMade(t *testing.T) {
	t.Parallel()
	var tables [2][]string
	for i := range tables {
		db, err := sql.Open("pgx", testenv.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		if i == 0 {
			err = postgres.Marks().Create(t.Context(), db)
		} else {
			table, _, _ := strings.Cut(documentedRights(t, "nobody"), "CREATE ROLE")
			_, err = db.ExecContext(t.Context(), table)
		}
		if err != nil {
			t.Fatal(err)
		}
		tables[i] = looks(t, db, "rollcall.bound")
	}
	if diff := cmp.Diff(tables[0], tables[1]); diff != "" || len(tables[0]) < 6 {
		t.Errorf("docs/BINDINGS.md has another table of marks than the one that is made (-made +documented):\n%s", diff)
	}
}

// The example's bindings do all that they have to with no more than that.
func TestTheDocumentedTableOfMarksAndRightsAreEnough(t *testing.T) {
	t.Parallel()
	r := &rig{example: examples["go"], name: "go", t: t, app: read(t, "go/rollcall.yaml"), links: map[string]string{}}
	dsn := testenv.Database(t)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r.db = db
	role := "least_" + strings.ToLower(time.Now().UTC().Format("20060102T150405.000000000"))
	role = strings.ReplaceAll(role, ".", "_")
	for _, file := range []string{"go/schema.sql", "go/seed.sql"} {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r.exec(string(script))
	}
	r.exec(documentedRights(t, role))
	t.Cleanup(func() { r.drop(role) })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	r.dsn = testenv.Copy(t, "go's own", func(dsn string) error { return r.migrate("store.dsn=" + dsn) }) // the application is somewhere else
	e := r.engine(func(a *config.Application) { a.DSN = config.Sensitive(u.String()) })

	e.tell(isGroup("group-it", "IT"), is(adaKing), is(graceTwo), is(emmyNew), isMember(adaKing, "group-it"), isMember(emmyNew, "group-it"))
	e.isIn(emmyNew, 1, 1)
	e.tell(isGroup("group-it", "Crew"), isNoMember(emmyNew, "group-it"), isNot(adaKing, "inactive"), isNot(graceTwo, "suspended"))
	e.isIn(emmyNew, 0, 0)
	e.isOut(adaKing)
	e.isOut(graceTwo)
	e.tell(is(graceTwo))
	e.isIn(graceTwo, 0, 0)
	if n := e.list(`SELECT count(*) FROM rollcall.bound`, nil); n[0] == "0" {
		t.Error("nothing is marked")
	}
}
