package binder

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// stocked is a store that has these lanes.
type stocked struct {
	store.Store
	lanes  store.Lanes
	limits []int // of those asked for
}

func (s *stocked) Lanes(_ context.Context, _ store.Track, _ time.Time, limit int) (out store.Lanes, more store.More, err error) {
	s.limits = append(s.limits, limit)
	for class, lanes := range s.lanes {
		out[class] = slices.Clone(lanes[:min(limit, len(lanes))])
		more[class] = len(lanes) > limit
	}
	return out, more, nil
}

// lanesOf are lanes of so many people.
func lanesOf(name string, n int) (lanes []store.Lane) {
	for i := range n {
		lanes = append(lanes, store.Lane{Scope: directory.Scope{Source: "workos", Directory: name}, Account: fmt.Sprint(name, i)})
	}
	return lanes
}

// everyClass is so many lanes of each class.
func everyClass(n int) (out store.Lanes) {
	for class := range out {
		out[class] = lanesOf(fmt.Sprint("class", class), n)
	}
	return out
}

// tracked is a track with so many workers, who take four lanes at once, or one of what failed.
func tracked(s store.Store, workers int) *track {
	b := &Binder{Config: Config{Store: s, Now: time.Now, Log: zerolog.Nop(), Batch: 4}}
	b.woken = []chan struct{}{make(chan struct{}, 1)}
	return b.bound(workers)
}

// shift has all free workers take what they may, and returns the lanes of each.
func shift(t *testing.T, track *track) (taken []result) {
	t.Helper()
	if err := track.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	for class, ok := track.next(); ok; class, ok = track.next() {
		if lanes := track.take(class); len(lanes) > 0 {
			taken = append(taken, result{class: class, lanes: lanes})
		}
	}
	return taken
}

func TestNoClassButRemovalsHasAllWorkers(t *testing.T) {
	t.Parallel()
	all := everyClass(50)
	for name, c := range map[string]struct {
		workers int
		waiting []store.Class
		want    [store.Classes]int
	}{
		"removals":                            {4, []store.Class{store.Removals}, [store.Classes]int{store.Removals: 4}},
		"many removals":                       {4, []store.Class{store.ManyRemovals}, [store.Classes]int{store.ManyRemovals: 3}},
		"removals beside many others":         {4, []store.Class{store.Removals, store.ManyRemovals}, [store.Classes]int{store.Removals: 2, store.ManyRemovals: 2}},
		"removals that failed":                {4, []store.Class{store.RemovalsAgain}, [store.Classes]int{store.RemovalsAgain: 2}},
		"others that failed":                  {4, []store.Class{store.OthersAgain}, [store.Classes]int{store.OthersAgain: 1}},
		"others":                              {4, []store.Class{store.Others}, [store.Classes]int{store.Others: 3}},
		"all that failed":                     {4, []store.Class{store.RemovalsAgain, store.OthersAgain}, [store.Classes]int{store.RemovalsAgain: 1, store.OthersAgain: 1}},
		"all but removals":                    {4, []store.Class{store.RemovalsAgain, store.OthersAgain, store.Others}, [store.Classes]int{store.RemovalsAgain: 1, store.OthersAgain: 1, store.Others: 1}},
		"everything":                          {5, []store.Class{0, 1, 2, 3, 4}, [store.Classes]int{1, 1, 1, 1, 1}},
		"everything, and more workers":        {9, []store.Class{0, 1, 2, 3, 4}, [store.Classes]int{2, 2, 2, 2, 1}},
		"of two, one is for removals":         {2, []store.Class{store.OthersAgain, store.Others}, [store.Classes]int{store.OthersAgain: 1}},
		"removals come first":                 {2, []store.Class{store.Removals, store.Others}, [store.Classes]int{store.Removals: 1, store.Others: 1}},
		"one worker does all, removals first": {1, []store.Class{0, 1, 2, 3, 4}, [store.Classes]int{store.Removals: 1}},
		"of two, one is for single removals":  {2, []store.Class{store.ManyRemovals, store.Others}, [store.Classes]int{store.ManyRemovals: 1}},
	} {
		s := &stocked{}
		for _, class := range c.waiting {
			s.lanes[class] = all[class]
		}
		track := tracked(s, c.workers)
		shift(t, track)
		if diff := cmp.Diff(c.want, track.busy); diff != "" {
			t.Errorf("%s, with %d workers: they work on (-want +got):\n%s", name, c.workers, diff)
		}
	}
}

func TestOneWorkerLeavesNoClassWaitingForAnother(t *testing.T) {
	t.Parallel()
	track := tracked(&stocked{lanes: everyClass(99)}, 1)
	var served [store.Classes]int
	for range 16 {
		for _, r := range shift(t, track) {
			served[r.class]++
			track.finished(r)
		}
	}
	if want := [store.Classes]int{7, 3, 2, 2, 2}; served != want {
		t.Errorf("the classes had %v turns, want %v", served, want)
	}
}

func TestWhatIsAnnouncedIsLookedForAtOnce(t *testing.T) {
	t.Parallel()
	s := &stocked{lanes: store.Lanes{store.Removals: lanesOf("gone", 50)}}
	track := tracked(s, 4)
	working := shift(t, track)
	leaver := lanesOf("third", 1)[0]
	s.lanes[store.Removals] = append([]store.Lane{leaver}, s.lanes[store.Removals]...)
	track.hurry = true // what a wake does
	track.finished(working[0])
	taken := shift(t, track)
	if len(taken) != 1 || taken[0].lanes[0] != leaver {
		t.Errorf("the next worker takes %v, want %v among it", taken, leaver)
	}
	for _, r := range taken {
		for _, l := range r.lanes {
			for _, other := range working[1:] {
				for _, theirs := range other.lanes {
					if l == theirs {
						t.Errorf("two work on %v", l)
					}
				}
			}
		}
	}
}

// While the store is asked, workers go on with what is known, and nobody takes what another one has or had meanwhile.
func TestNobodyWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	s := &stocked{lanes: store.Lanes{store.Others: lanesOf("new", 20)}}
	track := tracked(s, 3)
	working := shift(t, track) // two of three
	track.hurry = true
	asked := track.ask()
	if track.asks() {
		t.Error("there is a second question while one is under way")
	}
	answer := asked(t.Context())
	track.finished(working[0])
	class, ok := track.next()
	if !ok || class != store.Others {
		t.Fatalf("next() = %v, %v while the store is asked, want others", class, ok)
	}
	taken := result{class: class, lanes: track.take(class)}
	had := slices.Concat(working[0].lanes, taken.lanes)
	track.finished(taken)
	track.waiting = store.Lanes{}
	if err := track.learn(answer); err != nil {
		t.Fatal(err)
	}
	if len(track.waiting[store.Others]) == 0 {
		t.Error("nothing was learned")
	}
	for _, l := range track.waiting[store.Others] {
		if slices.Contains(had, l) || slices.Contains(working[1].lanes, l) {
			t.Errorf("%v is to be done as the store said before, though somebody worked on it meanwhile", l)
		}
	}
	track.later = false
	track.finished(working[1])
	if !track.later {
		t.Error("what may have come in a lane that was in hand is not asked for")
	}
}

// What is announced is asked for quickly, and takes nothing away of what is known.
func TestAQuickQuestionFindsALeaver(t *testing.T) {
	t.Parallel()
	s := &stocked{lanes: store.Lanes{store.ManyRemovals: lanesOf("ended", 500)}}
	track := tracked(s, 4)
	track.batch[store.Others] = 16
	shift(t, track)
	known := len(track.waiting[store.ManyRemovals])
	leaver := lanesOf("third", 1)
	s.lanes[store.Removals] = leaver
	track.hurry = true
	taken := shift(t, track)
	if len(taken) != 1 || !slices.Equal(taken[0].lanes, leaver) {
		t.Errorf("taken is %v, want %v alone", taken, leaver)
	}
	if n := len(track.waiting[store.ManyRemovals]); n != known {
		t.Errorf("%d lanes of the others wait, want all %d that were known", n, known)
	}
	if diff := cmp.Diff([]int{8 * 16, quickly}, s.limits); diff != "" {
		t.Errorf("so many lanes were asked for (-want +got):\n%s", diff)
	}
}

// An answer that comes while trouble is left alone is not acted on.
func TestAnAnswerDuringTroubleIsForgotten(t *testing.T) {
	t.Parallel()
	track := tracked(&stocked{lanes: everyClass(9)}, 4)
	asked := track.ask()
	track.trouble(t.Context(), errUnsettled)
	if err := track.learn(asked(t.Context())); err != nil {
		t.Fatal(err)
	}
	if class, ok := track.next(); ok || !track.hurry {
		t.Errorf("next() = %v, %v, hurry %v, want nothing, and another question when the pause is over", class, ok, track.hurry)
	}
}

// Somebody whose lane was given back, to be bound by itself after others who hang, leaves.
func TestARemovalDoesNotWaitWhereItsLaneWasGivenBackTo(t *testing.T) {
	t.Parallel()
	for class, want := range map[store.Class]store.Class{
		store.Others: store.Removals, store.OthersAgain: store.Removals,
		store.RemovalsAgain: store.RemovalsAgain, // it was the removal that failed
		store.ManyRemovals:  store.ManyRemovals,
	} {
		s := &stocked{lanes: store.Lanes{store.Others: lanesOf("new", 1)}}
		track := tracked(s, 1)
		r := shift(t, track)[0]
		r.back[class] = r.lanes
		s.lanes = store.Lanes{store.Removals: r.lanes}
		track.hurry = true
		track.finished(r)
		if taken := shift(t, track); len(taken) != 1 || taken[0].class != want {
			t.Errorf("given back to class %d and found with a removal, it is taken as %+v, want class %d", class, taken, want)
		}
		if again := shift(t, track); len(again) != 0 {
			t.Errorf("class %d: somebody else takes %v, which is in hand", class, again)
		}
	}
}

func TestOfWhatFailsTogetherThoseGoApartThatMayFailAgain(t *testing.T) {
	t.Parallel()
	work := []*lane{{}, {}, {}, {}}
	for name, c := range map[string]struct {
		at   int
		over time.Duration // how long its turn was over
		want []int
	}{
		"the one that failed":                       {1, -time.Hour, []int{1}},
		"it and those behind it, when it took long": {1, time.Hour, []int{1, 2, 3}},
		"all, when they failed in the end":          {-1, -time.Hour, []int{0, 1, 2, 3}},
		"the first":                                 {0, -time.Hour, []int{0}},
		"the last, however long it took":            {3, time.Hour, []int{3}},
	} {
		a := &attempt{at: c.at, over: time.Now().Add(-c.over)}
		var got []int
		for i, l := range work {
			if a.suspect(work, l) {
				got = append(got, i)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: these go apart (-want +got):\n%s", name, diff)
		}
		if a.suspect(work, &lane{}) {
			t.Errorf("%s: one that was not begun goes apart", name)
		}
	}
}
