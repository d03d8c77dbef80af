package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
)

// RunReconciling runs the part of the suite that is about a directory's own listing.
func RunReconciling(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"a directory has one run at a time, until its lease is over": testRunAlone,
		"every kind of drift is found":                               testEveryDrift,
		"what is as new as the listing is no drift":                  testDriftIsOld,
		"what is the same is no drift, whatever is in it":            testNoDrift,
		"what a comparison would cost people is counted":             testCounts,
		"findings come in pages":                                     testDriftPages,
		"runs are listed, and forgotten in time":                     testRuns,
		"the versions of registers are looked up":                    testSeen,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

var reconciled = directory.Scope{Source: "workos", Directory: "directory_1"}

func at(minute int) time.Time { return directorytest.Start.Add(time.Duration(minute) * time.Minute) }

// listing are registers' events, and what a directory lists.
type listing struct {
	n int
}

func (l *listing) event(minute int) directory.Event {
	l.n++
	return directory.Event{Source: reconciled.Source, ID: fmt.Sprintf("event_%03d", l.n), Type: "t", Directory: reconciled.Directory, Organization: "org_1", Occurred: at(minute), Updated: at(minute)}
}

func (l *listing) user(minute int, name string, state string) directory.Event {
	e := l.event(minute)
	e.Subject, e.Removes, e.User = directory.SubjectUser, state != "active", person(name, state)
	return e
}

func person(name, state string) *directory.Person {
	return &directory.Person{
		ID: "user_" + name, IDPID: "idp-" + name, State: state, Created: at(-100),
		Profile: directory.Profile{Email: name + "@example.com", FirstName: name, Attributes: map[string]string{"role": "<admin> & \"ñ\"", "custom_attributes.a": "1"}},
	}
}

func (l *listing) group(minute int, name string, removes bool) directory.Event {
	e := l.event(minute)
	e.Subject, e.Removes, e.Group = directory.SubjectGroup, removes, &directory.Team{ID: name, IDPID: name, Name: name}
	return e
}

func (l *listing) edge(minute int, group, user string, removes bool) directory.Event {
	e := l.event(minute)
	e.Subject, e.Removes, e.Updated, e.Membership = directory.SubjectMembership, removes, time.Time{}, &directory.Membership{Group: group, User: "user_" + user}
	return e
}

func (l *listing) directory(minute int, removes bool) directory.Event {
	e := l.event(minute)
	e.Subject, e.Removes, e.Connection = directory.SubjectDirectory, removes, &directory.Connection{Name: "Acme", State: "active"}
	return e
}

func listedUser(name, state string) store.StagedUser {
	return store.StagedUser{Organization: "org_1", Active: state == "active", Person: *person(name, state), Updated: at(1)}
}

func listedGroup(name string) store.StagedGroup {
	return store.StagedGroup{Organization: "org_1", Team: directory.Team{ID: name, IDPID: name, Name: name}, Updated: at(1)}
}

func run(id string, minute int) store.Run {
	return store.Run{ID: id, Scope: reconciled, Trigger: "test", Begun: at(minute)}
}

// compared folds the events, stages the listing and compares them, as a run that began at the minute.
func compared(t *testing.T, s store.Store, id string, minute int, events []directory.Event, listed store.Staged) store.Comparison {
	t.Helper()
	if len(events) > 0 {
		if err := Fold(t.Context(), s, events); err != nil {
			t.Fatalf("Fold() = %v", err)
		}
	}
	if err := s.BeginRun(t.Context(), run(id, minute), at(minute+10)); err != nil {
		t.Fatalf("BeginRun(%s) = %v", id, err)
	}
	if err := s.Stage(t.Context(), id, listed, at(minute+10)); err != nil {
		t.Fatalf("Stage(%s) = %v", id, err)
	}
	c, err := s.Compare(t.Context(), id, directory.At(at(minute)))
	if err != nil {
		t.Fatalf("Compare(%s) = %v", id, err)
	}
	return c
}

// found are the findings of a run, each a line.
func found(t *testing.T, s store.Store, id string) (out []string) {
	t.Helper()
	var after store.DriftKey
	for {
		page, err := s.Drift(t.Context(), id, after, 3)
		if err != nil {
			t.Fatalf("Drift(%s) = %v", id, err)
		}
		for _, d := range page {
			out = append(out, fmt.Sprintf("%s %s/%s was %s", d.Kind, d.Group, d.User, d.Seen.EventID()))
			after = d.DriftKey
		}
		if len(page) < 3 {
			return out
		}
	}
}

func testRunAlone(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	ctx := t.Context()
	if err := s.BeginRun(ctx, run("one", 0), at(10)); err != nil {
		t.Fatal(err)
	}
	if err := s.BeginRun(ctx, run("two", 10), at(20)); !errors.Is(err, store.ErrRunning) {
		t.Errorf("BeginRun() of a second, within the lease = %v, want ErrRunning", err)
	}
	other := run("other", 10)
	other.Directory = "directory_2"
	if err := s.BeginRun(ctx, other, at(20)); err != nil {
		t.Errorf("BeginRun() of another directory = %v, want nil", err)
	}
	staged := store.Staged{Users: []store.StagedUser{listedUser("ada", "active")}, Groups: []store.StagedGroup{listedGroup("eng")}}
	if err := s.Stage(ctx, "one", staged, at(15)); err != nil {
		t.Fatal(err)
	}
	if err := s.BeginRun(ctx, run("two", 15), at(25)); !errors.Is(err, store.ErrRunning) {
		t.Errorf("BeginRun() of a second, when the lease was made longer = %v, want ErrRunning", err)
	}
	if err := s.BeginRun(ctx, run("two", 16), at(26)); err != nil {
		t.Fatalf("BeginRun() of a second, when the lease is over = %v, want nil", err)
	}
	if err := s.Stage(ctx, "one", staged, at(30)); !errors.Is(err, store.ErrRunLost) {
		t.Errorf("Stage() of the first = %v, want ErrRunLost", err)
	}
	if _, err := s.Compare(ctx, "one", directory.At(at(0))); !errors.Is(err, store.ErrRunLost) {
		t.Errorf("Compare() of the first = %v, want ErrRunLost", err)
	}
	if err := s.EndRun(ctx, run("one", 0)); !errors.Is(err, store.ErrRunLost) {
		t.Errorf("EndRun() of the first = %v, want ErrRunLost", err)
	}
	if left, err := s.StagedGroups(ctx, "one", "", 10); err != nil || len(left) != 0 {
		t.Errorf("StagedGroups() of the first = %q, %v, want it forgotten", left, err)
	}
	runs, err := s.Runs(ctx, store.RunFilter{ID: "one"})
	if err != nil || len(runs) != 1 || runs[0].Complete || runs[0].Reason == "" || !runs[0].Ended.Equal(at(16)) {
		t.Errorf("Runs() = %+v, %v, want the first ended, incomplete, and why", runs, err)
	}
}

func testEveryDrift(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	var l listing
	events := []directory.Event{
		l.user(1, "same", "active"), l.user(1, "gone", "active"), l.user(1, "suspended", "active"), l.user(1, "back", "inactive"), l.user(1, "left", "inactive"), l.user(1, "renamed", "active"),
		l.group(1, "eng", false), l.group(1, "old", false), l.group(1, "ended", true), l.group(1, "titled", false),
		l.edge(1, "eng", "same", false), l.edge(1, "eng", "renamed", false), l.edge(1, "old", "same", false), l.edge(1, "titled", "same", true), l.edge(1, "eng", "gone", false),
	}
	renamed, titled := listedUser("renamed", "active"), listedGroup("titled")
	renamed.Email, titled.Name = "new@example.com", "Titled"
	c := compared(t, s, "run", 5, events, store.Staged{
		Users: []store.StagedUser{
			listedUser("same", "active"), listedUser("suspended", "suspended"), listedUser("back", "active"), listedUser("left", "inactive"), renamed,
			listedUser("new", "active"), listedUser("new inactive", "inactive"),
		},
		Groups:      []store.StagedGroup{listedGroup("eng"), listedGroup("ended"), titled, listedGroup("fresh")},
		Memberships: []store.StagedMembership{{Group: "eng", User: "user_same"}, {Group: "fresh", User: "user_new"}, {Group: "titled", User: "user_same"}, {Group: "ended", User: "user_same"}, {Group: "eng", User: "user_left"}},
	})
	want := []string{
		"should_be_inactive /user_gone was event_002", "should_be_inactive /user_suspended was event_003",
		"extra_membership eng/user_renamed was event_012",
		"extra_group old/ was event_008",
		"missing_directory / was ",
		"missing_group ended/ was event_009", "missing_group fresh/ was ",
		"missing_account /user_new was ", "missing_account /user_new inactive was ",
		"tombstone /user_back was event_004",
		"attributes /user_renamed was event_006", "attributes titled/ was event_010",
		"missing_membership ended/user_same was ", "missing_membership fresh/user_new was ", "missing_membership titled/user_same was event_014",
	}
	if diff := cmp.Diff(want, found(t, s, "run")); diff != "" {
		t.Errorf("Drift(): want (-), got (+):\n%s", diff)
	}
	kinds := map[store.DriftKind]int64{
		store.ShouldBeInactive: 2, store.ExtraMembership: 1, store.ExtraGroup: 1, store.MissingDirectory: 1, store.MissingGroup: 2, store.MissingAccount: 2,
		store.Tombstone: 1, store.Attributes: 2, store.MissingMembership: 3,
	}
	if diff := cmp.Diff(kinds, c.Kinds); diff != "" || c.Users != 7 || c.ActiveUsers != 4 || c.Groups != 4 || c.Memberships != 5 || c.Active != 4 || c.Leavers != 2 || c.Losers != 2 {
		t.Errorf("Compare() = %+v; kinds: want (-), got (+):\n%s", c, diff)
	}
	checkListed(t, s)
}

// checkListed looks at what comes with a finding.
func checkListed(t *testing.T, s store.Store) {
	t.Helper()
	page, err := s.Drift(t.Context(), "run", store.DriftKey{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range page {
		switch {
		case d.Kind == store.Attributes && d.User != "":
			want := *person("renamed", "active")
			want.Email = "new@example.com"
			if diff := cmp.Diff(&store.StagedUser{Organization: "org_1", Active: true, Person: want, Updated: at(1)}, d.ListedUser); diff != "" {
				t.Errorf("listed: want (-), got (+):\n%s", diff)
			}
			if k := d.KnownUser; k == nil || k.Email != "renamed@example.com" || k.IDPID != "idp-renamed" || !k.Active || k.Version != d.Seen || k.Attributes["role"] == "" || !k.Created.Equal(at(-100)) {
				t.Errorf("known: %+v", d.KnownUser)
			}
		case d.Kind == store.MissingGroup && d.Group == "ended":
			if k := d.KnownGroup; k == nil || !k.Removed || k.Version != d.Seen || d.ListedGroup == nil || !d.ListedGroup.Updated.Equal(at(1)) {
				t.Errorf("of an ended group: listed %+v, known %+v", d.ListedGroup, d.KnownGroup)
			}
		case d.Kind == store.MissingMembership && d.Group == "titled":
			if d.KnownEdge == nil || d.KnownEdge.Present || d.KnownEdge.Version != d.Seen || d.ListedUser == nil || d.ListedGroup == nil {
				t.Errorf("of a membership: %+v", d)
			}
		case d.Kind == store.MissingAccount && (d.KnownUser != nil || d.ListedUser == nil):
			t.Errorf("of a newcomer: %+v", d)
		}
	}
}

func testDriftIsOld(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	var l listing
	events := []directory.Event{
		l.directory(1, false),
		l.user(5, "joined", "active"), l.user(5, "left", "inactive"), l.user(5, "renamed", "active"), l.user(1, "member", "active"),
		l.group(5, "made", false), l.group(5, "ended", true), l.group(1, "eng", false), l.edge(5, "eng", "renamed", false), l.edge(5, "eng", "member", true),
	}
	renamed := listedUser("renamed", "active")
	renamed.Email = "old@example.com"
	compared(t, s, "run", 5, events, store.Staged{
		Users:       []store.StagedUser{listedUser("left", "active"), renamed, listedUser("member", "active")},
		Groups:      []store.StagedGroup{listedGroup("ended"), listedGroup("eng")},
		Memberships: []store.StagedMembership{{Group: "eng", User: "user_member"}, {Group: "ended", User: "user_member"}},
	})
	if got := found(t, s, "run"); len(got) != 0 {
		t.Errorf("Drift() = %q, want none: all of it was said while the listing was told", got)
	}
	if c, err := s.Compare(t.Context(), "run", directory.At(at(6))); err != nil || c.Kinds[store.ShouldBeInactive] != 1 || c.Kinds[store.Tombstone] != 1 {
		t.Errorf("Compare() with a later listing = %+v, %v, want that it is drift then", c, err)
	}
}

func testNoDrift(t *testing.T, b Backend) {
	s := b.open(t, config(directory.DecisionDeprovision))
	var l listing
	events := []directory.Event{
		l.directory(1, false), l.user(1, "ada", "active"), l.user(1, "left", "suspended"), l.group(1, "eng", false), l.edge(2, "eng", "ada", false), l.edge(2, "eng", "left", false), l.edge(2, "eng", "nobody", false),
	}
	plain := l.user(1, "plain", "active")
	plain.User.Attributes, plain.User.IDPID = nil, ""
	unnamed := listedUser("ada", "active")
	unnamed.Organization, unnamed.IDPID = "", ""
	bare := listedUser("plain", "active")
	bare.Attributes, bare.IDPID = nil, ""
	quiet := listedGroup("eng")
	quiet.Name, quiet.IDPID, quiet.Organization = "", "", ""
	compared(t, s, "run", 5, append(events, plain), store.Staged{
		Users:  []store.StagedUser{unnamed, unnamed, listedUser("left", "inactive"), bare},
		Groups: []store.StagedGroup{quiet}, Memberships: []store.StagedMembership{{Group: "eng", User: "user_ada"}, {Group: "eng", User: "user_unlisted"}},
	})
	if got := found(t, s, "run"); len(got) != 0 {
		t.Errorf("Drift() = %q, want none", got)
	}
	if err := s.EndRun(t.Context(), run("run", 5)); err != nil {
		t.Fatal(err)
	}
	compared(t, s, "after its end", 30, []directory.Event{l.directory(20, true), l.directory(21, false)}, store.Staged{
		Users: []store.StagedUser{listedUser("ada", "active")}, Groups: []store.StagedGroup{listedGroup("eng")}, Memberships: []store.StagedMembership{{Group: "eng", User: "user_ada"}},
	})
	want := []string{"should_be_inactive /user_plain was event_008", "tombstone /user_ada was event_002", "missing_membership eng/user_ada was event_005"}
	if diff := cmp.Diff(want, found(t, s, "after its end")); diff != "" {
		t.Errorf("Drift() of a directory that ended and came back: want (-), got (+):\n%s", diff)
	}
}

func testCounts(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	var l listing
	rehired := l.user(2, "rehired", "active") // governs the account of a user who left
	rehired.User.IDPID, rehired.User.Created = "idp-gone", at(-1)
	rekeyed := listedUser("rekeyed", "active")
	rekeyed.IDPID = "idp-another"
	c := compared(t, s, "run", 5, []directory.Event{
		l.directory(1, false), l.user(1, "gone", "active"), rehired, l.user(1, "rekeyed", "active"), l.user(1, "leaver", "active"), l.group(1, "old", false),
		l.edge(1, "old", "rehired", false), l.edge(1, "old", "leaver", false), l.edge(1, "old", "rekeyed", true),
	}, store.Staged{Users: []store.StagedUser{func() store.StagedUser {
		u := listedUser("rehired", "active")
		u.IDPID, u.Created = "idp-gone", at(-1)
		return u
	}(), rekeyed}})
	if c.Kinds[store.ShouldBeInactive] != 2 || c.Leavers != 2 || c.Losers != 2 || c.Active != 3 {
		t.Errorf("Compare() = %+v, want two leavers: one who is not listed, one whose account becomes another; not the one whom somebody else governs", c)
	}
}

func testDriftPages(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	var listed store.Staged
	for i := range 25 {
		listed.Users = append(listed.Users, listedUser(fmt.Sprintf("n%02d", i), "active"))
		listed.Groups = append(listed.Groups, listedGroup(fmt.Sprintf("g%02d", i)))
		listed.Memberships = append(listed.Memberships, store.StagedMembership{Group: fmt.Sprintf("g%02d", i), User: fmt.Sprintf("user_n%02d", i)})
	}
	compared(t, s, "run", 5, nil, listed)
	got := found(t, s, "run")
	if len(got) != 76 || len(slices.Compact(slices.Clone(got))) != 76 {
		t.Errorf("Drift() in pages: %d, want 76, each once", len(got))
	}
	var ids []string
	for after := ""; ; {
		page, err := s.StagedGroups(t.Context(), "run", after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if ids = append(ids, page...); len(page) < 10 {
			break
		}
		after = page[9]
	}
	if len(ids) != 25 || !slices.IsSorted(ids) {
		t.Errorf("StagedGroups() in pages = %q, want 25, sorted", ids)
	}
}

func testRuns(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	old := run("old", 0)
	old.Begun, old.Ended = at(0).Add(-store.RunRetention-time.Hour), at(0).Add(-store.RunRetention-time.Minute)
	whole := run("whole", 1)
	whole.Ended, whole.Complete, whole.Skew, whole.Fence, whole.Users, whole.Groups, whole.Memberships, whole.Active, whole.Digest = at(2), true, -3*time.Millisecond, at(0), 7, 2, 9, 5, "abc"
	whole.Kinds = map[store.DriftKind]store.DriftCount{store.Tombstone: {Found: 3, Asked: 3}, store.ShouldBeInactive: {Found: 2, Repaired: 1, Held: 1}}
	for _, r := range []store.Run{old, whole} {
		if err := s.BeginRun(t.Context(), r, r.Begun.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := s.EndRun(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	short := run("short", 3)
	if err := s.BeginRun(t.Context(), short, at(10)); err != nil {
		t.Fatal(err)
	}
	got, err := s.Runs(t.Context(), store.RunFilter{Source: "workos", Directory: "directory_1"})
	if diff := cmp.Diff([]store.Run{short, whole}, got); err != nil || diff != "" {
		t.Errorf("Runs() = %v, want (-) the newest first, and the old one forgotten, got (+):\n%s", err, diff)
	}
	if whole.Found() != 5 || whole.Open() != 4 {
		t.Errorf("Found() = %d, Open() = %d, want 5 and 4", whole.Found(), whole.Open())
	}
	if last, err := s.Runs(t.Context(), store.RunFilter{Last: true}); err != nil || len(last) != 1 || last[0].ID != "short" {
		t.Errorf("Runs() of each directory's last = %+v, %v, want one", last, err)
	}
	short.Ended = at(4)
	plan := run("plan", 4)
	plan.Trigger, plan.Complete, plan.Ended = store.TriggerPlan, true, at(5)
	if err := errors.Join(s.EndRun(t.Context(), short), s.BeginRun(t.Context(), plan, at(10)), s.EndRun(t.Context(), plan)); err != nil {
		t.Fatal(err)
	}
	testRunFilters(t, s)
	apply := run("apply", 6)
	apply.Trigger, apply.Complete, apply.Ended = store.TriggerApply, true, at(7)
	if err := errors.Join(s.BeginRun(t.Context(), apply, at(10)), s.EndRun(t.Context(), apply)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Runs(t.Context(), store.RunFilter{Last: true, Compares: true}); err != nil || len(got) != 1 || got[0].ID != "plan" {
		t.Errorf("Runs() of the last that compares = %+v, %v, want the plan", got, err)
	}
}

func testRunFilters(t *testing.T, s store.Store) {
	t.Helper()
	for what, c := range map[string]struct {
		filter store.RunFilter
		want   string
	}{
		"last": {store.RunFilter{Last: true}, "plan"}, "last that repairs": {store.RunFilter{Last: true, Repairs: true}, "short"},
		"last that repairs and is complete": {store.RunFilter{Last: true, Repairs: true, Complete: true}, "whole"},
		"last that compares":                {store.RunFilter{Last: true, Compares: true}, "plan"},
	} {
		if got, err := s.Runs(t.Context(), c.filter); err != nil || len(got) != 1 || got[0].ID != c.want {
			t.Errorf("Runs() of the %s = %+v, %v, want %s", what, got, err, c.want)
		}
	}
	if got, err := s.Runs(t.Context(), store.RunFilter{Repairs: true}); err != nil || len(got) != 2 {
		t.Errorf("Runs() that repair = %+v, %v, want two", got, err)
	}
	if none, err := s.Runs(t.Context(), store.RunFilter{Directory: "directory_2"}); err != nil || len(none) != 0 {
		t.Errorf("Runs() of another directory = %+v, %v, want none", none, err)
	}
}

func testSeen(t *testing.T, b Backend) {
	s := b.open(t, config(""))
	var l listing
	events := []directory.Event{l.directory(1, false), l.user(1, "ada", "active"), l.group(1, "eng", false), l.edge(1, "eng", "ada", false)}
	if err := Fold(t.Context(), s, events); err != nil {
		t.Fatal(err)
	}
	known, err := s.KnownDirectory(t.Context(), reconciled)
	if err != nil || known.Version != events[0].Version() || known.Removed || known.Active != 1 || known.Inactive != 0 || known.Groups != 1 {
		t.Errorf("KnownDirectory() = %+v, %v, want the directory, one active user and one group", known, err)
	}
	elsewhere := directory.Scope{Source: "workos", Directory: "directory_2"}
	if known, err := s.KnownDirectory(t.Context(), elsewhere); err != nil || known.Scope != elsewhere || known.Version != "" || known.Active != 0 {
		t.Errorf("KnownDirectory() of one that nobody heard of = %+v, %v, want nothing", known, err)
	}
	keys := []store.RegisterKey{{Group: "eng", User: "user_ada"}, {User: "user_ada"}, {User: "user_bob"}, {Group: "eng"}, {}, {Group: "eng", User: "user_bob"}, {User: "user_ada"}}
	got, err := s.Seen(t.Context(), reconciled, keys)
	want := []directory.Version{events[3].Version(), events[1].Version(), "", events[2].Version(), events[0].Version(), "", events[1].Version()}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Seen() = %v, want (-), got (+):\n%s", err, diff)
	}
	if got, err := s.Seen(t.Context(), elsewhere, keys[:2]); err != nil || got[0] != "" || got[1] != "" {
		t.Errorf("Seen() of another directory = %q, %v, want nothing", got, err)
	}
}
