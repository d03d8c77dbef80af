package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

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
