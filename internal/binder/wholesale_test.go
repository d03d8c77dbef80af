package binder_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

var one = directory.Scope{Source: "workos", Directory: "directory_1"}

func observing(c *binder.Config) { c.Mode = store.Observe }

// plan returns what telling of directory_1 would do, and its changes, each a kind with what it is about.
func (r *rig) plan(b *binder.Binder, everything bool) (binder.Plan, []string) {
	r.Helper()
	p, err := b.Plan(r.Context(), one, everything)
	if err != nil {
		r.Fatalf("Plan() = %v", err)
	}
	var lines []string
	for _, c := range p.Changes {
		lines = append(lines, fmt.Sprint(c.Kind, " ", c.Account, c.Group, c.Role))
	}
	return p, lines
}

func enforced(reason string) store.ModeRow {
	return store.ModeRow{Scope: one, Mode: store.Enforce, By: "grace", Reason: reason}
}

// mode returns the mode of directory_1.
func (r *rig) mode() store.Mode {
	r.Helper()
	modes, err := r.store.Modes(context.WithoutCancel(r.Context()))
	i := slices.IndexFunc(modes, func(m store.ModeRow) bool { return m.Scope == one })
	if err != nil || i < 0 {
		r.Fatalf("Modes() = %v, %v", modes, err)
	}
	return modes[i].Mode
}

func TestWhatWasObservedIsToldAsItCameOutOnceAndLeaversFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, external_id) VALUES (1, 'bob'), (2, 'cyd')`)
		r.exec(`INSERT INTO app_members (user_id, group_id) VALUES (2, 'group_1')`)
		b, _ := r.start(observing)
		r.fold(joins("ada"), joins("bob"), added("group_1", "ada"), added("group_admins", "cyd"), joins("cyd"), joins("ada", named("Ada L")), removed("group_1", "ada"), leaves("bob"),
			joins("dan"), leaves("dan"), added("group_1", "ada"))
		r.settle()
		r.shows(`SELECT external_id, disabled FROM app_users`, "bob 0", "cyd 0")

		p, got := r.plan(b, false)
		want := []string{
			"account.deactivated bob", "account.deactivated dan", "account.activated ada", "account.activated cyd",
			"grant.added adagroup_1", "grant.added cydgroup_admins", "role.added cydadmin",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the plan is (-want +got):\n%s", diff)
		}
		if len(p.Leavers) != 1 || p.Leavers[0].AppID != "1" || p.Accounts != 4 {
			t.Errorf("of %d accounts, these lose access: %+v; want bob alone, of 4", p.Accounts, p.Leavers)
		}
		r.shows(`SELECT external_id, disabled FROM app_users`, "bob 0", "cyd 0")

		told, err := b.Tell(t.Context(), p, enforced("they asked"), "enforce")
		if err != nil || told != len(want) {
			t.Fatalf("Tell() = %d, %v, want %d changes", told, err, len(want))
		}
		r.settle()
		r.shows(`SELECT external_id, name, disabled FROM app_users ORDER BY external_id`, "ada Ada L 0", "bob - 1", "cyd cyd 0")
		r.shows(`SELECT external_id, group_id FROM app_members JOIN app_users ON user_id = app_users.id ORDER BY external_id, group_id`, "ada group_1", "cyd group_1", "cyd group_admins")
		r.came("bob", "account.activated observed -", "account.deactivated observed -", "account.deactivated bound 1")
		again := []string{"account.deactivated dan"} // whom the application does not have, and was not told of
		if _, got := r.plan(b, false); !slices.Equal(got, again) || r.mode() != store.Enforce {
			t.Errorf("afterwards %q would be told, and the directory is %s; want %q, and enforce", got, r.mode(), again)
		}
		ledger, err := r.store.Events(t.Context(), store.EventFilter{Type: "rollcall.directory.enforce"})
		if err != nil || len(ledger) != 1 || ledger[0].Reason != "by grace: they asked" || ledger[0].Subject != "directory_1" || ledger[0].Origin != "operator" {
			t.Errorf("the ledger says %+v, %v, want who did it and why, once", ledger, err)
		}

		if _, all := r.plan(b, true); !slices.Equal(all, want) {
			t.Errorf("from the beginning %q would be told, want %q", all, want)
		}
		r.fold(joins("eve"))
		r.settle()
		r.shows(`SELECT external_id FROM app_users WHERE external_id = 'eve'`, "eve")
	})
}

func TestAPlanLeavesOutAllThatWhoIsProtectedWouldLose(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, external_id) VALUES (1, 'ada'), (2, 'boss')`)
		b, _ := r.start(observing, spared)
		r.fold(joins("ada"), joins("boss"), added("group_admins", "boss"), leaves("ada"), leaves("boss"))
		r.settle()
		p, got := r.plan(b, false)
		if diff := cmp.Diff([]string{"account.deactivated ada"}, got); diff != "" {
			t.Errorf("the plan is (-want +got):\n%s", diff)
		}
		if len(p.Leavers) != 1 || p.Leavers[0].AppID != "1" || len(p.Protected) != 1 || p.Protected[0].AppID != "2" {
			t.Errorf("these lose access: %+v, and these are protected: %+v; want ada, and boss", p.Leavers, p.Protected)
		}
		if told, err := b.Tell(t.Context(), p, enforced(""), "enforce"); err != nil || told != 1 {
			t.Fatalf("Tell() = %d, %v, want 1", told, err)
		}
		r.settle()
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0`, "boss")
	})
}

// Their directory said of them alone that they left, and that word only waited: what is told again says it, too.
func TestWhoIsProtectedAndLeftLosesAccessThoughEverythingIsToldAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b := r.binder(spared, func(c *binder.Config) { c.Bindings = append(c.Bindings, effect("effects")) })
		drain := func() {
			if err := b.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		drain()
		r.fold(joins("boss"), added("group_admins", "boss"), joins("owner"))
		drain()
		r.becomes("directory_1", store.Observe)
		r.fold(leaves("owner"))
		r.becomes("directory_1", store.Observe) // which lays it aside
		r.becomes("directory_1", store.Enforce)
		r.fold(leaves("boss"))
		word := fmt.Sprintf("event_%06d", r.events)
		p, got := r.plan(b, true)
		want := []string{"account.deactivated boss", "grant.revoked bossgroup_admins", "role.revoked bossadmin"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the plan is (-want +got):\n%s", diff)
		}
		if len(p.Leavers) != 1 || p.Leavers[0].Account.ID != "boss" || len(p.Protected) != 1 || p.Protected[0].Account.ID != "owner" {
			t.Errorf("these lose access: %+v, and these are protected: %+v; want boss, and owner", p.Leavers, p.Protected)
		}
		if _, err := b.Tell(t.Context(), p, enforced("mended"), "resync"); err != nil {
			t.Fatalf("Tell() = %v", err)
		}
		drain()
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0`, "owner")
		r.shows(`SELECT group_id FROM app_members`)
		r.shows(`SELECT role FROM app_roles`)
		if events := read(t, r.truth, `SELECT DISTINCT event FROM `+r.schema+`changes WHERE account_key = 'boss' AND bound_result = 'bound' AND kind = 'account.deactivated'`); !slices.Equal(events, []string{word}) {
			t.Errorf("boss was ended by %q, want the directory's word, %s", events, word)
		}
	})
}

func TestAPlanIsNotCarriedOutWhenSomebodyElseWouldLoseAccessByNow(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, external_id) VALUES (1, 'ada'), (2, 'bob')`)
		b, _ := r.start(observing)
		r.fold(joins("ada"), joins("bob"), leaves("ada"))
		r.settle()
		p, _ := r.plan(b, false)
		r.fold(leaves("bob"))
		if _, err := b.Tell(t.Context(), p, enforced(""), "enforce"); !errors.Is(err, binder.ErrMoved) {
			t.Fatalf("Tell() = %v, want ErrMoved", err)
		}
		r.settle()
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0`, "ada", "bob")
		if got := r.mode(); got != store.Observe {
			t.Errorf("the directory is %s, want it observed as before", got)
		}

		p, _ = r.plan(b, false)
		r.fold(joins("cyd"), joins("ada"))
		told, err := b.Tell(t.Context(), p, enforced(""), "enforce")
		if err != nil || told != 3 {
			t.Fatalf("Tell() = %d, %v, want 3 changes: who joined meanwhile is told of, and who came back loses nothing", told, err)
		}
		r.settle()
		r.shows(`SELECT external_id FROM app_users WHERE disabled = 0 ORDER BY external_id`, "ada", "cyd")
	})
}

func TestWhatWaitsWhenEverythingIsToldAgainIsNotToldByItself(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b := r.binder()
		if err := b.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.fold(joins("ada"))
		if _, err := r.store.Admit(t.Context(), store.Enforce); err != nil {
			t.Fatal(err)
		}
		r.fold(joins("ada", named("Ada L")))
		p, _ := r.plan(b, true)
		if told, err := b.Tell(t.Context(), p, enforced("restored"), "resync"); err != nil || told != 1 {
			t.Fatalf("Tell() = %d, %v, want 1", told, err)
		}
		if err := b.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.came("ada", "account.activated observed -", "account.updated observed -", "account.activated bound 2")
		r.shows(`SELECT external_id, name FROM app_users`, "ada Ada L")
	})
}

func TestAGuardAsksForTheNumberOfLeaversAtItsEdges(t *testing.T) {
	t.Parallel()
	g := binder.Guard{Accounts: 50, Percent: 10, Floor: 5}
	for name, c := range map[string]struct {
		leavers, accounts int
		want              bool
	}{
		"nobody":                         {0, 0, false},
		"the floor, which is everybody":  {5, 5, false},
		"one more than the floor":        {6, 6, true},
		"the part, to the person":        {50, 500, false},
		"the part, and one account less": {50, 499, true},
		"as many as may":                 {50, 100_000, false},
		"one more than may":              {51, 100_000, true},
		"a part of few":                  {6, 60, false},
		"a little more of few":           {6, 59, true},
	} {
		if got := g.Exceeded(c.leavers, c.accounts); got != c.want {
			t.Errorf("%s: Exceeded(%d, %d) = %t, want %t", name, c.leavers, c.accounts, got, c.want)
		}
	}
	if (binder.Guard{}).Exceeded(0, 10) || !(binder.Guard{}).Exceeded(1, 10) {
		t.Error("a guard of zeros lets somebody go, or asks about nobody")
	}
}
