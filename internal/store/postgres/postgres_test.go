package postgres_test

import (
	"context"
	"database/sql"
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
	storetest.RunReconciling(t, backend)
	storetest.RunBinding(t, backend, func(s store.Store) *sql.DB { return s.(opened).Write })
	storetest.RunPulling(t, backend)
	storetest.RunConverging(t, backend)
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

// A backlog looks dear to the planner, and compiling the statements that look for what is next would take longer than they do.
func TestNoStatementIsCompiled(t *testing.T) {
	t.Parallel()
	place := testenv.Database(t)
	application, err := postgres.OpenApplication(place, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = application.Close() })
	for name, db := range map[string]*sql.DB{"the store's": backend.Open(t, place, store.Config{}).(opened).Write, "the application's": application} {
		var jit string
		if err := db.QueryRowContext(t.Context(), `SHOW jit`).Scan(&jit); err != nil || jit != "off" {
			t.Errorf("jit of %s connections = %q, %v, want off", name, jit, err)
		}
	}
}

// The tables are young here, and the planner knows nothing of them.
func TestLoadsReadByKeyWhateverATableHolds(t *testing.T) {
	t.Parallel()
	place := backend.Place(t)
	s := backend.Open(t, place, store.Config{Environment: "test", MaxConns: 1})
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	const rounds, count = 30, 100
	for round := range rounds {
		events := people(round, count)
		for i := range events {
			events[i].Directory = "directory_1"
			if events[i].User != nil { // another hundred every time
				events[i].User.ID, events[i].User.IDPID = fmt.Sprintf("%s_%d", events[i].User.ID, round), fmt.Sprintf("%s_%d", events[i].User.IDPID, round)
			} else {
				events[i].Membership.User = fmt.Sprintf("%s_%d", events[i].Membership.User, round)
			}
		}
		if err := storetest.Fold(t.Context(), s, events); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // the server counts what a connection did when it ends
		t.Fatal(err)
	}
	again := backend.Open(t, place, store.Config{Environment: "test"}).(opened)
	var read float64
	for ended := false; !ended; {
		if err := again.Reader.DB.QueryRowContext(t.Context(), `SELECT sum(seq_tup_read + idx_tup_fetch), sum(n_tup_ins) >= $1
			FROM pg_stat_user_tables WHERE schemaname = 'rollcall'`, 2*rounds*count).Scan(&read, &ended); err != nil {
			t.Fatal(err)
		}
	}
	if perEvent := read / (2 * rounds * count); perEvent > 10 {
		t.Errorf("%.0f rows were read for an event, want a few: its own, its user's, its group's", perEvent)
	}
}

func BenchmarkFold(b *testing.B) { storetest.BenchmarkFold(b, backend) }

func TestAnApplicationThatIsOpenedToBeReadCannotBeWritten(t *testing.T) {
	t.Parallel()
	db, err := postgres.OpenReadOnly(testenv.Database(t))
	if err != nil {
		t.Fatalf("OpenReadOnly() = %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE people (id integer)`); err == nil || !strings.Contains(err.Error(), "read-only transaction") {
		t.Errorf("CREATE TABLE = %v through what is opened to be read", err)
	}
	if _, err := postgres.OpenReadOnly("postgres://u:hunter2@[::1/x"); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "\nhint: ") {
		t.Errorf("OpenReadOnly() of a malformed DSN = %v, want what to do and no password", err)
	}
}
