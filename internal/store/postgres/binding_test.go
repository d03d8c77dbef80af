package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

func migrated(t testing.TB, dsn string) opened {
	t.Helper()
	s := backend.Open(t, dsn, store.Config{Environment: "test", MaxConns: 6}).(opened)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

const newChange = `INSERT INTO rollcall.changes (at, source, directory, kind, account_key, group_id, event, occurred)
	VALUES (now(), 'workos', $1, 'account.activated', $2, '', 'event', now())`

// fed reads all that there is behind the cursor.
func (o opened) fed(t *testing.T, cursor string) (accounts []string, next string) {
	t.Helper()
	rows, err := o.Feed(t.Context(), cursor, 1000)
	if err != nil {
		t.Fatalf("Feed(%q) = %v", cursor, err)
	}
	next = cursor
	for _, r := range rows {
		accounts, next = append(accounts, r.Account), r.Cursor
	}
	return accounts, next
}

func TestFeedNeverPassesAnOpenTransaction(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t) // its own: other tests' transactions hold a feed back, too
	s := migrated(t, server.Database(t))
	ctx := t.Context()
	slow, err := s.Write.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Rollback() }()
	if _, err := slow.ExecContext(ctx, newChange, "acme", "slow"); err != nil { // it has the first number
		t.Fatal(err)
	}
	if _, err := s.Write.ExecContext(ctx, newChange, "bolt", "fast"); err != nil {
		t.Fatal(err)
	}
	got, cursor := s.fed(t, "")
	if len(got) != 0 {
		t.Errorf("beside an open transaction the feed says %v, want nothing: what it wrote would be passed", got)
	}
	if err := slow.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, cursor = s.fed(t, cursor); strings.Join(got, " ") != "slow fast" {
		t.Errorf("afterwards the feed says %v, want both", got)
	}

	// Another that rolls back is waited for, and passed.
	lost, err := s.Write.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lost.ExecContext(ctx, newChange, "acme", "lost"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write.ExecContext(ctx, newChange, "bolt", "next"); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.fed(t, cursor); len(got) != 0 {
		t.Errorf("beside an open transaction the feed says %v, want nothing", got)
	}
	if err := lost.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.fed(t, cursor); strings.Join(got, " ") != "next" {
		t.Errorf("after a rollback the feed says %v, want what was committed", got)
	}
}

// A backup brings the numbers of another cluster's transactions, which this one may reach in years.
func TestFeedTakesOverWhatARestoreBrought(t *testing.T) {
	t.Parallel()
	s := migrated(t, testenv.Postgres(t).Database(t))
	ctx := t.Context()
	for n := range 4 {
		if _, err := s.Write.ExecContext(ctx, newChange, "acme", fmt.Sprint("a", n)); err != nil {
			t.Fatal(err)
		}
	}
	_, cursor := s.fed(t, "")
	if _, err := s.Write.ExecContext(ctx, `UPDATE rollcall.changes SET tx = '4000000000000000000' WHERE account_key IN ('a2', 'a3')`); err != nil {
		t.Fatal(err)
	}
	got, _ := s.fed(t, "")
	if strings.Join(got, " ") != "a0 a1 a2 a3" {
		t.Errorf("after a restore the feed says %v, want all in order", got)
	}
	if got, _ := s.fed(t, cursor); strings.Join(got, " ") != "a2 a3" {
		t.Errorf("behind a cursor that is less the feed says %v, want what was taken over", got)
	}
	if _, err := s.Feed(ctx, "400000000000000000-4", 10); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("Feed() from the other cluster's cursor = %v, want ErrNotFound with a hint", err)
	}
}

func TestMarksAreMadeBesideTheApplicationsTables(t *testing.T) {
	t.Parallel()
	s := backend.Open(t, backend.Place(t), store.Config{Environment: "test"}).(opened) // not migrated: it is an application's
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = postgres.Marks().Create(t.Context(), s.Write) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Create() of several = %v", err)
	}
	if err := postgres.Marks().Add(t.Context(), s.Write, []store.Mark{{Seq: 1, Binding: "create"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate() beside them = %v, want nil: they may share a database later", err)
	}
	if got, err := postgres.Marks().Of(t.Context(), s.Write, []int64{1}); err != nil || len(got) != 1 {
		t.Errorf("Of() = %v, %v, want one", got, err)
	}
}

func TestMarksThatMayNotBeMadeSayHow(t *testing.T) {
	t.Parallel()
	s := backend.Open(t, backend.Place(t), store.Config{Environment: "test", MaxConns: 1}).(opened)
	role := fmt.Sprint("weak_", time.Now().UnixNano())
	for _, statement := range []string{`CREATE ROLE ` + role, `SET ROLE ` + role} {
		if _, err := s.Write.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	err := postgres.Marks().Create(t.Context(), s.Write)
	if err == nil || !strings.Contains(err.Error(), "hint:") || !strings.Contains(err.Error(), "CREATE TABLE IF NOT EXISTS rollcall.bound") {
		t.Errorf("Create() = %v, want the SQL", err)
	}
	if _, err := s.Write.ExecContext(context.WithoutCancel(t.Context()), `RESET ROLE`); err != nil {
		t.Fatal(err)
	}
}

// backlog is a directory with 100,000 waiting changes and five others with ten each.
func backlog(b *testing.B) opened {
	b.Helper()
	s := migrated(b, testenv.Database(b))
	for _, statement := range []string{
		`INSERT INTO rollcall.modes SELECT 'workos', d, 'enforce', now(), '', '' FROM unnest('{acme,b1,b2,b3,b4,b5}'::text[]) d`,
		`INSERT INTO rollcall.changes (at, source, directory, kind, account_key, group_id, event, occurred)
			SELECT now(), 'workos', 'acme', CASE WHEN n % 2 = 0 THEN 'account.activated' ELSE 'grant.added' END, 'account' || n / 2, CASE WHEN n % 2 = 0 THEN '' ELSE 'eng' END, 'e', now()
			FROM generate_series(0, 99999) n`,
		`INSERT INTO rollcall.changes (at, source, directory, kind, account_key, group_id, event, occurred)
			SELECT now(), 'workos', 'b' || n % 5 + 1, 'account.deactivated', 'account' || n, '', 'e', now() FROM generate_series(0, 49) n`,
	} {
		if _, err := s.Write.ExecContext(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// BenchmarkLanes asks for lanes of a backlog: as it waits, and when everybody's first change has failed.
func BenchmarkLanes(b *testing.B) {
	for name, failing := range map[string]bool{"waiting": false, "failing": true} {
		b.Run(name, func(b *testing.B) {
			s := backlog(b)
			if failing {
				if _, err := s.Write.ExecContext(b.Context(), `UPDATE rollcall.changes SET bound_attempts = 1, bound_next = '2100-01-01' WHERE directory = 'acme' AND kind = 'account.activated'`); err != nil {
					b.Fatal(err)
				}
			}
			lanes := func() {
				lanes, _, err := s.Lanes(b.Context(), store.Bound, time.Now(), 256)
				if err != nil || len(lanes[store.Removals]) != 50 {
					b.Fatalf("Lanes() = %d removals, %v, want all", len(lanes[store.Removals]), err)
				}
			}
			for range 160 { // what waits behind failures is put off once
				lanes()
			}
			if _, err := s.Write.ExecContext(b.Context(), `VACUUM ANALYZE rollcall.changes`); err != nil { // as autovacuum does after so many updates
				b.Fatal(err)
			}
			for b.Loop() {
				lanes()
			}
		})
	}
}

// BenchmarkBind does what is written and read of 64 lanes in one transaction, but for the application's own SQL.
func BenchmarkBind(b *testing.B) {
	s := backlog(b)
	ctx, changes := b.Context(), 0
	for b.Loop() {
		found, _, err := s.Lanes(ctx, store.Bound, time.Now(), 64)
		if err != nil {
			b.Fatal(err)
		}
		lanes := slices.Concat(found[:]...)
		lanes = lanes[:min(64, len(lanes))]
		tx, err := s.Write.BeginTx(ctx, nil)
		if err != nil {
			b.Fatal(err)
		}
		waiting, err := s.Waiting(ctx, tx, store.Bound, lanes)
		var done []store.Done
		var marks []store.Mark
		var seqs []int64
		for _, w := range waiting {
			done, seqs = append(done, store.Done{Seq: w.Seq, Result: store.ResultBound, Digest: "abc"}), append(seqs, w.Seq)
			marks = append(marks, store.Mark{Seq: w.Seq, Binding: "create"})
		}
		_, linkErr := s.LinksOf(ctx, tx, lanes)
		_, markErr := s.Marks(ctx, tx, seqs)
		if err := errors.Join(err, linkErr, markErr, s.Mark(ctx, tx, marks), s.Settle(ctx, tx, store.Bound, done, nil, true), tx.Commit()); err != nil {
			b.Fatal(err)
		}
		changes += len(done)
	}
	b.ReportMetric(float64(changes)/b.Elapsed().Seconds(), "changes/s")
}
