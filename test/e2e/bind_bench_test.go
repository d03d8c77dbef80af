package e2e

import (
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

const (
	perSecond   = 500
	directories = 20
	known       = 200 // people of each directory that are there before
)

// BenchmarkReceiveToBound posts joiners, movers and leavers to a process, five hundred a second whatever it answers, and reports
// how long it took from the beginning of a request until the last of its changes wrote its row at the application's, by
// the database's clock in the second of two statements. Run it with -benchtime=10000x.
func BenchmarkReceiveToBound(b *testing.B) {
	dsn := testenv.Database(b)
	db := application(b, dsn, `CREATE SCHEMA app;
		CREATE TABLE app.accounts (account text PRIMARY KEY, changes bigint NOT NULL);
		CREATE TABLE app.effects (seq bigint PRIMARY KEY, event text NOT NULL, at timestamptz NOT NULL)`)
	site := rig.New(b, rig.Options{DSN: dsn, Set: []string{"log.level=info"}, Application: map[string]any{
		"mode": "enforce",
		"bindings": []any{map[string]any{"on": []string{"account.*", "grant.*"}, "name": "write-it-down", "sql": []string{
			`INSERT INTO app.accounts (account, changes) VALUES (@directory_id || '/' || @account, 1) ON CONFLICT (account) DO UPDATE SET changes = accounts.changes + 1`,
			`INSERT INTO app.effects (seq, event, at) VALUES (@seq::bigint, @event, clock_timestamp())`,
		}}},
	}})
	process := site.Serve(b, "receiver,worker")
	process.AwaitReady(b)
	tellers := make([]*rig.Teller, directories)
	for i := range tellers {
		tellers[i] = rig.NewTeller(fmt.Sprintf("directory_%02d", i), time.Now().Add(-time.Hour))
	}
	bound(b, site, db, paced(b, site, process, before(tellers)))
	deliveries := quarterHour(tellers, b.N)

	b.ResetTimer()
	took := bound(b, site, db, paced(b, site, process, deliveries))
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// before is what there is before: people without groups.
func before(tellers []*rig.Teller) (out []simulator.Delivery) {
	for _, l := range tellers {
		for person := range known {
			out = append(out, l.User(person, "active"))
		}
	}
	return out
}

// quarterHour is somebody who joins, somebody who gets into a group, and somebody who leaves with a group, again and again.
func quarterHour(tellers []*rig.Teller, n int) (out []simulator.Delivery) {
	for i := range n {
		l, person := tellers[i/3%directories], known+i/3/directories
		switch i % 3 {
		case 0:
			out = append(out, l.User(person, "active"))
		case 1:
			out = append(out, l.Joins(person-known/2, 1))
		case 2:
			out = append(out, l.User(person-known, "inactive"))
		}
	}
	return out
}

// paced posts at the pace, each in a goroutine of its own, and returns when each request began.
func paced(b *testing.B, site *rig.Site, p *rig.Process, deliveries []simulator.Delivery) map[string]time.Time {
	b.Helper()
	begun := make(map[string]time.Time, len(deliveries))
	ticker := time.NewTicker(time.Second / perSecond)
	defer ticker.Stop()
	var posting sync.WaitGroup
	for _, d := range deliveries {
		<-ticker.C
		request := site.Request(b, p.URL(), d.Body)
		begun[d.ID] = time.Now()
		posting.Go(func() {
			if a, err := site.Try(request); err != nil || a.Status != http.StatusOK {
				b.Errorf("%s is answered %d %s, %v", d.ID, a.Status, a.Body, err)
			}
		})
	}
	posting.Wait()
	return begun
}

// bound waits until every delivery has its rows, and returns how long each took.
func bound(b *testing.B, site *rig.Site, db *sql.DB, begun map[string]time.Time) (took []time.Duration) {
	b.Helper()
	site.Settle(b)
	rig.Until(b, "everything is bound", func() bool { return unbound(b, site) == 0 })
	rows, err := db.QueryContext(b.Context(), `SELECT event, max(at) FROM app.effects GROUP BY event`)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var event string
		var at time.Time
		if err := rows.Scan(&event, &at); err != nil {
			b.Fatal(err)
		}
		if from, ours := begun[event]; ours {
			took = append(took, at.Sub(from))
		}
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	if len(took) != len(begun) {
		b.Fatalf("%d of %d deliveries took effect", len(took), len(begun))
	}
	return took
}
