package simulator_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/simulator"
)

func TestFaultsLoseRepeatAndReorder(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	simulator.Month(w, 200, 8, 30, 1)
	for range 200 {
		w.Advance(10 * time.Second)
		w.Hire(w.Directories()[0])
	}
	log := deliveriesOf(w)
	faults := simulator.Faults{Seed: 1, Lost: 0.2, Repeated: 0.1, Reorder: 3 * time.Minute}
	got := faults.Arrivals(slices.Values(log))
	times := map[string]int{}
	overtaken, latest, furthest := 0, time.Time{}, time.Duration(0)
	for _, d := range got {
		times[d.ID]++
		if d.Occurred.Before(latest) {
			overtaken++
			furthest = max(furthest, latest.Sub(d.Occurred))
		} else {
			latest = d.Occurred
		}
	}
	once, twice := 0, 0
	for _, n := range times {
		once++
		if n == 2 {
			twice++
		}
	}
	between := func(what string, n, least, most int) {
		t.Helper()
		if n < least*len(log)/100 || n > most*len(log)/100 {
			t.Errorf("%d of %d %s, want %d to %d %%", n, len(log), what, least, most)
		}
	}
	between("arrived", once, 77, 83)
	between("arrived twice", twice, 6, 10)
	between("were overtaken", overtaken, 40, 100)
	if furthest > 3*time.Minute || furthest < 2*time.Minute {
		t.Errorf("one was overtaken by another of %s later, want almost 3m", furthest)
	}
	if !slices.EqualFunc(got, faults.Arrivals(slices.Values(log)), func(a, b simulator.Delivery) bool { return a.ID == b.ID }) {
		t.Error("the same seed gave other faults")
	}
	faults.Seed = 2
	if slices.EqualFunc(got, faults.Arrivals(slices.Values(log)), func(a, b simulator.Delivery) bool { return a.ID == b.ID }) {
		t.Error("another seed gave the same faults")
	}
	none := simulator.Faults{}.Arrivals(slices.Values(log))
	if !slices.EqualFunc(none, log, func(a, b simulator.Delivery) bool { return a.ID == b.ID }) {
		t.Error("no faults changed something")
	}
}

func TestAnOutageLosesWhatHappensInIt(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Start: start, Step: time.Second})
	d := w.OpenDirectory()
	for range 5 {
		w.OpenGroup(d, "")
	}
	log := deliveriesOf(w)
	faults := simulator.Faults{Outages: []simulator.Outage{{From: log[2].Occurred, To: log[4].Occurred}}}
	want := slices.Delete(slices.Clone(log), 2, 4)
	if diff := gocmp.Diff(want, faults.Arrivals(slices.Values(log))); diff != "" {
		t.Errorf("Arrivals() (-want +got):\n%s", diff)
	}
}

func TestWhatCanNotBefallWebhooksIsRefused(t *testing.T) {
	t.Parallel()
	for part, f := range map[string]simulator.Faults{
		"lost is 1.5":      {Lost: 1.5},
		"repeated is -0.1": {Repeated: -0.1},
		"before":           {Reorder: -time.Second},
	} {
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%+v: %v, want %q", f, err, part)
		}
	}
	if err := (simulator.Faults{Lost: 1, Repeated: 1}).Check(); err != nil {
		t.Error(err)
	}
}

// listening is a receiver that remembers what came, in order, and when.
type listening struct {
	mu  sync.Mutex
	ids []string
	at  []time.Time
}

func (l *listening) came() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids)
}

// webhooks are those of a live world, to such a receiver.
func webhooks(t *testing.T, w *simulator.World, faults simulator.Faults) (*simulator.Webhooks, *listening) {
	t.Helper()
	s, check := newSender(t)
	l := &listening{}
	s.Now = time.Now
	s.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		id, _ := check(r)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ids, l.at = append(l.ids, id), append(l.at, time.Now())
		return answer(200), nil
	})}
	return &simulator.Webhooks{World: w, Sender: s, Faults: faults}, l
}

func TestWebhooksArriveAsTheFaultsHaveIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Now: time.Now})
		faults := simulator.Faults{Seed: 3, Lost: 0.2, Repeated: 0.2, Delay: time.Second, Reorder: time.Minute}
		hooks, receiver := webhooks(t, w, faults)
		done, ended := make(chan struct{}), make(chan simulator.Stats, 1)
		go func() {
			stats, err := hooks.Run(t.Context(), done)
			if err != nil {
				t.Error(err)
			}
			ended <- stats
		}()
		w.FirstSync(20, 3, 1)
		traffic := simulator.NewTraffic(w, 1, 300, 1)
		for traffic.Done() < traffic.Len() {
			time.Sleep(2 * time.Second)
			traffic.Step()
		}
		close(done)
		stats := <-ended
		var want []string
		for _, d := range faults.Arrivals(w.Deliveries(0)) {
			want = append(want, d.ID)
		}
		// Of one moment, or nearly, their order is anyone's.
		if got := receiver.came(); len(got) != len(want) || gocmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))) != "" {
			t.Errorf("%d arrived, want %d", len(got), len(want))
		}
		told := hooks.Stats()
		if told.Events != w.Events() || told.Events-told.Lost+told.Repeated != len(want) || told.Waiting != 0 || stats.Repeated != told.Repeated {
			t.Errorf("%+v, %s: want %d events and %d deliveries", told, stats, w.Events(), len(want))
		}
		occurred := map[string]time.Time{}
		for d := range w.Deliveries(0) {
			occurred[d.ID] = d.Occurred
		}
		for i, id := range receiver.ids {
			if late := receiver.at[i].Sub(occurred[id]); late < time.Second || late > time.Minute+2*time.Second {
				t.Fatalf("%s arrived %s after it happened, want 1s to 61s", id, late)
			}
		}
	})
}

func TestWhileWebhooksAreDownWhatHappensIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Now: time.Now})
		hooks, receiver := webhooks(t, w, simulator.Faults{})
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = hooks.Run(t.Context(), done)
		}()
		d := w.OpenDirectory()
		synctest.Wait()
		hooks.SetDown(true)
		w.OpenGroup(d, "Lost")
		time.Sleep(time.Second)
		synctest.Wait()
		hooks.SetDown(false)
		w.OpenGroup(d, "Told")
		close(done)
		<-ended
		ids := logOf(w)
		if got, want := receiver.came(), []string{ids[0], ids[2]}; !slices.Equal(got, want) {
			t.Errorf("%v arrived, want %v", got, want)
		}
		if got := hooks.Stats(); got.Lost != 1 || got.Waiting != 0 {
			t.Errorf("%+v, want 1 lost", got)
		}
	})
}

func TestWebhooksEndWithTheirContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Now: time.Now})
		hooks, receiver := webhooks(t, w, simulator.Faults{Delay: time.Hour})
		w.FirstSync(5, 1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if _, err := hooks.Run(ctx, make(chan struct{})); err == nil || len(receiver.came()) > 0 {
			t.Errorf("Run() = %v, and %d arrived", err, len(receiver.came()))
		}
	})
}
