package e2e

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// A leaver's webhook comes twenty minutes late. Whoever asks afterwards, from another process, is told who that was, by which event, and how
// long they kept access.
func TestTheStatusTellsOfTheSlowestLeaver(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	db := openApplication(t, dsn)
	site := rig.New(t, rig.Options{DSN: dsn, Application: writesItDown("")})
	p := site.Serve(t, "receiver,worker")

	const late = 20 * time.Minute
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: time.Now().Add(-late - time.Second)})
	directory := world.FirstSync(3, 1, 1)
	people := world.Active(directory)
	told := slices.Collect(world.Deliveries(0))
	accepted(t, site, p, told)
	site.Settle(t)
	rig.Until(t, "three are in", func() bool {
		return count(t, db, `SELECT count(*) FROM app.effects WHERE kind = 'account.activated'`) == 3
	})
	if !world.Leave(people[1]) {
		t.Fatal("nobody left")
	}
	leave := slices.Collect(world.Deliveries(0))[len(told):]
	accepted(t, site, p, leave)
	rig.Until(t, "the leaver is out", func() bool {
		return site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE kind = 'account.deactivated' AND bound_result = 'bound'`) == 1
	})

	code, out, talk := site.Command(t, "status", "-o", "json")
	var got struct {
		Verdict string
		Reasons []struct{ What string }
		Leavers []struct {
			Directory string
			Done      int
			Waiting   int
			Worst     struct {
				Event                             string
				Occurred, Received, Folded, Bound time.Time
				Took                              float64 `json:"took_seconds"`
			}
		}
		Queue struct{ Durability string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("status exits with %d and prints %s, %s: %v", code, out, talk, err)
	}
	if code != 8 || got.Verdict != "yellow" || len(got.Leavers) != 1 || got.Queue.Durability != "fsynced" {
		t.Fatalf("status exits with %d and says %s", code, out)
	}
	l := got.Leavers[0]
	w := l.Worst
	if l.Directory != directory || l.Done != 1 || l.Waiting != 0 || w.Event != leave[len(leave)-1].ID && w.Event != leave[0].ID {
		t.Errorf("the slowest leaver is %+v, want the one of %s", l, leave[0].ID)
	}
	if !w.Occurred.Before(w.Received) || w.Folded.Before(w.Received) || w.Bound.Before(w.Folded) || w.Took < late.Seconds() || w.Took != w.Bound.Sub(w.Occurred).Seconds() {
		t.Errorf("the slowest leaver is %+v, which is not %s and in order", w, late)
	}
}
