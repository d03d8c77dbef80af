package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/test/rig"
)

// Both processes receive and fold. A partition stays with the worker that has it, so whoever came first has all of
// them: that one is killed, twice, while it folds and while senders wait for its answers. The senders try again, as
// providers do, and may reach the other process then.
func TestTwentyThousandShuffledDeliveriesWithAKilledWorker(t *testing.T) {
	t.Parallel()
	const total = 20_000
	site := rig.New(t, rig.Options{})
	world, deliveries := simulated(total)
	processes := []*rig.Process{site.Serve(t, "receiver,worker"), site.Serve(t, "receiver,worker")}
	spread := rig.NewSpread(processes...)
	sender := site.Sender(t, spread)
	sender.Seed, sender.Repeat, sender.Window = 5, 0.2, 4000

	sent := sending(t, sender, deliveries)
	for _, share := range []int{40, 70} {
		rig.Until(t, fmt.Sprintf("%d %% of the events in the ledger", share), func() bool {
			return site.Ledger(t) >= len(deliveries)*share/100
		})
		i := busiest(t, processes)
		processes[i].Kill()
		at := site.Ledger(t)
		if at >= len(deliveries) {
			t.Fatalf("all %d events were folded when the worker was killed; it was to be killed midway", at)
		}
		t.Logf("process %d killed with %d of %d events in the ledger", i, at, len(deliveries))
		processes[i] = site.Serve(t, "receiver,worker")
		spread.Set(processes...)
	}
	t.Log(sent())
	mustMatch(t, site, world, deliveries)
}

// sending begins to send, and returns what waits for the end of it.
func sending(t *testing.T, sender *simulator.Sender, deliveries []simulator.Delivery) (wait func() simulator.Stats) {
	t.Helper()
	var stats simulator.Stats
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		stats, err = sender.Send(t.Context(), deliveries)
	}()
	t.Cleanup(func() { <-done })
	return func() simulator.Stats {
		t.Helper()
		if <-done; err != nil {
			t.Fatalf("Send() = %v: %v", stats, err)
		}
		return stats
	}
}

// simulated is what happened in sixteen companies until it took so many deliveries to tell. It lies in the past: what
// is of the future would wait for its time.
func simulated(atLeast int) (*simulator.Directory, []simulator.Delivery) {
	d, deliveries := simulator.New(simulator.Config{Seed: 11, Directories: 16, People: 40, Groups: 6, Start: time.Now().Add(-24 * time.Hour)})
	for len(deliveries) < atLeast {
		deliveries = append(deliveries, d.Step()...)
	}
	return d, deliveries
}

// busiest returns which of the processes holds most partitions.
func busiest(t *testing.T, processes []*rig.Process) int {
	t.Helper()
	at, most := 0, 0.0
	for i, p := range processes {
		if n := p.Metric(t, "rollcall_worker_partitions"); n > most {
			at, most = i, n
		}
	}
	if most == 0 {
		t.Fatal("no worker holds a partition")
	}
	return at
}

func eachEventIsInTheLedgerOnce(t *testing.T, site *rig.Site, deliveries []simulator.Delivery) {
	t.Helper()
	entries, err := site.Store.Events(t.Context(), store.EventFilter{Limit: 2 * len(deliveries)})
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(deliveries) {
		t.Errorf("the ledger holds %d events, want %d", len(entries), len(deliveries))
	}
	outcomes := map[string]store.Outcome{}
	for _, e := range entries {
		if outcomes[e.ID] != "" {
			t.Errorf("event %s is in the ledger twice", e.ID)
		}
		outcomes[e.ID] = e.Outcome
	}
	for _, d := range deliveries {
		if o := outcomes[d.ID]; o != store.Applied && o != store.Superseded {
			t.Errorf("event %s (%s) came to %q, want applied or superseded", d.ID, d.Summary, o)
		}
	}
}

// noChangeIsTwice checks that no event caused the same change twice, and that whoever knew nothing but the changes would
// know what is.
func noChangeIsTwice(t *testing.T, site *rig.Site) {
	t.Helper()
	twice := site.Count(t, `SELECT count(*) FROM (
		SELECT 1 FROM rollcall.changes GROUP BY source, directory, event, kind, account_key, group_id HAVING count(*) > 1) doubled`)
	if twice > 0 {
		t.Errorf("%d changes are there more than once", twice)
	}
	if diff := cmp.Diff(directorytest.Active(dump(t, site)), directorytest.Replay(changes(t, site))); diff != "" {
		t.Errorf("the accounts and grants, and what the changes come to (-want +got):\n%s", diff)
	}
}
