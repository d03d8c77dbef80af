package e2e

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// effects is an application that writes down what it is told, in the order in which it takes effect, and a binding that
// does so for every change of accounts and grants, with two statements each.
const effects = `CREATE SCHEMA app;
	CREATE TABLE app.effects (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seq bigint NOT NULL, kind text NOT NULL, who text NOT NULL);
	CREATE TABLE app.counts (seq bigint PRIMARY KEY, times int NOT NULL)`

func writesItDown(dsn string) map[string]any {
	return map[string]any{
		"dsn": dsn, "mode": "enforce",
		"bindings": []any{map[string]any{"on": []string{"account.*", "grant.*"}, "name": "write-it-down", "sql": []string{
			`INSERT INTO app.effects (seq, kind, who) VALUES (@seq::bigint, @change, @source || '/' || @directory_id || '/' || @account)`,
			`INSERT INTO app.counts (seq, times) VALUES (@seq::bigint, 1) ON CONFLICT (seq) DO UPDATE SET times = counts.times + 1`,
		}}},
	}
}

// Three processes bind at once and are killed, one after the other, in the middle of it, again and again.
func TestEachChangeTakesEffectOnceThoughBindersAreKilled(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"in the same database", "in another database"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			const least = 10_000
			dsn := testenv.Database(t)
			application, where := dsn, ""
			if place == "in another database" {
				application = testenv.Database(t)
				where = application
			}
			db := openApplication(t, application)
			site := rig.New(t, rig.Options{DSN: dsn, Application: writesItDown(where)})
			_, deliveries := simulated(14_000)
			processes := []*rig.Process{site.Serve(t, "receiver,worker"), site.Serve(t, "receiver,worker"), site.Serve(t, "receiver,worker")}
			spread := rig.NewSpread(processes...)
			sender := site.Sender(t, spread)
			sender.Seed, sender.Repeat, sender.Window = 7, 0.1, 1000
			sent := sending(t, sender, deliveries)

			random := rand.New(rand.NewPCG(1, 2))
			for share := 1; share <= 8; share++ {
				rig.Until(t, fmt.Sprintf("%d changes took effect", share*1000), func() bool { return count(t, db, `SELECT count(*) FROM app.counts`) >= share*1000 })
				i := random.IntN(len(processes))
				processes[i].Kill()
				processes[i] = site.Serve(t, "receiver,worker")
				spread.Set(processes...)
			}
			t.Log(sent())
			site.Settle(t)
			rig.Until(t, "no change waits", func() bool { return site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE bound_at IS NULL`) == 0 })

			if n := site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE kind ~ '^(account|grant)'`); n < least {
				t.Errorf("%d changes, which is less than the %d that this test is about", n, least)
			}
			eachTookEffectOnce(t, site, db)
		})
	}
}

// eachTookEffectOnce compares what the application wrote down with what the changes say of themselves.
func eachTookEffectOnce(t *testing.T, site *rig.Site, db *sql.DB) {
	t.Helper()
	if n := count(t, db, `SELECT count(*) FROM app.counts WHERE times <> 1`); n > 0 {
		t.Errorf("%d changes took effect more than once", n)
	}
	if n := count(t, db, `SELECT count(*) FROM (SELECT seq < lag(seq) OVER (PARTITION BY who ORDER BY n) AS back FROM app.effects) o WHERE back`); n > 0 {
		t.Errorf("%d changes took effect before an earlier one of their account", n)
	}
	done := map[int64]string{}
	rows, err := site.Store.Reader.DB.QueryContext(t.Context(), `SELECT seq, bound_result FROM rollcall.changes WHERE kind ~ '^(account|grant)'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var seq int64
		var result string
		if err := rows.Scan(&seq, &result); err != nil {
			t.Fatal(err)
		}
		done[seq] = result
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	told := map[int64]bool{}
	effects, err := db.Query(`SELECT seq FROM app.counts`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = effects.Close() }()
	for effects.Next() {
		var seq int64
		if err := effects.Scan(&seq); err != nil {
			t.Fatal(err)
		}
		told[seq] = true
	}
	if err := effects.Err(); err != nil {
		t.Fatal(err)
	}
	results := map[string]int{}
	for seq, result := range done {
		results[result]++
		if told[seq] != (result == "bound") {
			t.Errorf("change %d is %q, and took effect: %t", seq, result, told[seq])
		}
	}
	t.Log(results)
	if results["bound"]+results["skipped"] != len(done) || results["bound"] == 0 {
		t.Errorf("results %v, want only bound, and skipped by a removal", results)
	}
}

func openApplication(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), effects); err != nil {
		t.Fatal(err)
	}
	return db
}

func count(t testing.TB, db *sql.DB, text string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), text).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// busy is what may take a second, on a machine that has much else to do. How long it takes, BenchmarkReceiveToBound says.
const busy = 10 * time.Second

// The whole way, from a delivery over HTTPS to the application's own tables.
func TestALeaversAccessIsGoneInTheApplicationSoon(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	db := openApplication(t, dsn)
	site := rig.New(t, rig.Options{DSN: dsn, Application: writesItDown("")})
	process := site.Serve(t, "receiver,worker")
	world, joined := company(3, 5)
	accepted(t, site, process, joined)
	rig.Until(t, "everybody who joined is told", func() bool {
		return count(t, db, `SELECT count(*) FROM app.effects WHERE kind = 'account.activated'`) == site.Count(t, `SELECT count(*) FROM rollcall.active_accounts`)
	})
	before := count(t, db, `SELECT count(*) FROM app.effects WHERE kind = 'account.deactivated'`)
	accepted(t, site, process, world.Leave())
	left := time.Now()
	rig.Until(t, "the leaver is told", func() bool {
		return count(t, db, `SELECT count(*) FROM app.effects WHERE kind = 'account.deactivated'`) > before
	})
	if took := time.Since(left); took > busy {
		t.Errorf("it took %s after the delivery was taken, want less than %s", took, busy)
	}
}
