package binder

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/store"
)

// worked is a track with so many workers, who do this, for as long as the test lasts.
func worked(t *testing.T, s store.Store, workers int, do work) {
	t.Helper()
	b := &Binder{Config: Config{Store: s, Now: time.Now, Log: zerolog.Nop(), Batch: 16, Poll: 20 * time.Millisecond, Grace: time.Second}}
	b.woken = []chan struct{}{make(chan struct{}, 1)}
	track := b.bound(workers)
	track.work = do
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); track.run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(2 * time.Minute):
		t.Errorf("this did not come: %s", what)
	}
}

// cutShort is a store whose reads of a directory end after so many changes, of which each lane has this many.
type cutShort struct {
	stocked
	each int
}

func (c *cutShort) Lanes(ctx context.Context, track store.Track, now time.Time, limit int) (store.Lanes, store.More, error) {
	lanes, more, err := c.stocked.Lanes(ctx, track, now, limit)
	for class := range lanes {
		if reads := max(1, 4*limit/c.each); len(lanes[class]) > reads {
			lanes[class], more[class] = lanes[class][:reads], true
		}
	}
	return lanes, more, err
}

// One lane has so much to do that a quick look sees nothing else of its directory.
func TestALargeLaneHidesNobody(t *testing.T) {
	t.Parallel()
	lanes := lanesOf("acme", 2)
	found := make(chan struct{}, 1)
	worked(t, &cutShort{stocked: stocked{lanes: store.Lanes{store.ManyRemovals: lanes}}, each: 130}, 4, func(_, _ context.Context, class store.Class, taken []store.Lane) (r rest, _ error) {
		for _, l := range taken {
			if l == lanes[0] { // it is never done
				time.Sleep(10 * time.Millisecond)
				r.back[class] = append(r.back[class], l)
				continue
			}
			poke(found)
		}
		return r, nil
	})
	await(t, found, "the lane behind it")
}

func TestWhatAnotherProcessHoldsHidesNobody(t *testing.T) {
	t.Parallel()
	lanes := lanesOf("acme", 40)
	free := make(chan struct{}, 1)
	worked(t, &cutShort{stocked: stocked{lanes: store.Lanes{store.Others: lanes}}, each: 5}, 4, func(_, _ context.Context, _ store.Class, taken []store.Lane) (r rest, _ error) {
		for _, l := range taken {
			if slices.Index(lanes, l) < 30 {
				r.still = append(r.still, l)
				continue
			}
			poke(free)
		}
		return r, nil
	})
	await(t, free, "one of the ten lanes that nobody holds")
}

func TestADirectoryWithALittleTakesTurnsWithOneThatHasMuch(t *testing.T) {
	t.Parallel()
	for _, class := range []store.Class{store.Others, store.ManyRemovals} {
		big, small := lanesOf("big", 600), lanesOf("small", 9)
		s := &stocked{}
		s.lanes[class] = big
		track := tracked(s, 4)
		working := shift(t, track)
		s.lanes[class] = slices.Concat(small, big)
		track.hurry = true
		track.finished(working[0])
		if taken := shift(t, track); len(taken) != 1 || !slices.Contains(taken[0].lanes, small[0]) {
			t.Errorf("class %d: the next worker takes %v, want lanes of the small directory", class, taken)
		}
	}
}

// While one directory ends, leavers of others do not have all of it read again, each of them.
func TestSingleLeaversAreFoundByQuickQuestions(t *testing.T) {
	t.Parallel()
	s := &stocked{lanes: store.Lanes{store.ManyRemovals: lanesOf("ended", 600)}}
	track := tracked(s, 4)
	shift(t, track)
	s.limits = nil
	for i := range 5 {
		s.lanes[store.Removals] = lanesOf(fmt.Sprint("leaver", i), 1)
		track.hurry = true
		taken := shift(t, track)
		if len(taken) != 1 || taken[0].class != store.Removals {
			t.Fatalf("taken are %v, want the leaver", taken)
		}
		s.lanes[store.Removals] = nil
		track.finished(taken[0])
	}
	if want := slices.Repeat([]int{quickly}, 5); !slices.Equal(s.limits, want) {
		t.Errorf("lanes were asked for by %v, want %v", s.limits, want)
	}
}

// What is announced is a long backlog.
func TestWhenAFewAreNotAllTheOthersAreAskedForAtOnce(t *testing.T) {
	t.Parallel()
	s := &stocked{lanes: store.Lanes{store.Others: lanesOf("new", 100)}}
	track := tracked(s, 4)
	track.due, track.batch[store.Others] = false, 16
	if err := track.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []int{quickly, 8 * 16}; !slices.Equal(s.limits, want) || len(track.waiting[store.Others]) != 100 {
		t.Errorf("lanes were asked for by %v, and %d are known, want %v and all", s.limits, len(track.waiting[store.Others]), want)
	}
}

func TestNothingIsHandedOutWhileTroubleIsLeftAlone(t *testing.T) {
	t.Parallel()
	track := tracked(&stocked{lanes: store.Lanes{store.Others: lanesOf("new", 8)}}, 3)
	working := shift(t, track)
	track.finished(result{class: working[0].class, lanes: working[0].lanes, err: errUnsettled})
	working[1].back[store.Others] = working[1].lanes
	track.finished(working[1])
	if class, ok := track.next(); ok {
		t.Errorf("class %d is handed out", class)
	}
}

// Somebody leaves while others of their changes are bound, by a worker who does not see it yet.
func TestWhatComesInALaneInHandIsAskedForWhenItIsFinished(t *testing.T) {
	t.Parallel()
	s := &stocked{lanes: store.Lanes{store.Others: lanesOf("new", 100)}}
	track := tracked(s, 2)
	working := shift(t, track)
	s.lanes[store.Removals] = working[0].lanes[:1]
	track.hurry = true
	if err := track.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	track.finished(working[0])
	for _, r := range shift(t, track) {
		if r.class == store.Removals {
			if track.finished(r); len(track.past) > 0 {
				t.Errorf("what was in hand is remembered still: %v", track.past)
			}
			return
		}
	}
	t.Error("their end is taken by nobody")
}

// The same, when nothing else is known, and all there is is asked for.
func TestWhatComesInTheOnlyLaneIsAskedForWhenItIsFinished(t *testing.T) {
	t.Parallel()
	s := &stocked{lanes: store.Lanes{store.Others: lanesOf("new", 1)}}
	track := tracked(s, 2)
	working := shift(t, track)
	track.hurry, track.due = true, true
	if err := track.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	track.finished(working[0])
	if taken := shift(t, track); len(taken) != 1 {
		t.Errorf("taken is %v, want the lane again", taken)
	}
}

// crowd is a store of lanes with something to do in each. mu guards all.
type crowd struct {
	store.Store
	mu    sync.Mutex
	order []store.Lane
	left  map[store.Lane]int
	class map[store.Lane]store.Class
	hand  map[store.Lane]bool
	done  chan struct{}
}

func (c *crowd) Lanes(_ context.Context, _ store.Track, _ time.Time, limit int) (out store.Lanes, more store.More, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.order {
		class := c.class[l]
		if c.left[l] == 0 {
			continue
		}
		if more[class] = len(out[class]) == limit; !more[class] {
			out[class] = append(out[class], l)
		}
	}
	return out, more, nil
}

// TestEveryLaneIsDoneAndByOneAtATime has lanes that change their class, are given back, and take their time.
func TestEveryLaneIsDoneAndByOneAtATime(t *testing.T) {
	t.Parallel()
	for workers := 1; workers <= 4; workers++ {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			c := &crowd{left: map[store.Lane]int{}, class: map[store.Lane]store.Class{}, hand: map[store.Lane]bool{}, done: make(chan struct{})}
			all := 0
			for class, lanes := range everyClass(300) {
				for _, l := range lanes {
					c.left[l], c.class[l] = 1+rand.IntN(3), store.Class(class)
					all += c.left[l]
					c.order = append(c.order, l)
				}
			}
			worked(t, c, workers, func(_, _ context.Context, _ store.Class, lanes []store.Lane) (r rest, _ error) {
				c.mu.Lock()
				for _, l := range lanes {
					if c.hand[l] {
						t.Errorf("two work on %v", l)
					}
					c.hand[l] = true
				}
				c.mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				c.mu.Lock()
				defer c.mu.Unlock()
				for _, l := range lanes {
					delete(c.hand, l)
					if c.left[l] == 0 {
						r.still = append(r.still, l)
						continue
					}
					c.left[l]--
					if all--; all == 0 {
						close(c.done)
					}
					if rand.IntN(4) == 0 {
						c.class[l] = store.Class(rand.IntN(int(store.Classes)))
					}
					if c.left[l] > 0 && rand.IntN(2) == 0 {
						r.back[c.class[l]] = append(r.back[c.class[l]], l)
					}
				}
				return r, nil
			})
			await(t, c.done, "the end of all lanes")
		})
	}
}
