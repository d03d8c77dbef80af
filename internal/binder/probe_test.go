package binder_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
)

func TestWhatAProbeFoundIsLookedAtAgainUntilItIsClean(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		var ahead atomic.Int64
		r.exec(`INSERT INTO app_users (id, email) VALUES (1, 'ada@example.com')`)
		r.exec(`INSERT INTO app_sessions (id, user_id) VALUES (10, 1), (11, 1)`)
		r.start(existing, func(c *binder.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			c.Probes = []binder.Probe{{Name: "sessions", SQL: `SELECT id FROM app_sessions WHERE user_id = @app_id ORDER BY id`}}
		})
		r.fold(joins("ada"))
		r.settle()
		r.fold(leaves("ada"))
		verdict := func() string {
			verdicts, err := r.store.Verdicts(context.WithoutCancel(t.Context()), account("ada"))
			if err != nil {
				t.Fatal(err)
			}
			if len(verdicts) == 0 {
				return ""
			}
			return verdicts[0].Result + " " + verdicts[0].Detail
		}
		r.until("the first verdict", func() bool { return verdict() == "dirty 2 rows: 10, 11" })
		r.exec(`DELETE FROM app_sessions WHERE id = 10`)
		ahead.Store(int64(2 * time.Minute))
		r.until("the second verdict", func() bool { return verdict() == "dirty 1 row: 11" })
		r.exec(`DELETE FROM app_sessions`)
		ahead.Store(int64(10 * time.Minute))
		r.until("the last verdict", func() bool { return verdict() == "clean " })
	})
}
