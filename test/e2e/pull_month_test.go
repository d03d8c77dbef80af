package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/test/rig"
)

// A month of joiners, movers and leavers goes by in less than half a minute. Webhooks overtake each other over three minutes of that month
// and, because those would be a blink of it, over seconds of ours, which are days of it.
func TestAMonthOfLostRepeatedAndDisorderedWebhooksComesToWhatTheProviderHolds(t *testing.T) {
	t.Parallel()
	const people, groups, days, played, disorder = 5_000, 200, 30, 20 * time.Second, 3 * time.Second
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 21, Now: time.Now})
	p := newPulled(t, world, rig.Options{})
	process := p.Serve(t, "receiver,worker")
	process.AwaitReady(t)

	hooks := &simulator.Webhooks{
		World: world, Sender: p.Sender(t, rig.NewSpread(process)),
		Faults: simulator.Faults{Seed: 21, Lost: 0.2, Repeated: 0.1, Reorder: disorder},
	}
	sent, happened := make(chan error, 1), make(chan struct{})
	go func() {
		_, err := hooks.Run(t.Context(), happened)
		sent <- err
	}()
	of := world.FirstSync(people, groups, 3)
	plays(t, simulator.NewTraffic(world, days, simulator.PerDay(people), 21), days, played, func() { close(happened) })
	if err := <-sent; err != nil {
		t.Fatalf("the webhooks: %v", err)
	}
	told := hooks.Stats()
	t.Logf("%d events, %d webhooks lost, %d repeated", told.Events, told.Lost, told.Repeated)
	if told.Lost < told.Events*19/100 || told.Repeated < told.Events*7/100 {
		t.Errorf("of %d webhooks %d were lost and %d repeated, want 20 %% and 8 %%", told.Events, told.Lost, told.Repeated)
	}

	p.converges(t)
	if n := p.Count(t, `SELECT count(*) FROM rollcall.events WHERE origin = 'poll'`); n < told.Lost {
		t.Errorf("%d events came from the log, want the %d at least whose webhooks were lost", n, told.Lost)
	}
	code, out, talk := p.Command(t, "reconcile", "plan", of)
	if code != 0 || !strings.Contains(talk, "nothing differs") {
		t.Errorf("reconcile plan: exit code %d, want 0, and nothing that differs\n%s%s", code, out, talk)
	}
	if n := p.Count(t, `SELECT count(*) FROM rollcall.dead_events`); n != 0 {
		t.Errorf("%d events were parked, want none", n)
	}
}
