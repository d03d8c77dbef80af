package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
)

// RunPulling runs the suite of store.Pulling.
func RunPulling(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, polled){
		"one process polls, until it gives the lease back":                 testPollLease,
		"a lease that is not renewed ends":                                 testPollLeaseEnds,
		"a cursor moves from where its mover saw it":                       testMovePoll,
		"a rewound cursor is another, though it is at its place":           testRewindMeanwhile,
		"who lost the lease moves nothing and notes nothing":               testPollLost,
		"a restart says from where, and outlasts the moves behind":         testRestartPoll,
		"the newest event stays the watermark when a cursor is moved back": testWatermark,
		"what went wrong stands with its begin until it goes well":         testNotePoll,
		"the ledger says which of many events it holds":                    testKnown,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, polled{b.open(t, config(directory.DecisionDeprovision))})
		})
	}
}

// polled is a store whose logs a test polls.
type polled struct{ store.Store }

var ann, bob = store.PollLease{Source: "workos", Holder: "ann", For: time.Minute}, store.PollLease{Source: "workos", Holder: "bob", For: time.Minute}

func (s polled) take(t testing.TB, l store.PollLease) store.Poll {
	t.Helper()
	p, err := s.TakePoll(t.Context(), l)
	if err != nil {
		t.Fatalf("TakePoll(%s) = %v", l.Holder, err)
	}
	return p
}

func (s polled) move(t testing.TB, l store.PollLease, from store.Poll, to store.PollMove) store.Poll {
	t.Helper()
	moved, err := s.MovePoll(t.Context(), l, from, to)
	if err != nil {
		t.Fatalf("MovePoll(%s) = %v", to.After, err)
	}
	wantPoll(t, moved, s.poll(t))
	return moved
}

func (s polled) note(t testing.TB, l store.PollLease, n store.PollNote) store.Poll {
	t.Helper()
	if err := s.NotePoll(t.Context(), l, s.poll(t), n); err != nil {
		t.Fatalf("NotePoll(%+v) = %v", n, err)
	}
	return s.poll(t)
}

// poll returns the only one there is.
func (s polled) poll(t testing.TB) store.Poll {
	t.Helper()
	polls, err := s.Polls(t.Context())
	if err != nil || len(polls) != 1 {
		t.Fatalf("Polls() = %v, %v, want one", polls, err)
	}
	return polls[0]
}

func to(after string, minute int) store.PollMove {
	return store.PollMove{PollCursor: store.PollCursor{After: after, Occurred: directorytest.Start.Add(time.Duration(minute) * time.Minute)}}
}

// where compares all but the times of the database's clock.
var where = cmpopts.IgnoreFields(store.Poll{}, "Paged", "CaughtUp", "Moved", "Until", "Failed", "Restarted", "Rewound", "Now")

func wantPoll(t testing.TB, got, want store.Poll) {
	t.Helper()
	if diff := cmp.Diff(want, got, where, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the poll is not what was saved (-want +got):\n%s", diff)
	}
}

func testPollLease(t *testing.T, s polled) {
	wantPoll(t, s.take(t, ann), store.Poll{Source: "workos", Holder: "ann"})
	if _, err := s.TakePoll(t.Context(), bob); !errors.Is(err, store.ErrLeased) {
		t.Errorf("TakePoll() of one that is held = %v, want ErrLeased", err)
	}
	first := s.poll(t)
	if !first.Held() {
		t.Errorf("Held() = false until %s, now it is %s", first.Until, first.Now)
	}
	if renewed := s.take(t, ann); !renewed.Until.After(first.Until) {
		t.Errorf("renewed until %s, it was %s", renewed.Until, first.Until)
	}
	if err := s.ReleasePoll(t.Context(), bob); err != nil {
		t.Errorf("ReleasePoll() of somebody else's = %v", err)
	}
	if _, err := s.TakePoll(t.Context(), bob); !errors.Is(err, store.ErrLeased) {
		t.Errorf("TakePoll() after a release that was not the holder's = %v, want ErrLeased", err)
	}
	if err := s.ReleasePoll(t.Context(), ann); err != nil {
		t.Errorf("ReleasePoll() = %v", err)
	}
	if free := s.poll(t); free.Held() {
		t.Errorf("Held() = true by %q after the release", free.Holder)
	}
	s.take(t, bob)
	other := ann
	other.Source = "other"
	if p := s.take(t, other); p.Source != "other" || p.Moves != 0 {
		t.Errorf("TakePoll() of another source = %+v, want one that never moved", p)
	}
}

func testPollLeaseEnds(t *testing.T, s polled) {
	short := ann
	short.For = 20 * time.Millisecond
	s.take(t, short)
	for deadline := time.Now().Add(time.Minute); ; {
		p, err := s.TakePoll(t.Context(), bob)
		if err == nil {
			if p.Holder != "bob" {
				t.Errorf("the holder is %q, want bob", p.Holder)
			}
			return
		}
		if !errors.Is(err, store.ErrLeased) || time.Now().After(deadline) {
			t.Fatalf("TakePoll() after the lease ended = %v", err)
		}
	}
}

func testMovePoll(t *testing.T, s polled) {
	start := s.take(t, ann)
	first := to("event_1", 1)
	first.Began, first.Started, first.Missed = directorytest.Start, directorytest.Start.Add(time.Hour), 2
	at1 := s.move(t, ann, start, first)
	want := store.Poll{
		Source: "workos", PollCursor: first.PollCursor, Moves: 1, Began: first.Began, Started: first.Started, Watermark: first.Occurred, Holder: "ann", Missed: 2,
	}
	wantPoll(t, at1, want)
	if at1.Moved.IsZero() || at1.Paged.IsZero() {
		t.Errorf("moved %s, paged %s, want the database's clock", at1.Moved, at1.Paged)
	}
	if _, err := s.MovePoll(t.Context(), ann, start, to("event_other", 2)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("MovePoll() from where the cursor is not any more = %v, want ErrConflict", err)
	}
	wantPoll(t, s.poll(t), want)

	second := to("event_2", 2)
	second.Began, second.Started, second.Missed = directorytest.Start.Add(time.Minute), directorytest.Start.Add(2*time.Hour), 3
	want.PollCursor, want.Moves, want.Watermark, want.Missed = second.PollCursor, 2, second.Occurred, 5
	wantPoll(t, s.move(t, ann, at1, second), want) // where it began stays
}

func testRewindMeanwhile(t *testing.T, s polled) {
	if err := s.RewindPoll(t.Context(), "workos", store.PollCursor{}, "ops"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("RewindPoll() of a source that was never polled = %v, want ErrNotFound", err)
	}
	at1 := s.move(t, ann, s.take(t, ann), to("event_1", 1))
	if err := s.RewindPoll(t.Context(), "workos", at1.PollCursor, "ops"); err != nil {
		t.Fatalf("RewindPoll() = %v", err)
	}
	if _, err := s.MovePoll(t.Context(), ann, at1, to("event_2", 2)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("MovePoll() after a rewind = %v, want ErrConflict", err)
	}
	if err := s.NotePoll(t.Context(), ann, at1, store.PollNote{CaughtUp: true}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("NotePoll() after a rewind = %v, want ErrConflict", err)
	}
	since := store.PollCursor{Since: directorytest.Start}
	if err := s.RewindPoll(t.Context(), "workos", since, "ops"); err != nil {
		t.Fatalf("RewindPoll() = %v", err)
	}
	now := s.poll(t)
	wantPoll(t, now, store.Poll{Source: "workos", PollCursor: since, Moves: 3, Watermark: at1.Watermark, Holder: "ann", RewoundBy: "ops"})
	if now.Rewound.IsZero() {
		t.Error("nothing says when it was rewound")
	}
}

func testPollLost(t *testing.T, s polled) {
	start := s.take(t, ann)
	for name, try := range map[string]func() error{
		"MovePoll": func() error { _, err := s.MovePoll(t.Context(), bob, start, to("event_1", 1)); return err },
		"NotePoll": func() error { return s.NotePoll(t.Context(), bob, start, store.PollNote{Error: "lost"}) },
	} {
		if err := try(); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s() without the lease = %v, want ErrConflict", name, err)
		}
	}
	wantPoll(t, s.poll(t), start)
}

func testRestartPoll(t *testing.T, s polled) {
	at1 := s.move(t, ann, s.take(t, ann), to("event_1", 1))
	restart := store.PollMove{PollCursor: store.PollCursor{Since: directorytest.Start.Add(-time.Hour)}, Restart: true}
	again := s.move(t, ann, at1, restart)
	want := store.Poll{
		Source: "workos", PollCursor: restart.PollCursor, Moves: 2, Watermark: at1.Watermark, Holder: "ann", Restarts: 1,
		RestartedFrom: store.PollCursor{After: "event_1", Occurred: at1.Occurred},
	}
	wantPoll(t, again, want)
	if again.Restarted.IsZero() {
		t.Error("nothing says when it restarted")
	}
	want.PollCursor, want.Moves, want.Watermark = to("event_3", 3).PollCursor, 3, to("event_3", 3).Occurred
	later := s.move(t, ann, again, to("event_3", 3))
	wantPoll(t, later, want)
	if !later.Restarted.Equal(again.Restarted) {
		t.Errorf("restarted %s, then %s, though nothing restarted since", again.Restarted, later.Restarted)
	}
}

func testWatermark(t *testing.T, s polled) {
	at2 := s.move(t, ann, s.take(t, ann), to("event_2", 2))
	at1 := s.move(t, ann, at2, to("event_1", 1))
	if !at1.Watermark.Equal(at2.Occurred) || !at1.Occurred.Equal(to("", 1).Occurred) {
		t.Errorf("the watermark is %s and the cursor's event of %s, want %s and %s", at1.Watermark, at1.Occurred, at2.Occurred, to("", 1).Occurred)
	}
}

func testNotePoll(t *testing.T, s polled) {
	start := s.take(t, ann)
	if !start.Paged.IsZero() || !start.CaughtUp.IsZero() {
		t.Errorf("before the first page it was paged %s, caught up %s", start.Paged, start.CaughtUp)
	}
	first := s.note(t, ann, store.PollNote{Error: "refused"})
	second := s.note(t, ann, store.PollNote{Error: "refused otherwise", CaughtUp: true})
	if second.Error != "refused otherwise" || first.Failed.IsZero() || !second.Failed.Equal(first.Failed) || !second.Paged.IsZero() || !second.CaughtUp.IsZero() {
		t.Errorf("after two failures: %q since %s, first since %s; paged %s, caught up %s", second.Error, second.Failed, first.Failed, second.Paged, second.CaughtUp)
	}
	behind := s.note(t, ann, store.PollNote{})
	if behind.Error != "" || !behind.Failed.IsZero() || behind.Paged.IsZero() || !behind.CaughtUp.IsZero() {
		t.Errorf("after a page: %q since %s; paged %s, caught up %s", behind.Error, behind.Failed, behind.Paged, behind.CaughtUp)
	}
	if there := s.note(t, ann, store.PollNote{CaughtUp: true}); there.CaughtUp.IsZero() || there.Moves != 0 {
		t.Errorf("caught up %s with %d moves, want a time and none", there.CaughtUp, there.Moves)
	}
	s.note(t, ann, store.PollNote{Error: "again"})
	if moved := s.move(t, ann, start, to("event_1", 1)); moved.Error != "" || !moved.Failed.IsZero() {
		t.Errorf("after a move: %q since %s, want neither", moved.Error, moved.Failed)
	}
}

func testKnown(t *testing.T, s polled) {
	want := map[store.EventKey]store.Outcome{}
	ask := []store.EventKey{{Source: "workos", ID: "event_9"}, {Source: "other", ID: "elsewhere"}, {Source: "workos", ID: `e'"\ü`}}
	elsewhere := store.EventKey{Source: "workos", ID: "elsewhere"}
	b := store.Batch{Ledger: []store.Entry{{EventKey: elsewhere, Outcome: store.Applied, Received: directorytest.Start, Origin: "hook"}}}
	for id, outcome := range map[string]store.Outcome{
		"event_1": store.Applied, "event_2": store.Superseded, "event_3": store.Ignored, "event_4": store.Parked, `x'"\ü`: store.Applied,
	} {
		key := store.EventKey{Source: "workos", ID: id}
		want[key], ask = outcome, append(ask, key)
		b.Ledger = append(b.Ledger, store.Entry{EventKey: key, Outcome: outcome, Received: directorytest.Start, Origin: "hook"})
	}
	if err := s.Update(t.Context(), nil, func(ctx context.Context, tx store.Tx) error { return tx.Save(ctx, b) }); err != nil {
		t.Fatalf("Update() = %v", err)
	}
	got, err := s.Known(t.Context(), ask)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Known() = %v (-want +got):\n%s", err, diff)
	}
	if none, err := s.Known(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("Known() of nothing = %v, %v", none, err)
	}
}
