package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

// opened is a store whose database a test may change.
type opened struct{ *sqlite.Store }

func (o opened) Exec(ctx context.Context, statement string) error {
	_, err := o.Migrator.DB.ExecContext(ctx, fmt.Sprintf(statement, ""))
	return err
}

var backend = storetest.Backend{
	Place: func(t testing.TB) string { return filepath.Join(t.TempDir(), "rollcall #1?.db") }, // a path is not a URL
	Open: func(t testing.TB, place string, c store.Config) store.Store {
		t.Helper()
		c.DSN = place
		s, err := sqlite.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return opened{s}
	},
}

func TestSQLiteKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, backend)
	storetest.RunReconciling(t, backend)
	storetest.RunBinding(t, backend, func(s store.Store) *sql.DB { return s.(opened).Write })
	storetest.RunPulling(t, backend)
	storetest.RunConverging(t, backend)
}

func BenchmarkFold(b *testing.B) { storetest.BenchmarkFold(b, backend) }

func TestAnApplicationThatIsOpenedToBeReadCannotBeWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	if _, err := sqlite.OpenReadOnly(t.Context(), path, time.Second); err == nil || !strings.Contains(err.Error(), "\nhint: ") {
		t.Errorf("OpenReadOnly() of no file = %v, want what to do", err)
	}
	owner, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Close() })
	if _, err := owner.ExecContext(t.Context(), `CREATE TABLE people (id integer)`); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.OpenReadOnly(t.Context(), path, time.Second)
	if err != nil {
		t.Fatalf("OpenReadOnly() = %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, statement := range []string{`INSERT INTO people VALUES (1)`, `PRAGMA query_only = OFF; INSERT INTO people VALUES (1)`, `CREATE TABLE more (id integer)`} {
		if _, err := db.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("%s = nil through what is opened to be read", statement)
		}
	}
	var n int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM people`).Scan(&n); err != nil || n != 0 {
		t.Errorf("there are %d people, %v", n, err)
	}
}
