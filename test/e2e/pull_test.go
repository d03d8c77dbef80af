package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// What a process that was killed held of the log comes back by itself half a minute later. Here that time is taken to be over at once, so
// that it can be killed often.
func TestAWorkerThatIsKilledWhileItPollsPassesOverNothing(t *testing.T) {
	t.Parallel()
	const kills = 6
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 22, Now: time.Now, Double: 0.02})
	dsn := testenv.Database(t)
	p := newPulled(t, world, rig.Options{DSN: dsn, Set: []string{withoutHooks}})
	db := openApplication(t, dsn)
	world.FirstSync(1_000, 20, 3)
	played := make(chan struct{})
	plays(t, simulator.NewTraffic(world, 30, 50, 22), 30, 20*time.Second, func() { close(played) })

	random := rand.New(rand.NewPCG(22, uint64(time.Now().UnixNano())))
	for n := range kills {
		process := p.Serve(t, workerAlone)
		from, more := p.Ledger(t), 1+random.IntN(world.Events()/(kills+2))
		rig.Until(t, fmt.Sprintf("%d events more than %d in the ledger", more, from), func() bool { return p.Ledger(t) >= min(from+more, world.Events()) })
		process.Kill()
		t.Logf("kill %d with %d of %d events in the ledger", n+1, p.Ledger(t), world.Events())
		if _, err := db.ExecContext(t.Context(), `UPDATE rollcall.poll_cursors SET held_until = now()`); err != nil {
			t.Fatal(err)
		}
	}
	p.Serve(t, workerAlone)
	<-played
	p.converges(t)
	if at := p.poll(t); at.Restarts != 0 || at.Error != "" {
		t.Errorf("the log was begun anew %d times, and its trouble is %q, want neither", at.Restarts, at.Error)
	}
}

func TestOfTwoWorkersOneReadsTheLogAndTheOtherTakesOverWhenItIsKilled(t *testing.T) {
	t.Parallel()
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 23, Now: time.Now})
	p := newPulled(t, world, rig.Options{Set: []string{withoutHooks}})
	reader, other := p.Serve(t, workerAlone), p.Serve(t, workerAlone)
	active := func(of *rig.Process) bool {
		n, _ := of.Shows(t, `rollcall_poll_active{source="workos"}`)
		return n == 1
	}
	rig.Until(t, "one of them reads the log", func() bool { return active(reader) || active(other) })
	if active(other) {
		reader, other = other, reader
	}
	world.FirstSync(800, 10, 3)
	traffic := simulator.NewTraffic(world, 10, 20, 23)
	for traffic.Done() < traffic.Len()/2 {
		traffic.Step()
	}
	p.converges(t)
	for range 3 {
		p.reads(t)
	}
	if told := p.api.Stats().Events; told != world.Events() {
		t.Errorf("the provider told of %d events when its log had %d, want each told once", told, world.Events())
	}
	if !active(reader) || active(other) {
		t.Errorf("the one reads the log: %t, and the other: %t, want the one alone", active(reader), active(other))
	}

	reader.Kill()
	for traffic.Done() < traffic.Len() {
		traffic.Step()
	}
	p.converges(t)
	if !active(other) {
		t.Error("the other one does not say that it reads the log")
	}
	if told := p.api.Stats().Events; told > world.Events()+400 {
		t.Errorf("the provider told of %d events when its log had %d, want no more than four pages told twice", told, world.Events())
	}
}

// Where we are it is ten minutes later than where the provider is. What it tells is as old, whenever it tells it.
func TestWithOurClockTenMinutesAheadTheLogIsReadAndNoDirectoryIsCompared(t *testing.T) {
	t.Parallel()
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 25, Now: func() time.Time { return time.Now().Add(-10 * time.Minute) }})
	p := newPulled(t, world, rig.Options{})
	of := world.FirstSync(150, 5, 3)
	process := p.Serve(t, "receiver,worker", comparing)
	process.AwaitReady(t)
	traffic := simulator.NewTraffic(world, 10, 10, 25)
	for traffic.Done() < traffic.Len() {
		traffic.Step()
	}
	accepted(t, p.Site, process, p.told()[:100])
	p.converges(t)
	if at := p.poll(t); at.Error != "" {
		t.Errorf("the log's trouble is %q, want none", at.Error)
	}

	const why = "the provider's clock and ours are too far apart"
	p.compared(t, of)
	p.says(t, 1, why, "reconcile", "plan", of)
	p.says(t, 5, why, "reconcile", "status")
	p.says(t, 8, of+" was never compared with its whole listing: "+why, "status")
	mustHold(t, p.Site, world.Truth(), p.told())
}
