package main

import (
	"bytes"
	"context"
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// onBothDatabases runs a test on a migrated database of each kind.
func onBothDatabases(t *testing.T, test func(t *testing.T, s store.Store)) {
	t.Helper()
	for name, set := range map[string]func(t *testing.T, c *config.Config){
		"SQLite": func(t *testing.T, c *config.Config) {
			c.Store.Backend, c.Store.Path = config.BackendSQLite, filepath.Join(t.TempDir(), "rollcall.db")
		},
		"PostgreSQL": func(t *testing.T, c *config.Config) {
			c.Store.Backend, c.Store.DSN = config.BackendPostgres, config.Sensitive(testenv.Database(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config.Default()
			c.Environment = "test"
			set(t, &c)
			s, err := app.OpenStore(t.Context(), c, "1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			if _, err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			test(t, s)
		})
	}
}

func save(t *testing.T, s store.Store, b store.Batch) {
	t.Helper()
	if err := s.Update(t.Context(), nil, func(ctx context.Context, tx store.Tx) error { return tx.Save(ctx, b) }); err != nil {
		t.Fatal(err)
	}
}

func TestDecisionIsLaterThanAllThatItDecidesOnWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	onBothDatabases(t, func(t *testing.T, s store.Store) {
		later := time.Now().Add(2 * time.Minute).UTC().Truncate(time.Microsecond)
		end := directory.Event{ID: "event_end", Occurred: later, Removes: true}
		var talk bytes.Buffer
		c := &cli{talk: &talk}
		e := operator.Event{Type: operator.Deprovision, Directory: "directory_1", Organization: "org_1"}
		if err := c.decide(t.Context(), s, "workos", e, deciding{reason: "the contract ended"}, end.Version(), ""); err != nil {
			t.Fatal(err)
		}
		due, err := s.Due(t.Context(), time.Now().Add(time.Minute), 10)
		if err != nil || len(due) != 1 || due[0].Origin != "operator" || due[0].Class != "operator" {
			t.Fatalf("Due() = %+v, %v, want the decision", due, err)
		}
		got, err := operator.Decode(due[0].Body)
		if err != nil || got.In("workos").Version() <= end.Version() {
			t.Errorf("the decision occurred at %s, %v; want later than %s", got.Occurred, err, later)
		}
		if !strings.Contains(talk.String(), got.ID+" is written down; it counts as soon as a worker runs") {
			t.Errorf("it says %q, want that it waits", talk.String())
		}
	})
}

func TestReplayTakesWhatIsStillParkedAndNothingElse(t *testing.T) {
	t.Parallel()
	onBothDatabases(t, func(t *testing.T, s store.Store) {
		now := time.Now().UTC().Truncate(time.Microsecond)
		var events []store.Dead
		for _, d := range []struct {
			id, origin string
			ledger     store.Outcome // "" when the ledger's retention took it
		}{{"parked", "hook", store.Parked}, {"decided", "operator", store.Parked}, {"forgotten", "hook", ""}, {"folded", "hook", store.Applied}} {
			key := store.EventKey{Source: "workos", ID: d.id}
			dead := store.Dead{EventKey: key, Class: "invalid", Error: "no", Body: []byte(d.id), Origin: d.origin, Received: now}
			b := store.Batch{Dead: []store.Dead{dead}}
			if d.ledger != "" {
				b.Ledger = []store.Entry{{EventKey: key, Origin: d.origin, Received: now, Outcome: d.ledger, Reason: "invalid: no"}}
			}
			save(t, s, b)
			events = append(events, dead)
		}
		keys, err := makeDue(t.Context(), s, events, now)
		if err != nil || len(keys) != 3 {
			t.Fatalf("makeDue() = %v, %v, want all but what is folded", keys, err)
		}
		due, err := s.Due(t.Context(), now, 10)
		var got []string
		for _, d := range due {
			got = append(got, fmt.Sprintf("%s by %s, tried %d, %s", d.ID, d.Origin, d.Attempts, d.Body))
		}
		slices.Sort(got)
		want := []string{"decided by operator, tried 1, decided", "forgotten by replay, tried 1, forgotten", "parked by replay, tried 1, parked"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Due() = %q, %v, want %q", got, err, want)
		}
		if e, err := s.Event(t.Context(), "workos", "parked"); err != nil || e.Outcome != store.Parked || e.Reason != "invalid: no" {
			t.Errorf("the ledger says %+v, %v, want that it is parked, as it was", e, err)
		}
		handed := map[store.EventKey]bool{}
		for _, k := range keys {
			handed[k] = true
		}
		if waits, again, err := replayed(t.Context(), s, handed, now); waits != 3 || again != 0 || err != nil {
			t.Errorf("replayed() = %d, %d, %v, want 3 that wait", waits, again, err)
		}
	})
}

func TestWhatCannotBeDecidedSaysWhyAndWhatWasDecidedIsNotDecidedAgain(t *testing.T) {
	t.Parallel()
	const before, floor, later = directory.Version("0000000000000001"), directory.Version("0000000000000002"), directory.Version("0000000000000003")
	live := directory.Register{Version: floor}
	held := directory.Register{Version: floor, Removed: true, Floor: floor}
	with := func(r directory.Register, d directory.Decision, v directory.Version) directory.Register {
		r.Decision, r.DecisionVersion = d, v
		return r
	}
	for name, c := range map[string]struct {
		register   directory.Register
		decision   directory.Decision
		done, fail string
	}{
		"end a live one":                         {live, directory.DecisionDeprovision, "", "its accounts live"},
		"hold a live one":                        {live, directory.DecisionKeep, "", "nothing to hold"},
		"release a live one":                     {live, directory.DecisionRelease, "no decision", ""},
		"hold one that came back after its end":  {with(live, directory.DecisionDeprovision, later), directory.DecisionKeep, "", ""},
		"release it":                             {with(live, directory.DecisionDeprovision, later), directory.DecisionRelease, "", ""},
		"end a held one":                         {held, directory.DecisionDeprovision, "", ""},
		"hold a held one":                        {held, directory.DecisionKeep, "", ""},
		"hold one that was held at an older end": {with(held, directory.DecisionKeep, before), directory.DecisionKeep, "", ""},
		"hold one that is kept":                  {with(held, directory.DecisionKeep, later), directory.DecisionKeep, "decided already", ""},
		"end one that was ended at an older end": {with(held, directory.DecisionDeprovision, before), directory.DecisionDeprovision, "decided already", ""},
	} {
		done, err := decidable(c.register, c.decision)
		if (err != nil) != (c.fail != "") || err != nil && (!strings.Contains(err.Error(), c.fail) || !strings.Contains(err.Error(), "\nhint: ")) ||
			(done != "") != (c.done != "") || !strings.Contains(done, c.done) {
			t.Errorf("%s: decidable() = %q, %v, want %q, %q", name, done, err, c.done, c.fail)
		}
	}
}

func TestOperatorIsWhoSaysSoOrWhoIsLoggedIn(t *testing.T) {
	t.Setenv(operatorVariable, "olga")
	if got, err := operatorName(); got != "olga" || err != nil {
		t.Errorf("operatorName() = %q, %v, want what the variable says", got, err)
	}
	t.Setenv(operatorVariable, "")
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := operatorName(); got != u.Username || err != nil {
		t.Errorf("operatorName() = %q, %v, want %q, who is logged in", got, err, u.Username)
	}
}
