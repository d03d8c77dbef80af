package binder

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	exponential "github.com/cenkalti/backoff/v5"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// track brings the lanes of one way to the application to those who work on them. Each of them works on lanes of one class at a
// time, and no class but that of removals may have all of them, so that what is slow and what fails delays no removal.
type track struct {
	*Binder
	name    store.Track
	workers int
	batch   [store.Classes]int // lanes that one of them takes at once
	woken   <-chan struct{}
	work    work
	at      func() time.Time // what has a time before this may be tried again

	// What follows belongs to run alone.
	waiting store.Lanes                // as the store said last
	asking  *question                  // what the store is asked at this time
	rested  time.Time                  // when it may be asked again
	settled time.Time                  // when it may be for what may have come in lanes in hand
	back    store.Lanes                // given back by those who worked on them; they come first
	given   map[store.Lane]store.Class // those in back
	hand    map[store.Lane]bool        // those somebody works on
	past    map[store.Lane]bool        // of these, in which something came since
	still   map[store.Lane]bool        // in which nothing came of it, since the last poll
	busy    [store.Classes]int
	served  [store.Classes]int // when one of the class was taken last, by a count of all that were
	taken   int
	stale   store.More // there may be more than waiting says
	hurry   bool       // something was announced since the store was asked
	later   bool       // something may have come where somebody worked meanwhile
	due     bool       // it was not asked for all there is since the last poll
	answers chan answer
	results chan result
	pause   time.Time // until when trouble is left alone
	retry   *exponential.ExponentialBackOff
	said    bool
}

// work does what can be done in lanes of a class, and finishes what it began though its first context ends. It gives back those
// in which there is more to do, by their class, and says in which nothing came of it. Its error is trouble that concerns all
// lanes.
type work func(stop, ctx context.Context, class store.Class, lanes []store.Lane) (rest, error)

// rest is what work did not do.
type rest struct {
	back  store.Lanes
	still []store.Lane
}

// giveBack gives a lane back in which there is more to do, from a class to another one. Of many removals it remains one.
func (r *rest) giveBack(from, class store.Class, l store.Lane) {
	if from == store.ManyRemovals && class == store.Removals {
		class = from
	}
	r.back[class] = append(r.back[class], l)
}

type result struct {
	rest
	class store.Class
	lanes []store.Lane
	err   error
}

// question is one to the store: which lanes have something to do.
type question struct {
	began time.Time
	limit int                 // lanes of each class
	whole bool                // as many as there is work for; otherwise a few, for what is new
	hurry bool                // something was announced before
	hand  map[store.Lane]bool // somebody worked on them meanwhile: what the store says of them may be past
}

// quickly is how many lanes of each class are asked for when it is to be quick.
const quickly = 4 * store.Few

// longestRest is for how long the store is left alone after a question.
const longestRest = 50 * time.Millisecond

type answer struct {
	lanes store.Lanes
	more  store.More
	err   error
}

// bound is the track of the application's SQL. What failed is bound a lane at a time.
func (b *Binder) bound(workers int) *track {
	return b.newTrack(store.Bound, workers, [store.Classes]int{store.Removals: b.Batch, store.ManyRemovals: b.Batch, store.RemovalsAgain: 1, store.OthersAgain: 1, store.Others: b.Batch}, b.woken[0], b.bind)
}

// posted is that of POSTs.
func (b *Binder) posted() *track {
	return b.newTrack(store.Posted, posters, [store.Classes]int{postLanes, postLanes, postLanes, postLanes, postLanes}, b.woken[1], b.post)
}

func (b *Binder) newTrack(name store.Track, workers int, batch [store.Classes]int, woken <-chan struct{}, do work) *track {
	return &track{
		Binder: b, name: name, workers: workers, batch: batch, woken: woken, work: do, at: b.Now, hurry: true, due: true, past: map[store.Lane]bool{},
		given: map[store.Lane]store.Class{}, hand: map[store.Lane]bool{}, still: map[store.Lane]bool{},
		answers: make(chan answer, 1), results: make(chan result, workers), retry: newBackoff(),
	}
}

// run works until the context ends, and returns when everybody has finished.
func (t *track) run(stop context.Context) {
	ctx, cancel := withGrace(stop, t.Grace)
	defer cancel()
	var g sync.WaitGroup
	defer g.Wait()
	ticker := time.NewTicker(t.Poll)
	defer ticker.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for stop.Err() == nil {
		if rest := time.Until(t.from()); t.asks() && rest > 0 {
			again.Reset(rest)
		} else if t.asks() {
			asked := t.ask()
			g.Go(func() { t.answers <- asked(stop) })
		}
		for class, ok := t.next(); ok; class, ok = t.next() {
			if lanes := t.take(class); len(lanes) > 0 {
				g.Go(func() { t.results <- t.do(stop, ctx, class, lanes) })
			}
		}
		select {
		case <-stop.Done():
		case r := <-t.results:
			t.finished(r)
		case a := <-t.answers:
			if err := t.learn(a); err != nil {
				t.trouble(stop, err)
			}
		case <-t.woken:
			t.hurry = true
		case <-ticker.C:
			t.hurry, t.due = true, true
			clear(t.still)
		case <-again.C:
		}
	}
}

func (t *track) do(stop, ctx context.Context, class store.Class, lanes []store.Lane) result {
	rest, err := t.work(stop, ctx, class, lanes)
	return result{rest, class, lanes, err}
}

// look asks the store for lanes as long as it is to be asked.
func (t *track) look(ctx context.Context) error {
	for t.asks() {
		if err := t.learn(t.ask()(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// asks reports whether the store is to be asked for lanes: at once when changes were announced, otherwise when somebody could work
// on more than is known. There is one question at a time.
func (t *track) asks() bool {
	return t.asking == nil && (t.hurry || t.later || t.lacks()) && !time.Now().Before(t.pause)
}

// from is when the next question may be asked.
func (t *track) from() time.Time {
	if t.hurry || t.lacks() {
		return t.rested
	}
	return t.settled
}

// lacks reports whether somebody could work on lanes of a class of which there are more, but none is known; or, once a poll, on
// anything, and nothing is known at all.
func (t *track) lacks() bool {
	idle := t.due && t.room(store.Removals) > 0
	for class := range store.Classes {
		if len(t.waiting[class]) > 0 {
			idle = false
		} else if t.stale[class] && t.room(class) > 0 {
			return true
		}
	}
	return idle
}

// ask begins a question, and returns what asks it: for as many lanes as there is work for when they are lacking; otherwise for a
// few of each directory, which is quick. What comes meanwhile is for the next question.
func (t *track) ask() func(context.Context) answer {
	t.asking = &question{began: time.Now(), limit: quickly, hurry: t.hurry, hand: maps.Clone(t.hand)}
	if t.lacks() {
		t.asking.whole, t.asking.limit = true, len(t.hand)+len(t.given)+len(t.still)+8*t.batch[store.Others]
		t.due = false
	}
	t.hurry, t.later = false, false
	now, limit := t.at(), t.asking.limit
	return func(ctx context.Context) answer {
		lanes, more, err := t.Store.Lanes(ctx, t.name, now, limit)
		return answer{lanes, more, err}
	}
}

// learn ends a question. Lanes on which somebody worked while the store answered are left out: whoever did says what is left in
// them. The store then rests for a while, and longer before it is asked only because of them.
func (t *track) learn(a answer) error {
	asked := t.asking
	t.asking = nil
	if a.err != nil {
		return a.err
	}
	if time.Now().Before(t.pause) {
		t.hurry, t.due = true, true
		return nil
	}
	took := time.Since(asked.began)
	t.rested, t.settled = time.Now().Add(min(2*took, longestRest)), time.Now().Add(4*took)
	for class, lanes := range a.lanes {
		more := a.more[class] && (len(lanes) > 0 || t.due) // what others hide is looked for once a poll
		found := slices.DeleteFunc(lanes, func(l store.Lane) bool {
			switch { // what was announced may be too new for whoever has the lane, or had it
			case !asked.hurry || !asked.hand[l]:
			case t.hand[l]:
				t.past[l] = true
			default:
				t.later = true
			}
			return asked.hand[l] || t.still[l] || t.keeps(l, store.Class(class))
		})
		if asked.whole {
			t.waiting[class], t.stale[class] = found, more && len(found) > 0
			continue
		}
		t.stale[class] = t.stale[class] || more
		t.add(store.Class(class), found, more)
	}
	return nil
}

// add adds a few lanes to those that are known of a class: before them, when they are of directories of which none is; removals
// of the others after them. When no lane is known, and there are more than these, all of them are asked for instead, so that a
// worker's part is not a part of a few; but for removals.
func (t *track) add(class store.Class, found []store.Lane, more bool) {
	known := t.waiting[class]
	if len(known) == 0 && more && class != store.Removals {
		return
	}
	lanes, directories := map[store.Lane]bool{}, map[directory.Scope]bool{}
	for _, l := range known {
		lanes[l], directories[l.Scope] = true, true
	}
	var before, after []store.Lane
	for _, l := range found {
		switch {
		case !directories[l.Scope]:
			before = append(before, l)
		case lanes[l]:
		case class == store.Removals:
			after = append(after, l)
		default:
			t.stale[class] = true
		}
	}
	t.waiting[class] = slices.Concat(before, known, after)
}

// keeps reports whether a lane that is found stays where it was given back to. A removal that came since, or was there and may
// have become the next, does not wait for that.
func (t *track) keeps(l store.Lane, found store.Class) bool {
	class, ok := t.given[l]
	return ok && (!found.Removes() || class.Removes() || class == store.RemovalsAgain)
}

// room is how many more workers may have lanes of a class: one is kept for removals of which there are not many, another one for
// what has not failed, and a third for removals that failed, as far as there are so many.
func (t *track) room(class store.Class) int {
	again := t.busy[store.OthersAgain] + t.busy[store.RemovalsAgain]
	most := t.busy[store.ManyRemovals] + t.busy[store.Others] + again
	room := t.workers - t.busy[store.Removals] - most
	if class != store.Removals {
		room = min(room, max(1, t.workers-1)-most)
	}
	if class == store.RemovalsAgain || class == store.OthersAgain {
		room = min(room, max(1, t.workers-2)-again)
	}
	if class == store.OthersAgain {
		room = min(room, max(1, t.workers-3)-t.busy[class])
	}
	return room
}

// next returns the class that a free worker is for: removals when nobody works on any, every other time; then that which has the
// fewest workers, and of several such the one that had its turn before the others.
func (t *track) next() (best store.Class, ok bool) {
	if time.Now().Before(t.pause) {
		return 0, false
	}
	for class := range store.Classes {
		switch {
		case len(t.waiting[class])+len(t.back[class]) == 0 || t.room(class) <= 0:
		case class.Removes() && t.busy[store.Removals]+t.busy[store.ManyRemovals] == 0 && max(t.served[store.Removals], t.served[store.ManyRemovals]) < t.taken:
			return class, true
		case !ok || t.busy[class] < t.busy[best] || t.busy[class] == t.busy[best] && t.served[class] < t.served[best]:
			best, ok = class, true
		}
	}
	return best, ok
}

// take is the next worker's part of what waits in a class: as much as any other's. It is empty when all of it is in hand, for a
// lane may wait in two classes.
func (t *track) take(class store.Class) []store.Lane {
	from := &t.waiting[class]
	if len(t.back[class]) > 0 {
		from = &t.back[class]
	}
	room := t.room(class)
	n := min(t.batch[class], (len(*from)+room-1)/room)
	lanes := slices.DeleteFunc(slices.Clone((*from)[:n]), func(l store.Lane) bool { return t.hand[l] })
	if from == &t.back[class] {
		for _, l := range t.back[class][:n] {
			delete(t.given, l)
			delete(t.still, l)
		}
	}
	*from = (*from)[n:]
	if len(lanes) == 0 {
		return nil
	}
	for _, l := range lanes {
		t.hand[l] = true
		if t.asking != nil {
			t.asking.hand[l] = true
		}
	}
	t.taken++
	t.served[class] = t.taken
	t.busy[class]++
	return lanes
}

func (t *track) finished(r result) {
	t.busy[r.class]--
	for _, l := range r.lanes {
		t.later = t.later || t.past[l]
		delete(t.hand, l)
		delete(t.past, l)
	}
	for _, l := range r.still {
		t.still[l] = true
	}
	if r.err != nil {
		t.trouble(context.Background(), r.err)
		return
	}
	for class, lanes := range r.back {
		for _, l := range lanes {
			if _, ok := t.given[l]; !ok {
				t.back[class], t.given[l] = append(t.back[class], l), store.Class(class)
			}
			if r.class.Removes() && !store.Class(class).Removes() {
				t.still[l] = true // its removal waits for what is before it
			}
		}
	}
	if len(r.still) < len(r.lanes) {
		t.retry.Reset()
		if t.said {
			t.Log.Info().Str("track", string(t.name)).Msg("changes take effect again")
			t.said = false
		}
	}
}

// trouble leaves everything alone for a while; what waits is looked for again when it is over. It is logged once, until it is.
func (t *track) trouble(ctx context.Context, err error) {
	clear(t.given)
	t.waiting, t.back, t.hurry, t.due = store.Lanes{}, store.Lanes{}, true, true
	t.pause = time.Now().Add(t.retry.NextBackOff())
	if t.Database != nil {
		t.Database.reconnect()
	}
	if !t.said && ctx.Err() == nil {
		t.Log.Error().Err(err).Str("track", string(t.name)).Msg("no change takes effect at this time; none is lost, and all is tried again")
		t.said = true
	}
}
func newBackoff() *exponential.ExponentialBackOff {
	e := exponential.NewExponentialBackOff()
	e.InitialInterval, e.Multiplier, e.MaxInterval = 50*time.Millisecond, 2, 5*time.Second
	return e
}

// withGrace returns a context that ends a while after its parent does, so that work in hand is finished.
func withGrace(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(grace, cancel) })
	return ctx, func() { stop(); cancel() }
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// poke wakes whoever waits, without waiting.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
