// Package storetest is the contract of package store as tests, to run against every backend.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Backend opens stores.
type Backend struct {
	// Open opens an empty database, unmigrated; the same place again for the same place.
	Open func(t testing.TB, place string, c store.Config) store.Store
	// Place names a fresh database.
	Place func(t testing.TB) string
	// Parallel says whether transactions of different directories run at once.
	Parallel bool
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"any order, repetition and batching folds as in memory":        testProperty,
		"short histories fold as in memory, one event at a time":       testShortHistories,
		"awkward values come out as they went in":                      testAwkward,
		"an event enters the ledger once":                              testLedgerOnce,
		"two transactions on a directory exclude each other":           testExclusion,
		"directories do not wait for each other":                       testParallel,
		"overlapping sets of directories never deadlock":               testDeadlock,
		"a failed transaction leaves nothing":                          testRollback,
		"parked and ignored events are opened again in place":          testReopen,
		"what is left of a dead event is replaced":                     testDeadAgain,
		"deferred events come due":                                     testDue,
		"an end shows at once and is expanded in chunks":               testExpansion,
		"a mapping of roles that changed is carried through once":      testRemapRoles,
		"a group that is renamed moves its role, in chunks":            testRenamedGroup,
		"lists narrow by their filters":                                testReader,
		"two starters migrate once":                                    testMigrate,
		"another environment's database is refused":                    testEnvironment,
		"a migrated database that needs a newer binary is refused":     testTooOld,
		"the binary before runs on a schema that a newer one migrated": testNewerSchema,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

func config(d directory.Decision) store.Config {
	return store.Config{
		Environment: "test", Binary: "1.2.3", Policy: func(string) directory.Decision { return d }, MaxConns: 4,
		Roles: directory.NewRoles(directorytest.Rules()...),
	}
}

func (b Backend) open(t testing.TB, c store.Config) store.Store {
	t.Helper()
	s := b.Open(t, b.Place(t), c)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate() = %v", err)
	}
	return s
}

// inMemory is a state that folds as a store of config does.
func inMemory(d directory.Decision) *directory.State {
	c := config(d)
	return directory.NewState(c.Policy, c.Roles)
}

func scopesOf(events []directory.Event) []directory.Scope { return directory.NeedOf(events).Scopes }

func keysOf(events []directory.Event) (keys []store.EventKey) {
	for _, e := range events {
		keys = append(keys, store.EventKey{Source: e.Source, ID: e.ID})
	}
	return keys
}

func entryOf(e directory.Event, outcome store.Outcome) store.Entry {
	return store.Entry{
		EventKey: store.EventKey{Source: e.Source, ID: e.ID}, Type: e.Type, Subject: e.SubjectID(), Directory: e.Directory, Organization: e.Organization,
		Occurred: e.Occurred, Received: e.Occurred.Add(time.Second), Origin: "hook", Outcome: outcome, KeyVersion: "3", SignedAt: e.Occurred.Add(time.Millisecond),
		BodySHA256: strings.Repeat("ab", 32), Binary: "1.2.3", Config: "digest",
	}
}

// Fold folds the events that the ledger does not hold, as a worker does.
func Fold(ctx context.Context, s store.Store, events []directory.Event) error {
	return s.Update(ctx, scopesOf(events), func(ctx context.Context, tx store.Tx) error {
		state, known, err := tx.Load(ctx, directory.NeedOf(events), keysOf(events))
		if err != nil {
			return err
		}
		var fresh []directory.Event
		for _, e := range events {
			key := store.EventKey{Source: e.Source, ID: e.ID}
			if _, seen := known[key]; !seen {
				known[key] = store.Entry{}
				fresh = append(fresh, e)
			}
		}
		var b store.Batch
		for i, won := range state.Fold(fresh) {
			outcome := store.Superseded
			if won {
				outcome = store.Applied
			}
			b.Ledger = append(b.Ledger, entryOf(fresh[i], outcome))
		}
		b.Delta = state.TakeDelta()
		return tx.Save(ctx, b)
	})
}

// Expand does one chunk of every open expansion and reports whether there was any.
func Expand(ctx context.Context, s store.Store, limit int) (bool, error) {
	pending, err := s.Expansions(ctx, 10)
	for _, p := range pending {
		_, failed := store.Expand(ctx, s, p, limit)
		err = errors.Join(err, failed)
	}
	return len(pending) > 0, err
}

func fold(t testing.TB, s store.Store, events ...directory.Event) {
	t.Helper()
	if err := Fold(t.Context(), s, events); err != nil {
		t.Fatalf("fold %d events: %v", len(events), err)
	}
}

func drain(t testing.TB, s store.Store, limit int) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = Expand(t.Context(), s, limit); err != nil {
			t.Fatalf("expand: %v", err)
		}
	}
}

// Check is the one checker of what must hold of a database that has no open expansion: the views say what was announced,
// the changes say it too, and their numbers rise.
func Check(t testing.TB, s store.Store) directory.Delta {
	t.Helper()
	dump, err := s.Dump(t.Context())
	if err != nil {
		t.Fatalf("Dump() = %v", err)
	}
	changes, err := s.Changes(t.Context(), store.ChangeFilter{Limit: 1_000_000})
	if err != nil {
		t.Fatalf("Changes() = %v", err)
	}
	var log []directory.Change
	for i, c := range changes {
		if i > 0 && c.Seq <= changes[i-1].Seq {
			t.Fatalf("change %d follows %d", c.Seq, changes[i-1].Seq)
		}
		log = append(log, c.Change)
	}
	want := directorytest.Active(dump)
	if diff := cmp.Diff(want, directorytest.Replay(log), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the changes replayed (+) differ from the registers (-):\n%s", diff)
	}
	active := true
	accounts, err := s.Accounts(t.Context(), store.AccountFilter{Active: &active, Limit: 1_000_000})
	if err != nil {
		t.Fatalf("Accounts() = %v", err)
	}
	var seen directory.Delta
	for _, a := range accounts {
		seen.Accounts = append(seen.Accounts, a.Account)
		for _, g := range a.Groups {
			seen.Granted = append(seen.Granted, directory.Grant{GrantID: directory.GrantID{Scope: a.Scope, Account: a.Account.ID.ID, Group: g.ID}})
		}
	}
	if diff := cmp.Diff(want, directorytest.Active(seen), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the views (+) differ from the registers (-):\n%s", diff)
	}
	return dump
}

func testProperty(t *testing.T, b Backend) {
	for seed := range uint64(8) {
		policy := []directory.Decision{directory.DecisionKeep, directory.DecisionDeprovision}[seed%2]
		events := directorytest.Generate(seed, 120)
		memory := inMemory(policy)
		memory.Fold(events)
		Settle(memory)
		for round := range uint64(2) {
			s := b.open(t, config(policy))
			for _, batch := range directorytest.Batches(round, directorytest.Shuffled(seed*10+round, events), 30) {
				fold(t, s, batch...)
				if round == 0 {
					drain(t, s, 2)
				}
			}
			drain(t, s, 3)
			got := Check(t, s)
			if diff := cmp.Diff(directorytest.Model(events, policy, directorytest.Rules()...), directorytest.Outcome(got)); diff != "" {
				t.Fatalf("seed %d round %d: model (-), database (+):\n%s", seed, round, diff)
			}
			if diff := cmp.Diff(memory.Snapshot(), got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d round %d: memory (-), database (+):\n%s", seed, round, diff)
			}
		}
	}
}

// testShortHistories folds few events, each in a transaction of its own: nothing that comes later can hide what a load
// forgot. Each history is moved to a source of its own, so that all of them share a database.
func testShortHistories(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	for seed := range uint64(60) {
		events := directorytest.Generate(1000+seed, 8)
		for i := range events {
			events[i].Source = fmt.Sprintf("%s-%d", directorytest.Source, seed)
		}
		memory := inMemory(directory.DecisionKeep)
		for _, e := range events {
			memory.Fold([]directory.Event{e})
			fold(t, s, e)
		}
		Settle(memory)
		drain(t, s, 3)
		all, err := s.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(memory.Snapshot(), of(all, events[0].Source), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d: memory (-), database (+):\n%s", seed, diff)
		}
	}
}

// of returns what a dump says of one source.
func of(d directory.Delta, source string) directory.Delta {
	return directory.Delta{
		Directories: slices.DeleteFunc(d.Directories, func(r directory.Register) bool { return r.Source != source }),
		Users:       slices.DeleteFunc(d.Users, func(u directory.User) bool { return u.Source != source }),
		Groups:      slices.DeleteFunc(d.Groups, func(g directory.Group) bool { return g.Source != source }),
		Edges:       slices.DeleteFunc(d.Edges, func(e directory.Edge) bool { return e.Source != source }),
		Accounts:    slices.DeleteFunc(d.Accounts, func(a directory.Account) bool { return a.Source != source }),
		Granted:     slices.DeleteFunc(d.Granted, func(g directory.Grant) bool { return g.Source != source }),
	}
}

// Settle expands in memory until nothing is left.
func Settle(s *directory.State) {
	for {
		d := s.TakeDelta()
		if len(d.Expansions) == 0 {
			return
		}
		all := s.Snapshot()
		for _, x := range d.Expansions {
			for _, a := range all.Accounts {
				if a.Scope == x.Scope && x.Group == "" {
					s.EvaluateAccounts(x, []string{a.ID.ID})
				}
			}
			for _, e := range all.Edges {
				if e.Scope == x.Scope && e.Group == x.Group {
					s.EvaluateMembers(x, []string{e.User})
				}
			}
		}
	}
}

// ada is a user event; later fields of the person may be changed.
func ada(id string, minute int, change ...func(e *directory.Event)) directory.Event {
	e := directory.Event{
		Source: "workos", ID: id, Type: "dsync.user.updated", Directory: "directory_1", Organization: "org_1",
		Occurred: directorytest.Start.Add(time.Duration(minute) * time.Minute), Subject: directory.SubjectUser,
		User: &directory.Person{ID: "user_ada", IDPID: "idp-ada", State: "active", Created: directorytest.Start, Profile: directory.Profile{Email: "Ada@example.com"}},
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

func removes(e *directory.Event) { e.Removes = true }

func in(directoryID string) func(e *directory.Event) {
	return func(e *directory.Event) { e.Directory = directoryID }
}

func member(id string, minute int, group, user string) directory.Event {
	e := ada(id, minute)
	e.Subject, e.User, e.Type = directory.SubjectMembership, nil, "dsync.group.user_added"
	e.Membership = &directory.Membership{Group: group, User: user, GroupName: strings.ToUpper(group)}
	return e
}

func testAwkward(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	memory := inMemory(directory.DecisionKeep)
	long := strings.Repeat("é", directory.MaxID/2)
	for n, value := range []string{"O'Brien", `"quoted" \ back`, "Zoë 🦊", "{\"json\":[1]}", "%s;--", "\u2028\t\r\n", long, "' OR 1=1", "NULL", "\\N"} {
		e := ada(fmt.Sprint("event ", value), n, func(e *directory.Event) {
			e.User.ID, e.User.IDPID, e.Organization, e.Directory = "user"+value[:min(20, len(value))], value, value, value
			e.User.Profile = directory.Profile{Email: value, FirstName: value, LastName: value, Name: value, Attributes: map[string]string{value: value, "": "x"}}
		})
		if strings.ToValidUTF8(e.User.ID, "") != e.User.ID {
			e.User.ID = "user"
		}
		e.ID = e.ID[:min(len(e.ID), 40)]
		if strings.ToValidUTF8(e.ID, "") != e.ID {
			e.ID = "event long"
		}
		g := member("member"+fmt.Sprint(n), n, value, e.User.ID)
		g.Directory = value
		fold(t, s, e, g)
		memory.Fold([]directory.Event{e, g})
	}
	if diff := cmp.Diff(memory.Snapshot(), Check(t, s), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("memory (-), database (+):\n%s", diff)
	}
}

func testLedgerOnce(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	// The same event under two directories, so that their locks do not keep the two apart.
	events := []directory.Event{ada("event_1", 1), ada("event_1", 1, in("directory_2"))}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			for errs[i] = store.ErrConflict; errors.Is(errs[i], store.ErrConflict); {
				errs[i] = Fold(t.Context(), s, events[i%2:i%2+1])
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	ledger, err := s.Events(t.Context(), store.EventFilter{})
	if err != nil || len(ledger) != 1 {
		t.Errorf("Events() = %d entries, %v, want 1", len(ledger), err)
	}
	accounts, err := s.Accounts(t.Context(), store.AccountFilter{})
	if err != nil || len(accounts) != 1 {
		t.Errorf("Accounts() = %d, %v, want 1: what lost the race must change nothing", len(accounts), err)
	}
}

// testExclusion is the worker that pauses between load and save while another folds the leaver: whatever comes first,
// no grant survives its leaver.
func testExclusion(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	fold(t, s, ada("event_1", 1))
	loaded, left := make(chan struct{}), make(chan error, 1)
	joins := member("event_2", 2, "eng", "user_ada")
	go func() {
		<-loaded
		left <- Fold(t.Context(), s, []directory.Event{ada("event_3", 3, removes)})
	}()
	err := s.Update(t.Context(), scopesOf([]directory.Event{joins}), func(ctx context.Context, tx store.Tx) error {
		state, _, err := tx.Load(ctx, directory.NeedOf([]directory.Event{joins}), keysOf([]directory.Event{joins}))
		if err != nil {
			return err
		}
		close(loaded)
		select {
		case err := <-left:
			return fmt.Errorf("the leaver was folded between load and save: %w", err)
		case <-time.After(300 * time.Millisecond): // the other waits for this one; there is nothing to wait for
		}
		state.Fold([]directory.Event{joins})
		return tx.Save(ctx, store.Batch{Delta: state.TakeDelta(), Ledger: []store.Entry{entryOf(joins, store.Applied)}})
	})
	if err := errors.Join(err, <-left); err != nil {
		t.Fatal(err)
	}
	if d := Check(t, s); len(d.Granted) != 0 || d.Accounts[0].Active {
		t.Errorf("after the leaver: %v, want nothing", directorytest.Active(d))
	}
}

func testParallel(t *testing.T, b Backend) {
	if !b.Parallel {
		return // one writer is this backend's lock
	}
	s := b.open(t, config(directory.DecisionKeep))
	err := s.Update(t.Context(), []directory.Scope{{Source: "workos", Directory: "directory_1"}}, func(ctx context.Context, _ store.Tx) error {
		return Fold(ctx, s, []directory.Event{ada("event_1", 1, in("directory_2"))})
	})
	if err != nil {
		t.Errorf("folding another directory meanwhile = %v, want nil", err)
	}
}

func testDeadlock(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() {
			for round := range 15 {
				var events []directory.Event
				for n := range 6 {
					d := (n*(i+1) + round) % 6 // every worker in another order
					events = append(events, ada(fmt.Sprintf("event_%d_%d_%d", i, round, n), round, in(fmt.Sprint("directory_", d))))
				}
				errs[i] = errors.Join(errs[i], Fold(t.Context(), s, events))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	Check(t, s)
}

func testRollback(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	broken := errors.New("broken")
	events := []directory.Event{ada("event_1", 1)}
	err := s.Update(t.Context(), scopesOf(events), func(ctx context.Context, tx store.Tx) error {
		state, _, err := tx.Load(ctx, directory.NeedOf(events), keysOf(events))
		if err != nil {
			return err
		}
		state.Fold(events)
		return errors.Join(broken, tx.Save(ctx, store.Batch{Delta: state.TakeDelta(), Ledger: []store.Entry{entryOf(events[0], store.Applied)}}))
	})
	if !errors.Is(err, broken) {
		t.Fatalf("Update() = %v, want fn's error", err)
	}
	if _, err := s.Event(t.Context(), "workos", "event_1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Event() = %v, want ErrNotFound", err)
	}
	fold(t, s, events...)
	Check(t, s)
}

func park(t testing.TB, s store.Store, e directory.Event, due time.Time) {
	t.Helper()
	entry := entryOf(e, store.Parked)
	entry.Reason = "data: no"
	err := s.Update(t.Context(), nil, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Ledger: []store.Entry{entry}, Dead: []store.Dead{{
			EventKey: entry.EventKey, Type: entry.Type, Directory: entry.Directory, Class: "data", Error: "no", Body: []byte{0, 1, 0xff}, Origin: "hook",
			Received: entry.Received, KeyVersion: "3", SignedAt: entry.SignedAt, Due: due,
		}}})
	})
	if err != nil {
		t.Fatalf("park: %v", err)
	}
}

func testReopen(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	e := ada("event_1", 1)
	park(t, s, e, time.Time{})
	dead, err := s.DeadEvent(t.Context(), "workos", "event_1")
	if err != nil || !slices.Equal(dead.Body, []byte{0, 1, 0xff}) || dead.Parked.IsZero() {
		t.Fatalf("DeadEvent() = %+v, %v, want the body as it was", dead, err)
	}
	entry := entryOf(e, store.Applied)
	entry.Reopen = true
	err = s.Update(t.Context(), scopesOf([]directory.Event{e}), func(ctx context.Context, tx store.Tx) error {
		state, known, err := tx.Load(ctx, directory.NeedOf([]directory.Event{e}), keysOf([]directory.Event{e}))
		if err != nil {
			return err
		}
		if got := known[entry.EventKey].Outcome; got != store.Parked || !got.Reopens() {
			return fmt.Errorf("the ledger says %q, want parked", got)
		}
		state.Fold([]directory.Event{e})
		return tx.Save(ctx, store.Batch{Delta: state.TakeDelta(), Ledger: []store.Entry{entry}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Event(t.Context(), "workos", "event_1"); err != nil || got.Outcome != store.Applied {
		t.Errorf("Event() = %+v, %v, want it applied", got, err)
	}
	if _, err := s.DeadEvent(t.Context(), "workos", "event_1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("DeadEvent() = %v, want ErrNotFound", err)
	}
	// An applied entry is never opened again: the insert meets it.
	err = s.Update(t.Context(), nil, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Ledger: []store.Entry{entry}})
	})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("opening an applied entry again = %v, want ErrConflict", err)
	}
}

// testDeadAgain: the ledger forgets before dead events do; one that comes again must not stand in its partition's way.
func testDeadAgain(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	park(t, s, ada("event_1", 1), time.Time{})
	exec(t, s, "DELETE FROM %sevents")
	park(t, s, ada("event_1", 2), directorytest.Start)
	if dead, err := s.DeadEvent(t.Context(), "workos", "event_1"); err != nil || !dead.Due.Equal(directorytest.Start) {
		t.Errorf("DeadEvent() = %+v, %v, want the later one", dead, err)
	}
}

func testDue(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	due := directorytest.Start.Add(time.Hour)
	park(t, s, ada("event_later", 1), due)
	park(t, s, ada("event_never", 1), time.Time{})
	for at, want := range map[time.Duration]int{-time.Microsecond: 0, 0: 1, time.Hour: 1} {
		got, err := s.Due(t.Context(), due.Add(at), 10)
		if err != nil || len(got) != want {
			t.Errorf("Due(%s) = %d events, %v, want %d", at, len(got), err, want)
		}
		if want == 1 && (!got[0].Due.Equal(due) || len(got[0].Body) != 3) {
			t.Errorf("Due() = %+v, want it whole", got[0])
		}
	}
}

func testExpansion(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionDeprovision))
	var events []directory.Event
	for n := range 25 {
		user := fmt.Sprintf("user_%02d", n)
		events = append(events, ada("u"+user, 1, func(e *directory.Event) { e.User.ID, e.User.IDPID = user, "idp-"+user }),
			member("m"+user, 2, "eng", user))
	}
	fold(t, s, events...)
	granted := func() int {
		active := true
		accounts, err := s.Accounts(t.Context(), store.AccountFilter{Active: &active, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, a := range accounts {
			n += 1 + 100*len(a.Groups)
		}
		return n
	}
	if got := granted(); got != 25+2500 {
		t.Fatalf("before the end: %d, want 25 accounts with a group each", got)
	}
	end := ada("end_of_group", 3, removes)
	end.Subject, end.User, end.Group = directory.SubjectGroup, nil, &directory.Team{ID: "eng"}
	fold(t, s, end)
	if got := granted(); got != 25 {
		t.Errorf("right after the group's end: %d, want 25 accounts without groups", got)
	}
	if more, err := Expand(t.Context(), s, 10); !more || err != nil {
		t.Fatalf("Expand() = %t, %v", more, err)
	}
	if p, err := s.Expansions(t.Context(), 10); err != nil || len(p) != 1 || p[0].Done != 10 || p[0].Cursor != "user_09" {
		t.Errorf("Expansions() after a chunk = %+v, %v, want 10 done up to user_09", p, err)
	}
	fold(t, s, ada("leaver", 4, removes, func(e *directory.Event) { e.User.ID, e.User.IDPID = "user_20", "idp-user_20" })) // overtakes the expansion
	drain(t, s, 10)
	Check(t, s)
	closed := ada("end_of_directory", 5, removes)
	closed.Subject, closed.User, closed.Connection = directory.SubjectDirectory, nil, &directory.Connection{Name: "Acme"}
	fold(t, s, closed)
	if got := granted(); got != 0 {
		t.Errorf("right after the directory's end: %d, want nobody", got)
	}
	linked := closed
	linked.ID, linked.Removes, linked.Occurred = "linked_again", false, closed.Occurred.Add(time.Minute)
	fold(t, s, linked)
	if got := granted(); got != 0 {
		t.Errorf("right after its return, its end not carried through: %d, want nobody", got)
	}
	drain(t, s, 7)
	if d := Check(t, s); len(directorytest.Active(d)) != 0 {
		t.Errorf("after all: %v, want nobody", directorytest.Active(d))
	}
	changes, err := s.Changes(t.Context(), store.ChangeFilter{Event: "end_of_group", Limit: 1000})
	if err != nil || len(changes) != 1+24 {
		t.Errorf("the group's end made %d changes, %v, want itself and 24 revoked (one left before)", len(changes), err)
	}
}

// testRemapRoles opens a database again under other rules, as a changed configuration does.
func testRemapRoles(t *testing.T, b Backend) {
	place, events := b.Place(t), directorytest.Generate(5, 120)
	var before directory.Delta
	for step, c := range []struct {
		what        string
		rules       []directory.RoleRule
		directories int
	}{
		{"no rules, as always", nil, 0},
		{"the first rules", directorytest.Rules()[:3], 2},
		{"the same rules", directorytest.Rules()[:3], 0},
		{"other rules", directorytest.Rules()[1:], 2},
		{"the same in another order", slices.Concat(directorytest.Rules()[2:], directorytest.Rules()[1:2]), 0},
		{"no rules any more", nil, 2},
		{"still none", nil, 0},
	} {
		conf := config(directory.DecisionKeep)
		conf.Roles = directory.NewRoles(c.rules...)
		s := b.Open(t, place, conf)
		if step == 0 {
			if _, err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			fold(t, s, events...)
			drain(t, s, 5)
		}
		if n, err := s.RemapRoles(t.Context(), conf.Roles.Digest()); err != nil || n != c.directories {
			t.Fatalf("%s: RemapRoles() = %d, %v, want %d directories", c.what, n, err, c.directories)
		}
		drain(t, s, 2)
		got := Check(t, s)
		if diff := cmp.Diff(directorytest.Model(events, directory.DecisionKeep, c.rules...), directorytest.Outcome(got)); diff != "" {
			t.Fatalf("%s: model (-), database (+):\n%s", c.what, diff)
		}
		if diff := cmp.Diff(before, got); c.directories == 0 && step > 0 && diff != "" {
			t.Fatalf("%s: something moved:\n%s", c.what, diff)
		}
		before = got
	}
}

func testRenamedGroup(t *testing.T, b Backend) {
	conf := config(directory.DecisionKeep)
	conf.Roles = directory.NewRoles(directory.RoleRule{Role: "admin", Groups: []string{"Admins"}}, directory.RoleRule{Role: "reader", Groups: []string{"ops"}})
	s := b.open(t, conf)
	named := func(id string, minute int, name string) directory.Event {
		e := ada(id, minute)
		e.Subject, e.Type, e.User, e.Group = directory.SubjectGroup, "dsync.group.updated", nil, &directory.Team{ID: "eng", Name: name}
		return e
	}
	events := []directory.Event{named("named", 1, "Admins")}
	for n := range 5 {
		user := fmt.Sprintf("user_%02d", n)
		events = append(events, ada("u"+user, 1, func(e *directory.Event) { e.User.ID, e.User.IDPID = user, "idp-"+user }),
			member("m"+user, 2, "eng", user), member("o"+user, 2, "ops", user))
	}
	fold(t, s, events...)
	drain(t, s, 10)
	rolesAre := func(when string, want ...string) {
		t.Helper()
		for _, a := range Check(t, s).Accounts {
			if !slices.Equal(a.Roles, want) {
				t.Errorf("%s %s has the roles %q, want %q", when, a.ID.ID, a.Roles, want)
			}
		}
	}
	rolesAre("in both groups", "admin", "reader")
	exec(t, s, "UPDATE %[1]sgrants SET granted_at = (SELECT min(occurred) FROM %[1]schanges)")
	fold(t, s, named("renamed", 3, "Former admins"))
	drain(t, s, 2)
	rolesAre("after the group's new name", "reader")
	exec(t, s, "UPDATE %[1]sgrants SET granted_at = NULL WHERE granted_at <> (SELECT min(occurred) FROM %[1]schanges)") // refused, were there any
	fold(t, s, named("named_again", 4, "Admins"))
	drain(t, s, 3)
	rolesAre("after its old name came back", "admin", "reader")
	changes, err := s.Changes(t.Context(), store.ChangeFilter{Event: "renamed", Limit: 100})
	if err != nil || len(changes) != 1+5 || changes[1].Kind != directory.RoleRevoked || changes[1].Role != "admin" {
		t.Errorf("the new name made %d changes, %v, want itself and a role revoked from each of 5: %+v", len(changes), err, changes)
	}
}

func testReader(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionKeep))
	fold(t, s, ada("event_1", 1), member("event_2", 2, "eng", "user_ada"), ada("event_3", 3, in("directory_2"), func(e *directory.Event) { e.User.Email = "other@example.com" }))
	park(t, s, ada("event_4", 4), time.Time{})
	for name, c := range map[string]struct {
		filter store.EventFilter
		want   int
	}{
		"all": {store.EventFilter{}, 4}, "one": {store.EventFilter{Limit: 1}, 1}, "source": {store.EventFilter{Source: "nobody"}, 0},
		"directory": {store.EventFilter{Directory: "directory_2"}, 1}, "outcome": {store.EventFilter{Outcome: store.Parked}, 1},
		"subject": {store.EventFilter{Subject: "eng/user_ada"}, 1}, "since": {store.EventFilter{Since: directorytest.Start.Add(3 * time.Minute)}, 2},
		"until": {store.EventFilter{Until: directorytest.Start.Add(2 * time.Minute)}, 1},
	} {
		if got, err := s.Events(t.Context(), c.filter); err != nil || len(got) != c.want {
			t.Errorf("%s: Events() = %d, %v, want %d", name, len(got), err, c.want)
		}
	}
	all, err := s.Changes(t.Context(), store.ChangeFilter{})
	if err != nil || len(all) < 3 {
		t.Fatalf("Changes() = %d, %v, want 3 at least", len(all), err)
	}
	for name, c := range map[string]struct {
		filter store.ChangeFilter
		want   []store.ChangeRow
	}{
		"the first": {store.ChangeFilter{Limit: 2}, all[:2]}, "the newest": {store.ChangeFilter{Limit: 2, Newest: true}, all[len(all)-2:]},
		"all, the newest": {store.ChangeFilter{Newest: true}, all}, "the newest after one": {store.ChangeFilter{Limit: 2, Newest: true, After: all[len(all)-2].Seq}, all[len(all)-1:]},
	} {
		if got, err := s.Changes(t.Context(), c.filter); err != nil || !slices.Equal(store.Seqs(got), store.Seqs(c.want)) {
			t.Errorf("%s: Changes() has the sequences %v, %v, want %v", name, store.Seqs(got), err, store.Seqs(c.want))
		}
	}
	for _, who := range []string{"idp-ada", "user_ada", "ada@EXAMPLE.com"} {
		got, err := s.Accounts(t.Context(), store.AccountFilter{Who: who, Directory: "directory_1"})
		if err != nil || len(got) != 1 || !slices.Equal(got[0].Groups, []store.GroupRow{{ID: "eng", Name: "ENG"}}) || !got[0].EffectivelyActive {
			t.Errorf("Accounts(%s) = %+v, %v, want Ada with her group", who, got, err)
		}
	}
	for name, c := range map[string]struct {
		filter store.AccountFilter
		want   int
	}{
		"a key": {store.AccountFilter{Key: "idp-ada"}, 2}, "no key": {store.AccountFilter{Key: "ada@example.com"}, 0},
		"an address": {store.AccountFilter{Email: "ADA@example.com", Key: "idp-ada"}, 1}, "no address": {store.AccountFilter{Email: "idp-ada"}, 0},
	} {
		if got, err := s.Accounts(t.Context(), c.filter); err != nil || len(got) != c.want {
			t.Errorf("Accounts() by %s = %+v, %v, want %d", name, got, err, c.want)
		}
	}
	entry, err := s.Event(t.Context(), "workos", "event_1")
	want := entryOf(ada("event_1", 1), store.Applied)
	want.Folded = entry.Folded
	if diff := cmp.Diff(want, entry); diff != "" || err != nil {
		t.Errorf("Event() = %v, want (-), got (+):\n%s", err, diff)
	}
	sum, err := s.Summary(t.Context())
	if err != nil || sum.Events[store.Applied] != 3 || sum.Dead != 1 || sum.Accounts != 2 || sum.ActiveAccounts != 2 || sum.Grants != 1 || sum.Environment != "test" {
		t.Errorf("Summary() = %+v, %v", sum, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check() = %v, want nil", err)
	}
}

func testMigrate(t *testing.T, b Backend) {
	place := b.Place(t)
	s := b.Open(t, place, config(""))
	if p, err := s.Pending(t.Context()); err != nil || len(p) != len(s.Migrations()) {
		t.Fatalf("Pending() of an empty database = %d, %v, want all", len(p), err)
	}
	var wg sync.WaitGroup
	counts := make([]int, 3)
	for i := range counts {
		other := b.Open(t, place, config(""))
		wg.Go(func() {
			done, err := other.Migrate(t.Context())
			if err != nil {
				t.Errorf("Migrate() = %v", err)
			}
			counts[i] = len(done)
		})
	}
	wg.Wait()
	if counts[0]+counts[1]+counts[2] != len(s.Migrations()) {
		t.Errorf("the starters applied %v migrations, want each once", counts)
	}
	if p, err := s.Pending(t.Context()); err != nil || len(p) != 0 {
		t.Errorf("Pending() afterwards = %d, %v, want none", len(p), err)
	}
}

func testEnvironment(t *testing.T, b Backend) {
	place := b.Place(t)
	if _, err := b.Open(t, place, store.Config{Environment: "production"}).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := b.Open(t, place, store.Config{Environment: "staging"})
	if _, err := other.Migrate(t.Context()); !errors.Is(err, store.ErrEnvironment) {
		t.Errorf("Migrate() = %v, want ErrEnvironment", err)
	}
	if err := other.Check(t.Context()); !errors.Is(err, store.ErrEnvironment) {
		t.Errorf("Check() = %v, want ErrEnvironment", err)
	}
}

// Meta lets a test change what a database says of itself.
type Meta interface {
	Exec(ctx context.Context, statement string) error
}

func testTooOld(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	exec(t, s, "INSERT INTO %smeta (name, value) VALUES ('minimum_schema', '9999')")
	if _, err := s.Pending(t.Context()); !errors.Is(err, store.ErrTooOld) {
		t.Errorf("Pending() = %v, want ErrTooOld", err)
	}
}

func testNewerSchema(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	exec(t, s, "INSERT INTO %sschema_migrations (version, name, checksum, binary_version) VALUES (9999, 'newer', 'x', '9.9.9')")
	if p, err := s.Pending(t.Context()); err != nil || len(p) != 0 {
		t.Errorf("Pending() = %d, %v, want none", len(p), err)
	}
	exec(t, s, "UPDATE %sschema_migrations SET checksum = 'changed' WHERE version = 1")
	if _, err := s.Pending(t.Context()); err == nil || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("Pending() with another text = %v, want a refusal with a hint", err)
	}
}

func exec(t testing.TB, s store.Store, statement string) {
	t.Helper()
	if err := s.(Meta).Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
