package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// opened is a store whose database a test may change.
type opened struct{ *postgres.Store }

func (o opened) Exec(ctx context.Context, statement string) error {
	_, err := o.Reader.DB.ExecContext(ctx, fmt.Sprintf(statement, "rollcall."))
	return err
}

var backend = storetest.Backend{
	Place: testenv.Database,
	Open: func(t testing.TB, place string, c store.Config) store.Store {
		t.Helper()
		c.DSN = place
		s, err := postgres.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return opened{s}
	},
	Parallel: true,
}

func TestPostgreSQLKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, backend)
}

func TestDataThatPostgreSQLRefusesIsTheEventsFault(t *testing.T) {
	t.Parallel()
	s := backend.Open(t, backend.Place(t), store.Config{Environment: "test"})
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, id := range map[string]string{"NUL": "event\x00", "invalid UTF-8": "event\xff"} {
		err := s.Update(t.Context(), []directory.Scope{{Source: "workos", Directory: "d"}}, func(ctx context.Context, tx store.Tx) error {
			return tx.Save(ctx, store.Batch{Ledger: []store.Entry{{EventKey: store.EventKey{Source: "workos", ID: id}}}})
		})
		if !errors.Is(err, store.ErrData) {
			t.Errorf("%s: Update() = %v, want ErrData", what, err)
		}
	}
}

func TestSchemaTroubleIsNeverTheEventsFault(t *testing.T) {
	t.Parallel()
	s := backend.Open(t, backend.Place(t), store.Config{Environment: "test"})
	err := s.Update(t.Context(), nil, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Ledger: []store.Entry{{EventKey: store.EventKey{Source: "workos", ID: "event_1"}}}})
	})
	if err == nil || errors.Is(err, store.ErrData) || errors.Is(err, store.ErrConflict) {
		t.Errorf("Update() without a schema = %v, want trouble of the database", err)
	}
}

func TestMalformedDSNIsNeverShown(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(t.Context(), store.Config{DSN: "postgres://rollcall:hunter2@[bad/db"})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("Open() = %v, want a hint and no password", err)
	}
}

func BenchmarkFold(b *testing.B) { storetest.BenchmarkFold(b, backend) }
