package examples_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/rehearsal"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// load reads an example's configuration as the program does, with its databases in place of the references to them.
func (r *rig) load(set ...string) config.Config {
	r.t.Helper()
	place := "store.dsn=" + r.dsn
	switch r.name {
	case "node":
		place = "store.dsn=" + testenv.Copy(r.t, "node's own", func(dsn string) error { return r.migrate("store.dsn=" + dsn) })
		set = append(set, "application.dsn="+r.dsn)
	case "sqlite":
		place = "store.path=" + copied(r.t, "sqlite's own", func(path string) error { return r.migrate("store.path=" + path) })
		set = append(set, "application.dsn="+r.dsn)
	}
	c, err := r.read(place, set...)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) read(place string, set ...string) (config.Config, error) {
	if r.app.DSN != "" { // a reference, that is not there
		set = append([]string{"application.dsn=sqlite:nowhere.db"}, set...)
	}
	loaded, err := config.Load(config.Options{File: filepath.Join(r.name, "rollcall.yaml"), Set: append(set, place), Tool: true})
	return loaded.Config, err
}

// rehearse returns what is wrong, by case: of these cases, when any are named.
func (r *rig) rehearse(c config.Config, only ...string) (cases []rehearsal.Case, wrong map[string]string) {
	r.t.Helper()
	cases, err := app.Rehearse(r.t.Context(), c, r.dsn, "org_01EXAMPLE", only...)
	if err != nil {
		r.t.Fatalf("Rehearse() = %v", err)
	}
	wrong = map[string]string{}
	for _, c := range cases {
		if c.Err != nil {
			wrong[c.Name] = c.Err.Error()
		}
	}
	return cases, wrong
}

func TestARehearsalFindsNothingWrongWithAnExample(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		before := r.list(`SELECT count(*) FROM `+r.users, nil)
		cases, wrong := r.rehearse(r.load())
		if len(cases) != 11 || len(wrong) > 0 {
			t.Errorf("of %d cases, these fail: %q; want eleven, and none", len(cases), wrong)
		}
		if after := r.list(`SELECT count(*) FROM `+r.users, nil); !slices.Equal(before, after) {
			t.Errorf("there were %s users before, and %s after", before, after)
		}
	})
}

// Each mistake is found by the case that it would hurt, which says what is left.
func TestARehearsalNamesTheCaseThatABrokenBindingFails(t *testing.T) {
	t.Parallel()
	mistakes := map[string]struct {
		make  func(a *config.Application)
		fails string
		says  string
		or    string
	}{
		"the lock-out matches nobody": {
			make: func(a *config.Application) {
				b := named(a, "lock-out")
				b.SQL[len(b.SQL)-1] += " AND 1 = 0"
			},
			fails: "a leaver loses access", says: "probe user says dirty",
		},
		"nothing ends sessions": {
			make:  func(a *config.Application) { drop(a, "end-sessions") },
			fails: "a leaver loses access", says: "probe sessions says dirty", or: "probe oauth-tokens says dirty",
		},
		"nothing ends sessions of the suspended": {
			make:  func(a *config.Application) { drop(a, "end-sessions") },
			fails: "somebody suspended loses access", says: "probe sessions says dirty", or: "probe oauth-tokens says dirty",
		},
		"nothing ends sessions with the directory": {
			make:  func(a *config.Application) { drop(a, "end-sessions") },
			fails: "a directory that ends takes everybody's access", says: "probe sessions says dirty", or: "probe oauth-tokens says dirty",
		},
		"nothing revokes keys": {
			make: func(a *config.Application) {
				drop(a, "revoke-keys")
				drop(a, "revoke-tokens")
			},
			fails: "a leaver loses access", says: "probe api-keys says dirty", or: "probe api-tokens says dirty",
		},
		"nothing stops service accounts": {
			make:  func(a *config.Application) { drop(a, "stop-service-accounts") },
			fails: "a leaver loses access", says: "probe service-account-keys says dirty", or: "probe service-account-tokens says dirty",
		},
		"nothing looks for sessions": {
			make: func(a *config.Application) {
				a.Probes = slices.DeleteFunc(a.Probes, func(p config.Probe) bool { return p.Name == "sessions" })
			},
			fails: "a probe finds what people make by using the application", says: "application.rehearsal.sign_in[0] made something that no probe finds",
		},
		"a membership is not revoked": {
			make: func(a *config.Application) {
				b := named(a, "grant.revoked")
				b.SQL[0] += " AND 1 = 0"
			},
			fails: "a mover changes groups", says: "nothing was taken away by grant.revoked, statement 1 (DELETE FROM ",
		},
		"a role is not revoked": {
			make: func(a *config.Application) {
				b := named(a, "role.revoked")
				b.SQL[0] += " AND 1 = 0"
			},
			fails: "leaving one of two groups keeps their role", says: "nothing was taken away by role.revoked, statement 1 (DELETE FROM ",
		},
		"nothing ends anybody's access": {
			make: func(a *config.Application) {
				a.Bindings = slices.DeleteFunc(a.Bindings, func(b config.Binding) bool { return slices.Contains(b.On, "account.deactivated") })
			},
			fails: "a directory that ends takes everybody's access", says: "no binding is for account.deactivated",
		},
		"nobody is let in": {
			make: func(a *config.Application) {
				b := named(a, "let-in")
				b.SQL = b.SQL[1:]
			},
			fails: "a joiner gets in", says: "no user for somebody who joined",
		},
		"a leaver takes everybody along": {
			make: func(a *config.Application) {
				b := named(a, "lock-out")
				last := &b.SQL[len(b.SQL)-1]
				*last = strings.NewReplacer("WHERE id = @app_id", "WHERE COALESCE(@app_id, '') <> ''", `WHERE "id" = @app_id`, "WHERE COALESCE(@app_id, '') <> ''",
					"COALESCE(directory_user_id, @idp_id)", "directory_user_id", `COALESCE("directoryUserId", @idp_id)`, `"directoryUserId"`,
					"COALESCE(external_id, @idp_id)", "external_id").Replace(*last)
			},
			fails: "a leaver loses access", says: "the application's inventory does not list",
		},
	}
	each(t, func(t *testing.T, r *rig) {
		for mistake, m := range mistakes {
			c := r.load()
			m.make(&c.Application)
			_, wrong := r.rehearse(c, m.fails)
			if got, failed := wrong[m.fails]; !failed || !strings.Contains(got, m.says) && (m.or == "" || !strings.Contains(got, m.or)) {
				t.Errorf("when %s, %q fails with %q, want %q in it; all that fails: %q", mistake, m.fails, got, m.says, wrong)
			}
		}
	})
}

func named(a *config.Application, name string) *config.Binding {
	return &a.Bindings[slices.IndexFunc(a.Bindings, func(b config.Binding) bool { return b.Name == name })]
}

func drop(a *config.Application, name string) {
	a.Bindings = slices.DeleteFunc(a.Bindings, func(b config.Binding) bool { return b.Name == name })
}

// engine is an example with Rollcall itself: a store that events are folded into, and the binder of the configuration.
type engine struct {
	*rig
	store  store.Store
	binder *binder.Binder
	events int
}

var scope = directory.Scope{Source: "workos", Directory: "directory_01EXAMPLE"}

func (r *rig) engine(change ...func(a *config.Application)) *engine {
	r.t.Helper()
	c := r.load("application.mode=enforce", "application.link_retry=1s", "sources.workos.on_directory_deleted=deprovision")
	for _, f := range change {
		f(&c.Application)
	}
	e := &engine{rig: r}
	var err error
	if e.store, err = app.OpenStore(r.t.Context(), c, "test"); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = e.store.Close() })
	db, err := app.OpenApplication(r.t.Context(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = db.SQL.Close() })
	if e.binder, err = app.NewBinder(c, e.store, db, zerolog.Nop(), nil); err != nil {
		r.t.Fatal(err)
	}
	e.tell(directory.Event{Subject: directory.SubjectDirectory, Connection: &directory.Connection{Name: "Example", State: "linked"}})
	return e
}

// withEngine runs a test on every example, with the engine.
func withEngine(t *testing.T, test func(t *testing.T, e *engine)) {
	t.Helper()
	each(t, func(t *testing.T, r *rig) { test(t, r.engine()) })
}

// tell folds events, each a minute after the one before, carries ends through, and binds. Nothing may be left that waits.
func (e *engine) tell(events ...directory.Event) {
	e.t.Helper()
	for i := range events {
		e.fold(&events[i])
	}
	if err := e.binder.Drain(e.t.Context()); err != nil {
		e.t.Fatalf("Drain() = %v", err)
	}
	backlog, err := e.store.Backlog(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	if backlog.Waiting[store.Bound] > 0 {
		e.t.Fatalf("%d changes wait: %+v", backlog.Waiting[store.Bound], backlog.Failing)
	}
}

func (e *engine) fold(event *directory.Event) {
	e.t.Helper()
	e.events++
	event.Source, event.Directory, event.Organization = scope.Source, scope.Directory, "org_01EXAMPLE"
	event.ID, event.Type = fmt.Sprintf("event_%03d", e.events), "dsync."+string(event.Subject)
	event.Occurred = time.Date(2026, 3, 1, 8, e.events, 0, 0, time.UTC)
	if err := storetest.Fold(e.t.Context(), e.store, []directory.Event{*event}); err != nil {
		e.t.Fatalf("Fold() = %v", err)
	}
	for more := true; more; {
		var err error
		if more, err = storetest.Expand(e.t.Context(), e.store, 2); err != nil {
			e.t.Fatalf("Expand() = %v", err)
		}
	}
}

// link returns which row somebody is, who must be linked.
func (e *engine) link(who directory.Person) store.Link {
	e.t.Helper()
	lane := store.Lane{Scope: scope, Account: who.IDPID}
	links, err := e.store.LinksOf(e.t.Context(), nil, []store.Lane{lane})
	if err != nil {
		e.t.Fatal(err)
	}
	if links[lane].State != store.Linked {
		e.t.Fatalf("%s is not linked: %+v", who.IDPID, links[lane])
	}
	return links[lane]
}

// has returns how many things somebody could get in or do something with.
func (e *engine) has(appID string) (n int) {
	e.t.Helper()
	if err := e.db.QueryRowContext(e.t.Context(), e.access, appID).Scan(&n); err != nil {
		e.t.Fatal(err)
	}
	return n
}

// isOut fails the test unless somebody is disabled, has nothing left, and every probe has looked and says so.
func (e *engine) isOut(who directory.Person) {
	e.t.Helper()
	id := e.link(who).AppID
	if got := e.rowOf(id); got.Active || got.DirectoryID != who.IDPID {
		e.t.Errorf("the row of %s is %+v, want it inactive, with the directory's id", who.IDPID, got)
	}
	if n := e.has(id); n > 0 {
		e.t.Errorf("%s has %d things left: %v", who.IDPID, n, e.left(id))
	}
	verdicts, err := e.store.Verdicts(e.t.Context(), directory.ID{Scope: scope, ID: who.IDPID})
	if err != nil {
		e.t.Fatal(err)
	}
	said := map[string]string{}
	for _, v := range verdicts {
		said[v.Probe] = v.Result
	}
	clean := map[string]string{}
	for _, p := range e.app.Probes {
		clean[p.Name] = binder.Clean
	}
	if diff := cmp.Diff(clean, said); diff != "" {
		e.t.Errorf("the verdicts on %s (-want +got):\n%s", who.IDPID, diff)
	}
}

// isIn fails the test unless somebody is active, with so many roles and teams.
func (e *engine) isIn(who directory.Person, roles, teams int) {
	e.t.Helper()
	id := e.link(who).AppID
	if got := e.rowOf(id); !got.Active || got.DirectoryID != who.IDPID || !strings.EqualFold(got.Email, who.Email) {
		e.t.Errorf("the row of %s is %+v, want it active, with the directory's id and %s", who.IDPID, got, who.Email)
	}
	left := e.left(id)
	if got := left["teams"] + left["memberships"]; left["roles"] != roles || got != teams {
		e.t.Errorf("%s has %d roles and %d teams, want %d and %d", who.IDPID, left["roles"], got, roles, teams)
	}
}

// people of the directory. Ada and Grace are users from before, with an address and no id; see the seeds.
var (
	adaKing  = somebody("ada", "ada@example.com")
	graceTwo = somebody("grace", "Grace@Example.com")
	emmyNew  = somebody("emmy", "emmy@example.com")
)

func somebody(name, email string) directory.Person {
	return directory.Person{
		ID: "directory_user_" + name, IDPID: "idp-" + name, State: "active", Created: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
		Profile: directory.Profile{Email: email, FirstName: "New", LastName: "Name", Name: "New Name"},
	}
}

func is(who directory.Person) directory.Event {
	return directory.Event{Subject: directory.SubjectUser, User: &who}
}

func isNot(who directory.Person, state string) directory.Event {
	who.State = state
	return directory.Event{Subject: directory.SubjectUser, Removes: true, User: &who}
}

func isGroup(id, name string) directory.Event {
	return directory.Event{Subject: directory.SubjectGroup, Group: &directory.Team{ID: id, Name: name}}
}

func isMember(who directory.Person, group string) directory.Event {
	return directory.Event{Subject: directory.SubjectMembership, Membership: &directory.Membership{Group: group, User: who.ID}}
}

func isNoMember(who directory.Person, group string) directory.Event {
	e := isMember(who, group)
	e.Removes = true
	return e
}

func TestTheEngineLinksAUserFromBeforeByTheirAddressAndStampsTheirRow(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		before := e.find(ada)
		e.tell(is(adaKing))
		if got := e.link(adaKing); got.How != "email" || got.AppID != before {
			t.Errorf("ada is linked with %q by %s, want %q by email", got.AppID, got.How, before)
		}
		if got, want := e.rowOf(before), (row{"ada@example.com", "idp-ada", true}); got != want {
			t.Errorf("the row is %+v, want %+v", got, want)
		}
		if got := e.one(e.app.Link.SQL, ada.with("tenant", e.one(e.app.Tenant.SQL, ada))); got != before {
			t.Errorf("link.sql finds %q afterwards, want %q", got, before)
		}
	})
}

// An application whose sign-in alone makes users: whatever was told of somebody before is told again when they are found.
func TestTheEngineFindsAUserWhomASignOnMadeAfterTheirActivation(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		e := r.engine(func(a *config.Application) {
			b := named(a, "let-in")
			b.SQL = b.SQL[1:]
		})
		e.tell(isGroup("group-admins", "Admins"), is(emmyNew), isMember(emmyNew, "group-admins"))
		if got := e.results(emmyNew); !slices.Contains(got, "grant.added: no application account") {
			t.Fatalf("before the sign-on, her changes came to %q", got)
		}
		e.exec(e.signOn, emmyNew.Email)
		e.binder.LinkRetry = time.Millisecond // so that the look after this one is soon
		e.run(func() bool {
			links, err := e.store.Links(t.Context(), store.LinkFilter{State: store.Linked, Who: emmyNew.IDPID})
			backlog, failed := e.store.Backlog(t.Context())
			return err == nil && failed == nil && len(links) == 1 && links[0].Next.IsZero() && backlog.Waiting[store.Bound] == 0
		})
		if got := e.link(emmyNew).How; got != "email" {
			t.Errorf("she was linked by %s, want email", got)
		}
		e.isIn(emmyNew, 1, 1)
		e.tell(isNot(emmyNew, "inactive"))
		e.isOut(emmyNew)
	})
}

// run lets the binder run until something is so.
func (e *engine) run(until func() bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- e.binder.Run(ctx) }()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !until() && ctx.Err() == nil {
		<-ticker.C
	}
	if ctx.Err() != nil {
		e.t.Error("what was waited for did not come")
	}
	cancel()
	if err := <-ended; err != nil {
		e.t.Errorf("Run() = %v", err)
	}
}

// results returns what came of somebody's changes, in their order.
func (e *engine) results(who directory.Person) (lines []string) {
	e.t.Helper()
	changes, err := e.store.Changes(e.t.Context(), store.ChangeFilter{Account: who.IDPID, Limit: 1000})
	if err != nil {
		e.t.Fatal(err)
	}
	seqs := make([]int64, len(changes))
	for i, c := range changes {
		seqs[i] = c.Seq
	}
	settled, err := e.store.Settled(e.t.Context(), seqs)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, c := range changes {
		lines = append(lines, string(c.Kind)+": "+settled[c.Seq].Result)
	}
	return lines
}

func TestTheEngineLeavesNothingOfALeaver(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		e.tell(isGroup("group-it", "IT"), is(adaKing), is(graceTwo), isMember(adaKing, "group-it"))
		e.isIn(adaKing, 2, 2) // with what she had before
		others := e.has(e.link(graceTwo).AppID)
		e.tell(isNot(adaKing, "inactive"))
		e.isOut(adaKing)
		if got := e.has(e.link(graceTwo).AppID); got != others {
			t.Errorf("grace had %d things, and has %d after ada's end", others, got)
		}
	})
}

func TestTheEngineEndsSomebodyWhomItHearsOfAsALeaverFirst(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		id := e.find(ada)
		if e.has(id) == 0 {
			t.Fatal("ada has nothing to lose")
		}
		e.tell(isNot(adaKing, "inactive"))
		if got := e.link(adaKing).AppID; got != id {
			t.Errorf("ada is linked with %q, want %q", got, id)
		}
		e.isOut(adaKing)
	})
}

func TestTheEngineKeepsTheSuspendedOutUntilTheyAreBack(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		e.tell(isGroup("group-it", "IT"), is(emmyNew), isMember(emmyNew, "group-it"))
		e.isIn(emmyNew, 1, 1)
		e.tell(isNot(emmyNew, "suspended"))
		e.isOut(emmyNew)
		e.tell(is(emmyNew))
		e.isIn(emmyNew, 1, 1)
	})
}

func TestTheEngineTakesARoleWithTheLastOfTheGroupsThatGiveIt(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		e.tell(isGroup("group-admins", "Admins"), isGroup("group-it", "IT"), is(emmyNew), isMember(emmyNew, "group-admins"), isMember(emmyNew, "group-it"))
		e.isIn(emmyNew, 1, 2)
		e.tell(isNoMember(emmyNew, "group-admins"))
		e.isIn(emmyNew, 1, 1)
		e.tell(isNoMember(emmyNew, "group-it"))
		e.isIn(emmyNew, 0, 0)
	})
}

func TestTheEngineFollowsAGroupThatIsRenamedAndThatEnds(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		e.tell(isGroup("group-1", "Admins"), is(emmyNew), is(graceTwo), isMember(emmyNew, "group-1"), isMember(graceTwo, "group-1"))
		e.isIn(emmyNew, 1, 1)
		e.isIn(graceTwo, 1, 2)
		e.team1(t, "Admins", false)
		e.tell(isGroup("group-1", "Crew")) // whose name gives no role
		e.isIn(emmyNew, 0, 1)
		e.isIn(graceTwo, 0, 2)
		e.team1(t, "Crew", false)
		e.tell(isGroup("group-1", "Finance"))
		e.isIn(emmyNew, 1, 1)
		ended := isGroup("group-1", "Finance")
		ended.Removes = true
		e.tell(ended)
		e.isIn(emmyNew, 0, 0)
		e.isIn(graceTwo, 0, 1)
		e.team1(t, "Finance", true)
	})
}

// team1 fails the test unless the team of group-1 is so.
func (e *engine) team1(t *testing.T, name string, archived bool) {
	t.Helper()
	var gotName string
	var gotArchived bool
	if err := e.db.QueryRowContext(t.Context(), e.team, "group-1").Scan(&gotName, &gotArchived); err != nil {
		t.Fatal(err)
	}
	if gotName != name || gotArchived != archived {
		t.Errorf("the team is %q, archived %t; want %q, %t", gotName, gotArchived, name, archived)
	}
}

func TestTheEngineEndsEverybodyOfADirectoryThatEnds(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		e.tell(isGroup("group-it", "IT"), is(adaKing), is(graceTwo), is(emmyNew), isMember(adaKing, "group-it"), isMember(emmyNew, "group-it"))
		e.tell(directory.Event{Subject: directory.SubjectDirectory, Removes: true, Connection: &directory.Connection{Name: "Example", State: "deleting"}})
		for _, who := range []directory.Person{adaKing, graceTwo, emmyNew} {
			e.isOut(who)
		}
		listed, protected := e.list(e.app.Inventory.Accounts, nil), e.list(e.app.Protected, nil)
		if len(listed) != 2 || len(protected) != 1 || !slices.Contains(listed, protected[0]) {
			t.Errorf("the inventory lists %q, want the break-glass administrator %q and the other organization's one", listed, protected)
		}
	})
}

func TestTheEngineLetsARehiredPersonInAsWhoTheyWereWithWhatTheDirectorySays(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		e.tell(isGroup("group-it", "IT"), isGroup("group-2", "Crew"), is(adaKing), isMember(adaKing, "group-it"), isNot(adaKing, "inactive"))
		id := e.link(adaKing).AppID
		e.isOut(adaKing)
		back := adaKing
		back.ID, back.Created, back.Email = "directory_user_ada_again", adaKing.Created.AddDate(0, 1, 0), "ada.king@example.com"
		e.tell(is(back), isMember(back, "group-2"))
		if got := e.link(back).AppID; got != id {
			t.Errorf("she is the user %s, and was %s", got, id)
		}
		e.isIn(back, 0, 1)
		if got := e.has(id); got != 1 {
			t.Errorf("she has %d things, want the one team: %v", got, e.left(id))
		}
	})
}

func TestTheEngineGivesARecycledAddressNothingOfWhoHadIt(t *testing.T) {
	t.Parallel()
	withEngine(t, func(t *testing.T, e *engine) {
		e.tell(isGroup("group-it", "IT"), is(adaKing), isMember(adaKing, "group-it"), isNot(adaKing, "inactive"))
		heir := somebody("heir", "Ada@example.com")
		e.tell(is(heir))
		if got, old := e.link(heir).AppID, e.link(adaKing).AppID; got == old {
			t.Errorf("the heir of ada's address is her, the user %s", old)
		}
		e.isIn(heir, 0, 0)
		if got := e.has(e.link(heir).AppID); got != 0 {
			t.Errorf("the heir has %d things: %v", got, e.left(e.link(heir).AppID))
		}
		e.isOut(adaKing)
	})
}

// A deactivation that takes nothing from a linked user is a failure of its bindings, which `rollcall bindings list` names.
func TestABindingThatTouchesNoRowOfALinkedUserFailsAndIsNamed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		e := r.engine(func(a *config.Application) {
			for _, b := range a.Bindings {
				for i, text := range b.SQL {
					if slices.Contains(b.On, "account.deactivated") {
						b.SQL[i] = strings.Replace(text, "WHERE ", "WHERE 1 = 0 AND ", 1)
						b.SQL[i] = strings.ReplaceAll(b.SQL[i], " OR ", " AND ")
					}
				}
			}
		})
		e.tell(is(adaKing))
		leaves := isNot(adaKing, "inactive")
		e.fold(&leaves)
		if err := e.binder.Drain(t.Context()); err != nil {
			t.Fatalf("Drain() = %v", err)
		}
		backlog, err := e.store.Backlog(t.Context())
		if err != nil || len(backlog.Failing) != 1 {
			t.Fatalf("Backlog() = %+v, %v, want one that fails", backlog, err)
		}
		failing, id := backlog.Failing[0], e.link(adaKing).AppID
		if failing.Kind != directory.AccountDeactivated || !strings.HasPrefix(failing.Error, "lock-out, ") || !strings.Contains(failing.Error, "touched no row of "+id) {
			t.Errorf("what fails is %+v, want the deactivation, with the bindings' names and the user %s", failing, id)
		}
		for _, b := range e.binder.Status() {
			if want := slices.Contains(b.On, directory.AccountDeactivated); want != (b.State == binder.StateFailing) {
				t.Errorf("binding %s is %s, want failing: %t", b.Name, b.State, want)
			}
		}
		if !e.rowOf(id).Active || e.has(id) == 0 {
			t.Errorf("ada's row is %+v, and she has %d things; want her in, as the failure says", e.rowOf(id), e.has(id))
		}
	})
}
