package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// The backup is an hour old, and the queue remembers all that came since: by webhooks half of it, and the rest from the log. Nobody but the
// log has it still.
func TestADatabaseThatIsPutBackToABackupIsFilledAgainFromTheLog(t *testing.T) {
	t.Parallel()
	for name, stopped := range map[string]bool{"while nobody works": true, "while a worker runs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Postgres(t)
			world := simulator.NewWorld(simulator.WorldConfig{Seed: 24, Start: time.Now().Add(-2 * time.Hour)})
			p := newPulled(t, world, rig.Options{DSN: server.Database(t)})
			process := p.Serve(t, "receiver,worker")
			world.FirstSync(300, 10, 3)
			p.converges(t)
			restore := server.Backup(t)
			before := world.Events()

			traffic := simulator.NewTraffic(world, 1, 120, 24)
			for traffic.Done() < traffic.Len() {
				world.Advance(time.Hour / time.Duration(traffic.Len()))
				traffic.Step()
			}
			hour := slices.Collect(world.Deliveries(before))
			for i, d := range hour {
				if i%2 == 0 {
					awaitAccepted(t, p.Site, process, d)
				}
			}
			p.converges(t)

			if stopped {
				process.Kill()
			}
			restore()
			if stopped {
				if n := p.Ledger(t); n != before {
					t.Fatalf("the ledger of the backup holds %d events, want %d", n, before)
				}
				process = p.Serve(t, "receiver,worker")
			}
			const forced = `rollcall_poll_events_total{source="workos",what="forced"}`
			rig.Until(t, "what the database lacks is forced into the queue", func() bool {
				n, _ := process.Shows(t, forced)
				return n >= float64(len(hour))
			})
			p.converges(t)
			if n := p.Count(t, `SELECT count(*) FROM rollcall.dead_events`); n != 0 {
				t.Errorf("%d events were parked, want none", n)
			}
		})
	}
}
