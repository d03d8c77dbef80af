package directory_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
)

func policy(d directory.Decision) func(string) directory.Decision {
	return func(string) directory.Decision { return d }
}

// world folds in memory, expanding at once, and checks after every batch what must hold whatever was folded.
type world struct {
	t     *testing.T
	state *directory.State
	log   []directory.Change
	seen  int // how many of log a test has looked at
}

func newWorld(t *testing.T, d directory.Decision, roles ...directory.RoleRule) *world {
	return &world{t: t, state: directory.NewState(policy(d), directory.NewRoles(roles...))}
}

func (w *world) fold(events ...directory.Event) []bool {
	w.t.Helper()
	for i := range events {
		if err := events[i].Validate(); err != nil {
			w.t.Fatalf("Validate(%s) = %v, want nil", events[i].ID, err)
		}
	}
	before := w.state.Snapshot()
	won := w.state.Fold(events)
	w.drain()
	w.check(before, events)
	return won
}

// drain expands until nothing is left, and keeps the changes.
func (w *world) drain() {
	for {
		d := w.state.TakeDelta()
		w.log = append(w.log, d.Changes...)
		if len(d.Expansions) == 0 {
			return
		}
		for _, x := range d.Expansions {
			w.expand(x)
		}
	}
}

func (w *world) expand(x directory.Expansion) {
	all := w.state.Snapshot()
	var keys, users []string
	for _, a := range all.Accounts {
		if a.Scope == x.Scope {
			keys = append(keys, a.ID.ID)
		}
	}
	for _, e := range all.Edges {
		if e.Scope == x.Scope && e.Group == x.Group {
			users = append(users, e.User)
		}
	}
	if x.Group == "" {
		w.state.EvaluateAccounts(x, keys)
	} else {
		w.state.EvaluateMembers(x, users)
	}
}

// check is the one checker of what must hold at every step.
func (w *world) check(before directory.Delta, events []directory.Event) {
	w.t.Helper()
	after := w.state.Snapshot()
	active := map[directory.ID]bool{}
	for _, a := range after.Accounts {
		active[a.ID] = a.Active
	}
	for _, g := range after.Granted {
		if !active[directory.ID{Scope: g.Scope, ID: g.Account}] {
			w.t.Fatalf("after %s: %s holds %s without being active", events[0].ID, g.Account, g.Group)
		}
	}
	for _, a := range after.Accounts {
		if !a.Active && a.Roles != nil {
			w.t.Fatalf("after %s: %s has the roles %v without being active", events[0].ID, a.ID.ID, a.Roles)
		}
	}
	if len(events) == 1 && events[0].Removes {
		w.checkRemoval(before, after, events[0])
	}
	replayed := directorytest.Replay(w.log)
	if diff := cmp.Diff(directorytest.Active(after), replayed, cmpopts.EquateEmpty()); diff != "" {
		w.t.Fatalf("after %s: the changes replayed (+) differ from the state (-):\n%s", events[0].ID, diff)
	}
}

// checkRemoval: rule 8, a removal never activates and never grants.
func (w *world) checkRemoval(before, after directory.Delta, e directory.Event) {
	w.t.Helper()
	had := directorytest.Active(before)
	for _, line := range directorytest.Active(after) {
		if !slices.Contains(had, line) {
			w.t.Fatalf("the removal %s %s brought %q", e.Type, e.ID, line)
		}
	}
}

func TestAnyOrderRepetitionAndBatchingFoldsToWhatTheModelSays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		for _, d := range []directory.Decision{directory.DecisionKeep, directory.DecisionDeprovision} {
			events := directorytest.Generate(seed, 60)
			want := directorytest.Model(events, d, directorytest.Rules()...)
			var first directory.Delta
			for round := range uint64(4) {
				w := newWorld(t, d, directorytest.Rules()...)
				for _, batch := range directorytest.Batches(round, directorytest.Shuffled(seed*10+round, events), []int{1, 7, 40, 1}[round]) {
					w.fold(batch...)
				}
				got := w.state.Snapshot()
				if diff := cmp.Diff(want, directorytest.Outcome(got)); diff != "" {
					t.Fatalf("seed %d policy %q round %d: model (-), fold (+):\n%s", seed, d, round, diff)
				}
				if round == 0 {
					first = got
				} else if diff := cmp.Diff(first, got); diff != "" {
					t.Fatalf("seed %d policy %q: round 0 (-) and %d (+) folded to other registers:\n%s", seed, d, round, diff)
				}
			}
		}
	}
}

// hardships are what makes events hard to fold: things that hold of some two of them.
var hardships = map[string]func(a, b *directory.Event) bool{
	"a removal and an assertion of one object at one time": func(a, b *directory.Event) bool {
		return sameObject(a, b) && a.Occurred.Equal(b.Occurred) && a.Removes && !b.Removes
	},
	"a rehire under a new id": func(a, b *directory.Event) bool {
		return bothUsers(a, b) && a.User.IDPID != "" && a.User.IDPID == b.User.IDPID && a.User.ID != b.User.ID && a.User.Created.Before(b.User.Created)
	},
	"two users of one person created at one time": func(a, b *directory.Event) bool {
		return bothUsers(a, b) && a.User.IDPID != "" && a.User.IDPID == b.User.IDPID && a.User.ID != b.User.ID && a.User.Created.Equal(b.User.Created)
	},
	"an idp_id that changes": func(a, b *directory.Event) bool {
		return bothUsers(a, b) && sameObject(a, b) && a.User.IDPID != b.User.IDPID
	},
	"an idp_id that is gone": func(a, b *directory.Event) bool {
		return bothUsers(a, b) && sameObject(a, b) && a.User.IDPID != "" && b.User.IDPID == ""
	},
	"one address of two": func(a, b *directory.Event) bool {
		return bothUsers(a, b) && a.User.IDPID != b.User.IDPID && a.User.Email == b.User.Email
	},
	"a group that comes back": func(a, b *directory.Event) bool {
		return a.Group != nil && sameObject(a, b) && a.Removes && !b.Removes && later(a, b)
	},
	"a membership older than its group's end": func(a, b *directory.Event) bool {
		return a.Scope() == b.Scope() && a.Membership != nil && b.Group != nil && a.Membership.Group == b.Group.ID && b.Removes && later(a, b)
	},
	"a directory that comes back": func(a, b *directory.Event) bool {
		return a.Connection != nil && sameObject(a, b) && a.Removes && !b.Removes && later(a, b)
	},
	"a group whose name, and a role with it, changes": func(a, b *directory.Event) bool {
		return a.Group != nil && sameObject(a, b) && later(a, b) && !b.Removes && a.Group.Name == "Group 1.1" && b.Group.Name != "" && b.Group.Name != a.Group.Name
	},
	"a group whose idp_id changes": func(a, b *directory.Event) bool {
		return a.Group != nil && sameObject(a, b) && a.Group.IDPID != b.Group.IDPID
	},
	"a membership that mentions another name than its group says": func(a, b *directory.Event) bool {
		return a.Group != nil && b.Membership != nil && a.Scope() == b.Scope() && a.Group.ID == b.Membership.Group && later(a, b) && a.Group.Name != b.Membership.GroupName
	},
	"a decision after an end": func(a, b *directory.Event) bool {
		return a.Scope() == b.Scope() && a.Connection != nil && a.Removes && b.Decision != "" && later(a, b)
	},
}

func sameObject(a, b *directory.Event) bool {
	return a.Scope() == b.Scope() && a.Subject == b.Subject && a.SubjectID() == b.SubjectID()
}

func bothUsers(a, b *directory.Event) bool {
	return a.User != nil && b.User != nil && a.Scope() == b.Scope()
}

func later(a, b *directory.Event) bool { return a.Version() < b.Version() }

// The property tests, here and on every database, show nothing of what their events do not hold.
func TestGeneratedEventsHoldWhatIsHardToFold(t *testing.T) {
	t.Parallel()
	missing := map[string]int{"a membership of an absent group": 0, "a membership of an absent user": 0}
	for name := range hardships {
		missing[name] = 0
	}
	const seeds = 8 // those that the databases fold
	for seed := range uint64(seeds) {
		events := directorytest.Generate(seed, 120)
		for name, holds := range hardships {
			if !some(events, holds) {
				missing[name]++
			}
		}
		for what, is := range map[string]func(parent, of *directory.Event) bool{
			"a membership of an absent group": func(g, m *directory.Event) bool { return g.Group != nil && g.Group.ID == m.Membership.Group },
			"a membership of an absent user":  func(u, m *directory.Event) bool { return u.User != nil && u.User.ID == m.Membership.User },
		} {
			if !slices.ContainsFunc(events, func(m directory.Event) bool { return m.Membership != nil && !some(events, of(&m, is)) }) {
				missing[what]++
			}
		}
	}
	for name, n := range missing {
		if n > seeds/2 {
			t.Errorf("%d of %d seeds hold no case of %s", n, seeds, name)
		}
	}
}

// of fixes the second of two: the parents of one membership.
func of(m *directory.Event, is func(parent, of *directory.Event) bool) func(a, _ *directory.Event) bool {
	return func(a, _ *directory.Event) bool { return a.Scope() == m.Scope() && is(a, m) }
}

func some(events []directory.Event, holds func(a, b *directory.Event) bool) bool {
	for i := range events {
		for j := range events {
			if i != j && holds(&events[i], &events[j]) {
				return true
			}
		}
	}
	return false
}

func TestFoldingAnEventAgainMovesNothing(t *testing.T) {
	t.Parallel()
	events := directorytest.Generate(7, 200)
	w := newWorld(t, directory.DecisionDeprovision, directorytest.Rules()...)
	w.fold(events...)
	changes := len(w.log)
	for _, won := range w.fold(events...) {
		if won {
			t.Fatal("an event folded twice moved a register the second time")
		}
	}
	if len(w.log) != changes {
		t.Fatalf("folding the same events again made %d changes more, want none", len(w.log)-changes)
	}
}

func BenchmarkFold(b *testing.B) {
	events := directorytest.Generate(3, 256)
	for b.Loop() {
		s := directory.NewState(nil, directory.Roles{})
		s.Fold(events)
		s.TakeDelta()
	}
	b.ReportMetric(float64(len(events)*b.N)/b.Elapsed().Seconds(), "events/s")
}

func (w *world) active() []string { return directorytest.Active(w.state.Snapshot()) }

func kinds(changes []directory.Change) []string {
	var out []string
	for _, c := range changes {
		line := string(c.Kind)
		if c.Account != "" {
			line += " " + c.Account
		}
		if c.Group != "" {
			line += " " + c.Group
		}
		if c.Role != "" {
			line += " " + c.Role
		}
		out = append(out, fmt.Sprintf("%s by %s", line, c.Event))
	}
	return out
}
