package simulator_test

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/simulator"
)

// month is a world after one month of one directory.
func month(config simulator.WorldConfig, people, days int) *simulator.World {
	config.Start = start
	w := simulator.NewWorld(config)
	simulator.Month(w, people, 8, days, config.Seed)
	return w
}

func deliveriesOf(w *simulator.World) []simulator.Delivery { return slices.Collect(w.Deliveries(0)) }

func TestAWorldsTruthIsWhatItsLogFoldsTo(t *testing.T) {
	t.Parallel()
	for _, style := range []simulator.Style{simulator.StyleDeleted, simulator.StyleInactive} {
		for seed := range uint64(3) {
			w := month(simulator.WorldConfig{Seed: seed, Leavers: style, Double: 0.05}, 60, 30)
			events := decode(t, deliveriesOf(w))
			for name, got := range map[string]directory.Delta{
				"one by one, in order": fold(events, 1),
				"in batches, jumbled":  fold(directorytest.Shuffled(seed, events), 37),
			} {
				if diff := w.Truth().Diff(got); len(diff) > 0 {
					t.Errorf("%s, seed %d, %d events %s: %d differences, such as\n%s", style, seed, len(events), name, len(diff), strings.Join(diff[:min(len(diff), 10)], "\n"))
				}
			}
		}
	}
}

// The model knows four groups by their ids: those of the first sync bear them here, and what is said of others is left out.
func TestAWorldsTruthIsTheNaiveReadingOfItsLog(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 5, Start: start})
	simulator.Month(w, 15, 4, 10, 5)
	known := map[string]string{}
	var events []directory.Event
	for _, e := range decode(t, deliveriesOf(w)) {
		if e.Group != nil && len(known) < 4 && known[e.Group.ID] == "" {
			known[e.Group.ID] = fmt.Sprintf("directory_group_%d", len(known))
		}
		if e.Group != nil {
			e.Group.ID = cmp.Or(known[e.Group.ID], e.Group.ID)
		}
		if e.Membership != nil {
			e.Membership.Group = cmp.Or(known[e.Membership.Group], e.Membership.Group)
		}
		events = append(events, e)
	}
	var want, got []string
	for id, a := range w.Truth().Accounts {
		want = append(want, fmt.Sprintf("account %s active=%t email=%s", id.ID, a.Active, a.Email))
		for group := range a.Groups {
			if known[group] != "" {
				want = append(want, "grant "+id.ID+" "+known[group])
			}
		}
	}
	user := regexp.MustCompile(` user=\S*`)
	for _, line := range directorytest.Model(events, directory.DecisionKeep) {
		_, line, _ = strings.Cut(line, " ") // the directory
		got = append(got, user.ReplaceAllString(line, ""))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("Model() of a month (-truth +model):\n%s", diff)
	}
	if !strings.Contains(strings.Join(want, "\n"), "grant") || len(want) < 30 {
		t.Errorf("only %d lines were compared", len(want))
	}
}

func TestEachActOfAWorldGivesItsTruth(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	d := w.OpenDirectory()
	sales, data := w.OpenGroup(d, "Sales"), w.OpenGroup(d, "Data")
	ada, grace := w.Hire(d, sales), w.Hire(d, sales, data)
	var again, recycled string
	for _, act := range []struct {
		name string
		do   func() bool
	}{
		{"join", func() bool { return w.JoinGroup(ada, data) }},
		{"leave a group", func() bool { return w.LeaveGroup(ada, sales) }},
		{"rename", func() bool { return w.Rename(ada, "Byron") }},
		{"suspend", func() bool { return w.Suspend(ada) }},
		{"join while away", func() bool { return w.JoinGroup(ada, sales) }},
		{"return", func() bool { return w.Return(ada) }},
		{"emit twice", w.DoubleEmit},
		{"deactivate", func() bool { return w.Deactivate(ada) }},
		{"recycle an address", func() bool { recycled = w.Recycle(ada); return recycled != "" }},
		{"rehire", func() bool { again = w.Rehire(ada, data); return again != "" }},
		{"delete", func() bool { return w.Delete(again) }},
		{"rehire again", func() bool { return w.Rehire(again, sales) != "" }},
		{"rename a group", func() bool { return w.RenameGroup(sales, "Revenue") }},
		{"leave", func() bool { return w.Leave(grace) }},
		{"delete a group", func() bool { return w.DeleteGroup(sales) }},
		{"delete the directory", func() bool { return w.DeleteDirectory(d) }},
	} {
		before := w.Events()
		if !act.do() || w.Events() == before {
			t.Fatalf("%s: nothing happened", act.name)
		}
		if diff := w.Truth().Diff(fold(decode(t, deliveriesOf(w)), 100)); len(diff) > 0 {
			t.Fatalf("after %q:\n%s", act.name, strings.Join(diff, "\n"))
		}
	}
	if n := w.Truth().Active(); n != 2 {
		t.Errorf("%d are active while the end of the directory is held, want the one with the old address and the one who came back", n)
	}
	if n := w.Truth().Deprovisioned().Active(); n != 0 {
		t.Errorf("%d are active once the end of the directory counts, want none", n)
	}
}

func TestNothingHappensInAWorldToWhoIsNotThere(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	d, other := w.OpenDirectory(), w.OpenDirectory()
	group, elsewhere := w.OpenGroup(d, ""), w.OpenGroup(other, "")
	here, left := w.Hire(d, group), w.Hire(d)
	w.Leave(left)
	before := w.Events()
	for name, did := range map[string]bool{
		"hire nowhere":                  w.Hire("directory_x") != "",
		"leave of nobody":               w.Leave("directory_user_x"),
		"leave of one who left":         w.Leave(left),
		"suspension of one who left":    w.Suspend(left),
		"return of one who is there":    w.Return(here),
		"return of a deleted record":    w.Return(left),
		"rehire of one who is there":    w.Rehire(here) != "",
		"recycling an address in use":   w.Recycle(here) != "",
		"joining twice":                 w.JoinGroup(here, group),
		"joining another one's group":   w.JoinGroup(here, elsewhere),
		"leaving a group not joined":    w.LeaveGroup(here, elsewhere),
		"renaming to the same":          w.RenameGroup(group, "Engineering"),
		"deletion of no group":          w.DeleteGroup("directory_group_x"),
		"deletion of no directory":      w.DeleteDirectory("directory_x"),
		"joining with a deleted record": w.JoinGroup(left, group),
	} {
		if did {
			t.Errorf("%s did something", name)
		}
	}
	if w.Events() != before {
		t.Errorf("%d events of nothing", w.Events()-before)
	}
}

func TestOneSeedGivesOneWorld(t *testing.T) {
	t.Parallel()
	logOf := func(seed uint64) []byte {
		var text bytes.Buffer
		for d := range month(simulator.WorldConfig{Seed: seed, Double: 0.1}, 40, 20).Deliveries(0) {
			text.Write(d.Body)
			text.WriteByte('\n')
		}
		return text.Bytes()
	}
	one, other := logOf(7), logOf(7)
	if !bytes.Equal(one, other) {
		t.Error("the same seed gave another log")
	}
	if bytes.Equal(one, logOf(8)) {
		t.Error("another seed gave the same log")
	}
}

func TestALogIsInOrderByIDAndTime(t *testing.T) {
	t.Parallel()
	w := month(simulator.WorldConfig{Seed: 2, Double: 0.1}, 50, 30)
	next, stop := iter.Pull(w.Deliveries(0))
	defer stop()
	last, _ := next()
	seen := 1
	for d, ok := next(); ok; d, ok = next() {
		if d.ID <= last.ID || d.Occurred.Before(last.Occurred) {
			t.Fatalf("%s at %s comes after %s at %s", d.ID, d.Occurred, last.ID, last.Occurred)
		}
		last = d
		seen++
	}
	if seen != w.Events() || w.Now().Before(last.Occurred) {
		t.Errorf("%d of %d events, the last at %s, and it is %s", seen, w.Events(), last.Occurred, w.Now())
	}
}

func TestWhatWasSaidDoesNotChange(t *testing.T) {
	t.Parallel()
	w := month(simulator.WorldConfig{Seed: 9, Leavers: simulator.StyleInactive}, 20, 5)
	before := deliveriesOf(w)
	for traffic := simulator.NewTraffic(w, 30, 20, 9); traffic.Done() < traffic.Len(); {
		traffic.Step()
	}
	if diff := gocmp.Diff(before, deliveriesOf(w)[:len(before)]); diff != "" {
		t.Errorf("the log after 600 happenings more (-before +after):\n%s", diff)
	}
}

func TestALiveWorldIsNotAheadOfItsClock(t *testing.T) {
	t.Parallel()
	now := start
	w := simulator.NewWorld(simulator.WorldConfig{Now: func() time.Time { return now }})
	w.FirstSync(500, 10, 4)
	if ahead := w.Now().Sub(now); ahead > time.Millisecond {
		t.Errorf("a first sync is %s ahead of the clock", ahead)
	}
	now = now.Add(time.Hour)
	w.FirstSync(1, 1, 1)
	last := deliveriesOf(w)[w.Events()-1]
	if !last.Occurred.Equal(now) {
		t.Errorf("the last event is at %s, want %s", last.Occurred, now)
	}
}

func TestAFirstSyncIsOfTheSizeThatWasAskedFor(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 3, Start: start})
	d := w.FirstSync(300, 7, 5)
	want := simulator.Counts{Directories: 1, Users: 300, Active: 300, Groups: 7, Memberships: 1500}
	if got := w.Counts(); got != want || w.Events() != 1+300+7+1500 {
		t.Errorf("Counts() = %+v with %d events, want %+v with 1808", got, w.Events(), want)
	}
	for _, g := range w.Groups(d) {
		if n := len(w.MembersOf(g)); n < 150 || n > 280 {
			t.Errorf("the group %s has %d members, want about 214", g, n)
		}
	}
	if diff := w.Truth().Diff(fold(decode(t, deliveriesOf(w)), 100)); len(diff) > 0 {
		t.Errorf("%d differences, such as %s", len(diff), diff[0])
	}
}

// BenchmarkFirstSync is of 200,000 people with 1,000,000 memberships, and says what the world holds in memory then.
func BenchmarkFirstSync(b *testing.B) {
	for b.Loop() {
		w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
		w.FirstSync(200_000, 1000, 5)
		b.StopTimer()
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB")
		b.ReportMetric(float64(w.Events()), "events")
		b.StartTimer()
	}
}
