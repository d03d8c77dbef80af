package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

// What operators decide goes the way of all events, and of no webhook.

func decides(id string, minute int, eventType string) operator.Event {
	return operator.Event{
		ID: id, Type: eventType, Directory: "directory_1", Organization: "org_1", By: "olga", Reason: "asked for by mail",
		Occurred: directorytest.Start.Add(time.Duration(minute) * time.Minute),
	}
}

func endsAccount(id string, minute int, name string) operator.Event {
	e := decides(id, minute, operator.AccountDeprovisioned)
	e.User = &operator.Person{ID: "user_" + name, IDPID: "idp-" + name, Profile: directory.Profile{Email: name + "@example.com", FirstName: name}}
	return e
}

// decision is the delivery of an operator's event.
func (r *rig) decision(e operator.Event) queue.Delivery {
	r.t.Helper()
	body, err := e.Body()
	if err != nil {
		r.t.Fatalf("Body(%s) = %v", e.ID, err)
	}
	return queue.Delivery{Source: "real", ID: e.ID, Directory: e.Directory, Origin: queue.Operator, Body: body, Force: true}
}

func (r *rig) decide(source string, e operator.Event) {
	r.t.Helper()
	d := r.decision(e)
	d.Source = source
	r.deliver(d)
}

func TestOperatorsDecisionsAreFoldedAndTheLedgerSaysWhoAndWhy(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		log := &lines{}
		r.start(func(c *worker.Config) { c.Log = zerolog.New(log) })
		r.send(joins("e1", 1, "ada"), directoryEnds("e2", 2))
		r.decide("workos", decides("d3", 3, operator.Deprovision))
		r.settle()
		got := r.ledger("d3")
		if got.Origin != "operator" || got.Outcome != store.Applied || got.Type != operator.Deprovision || got.Subject != "directory_1" || got.Reason != "by olga: asked for by mail" {
			t.Errorf("ledger: %+v, want who decided, and why", got)
		}
		if active := r.check(); len(active) != 0 {
			t.Errorf("after the decision: %q, want nobody", active)
		}
		r.decide("workos", decides("d4", 4, operator.Release))
		r.settle()
		if diff := cmp.Diff([]string{"directory_1 idp-ada ada@example.com"}, r.check()); diff != "" {
			t.Errorf("after it was taken back: want (-), got (+):\n%s", diff)
		}
		r.decide("workos", decides("d5", 5, operator.Hold))
		r.settle()
		if held, err := r.store.Held(t.Context()); err != nil || len(held) != 0 {
			t.Errorf("Held() = %v, %v, want none: an operator decided", held, err)
		}
		if n := log.count(`"reason":"by olga: asked for by mail","message":"an operator decided"`); n != 3 {
			t.Errorf("%d lines of decisions, want 3", n)
		}
	})
}

func TestOneAccountEndsByHandAndKeepsItsFaceUntilTheDirectorySaysMore(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		r.send(joins("e1", 1, "ada"), added("e2", 2, "eng", "ada"), joins("e3", 3, "bob"))
		r.decide("workos", endsAccount("d4", 4, "ada"))
		r.settle()
		if diff := cmp.Diff([]string{"directory_1 idp-bob bob@example.com"}, r.check()); diff != "" {
			t.Errorf("after the decision: want (-), got (+):\n%s", diff)
		}
		changes, err := r.store.Changes(t.Context(), store.ChangeFilter{Event: "d4"})
		if err != nil || len(changes) != 2 || changes[0].Kind != directory.AccountDeactivated || changes[0].After.Email != "ada@example.com" || changes[0].After.State != operator.State {
			t.Errorf("changes: %+v, %v, want the leaver with her address, and her grant revoked", changes, err)
		}
		r.decide("workos", endsAccount("d2", 2, "bob")) // the directory said something newer
		r.send(joins("e6", 6, "ada"))
		r.settle()
		if got := r.check(); len(got) != 3 {
			t.Errorf("after the directory said more: %q, want both, and the grant", got)
		}
	})
}

func TestWebhookIsNeverTakenForAnOperatorsDecision(t *testing.T) {
	everywhere(t, settings{policy: directory.DecisionKeep}, func(t *testing.T, r *rig) {
		r.start()
		r.send(joins("e1", 1, "ada"))
		for name, origin := range map[string]queue.Origin{"d1": queue.Hook, "d2": queue.Poll, "d4": queue.Replay, "d5": "Operator"} {
			d := r.decision(endsAccount(name, 9, "ada"))
			d.Source, d.Origin = "real", origin
			r.deliver(d)
		}
		r.settle()
		for _, name := range []string{"d1", "d2", "d4", "d5"} {
			if got := r.ledger(name); got.Outcome != store.Ignored || !strings.HasPrefix(got.Reason, "no event of a directory that is known: ") {
				t.Errorf("%s is %q (%s), want it ignored as a provider's that nobody knows", name, got.Outcome, got.Reason)
			}
		}
		if got := r.changes(); slices.ContainsFunc(got, func(c string) bool { return strings.HasPrefix(c, "account.deactivated") }) {
			t.Errorf("changes: %q; a webhook ended an account as an operator", got)
		}
	})
}

func TestDecisionOnADirectoryWhoseSourceIsNoMoreConfiguredIsFolded(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		r.decide("gone", decides("d1", 1, operator.Deprovision))
		r.settle()
		r.wantOutcome("d1", store.Applied)
	})
}

func TestDecisionThatCannotBeReadIsParked(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		d := r.decision(decides("d1", 1, operator.Hold))
		d.Body = []byte(strings.Replace(string(d.Body), `"version":1`, `"version":7`, 1))
		r.deliver(d)
		r.settle()
		if got := r.dead("real", "d1"); got.Class != "invalid" || got.Origin != "operator" || got.Type != operator.Hold || !strings.Contains(got.Error, "version 7") {
			t.Errorf("dead event %+v, want it kept, and the reason", got)
		}
	})
}

// An operator's command leaves what it decided in the database, parked and due: it may run where the queue is not to be
// had, and what it wrote is not lost.
func TestWhatIsLeftInTheDatabaseAndDueIsTakenIntoTheQueue(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"))
		d := r.decision(endsAccount("d2", 2, "ada"))
		key := store.EventKey{Source: "workos", ID: "d2"}
		err := r.store.Update(t.Context(), nil, func(ctx context.Context, tx store.Tx) error {
			return tx.Save(ctx, store.Batch{
				Ledger: []store.Entry{{EventKey: key, Received: r.clock(), Origin: "operator", Outcome: store.Parked, Reason: "operator: it waits for a worker"}},
				Dead:   []store.Dead{{EventKey: key, Class: "operator", Error: "it waits for a worker", Directory: d.Directory, Body: d.Body, Origin: "operator", Received: r.clock(), Due: r.clock()}},
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		r.start()
		r.until("the decision is folded", func() bool { return r.ledger("d2").Outcome == store.Applied })
		r.settle()
		if got := r.ledger("d2"); got.Origin != "operator" || got.Reason != "by olga: asked for by mail" {
			t.Errorf("ledger: %+v, want who decided, and why", got)
		}
		if active := r.check(); len(active) != 0 {
			t.Errorf("after the decision: %q, want nobody", active)
		}
		if dead, err := r.store.DeadEvents(t.Context(), store.EventFilter{}); err != nil || len(dead) != 0 {
			t.Errorf("DeadEvents() = %v, %v, want none", dead, err)
		}
	})
}

func TestDirectoriesAreTalliedAsTheFoldHasThem(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		r.start()
		tally := func() (out []string) {
			rows, err := r.store.Tallies(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range rows {
				out = append(out, fmt.Sprintf("%s/%s %s ended %t: %d accounts, %d active, %d grants, %d barred", d.Source, d.Directory, d.Organization, d.Ended, d.Accounts, d.Active, d.Grants, d.Barred))
			}
			return out
		}
		want := func(want ...string) {
			t.Helper()
			r.settle()
			if diff := cmp.Diff(want, tally()); diff != "" {
				t.Fatalf("Tallies(): want (-), got (+):\n%s", diff)
			}
		}
		want()
		r.send(joins("e1", 1, "ada"), added("e2", 2, "eng", "ada"), added("e3", 2, "ops", "ada"), joins("e4", 1, "bob"), leaves("e5", 2, "bob"),
			joins("e6", 1, "eve", in("directory_0")))
		want("workos/directory_0 org_1 ended false: 1 accounts, 1 active, 0 grants, 0 barred", "workos/directory_1 org_1 ended false: 2 accounts, 1 active, 2 grants, 0 barred")
		r.send(directoryEnds("e7", 3))
		r.decide("workos", decides("d4", 4, operator.Deprovision))
		r.send(func() directory.Event { e := groupEnds("e8", 1, "eng"); e.Directory = "directory_2"; return e }())
		want("workos/directory_0 org_1 ended false: 1 accounts, 1 active, 0 grants, 0 barred", "workos/directory_1 org_1 ended true: 2 accounts, 0 active, 0 grants, 1 barred",
			"workos/directory_2 org_1 ended false: 0 accounts, 0 active, 0 grants, 0 barred")
		r.decide("workos", endsAccount("d5", 5, "ada"))
		r.settle()
		if got := tally()[1]; !strings.HasSuffix(got, " 0 barred") {
			t.Errorf("Tallies() = %s, want nobody whom only the directory's end keeps out", got)
		}
	})
}
