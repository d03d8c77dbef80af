package directory_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// The rules of the fold, a test each, in the words of a directory. Times are minutes after ten.

var ten = time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC)

func at(minute int) time.Time { return ten.Add(time.Duration(minute) * time.Minute) }

func event(id string, minute int) directory.Event {
	return directory.Event{Source: "workos", ID: id, Directory: "directory_1", Organization: "org_1", Occurred: at(minute)}
}

type option func(*directory.Event)

func user(id string, minute int, person directory.Person, options ...option) directory.Event {
	e := event(id, minute)
	e.Type, e.Subject, e.User = "dsync.user.updated", directory.SubjectUser, &person
	if person.State == "" {
		person.State = "active"
	}
	e.Removes = person.State != "active"
	for _, o := range options {
		o(&e)
	}
	return e
}

func deleted(e *directory.Event) { e.Type, e.Removes = "deleted", true }

func ada(options ...func(*directory.Person)) directory.Person {
	p := directory.Person{ID: "user_ada", IDPID: "idp-ada", Created: at(0), Profile: directory.Profile{Email: "ada@example.com"}}
	for _, o := range options {
		o(&p)
	}
	return p
}

func membership(id string, minute int, group, member string, options ...option) directory.Event {
	e := event(id, minute)
	e.Type, e.Subject = "dsync.group.user_added", directory.SubjectMembership
	e.Membership = &directory.Membership{Group: group, User: member, GroupName: strings.ToUpper(group)}
	for _, o := range options {
		o(&e)
	}
	return e
}

func group(id string, minute int, name string, options ...option) directory.Event {
	e := event(id, minute)
	e.Type, e.Subject, e.Group = "dsync.group.updated", directory.SubjectGroup, &directory.Team{ID: name, Name: strings.ToUpper(name)}
	for _, o := range options {
		o(&e)
	}
	return e
}

func connection(id string, minute int, state string, options ...option) directory.Event {
	e := event(id, minute)
	e.Type, e.Subject, e.Connection = "dsync.activated", directory.SubjectDirectory, &directory.Connection{Name: "Acme", State: state}
	for _, o := range options {
		o(&e)
	}
	return e
}

func decision(id string, minute int, d directory.Decision) directory.Event {
	e := event(id, minute)
	e.Type, e.Subject, e.Decision = "rollcall.decision", directory.SubjectDecision, d
	return e
}

// wantKinds compares the changes so far, then forgets them.
func (w *world) wantKinds(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, kinds(w.log[w.seen:])); diff != "" {
		w.t.Fatalf("changes: want (-), got (+):\n%s", diff)
	}
	w.seen = len(w.log)
}

func (w *world) wantActive(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.active()); diff != "" {
		w.t.Fatalf("active accounts and grants: want (-), got (+):\n%s", diff)
	}
}

func TestEventWithEqualTimeThatTakesAwayWins(t *testing.T) {
	t.Parallel()
	stay := user("event_z", 1, ada(), func(e *directory.Event) { e.Updated = at(5) })
	leave := user("event_a", 1, ada(), deleted)
	for name, order := range map[string][]directory.Event{"leaves last": {stay, leave}, "leaves first": {leave, stay}} {
		w := newWorld(t, directory.DecisionKeep)
		for _, e := range order {
			w.fold(e)
		}
		if got := w.active(); len(got) != 0 {
			t.Errorf("%s: still active: %v, want nobody", name, got)
		}
	}
}

func TestVersionComparesByTimeThenRankThenUpdatedThenID(t *testing.T) {
	t.Parallel()
	base := user("event_m", 1, ada())
	greater := map[string]directory.Event{
		"a microsecond later":        {ID: "event_a", Occurred: at(1).Add(time.Microsecond)},
		"takes access away":          {ID: "event_a", Occurred: at(1), Removes: true},
		"updated later":              {ID: "event_a", Occurred: at(1), Updated: at(0)},
		"greater id":                 {ID: "event_n", Occurred: at(1)},
		"year 9999 after year 2026":  {ID: "event_a", Occurred: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
		"other zone, a minute later": {ID: "event_a", Occurred: at(2).In(time.FixedZone("", -7*3600))},
	}
	for name, e := range greater {
		if e.Version() <= base.Version() {
			t.Errorf("%s: Version() = %q, want greater than %q", name, e.Version(), base.Version())
		}
		if got := e.Version().EventID(); got != e.ID {
			t.Errorf("%s: EventID() = %q, want %q", name, got, e.ID)
		}
		if got := e.Version().Time(); !got.Equal(e.Occurred) {
			t.Errorf("%s: Time() = %s, want %s", name, got, e.Occurred)
		}
		if got := e.Version().Updated(); !got.Equal(e.Updated) {
			t.Errorf("%s: Updated() = %s, want %s", name, got, e.Updated)
		}
		if at := directory.At(e.Occurred); at >= e.Version() || directory.At(e.Occurred.Add(time.Microsecond)) <= e.Version() {
			t.Errorf("%s: its time's At is %q, want just below %q", name, at, e.Version())
		}
	}
	sub := user("event_a", 1, ada(), func(e *directory.Event) { e.Occurred = at(1).Add(900 * time.Nanosecond) })
	if sub.Version() >= base.Version() {
		t.Errorf("0.9 µs later counts as later: %q >= %q", sub.Version(), base.Version())
	}
}

func TestRehireUnderNewIDIsTheSameAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	again := ada(func(p *directory.Person) { p.ID, p.Created = "user_ada_2", at(9) })
	w.fold(user("e1", 1, ada()))
	w.fold(membership("e2", 2, "eng", "user_ada"))
	w.fold(user("e3", 3, ada(), deleted))
	w.wantKinds("account.activated idp-ada by e1", "grant.added idp-ada eng by e2",
		"account.deactivated idp-ada by e3", "grant.revoked idp-ada eng by e3")
	w.fold(user("e4", 9, again))
	w.wantKinds("account.activated idp-ada by e4") // the old user's memberships do not count for the new one
	w.fold(membership("e5", 10, "ops", "user_ada_2"))
	w.wantActive("directory_1 grant idp-ada ops", "directory_1 idp-ada ada@example.com")

	w.seen = len(w.log)
	w.fold(user("e6", 11, ada())) // the old one speaks up again: it does not govern
	w.fold(user("e7", 12, ada(), deleted))
	w.wantKinds()
}

func TestRehireUnderTheSameIDRestoresWhatTheDirectoryStillMeans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(user("e1", 1, ada()), membership("e2", 2, "eng", "user_ada"), user("e3", 3, ada(), deleted))
	w.wantActive()
	w.fold(user("e4", 4, ada()))
	w.wantActive("directory_1 grant idp-ada eng", "directory_1 idp-ada ada@example.com")
}

func TestIDPIDThatChangesMovesTheAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(user("e1", 1, ada()), membership("e2", 2, "eng", "user_ada"))
	w.seen = len(w.log)
	w.fold(user("e3", 3, ada(func(p *directory.Person) { p.IDPID = "idp-new" })))
	w.wantKinds("account.deactivated idp-ada by e3", "grant.revoked idp-ada eng by e3",
		"account.activated idp-new by e3", "grant.added idp-new eng by e3")
}

func TestAccountIsKeyedByTheIDPIDOrElseByTheProvidersID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	person := func(id, idp string) directory.Person {
		return ada(func(p *directory.Person) { p.ID, p.IDPID, p.Email = id, idp, "" })
	}
	w.fold(user("e1", 1, person("user_1", "idp-1")), user("e2", 2, person("user_2", "")), user("e3", 3, person("user_3", "id:user_2")), user("e4", 4, person("user_4", "idp:id:user_2")))
	w.wantActive("directory_1 id:user_2 ", "directory_1 idp-1 ", "directory_1 idp:id:user_2 ", "directory_1 idp:idp:id:user_2 ") // no two meet
	w.seen = len(w.log)
	elsewhere := user("e5", 5, person("user_1", "idp-1"), deleted)
	elsewhere.Directory = "directory_2"
	w.fold(elsewhere)
	w.wantKinds("account.deactivated idp-1 by e5") // of the other directory
	if got := len(w.active()); got != 4 {
		t.Errorf("%d are active after a removal in another directory, want all 4", got)
	}
}

func TestOfTwoUsersCreatedAtOnceTheGreaterIDGoverns(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]string{"greater last": {"user_a", "user_b"}, "greater first": {"user_b", "user_a"}} {
		w := newWorld(t, directory.DecisionKeep)
		for n, id := range order {
			w.fold(user("e"+id, n, ada(func(p *directory.Person) { p.ID = id })), membership("m"+id, n, "of_"+id, id))
		}
		if diff := cmp.Diff([]string{"directory_1 grant idp-ada of_user_b", "directory_1 idp-ada ada@example.com"}, w.active()); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
}

func TestRemovalSeenFirstMakesAnInactiveAccountAndSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(user("e9", 9, ada(), deleted))
	w.wantKinds("account.deactivated idp-ada by e9")
	if email := w.log[0].After.Email; email != "ada@example.com" {
		t.Errorf("the change names %q, want the leaver's address", email)
	}
	w.fold(user("e1", 1, ada())) // older: it must not bring her back
	w.wantActive()
}

func TestRemovalNeverMovesAUserAwayFromUnderAnOlderOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	older := ada()
	newer := ada(func(p *directory.Person) { p.ID, p.Created, p.State = "user_ada_2", at(5), "inactive" })
	moved := newer
	moved.IDPID = "idp-other"
	w.fold(user("e1", 1, older))
	w.fold(user("e6", 6, newer)) // a removal under idp-ada: the newest object of that person has left
	w.fold(user("e7", 7, moved)) // another removal, which names somebody else
	w.wantActive()
}

func TestOnlyActiveIsActive(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"inactive", "suspended", "Active", "deprovisioned", "something new"} {
		w := newWorld(t, directory.DecisionKeep)
		w.fold(user("e1", 1, ada()), user("e2", 2, ada(func(p *directory.Person) { p.State = state })))
		if got := w.active(); len(got) != 0 {
			t.Errorf("state %q: %v, want nobody active", state, got)
		}
	}
}

func TestMembershipEventAssertsOnlyItsEdge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(membership("e1", 1, "eng", "user_ada"))
	w.wantKinds() // an absent user does not count as live
	w.fold(user("e2", 2, ada()))
	w.wantKinds("account.activated idp-ada by e2", "grant.added idp-ada eng by e2") // an absent group does
	w.fold(user("e3", 3, ada(), deleted), membership("e4", 4, "eng", "user_ada", deleted), membership("e5", 5, "ops", "user_ada"))
	w.wantActive()
}

func TestRecycledEmailInheritsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(user("e1", 1, ada()), membership("e2", 2, "eng", "user_ada"), user("e3", 3, ada(), deleted))
	w.fold(user("e4", 4, ada(func(p *directory.Person) { p.ID, p.IDPID, p.Created = "user_adele", "idp-adele", at(4) })))
	w.wantActive("directory_1 idp-adele ada@example.com")
}

func TestGroupCreatedAgainUnderItsIDGivesNobodyBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(user("e1", 1, ada()), group("e2", 2, "eng"), membership("e3", 3, "eng", "user_ada"))
	w.fold(group("e4", 4, "eng", deleted))
	w.fold(group("e5", 5, "eng"))
	w.wantActive("directory_1 idp-ada ada@example.com")
	w.fold(membership("e6", 6, "eng", "user_ada"))
	w.wantActive("directory_1 grant idp-ada eng", "directory_1 idp-ada ada@example.com")
}

func TestEndOfGroupThatArrivesLateStillCutsOlderMemberships(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(user("e1", 1, ada()), membership("e3", 3, "eng", "user_ada"), group("e5", 5, "eng"))
	w.seen = len(w.log)
	w.fold(group("e4", 4, "eng", deleted))
	w.wantKinds("grant.revoked idp-ada eng by e4")
}

func TestMembershipThatArrivesBeforeItsGroupComesBackCountsOnceItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(user("e1", 1, ada()), group("e5", 5, "eng", deleted), membership("e7", 7, "eng", "user_ada"))
	w.wantActive("directory_1 idp-ada ada@example.com")
	w.seen = len(w.log)
	w.fold(group("e6", 6, "eng"))
	w.wantKinds("group.created eng by e6", "grant.added idp-ada eng by e6")
}

func TestDirectoryStateNeverEndsAccess(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"linked", "invalid_credentials", "unlinked", "validating", "deleting", "inactive", ""} {
		w := newWorld(t, directory.DecisionDeprovision)
		w.fold(connection("e1", 1, "active"), user("e2", 2, ada()), connection("e3", 3, state))
		w.wantActive("directory_1 idp-ada ada@example.com")
	}
}

func TestEndOfDirectoryIsHeldUntilAnOperatorDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(connection("e1", 1, "active"), user("e2", 2, ada()), membership("e3", 3, "eng", "user_ada"), connection("e4", 4, "active", deleted))
	w.wantActive("directory_1 grant idp-ada eng", "directory_1 idp-ada ada@example.com")
	if r := w.state.Snapshot().Directories[0]; !r.Held() {
		t.Error("Held() = false after dsync.deleted, want true")
	}
	w.seen = len(w.log)
	w.fold(decision("d1", 5, directory.DecisionDeprovision))
	w.wantKinds("directory.ended by d1", "account.deactivated idp-ada by d1", "grant.revoked idp-ada eng by d1")
	if r := w.state.Snapshot().Directories[0]; r.Held() {
		t.Error("Held() = true after the decision, want false")
	}
}

func TestDecisionCountsOnlyForTheEndsBeforeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionDeprovision)
	w.fold(connection("e1", 1, "active"), user("e2", 2, ada()), decision("d1", 3, directory.DecisionKeep))
	w.fold(connection("e4", 4, "active", deleted))
	w.wantActive()
	w.fold(decision("d2", 5, directory.DecisionKeep))
	w.wantActive("directory_1 idp-ada ada@example.com")
	if r := w.state.Snapshot().Directories[0]; r.Held() {
		t.Error("Held() = true though an operator decided to keep it, want false")
	}
}

func TestSecondEndGivesNobodyBackWhoTheFirstTookAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(connection("e1", 1, "active"), user("e2", 2, ada()), membership("m2", 2, "admins", "user_ada"))
	w.fold(connection("e3", 3, "active", deleted), decision("d4", 4, directory.DecisionDeprovision))
	w.wantActive()
	w.fold(connection("e5", 5, "active"))
	w.wantActive()
	w.fold(connection("e6", 6, "active", deleted))
	w.wantActive()
	w.fold(connection("e7", 7, "active"), decision("d8", 8, directory.DecisionKeep))
	w.wantActive("directory_1 grant idp-ada admins", "directory_1 idp-ada ada@example.com")
}

func TestDirectoryThatIsHeldTellsOfItselfOnlyWhenItComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	w.fold(connection("e1", 1, "active", deleted))
	w.wantKinds()
	w.fold(connection("e2", 2, "active"))
	w.wantKinds("directory.activated by e2")
}

func TestRemovalThatSaysLessBarsNobodysOwnReturn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep)
	const id = "directory_user_01KZZZZZZZZZZZZZZZZZZZZZZZ" // its own time is later than the object's created_at
	person := func() directory.Person { p := ada(); p.ID = id; return p }
	w.fold(user("e1", 1, person()))
	bare := person()
	bare.Created = time.Time{}
	w.fold(user("e2", 2, bare, deleted))
	w.wantActive()
	w.fold(user("e3", 3, person()))
	w.wantActive("directory_1 idp-ada ada@example.com")
}

func TestEndOfDirectoryByPolicyEndsAccountsAndTheirReturnNeedsTheirOwnEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionDeprovision)
	w.fold(connection("e1", 1, "active"), user("e2", 2, ada()), membership("e3", 3, "eng", "user_ada"), connection("e4", 4, "active", deleted))
	w.wantActive()
	w.fold(connection("e5", 5, "active"))
	w.wantActive()
	w.fold(user("e6", 6, ada()))
	w.wantActive("directory_1 idp-ada ada@example.com")
}

func TestNobodyIsActiveInADirectoryThatHasEndedHoweverNewTheirEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionDeprovision)
	w.fold(connection("e4", 4, "active", deleted))
	w.fold(user("e6", 6, ada()), membership("e7", 7, "eng", "user_ada"))
	w.wantActive()
}

func TestEndsExpandOutsideTheFold(t *testing.T) {
	t.Parallel()
	s := directory.NewState(nil, directory.Roles{})
	s.Fold([]directory.Event{user("e1", 1, ada()), membership("e2", 2, "eng", "user_ada")})
	s.TakeDelta()
	s.Fold([]directory.Event{group("e3", 3, "eng", deleted)})
	d := s.TakeDelta()
	want := []directory.Expansion{{Scope: directory.Scope{Source: "workos", Directory: "directory_1"}, Group: "eng", Event: "e3", Occurred: at(3)}}
	if diff := cmp.Diff(want, d.Expansions); diff != "" {
		t.Errorf("Expansions: want (-), got (+):\n%s", diff)
	}
	if len(d.Changes) != 1 || d.Changes[0].Kind != directory.GroupEnded {
		t.Errorf("Changes = %v, want the group's end alone: its members follow in chunks", kinds(d.Changes))
	}
	if !slices.ContainsFunc(s.Snapshot().Groups, func(g directory.Group) bool { return g.Removed }) {
		t.Error("the register does not say at once that the group ended")
	}
}

func TestInvalidEventNamesItsFieldAndNeverItsValue(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", directory.MaxID+1)
	for name, e := range map[string]directory.Event{
		"no id":               user("", 1, ada()),
		"no directory":        user("e", 1, ada(), func(e *directory.Event) { e.Directory = "" }),
		"long user id":        user("e", 1, ada(func(p *directory.Person) { p.ID = long })),
		"long idp_id":         user("e", 1, ada(func(p *directory.Person) { p.IDPID = long })),
		"NUL in a name":       user("e", 1, ada(func(p *directory.Person) { p.FirstName = "secret\x00" })),
		"invalid UTF-8":       user("e", 1, ada(func(p *directory.Person) { p.LastName = "secret\xff" })),
		"NUL in an attribute": user("e", 1, ada(func(p *directory.Person) { p.Attributes = map[string]string{"role": "secret\x00"} })),
		"before 1970":         user("e", -60*24*365*60, ada()),
		"no group":            membership("e", 1, "", "user_ada"),
		"no subject":          event("e", 1),
	} {
		err := e.Validate()
		if !errors.Is(err, directory.ErrInvalid) {
			t.Errorf("%s: Validate() = %v, want ErrInvalid", name, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: Validate() = %v, which tells the value", name, err)
		}
	}
}

func TestULIDTimeReadsTheTimeOfAnID(t *testing.T) {
	t.Parallel()
	got, ok := directory.ULIDTime("event_01ARYZ6S41TSV4RRFFQ69G5FAV")
	if want := time.UnixMilli(1469918176385).UTC(); !ok || !got.Equal(want) {
		t.Errorf("ULIDTime() = %s, %t, want %s", got, ok, want)
	}
	for _, id := range []string{"", "event_1", "event_81ARYZ6S41TSV4RRFFQ69G5FAV", "event_01ARYZ6S41TSV4RRFFQ69G5FAU", "event_01aryz6s41tsv4rrffq69g5fav"} {
		if got, ok := directory.ULIDTime(id); ok {
			t.Errorf("ULIDTime(%q) = %s, want none", id, got)
		}
	}
}
