package inventory_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// site is an application that shares its database with the store.
type site struct {
	t      *testing.T
	store  store.Store
	db     *sql.DB
	events int
	inventory.Checker
}

func onBothSites(t *testing.T, test func(t *testing.T, s *site)) {
	t.Helper()
	for kind, open := range map[string]func(*testing.T) (store.Store, *sql.DB, error){
		"postgres": func(t *testing.T) (store.Store, *sql.DB, error) {
			dsn := testenv.Database(t)
			s, err := postgres.Open(t.Context(), store.Config{DSN: dsn, Environment: "test", Binary: "1"})
			return s, open(t, "pgx", dsn), err
		},
		"sqlite": func(t *testing.T) (store.Store, *sql.DB, error) {
			path := filepath.Join(t.TempDir(), "rollcall.db")
			s, err := sqlite.Open(t.Context(), store.Config{DSN: path, Environment: "test", Binary: "1"})
			return s, open(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"), err
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			opened, db, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = opened.Close() })
			if _, err := opened.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			execute(t, db, `CREATE TABLE people (id integer, tenant text, email text)`, `CREATE TABLE members (user_id integer, team text)`)
			s := &site{t: t, store: opened, db: db}
			s.Checker = inventory.Checker{
				Store: opened, Now: func() time.Time { return now }, Application: inventory.Application{
					DB: db, Kind: kind, Accounts: `SELECT id, tenant, email FROM people`, Memberships: `SELECT user_id, team AS group_id FROM members`,
					Tenant: func(_ context.Context, organization string) (string, bool, error) {
						return "t1", organization == "org_1", nil
					},
				},
			}
			test(t, s)
		})
	}
}

// says folds one statement of the first directory.
func (s *site) says(e directory.Event) {
	s.t.Helper()
	s.events++
	e.Source, e.Directory, e.Organization = first.Source, first.Directory, "org_1"
	e.ID, e.Type, e.Occurred = fmt.Sprintf("event_%d", s.events), "a.statement", now.Add(time.Duration(s.events)*time.Second)
	if err := storetest.Fold(s.t.Context(), s.store, []directory.Event{e}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) joins(keys ...string) {
	s.t.Helper()
	for _, key := range keys {
		s.says(directory.Event{Subject: directory.SubjectUser, User: &directory.Person{
			ID: "u-" + key, IDPID: key, State: "active", Created: now, Profile: directory.Profile{Email: key + "@example.com"},
		}})
	}
}

func (s *site) leaves(key string) {
	s.t.Helper()
	s.says(directory.Event{Subject: directory.SubjectUser, Removes: true, User: &directory.Person{ID: "u-" + key, IDPID: key, State: "inactive", Created: now}})
}

func (s *site) isIn(group, key string) {
	s.t.Helper()
	s.says(directory.Event{Subject: directory.SubjectMembership, Membership: &directory.Membership{Group: group, User: "u-" + key, GroupName: "Team " + group}})
}

func (s *site) mode(m store.Mode) {
	s.t.Helper()
	err := s.store.Update(s.t.Context(), []directory.Scope{first}, func(ctx context.Context, tx store.Tx) error {
		return tx.SetMode(ctx, store.ModeRow{Scope: first, Mode: m})
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) link(key, appID string) {
	s.t.Helper()
	err := s.store.SaveLink(s.t.Context(), nil, store.Link{ID: account(key), State: store.Linked, AppID: appID, Tenant: "t1", How: "id", By: "rollcall"})
	if err != nil {
		s.t.Fatal(err)
	}
}

// settle gives every change that waits this result, but those of some kinds.
func (s *site) settle(result string, but ...directory.ChangeKind) []store.ChangeRow {
	s.t.Helper()
	all, err := s.store.Changes(s.t.Context(), store.ChangeFilter{Limit: 1000})
	if err != nil {
		s.t.Fatal(err)
	}
	var done []store.Done
	for _, c := range all {
		if !slices.Contains(but, c.Kind) {
			done = append(done, store.Done{Seq: c.Seq, Result: result, Rows: 2, Digest: "d1"})
		}
	}
	if err := s.store.Settle(s.t.Context(), nil, store.Bound, done, nil, true); err != nil {
		s.t.Fatal(err)
	}
	return all
}

func (s *site) finds(want inventory.Report) {
	s.t.Helper()
	got, err := s.Check(s.t.Context())
	if err != nil {
		s.t.Fatalf("Check() = %v", err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(inventory.Finding{}, "Detail", "Email")); diff != "" {
		s.t.Errorf("Check() differs from what should be found (-want +got):\n%s", diff)
	}
}

func TestAnApplicationThatWentItsOwnWayIsFoundOut(t *testing.T) {
	t.Parallel()
	onBothSites(t, func(t *testing.T, s *site) {
		s.mode(store.Enforce)
		s.joins("ada", "bob", "cyd", "dan", "eve")
		s.isIn("g1", "ada")
		s.isIn("g1", "cyd")
		for i, key := range []string{"ada", "bob", "cyd", "dan"} {
			s.link(key, fmt.Sprint(i+1))
		}
		s.settle(store.ResultBound)
		s.leaves("bob")
		s.settle(store.ResultBound)
		s.leaves("dan") // it is not told of that
		execute(
			t, s.db, `INSERT INTO people VALUES (1, 't1', 'ada@example.com'), (2, 't1', ''), (4, 't1', ''), (9, 't1', ''), (10, 't1', 'eve@example.com'), (11, 't2', ''), (12, 't1', '')`,
			`INSERT INTO members VALUES (9, 'g1'), (2, 'g1')`,
		)
		if err := s.store.SaveExemption(t.Context(), store.Exemption{Tenant: "t1", AppID: "12", Owner: "o", Reason: "r", By: "b", Expires: now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		s.finds(inventory.Report{
			Accounts: 7, Memberships: 2, Outside: 1, Exempt: 1,
			Findings: []inventory.Finding{
				finding(inventory.Reactivated, "2", "bob"), finding(inventory.Orphan, "4", "dan"), finding(inventory.Orphan, "9", ""),
				membership(inventory.ExtraMembership, "2", "bob", "g1"), membership(inventory.ExtraMembership, "9", "", "g1"),
				finding(inventory.Missing, "3", "cyd"), membership(inventory.MissingMembership, "1", "ada", "g1"),
			},
			Unknown: []inventory.Unknown{{Reason: "the link of an active account that it may be is not known: `rollcall links list --held`", Count: 1}},
		})
	})
}

func TestAnApplicationThatFollowsIsClean(t *testing.T) {
	t.Parallel()
	onBothSites(t, func(t *testing.T, s *site) {
		s.mode(store.Enforce)
		s.joins("ada", "bob")
		s.isIn("g1", "ada")
		s.link("ada", "1")
		s.link("bob", "2")
		s.settle(store.ResultNone) // it finds its people by itself
		s.leaves("bob")
		s.settle(store.ResultBound)
		execute(t, s.db, `INSERT INTO people VALUES (1, 't1', '')`, `INSERT INTO members VALUES (1, 'g1')`)
		s.finds(inventory.Report{Accounts: 1, Memberships: 1})
		execute(t, s.db, `INSERT INTO people VALUES (2, 't1', '')`)
		s.finds(inventory.Report{Accounts: 2, Memberships: 1, Findings: []inventory.Finding{finding(inventory.Reactivated, "2", "bob")}})
	})
}

func TestWhatTheApplicationWasNotToldIsNotHeldAgainstIt(t *testing.T) {
	t.Parallel()
	for name, result := range map[string]string{"observed": store.ResultObserved, "skipped": store.ResultSkipped, "nobody there": store.ResultNoAccount} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBothSites(t, func(_ *testing.T, s *site) {
				s.mode(store.Enforce)
				s.joins("ada")
				s.isIn("g1", "ada")
				s.link("ada", "1")
				s.settle(result)
				s.finds(inventory.Report{})
			})
		})
	}
}

func TestWhatOnlyOneLookSawIsNotReported(t *testing.T) {
	t.Parallel()
	onBothSites(t, func(t *testing.T, s *site) {
		s.mode(store.Enforce)
		s.joins("ada")
		execute(t, s.db, `INSERT INTO people VALUES (1, 't1', '')`)
		looks, tenant := 0, s.Application.Tenant
		s.Application.Tenant = func(ctx context.Context, organization string) (string, bool, error) {
			if looks++; looks == 2 { // meanwhile, the account was bound, and another one is being bound
				s.link("ada", "1")
				execute(t, s.db, `INSERT INTO people VALUES (2, 't1', '')`)
			}
			return tenant(ctx, organization)
		}
		s.finds(inventory.Report{Accounts: 2})
		if looks != 2 {
			t.Errorf("it looked %d times, want 2", looks)
		}
	})
}

func TestACheckThatCannotBeDoneSaysWhy(t *testing.T) {
	t.Parallel()
	onBothSites(t, func(t *testing.T, s *site) {
		s.joins("ada")
		broken := errors.New("no such table")
		s.Application.Tenant = func(context.Context, string) (string, bool, error) { return "", false, broken }
		if _, err := s.Check(t.Context()); !errors.Is(err, broken) {
			t.Errorf("Check() = %v, want what the tenant's statement said", err)
		}
		s.Application.Accounts = ""
		if _, err := s.Check(t.Context()); !errors.Is(err, inventory.ErrNotListed) {
			t.Errorf("Check() without a listing = %v, want %v", err, inventory.ErrNotListed)
		}
	})
}

func TestStandingsAreTheSamePageByPage(t *testing.T) {
	t.Parallel()
	onBothSites(t, func(t *testing.T, s *site) {
		s.mode(store.Paused)
		s.joins("ada", "bob", "cyd", "dan")
		s.isIn("g1", "bob")
		s.isIn("g2", "bob")
		s.isIn("g1", "ada")
		s.link("ada", "1")
		s.link("bob", "2")
		s.link("cyd", "3")
		told := s.settle(store.ResultBound, directory.GrantAdded)
		s.leaves("cyd")
		s.leaves("dan")
		want := []store.Standing{
			person("ada", "1", true, activated, granted("g1", false)), person("bob", "2", true, activated, granted("g1", false), granted("g2", false)),
			with(person("cyd", "3", false, activated), func(a *store.Standing) { a.Email = "" }), {ID: account("dan")},
		}
		for _, limit := range []int{1, 2, 100} {
			var got []store.Standing
			for last := (directory.ID{}); ; last = got[len(got)-1].ID {
				page, err := s.store.Standings(t.Context(), last, limit)
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, page...); len(page) == 0 {
					break
				}
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Standings() by %d (-want +got):\n%s", limit, diff)
			}
		}
		s.checkSettled(told)
		directories, err := s.store.Directories(t.Context())
		if diff := cmp.Diff([]store.DirectoryRow{{Scope: first, Organization: "org_1", Mode: store.Paused}}, directories); diff != "" || err != nil {
			t.Errorf("Directories() = %v (-want +got):\n%s", err, diff)
		}
	})
}

// checkSettled checks that what came of changes is known of those, and only those, that are done.
func (s *site) checkSettled(told []store.ChangeRow) {
	s.t.Helper()
	seqs := []int64{-1}
	for _, c := range told {
		seqs = append(seqs, c.Seq)
	}
	got, err := s.store.Settled(s.t.Context(), slices.Concat(seqs, make([]int64, 2500)))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range told {
		b, done := got[c.Seq]
		if want := c.Kind != directory.GrantAdded; done != want {
			s.t.Errorf("Settled() of %s: %t, want %t", c.Kind, done, want)
		}
		if done && (b.Result != store.ResultBound || b.Rows != 2 || b.Digest != "d1" || time.Since(b.At).Abs() > time.Minute) {
			s.t.Errorf("Settled() of %s = %+v", c.Kind, b)
		}
	}
}
