package binder_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
)

// BenchmarkBind binds changes of two statements each: of people who are known, and of people whom the binding makes and who
// are looked up before and after. It reports changes a second.
func BenchmarkBind(b *testing.B) {
	for _, place := range []string{"PostgreSQL, in one database", "PostgreSQL, in two databases", "SQLite, in one file"} {
		b.Run(place+"/no links", func(b *testing.B) {
			benchmark(b, place, func(c *binder.Config) {
				c.Link = nil
				c.Bindings = []binder.Binding{{Name: "both", On: everyKind, Statements: []string{
					`INSERT INTO effects (seq, kind, account) VALUES (CAST(@seq AS integer), @change, @account)`, `UPDATE app_users SET name = @name WHERE external_id = @account`,
				}}}
			})
		})
		b.Run(place+"/newcomers", func(b *testing.B) { benchmark(b, place, func(*binder.Config) {}) })
	}
}

func benchmark(b *testing.B, place string, change func(c *binder.Config)) {
	r := places[place](b)
	r.exec(`CREATE UNIQUE INDEX app_users_external ON app_users (external_id)`)
	var events []directory.Event
	for i := range b.N {
		events = append(events, joins(fmt.Sprint("person", i), in(fmt.Sprint("directory_", i%10))))
	}
	r.fold(events...)
	b.ResetTimer()
	_, stop := r.start(change, func(c *binder.Config) {
		c.Log, c.Registerer, c.Poll = c.Log.Level(zerolog.WarnLevel), prometheus.NewRegistry(), 0
	})
	r.until("nothing that waits", func() bool { return r.waiting() == 0 })
	b.StopTimer()
	stop()
	b.ReportMetric(float64(b.N+10)/b.Elapsed().Seconds(), "changes/s")
}
