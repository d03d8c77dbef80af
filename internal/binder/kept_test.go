package binder_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// in2 is an account of directory_2.
func in2(name string) directory.ID {
	return directory.ID{Scope: directory.Scope{Source: "workos", Directory: "directory_2"}, ID: name}
}

// keptIn makes ada an account of both directories, whose end and role the second one keeps.
func (r *rig) keptIn() {
	r.Helper()
	r.fold(joins("ada"), added("group_admins", "ada"))
	r.settle()
	r.fold(joins("ada", in("directory_2")), added("group_admins", "ada", in("directory_2")))
	r.settle()
	r.fold(leaves("ada"))
	r.settle()
	r.shows(`SELECT disabled, role FROM app_users JOIN app_roles ON user_id = app_users.id`, "0 admin")
	want := []string{"account.deactivated", "role.revoked"}
	if got := read(r, r.truth, `SELECT kind FROM `+r.schema+`changes WHERE bound_result = 'kept' ORDER BY kind`); !slices.Equal(got, want) {
		r.Errorf("kept were %q, want %q", got, want)
	}
}

// out waits until ada has nothing any more.
func (r *rig) out() {
	r.Helper()
	r.until("that ada is out", func() bool {
		return slices.Equal(r.rows(`SELECT disabled, role FROM app_users LEFT JOIN app_roles ON user_id = app_users.id WHERE external_id = 'ada'`), []string{"1 -"})
	})
	r.settle()
}

// ends returns the ends that were told of ada, each its directory with what came of it.
func (r *rig) ends() []string {
	r.Helper()
	return read(r, r.truth, `SELECT directory, bound_result FROM `+r.schema+`changes WHERE kind = 'account.deactivated' ORDER BY seq`)
}

func TestWhatWasKeptIsTakenWhenTheOtherDirectoryIsOnlyObserved(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start()
		r.keptIn()
		r.becomes("directory_2", store.Observe)
		r.out()
		if got, want := r.ends(), []string{"directory_1 kept", "directory_1 bound"}; !slices.Equal(got, want) {
			t.Errorf("the ends are %q, want %q", got, want)
		}
	})
}

// meanwhile is a store which, once, does something between the answer that a removal is to be carried out and its statements.
type meanwhile struct {
	store.Store
	once sync.Once
	do   func()
}

func (m *meanwhile) Siblings(ctx context.Context, s store.Session, l store.Link) ([]store.Sibling, error) {
	siblings, err := m.Store.Siblings(ctx, s, l)
	if l.Directory == "directory_1" {
		m.once.Do(m.do)
	}
	return siblings, err
}

func TestWhoBecomesActiveElsewhereWhileTheirEndIsBoundStaysActive(t *testing.T) {
	t.Parallel()
	for place, own := range map[string]bool{"in one database": true, "in two databases": false} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			r := onPostgres(t, own)
			other := r.binder(func(c *binder.Config) { c.Mode = store.Enforce })
			r.fold(joins("ada"), added("group_admins", "ada"))
			r.drained(other)
			m := &meanwhile{Store: r.store, do: func() {
				r.fold(joins("ada", in("directory_2")), added("group_admins", "ada", in("directory_2")))
				r.drained(other)
			}}
			r.fold(leaves("ada"))
			r.drained(r.binder(func(c *binder.Config) { c.Store = m }))
			r.shows(`SELECT disabled, role FROM app_users JOIN app_roles ON user_id = app_users.id`, "0 admin")
			if got, want := r.ends(), []string{"directory_1 kept"}; !slices.Equal(got, want) {
				t.Errorf("the ends are %q, want %q", got, want)
			}
		})
	}
}

// touchesNothing has what tells of an active account touch no row of whoever is not disabled, so that it waits for nobody who has
// one; and what waits does so for as long as a test wants.
func touchesNothing(c *binder.Config) {
	c.LockTimeout, c.StatementTimeout = time.Hour, time.Hour
	c.Bindings[0].Statements = []string{
		`INSERT INTO app_users (external_id) SELECT CAST(@idp_id AS text) WHERE CAST(@app_id AS text) IS NULL`,
		`UPDATE app_users SET disabled = 0 WHERE external_id = @idp_id AND disabled <> 0`,
	}
}

// The other account's link is new, and no row is touched by what tells of it: nothing shows before its transaction ends.
func TestWhoIsBeingLinkedElsewhereWhileTheirEndIsBoundStaysActive(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	r.exec(hangs)
	config := func(c *binder.Config) {
		touchesNothing(c)
		c.Bindings[0].Statements = append(c.Bindings[0].Statements, `SELECT pg_advisory_xact_lock(42) WHERE CAST(@directory_id AS text) = 'directory_2'`)
	}
	b := r.binder(config)
	r.fold(joins("ada"), added("group_admins", "ada"))
	r.drained(b)
	release := r.hold()
	r.fold(joins("ada", in("directory_2")), added("group_admins", "ada", in("directory_2")))
	linking := make(chan error, 1)
	go func() { linking <- r.binder(config).Drain(context.WithoutCancel(t.Context())) }()
	r.hang(1)
	r.fold(leaves("ada"))
	r.drained(b)
	if got := r.ends(); !slices.Equal(got, []string{"directory_1 -"}) {
		t.Errorf("while another account of the person is linked, the ends are %q, want one that waits", got)
	}
	release()
	if err := <-linking; err != nil {
		t.Fatal(err)
	}
	r.drained(b)
	r.shows(`SELECT disabled, role FROM app_users JOIN app_roles ON user_id = app_users.id`, "0 admin")
	if got, want := r.ends(), []string{"directory_1 kept"}; !slices.Equal(got, want) {
		t.Errorf("the ends are %q, want %q", got, want)
	}
	if got := r.failures(); len(got) != 0 {
		t.Errorf("these failed: %q, want none", got)
	}
}

// The other account is linked already, and was not active.
func TestWhoIsBeingTakenBackElsewhereWhileTheirEndIsBoundStaysActive(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	r.exec(hangs)
	config := func(c *binder.Config) {
		touchesNothing(c)
		c.Bindings = append(c.Bindings, binder.Binding{Name: "slow", On: kinds("account.deactivated"), Statements: []string{`SELECT pg_advisory_xact_lock(42)`}})
	}
	b := r.binder(config)
	r.fold(joins("ada"), joins("ada", in("directory_2")))
	r.drained(b)
	r.fold(leaves("ada", in("directory_2")))
	r.drained(b)
	release := r.hold()
	r.fold(leaves("ada"))
	ending := make(chan error, 1)
	go func() { ending <- r.binder(config).Drain(context.WithoutCancel(t.Context())) }()
	r.hang(1)
	r.fold(joins("ada", in("directory_2")))
	r.drained(b)
	release()
	if err := <-ending; err != nil {
		t.Fatal(err)
	}
	r.drained(b)
	r.shows(`SELECT disabled FROM app_users`, "0")
	if got, want := r.ends(), []string{"directory_1 kept"}; !slices.Equal(got[len(got)-1:], want) {
		t.Errorf("the ends are %q, want %q the last", got, want)
	}
}

// unsure is a store that fails to say, after a removal's statements, who else the person is.
type unsure struct {
	store.Store
	times atomic.Int64
}

func (u *unsure) Siblings(ctx context.Context, s store.Session, l store.Link) ([]store.Sibling, error) {
	if u.times.Add(1)%2 == 0 {
		return nil, errors.New("permission denied")
	}
	return u.Store.Siblings(ctx, s, l)
}

func TestARemovalOfWhichItIsNotKnownWhetherItTakesAnythingFails(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.fold(joins("ada"))
		r.drained(r.binder())
		r.fold(leaves("ada"))
		r.drained(r.binder(func(c *binder.Config) { c.Store = &unsure{Store: r.store} }))
		r.shows(`SELECT disabled FROM app_users`, "0")
		if got := r.failures(); len(got) != 1 || !strings.Contains(got[0], "permission denied") {
			t.Errorf("failures are %q, want the one, and why", got)
		}
	})
}

// A pause is an operator's brake: it takes nothing from anybody who is active.
func TestWhatWasKeptStaysWhileTheOtherDirectoryIsPausedAndIsTakenWhenItsAccountEnds(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b, stop := r.start()
		r.keptIn()
		stop()
		r.becomes("directory_2", store.Paused)
		if err := b.LookAtSpared(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.waiting(); n != 0 {
			t.Errorf("%d changes wait, want none: a pause ends nothing", n)
		}
		r.fold(leaves("ada", in("directory_2")))
		r.start()
		r.until("that ada is out", func() bool { return slices.Equal(r.rows(`SELECT disabled FROM app_users`), []string{"1"}) })
		r.until("that the other end alone waits", func() bool {
			return slices.Equal(r.ends(), []string{"directory_1 kept", "directory_2 -", "directory_1 bound"})
		})
	})
}

func TestWhatWasKeptIsTakenWhenTheOtherAccountIsSomebodyElse(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, external_id) VALUES (1, 'ada')`)
		r.start(func(c *binder.Config) {
			c.Bindings[0].Statements = []string{`UPDATE app_users SET name = @name, disabled = 0 WHERE id = @app_id`}
		})
		r.keptIn()
		r.exec(`INSERT INTO app_users (id, external_id) VALUES (70, 'somebody')`)
		other, err := r.store.LinksOf(t.Context(), nil, []store.Lane{{Scope: in2("ada").Scope, Account: "ada"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range other {
			link.AppID, link.How, link.By, link.Next = "70", "operator", "ops", time.Now()
			if err := r.store.SaveLink(t.Context(), nil, link); err != nil {
				t.Fatalf("SaveLink() = %v", err)
			}
		}
		r.out()
		r.shows(`SELECT disabled FROM app_users WHERE id = 70`, "0")
	})
}

func TestWhatWasKeptIsTakenWhenTheOthersLinkIsDropped(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		_, stop := r.start()
		r.keptIn()
		stop()
		if err := r.store.DropLink(t.Context(), in2("ada")); err != nil {
			t.Fatal(err)
		}
		r.exec(`UPDATE app_users SET external_id = 'moved'`) // nobody finds it by the old one any more
		r.start()
		r.until("that ada is out", func() bool {
			return slices.Equal(r.rows(`SELECT disabled FROM app_users WHERE external_id = 'moved'`), []string{"1"})
		})
	})
}

// Two ends were kept by a third account: when that goes, one of them takes what all of them gave, once.
func TestTheEndOfWhoWasOnlyKeptKeepsNobody(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start()
		r.fold(joins("ada"))
		r.settle()
		r.fold(joins("ada", in("directory_2")), joins("ada", in("directory_3")))
		r.settle()
		r.fold(leaves("ada"))
		r.settle()
		r.fold(leaves("ada", in("directory_2")))
		r.settle()
		if got, want := r.ends(), []string{"directory_1 kept", "directory_2 kept"}; !slices.Equal(got, want) {
			t.Fatalf("the ends are %q, want %q", got, want)
		}
		r.becomes("directory_3", store.Observe)
		r.out()
		if got, want := r.ends(), []string{"directory_1 kept", "directory_2 kept", "directory_1 bound"}; !slices.Equal(got, want) {
			t.Errorf("the ends are %q, want %q", got, want)
		}
	})
}

func TestTheLastWhoEndsTakesItAndNobodyIsToldAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		b, stop := r.start()
		r.keptIn()
		r.fold(leaves("ada", in("directory_2")))
		r.out()
		stop()
		for range 2 {
			if err := b.LookAtSpared(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := r.ends(), []string{"directory_1 kept", "directory_2 bound"}; !slices.Equal(got, want) {
			t.Errorf("the ends are %q, want %q", got, want)
		}
	})
}

func TestARoleThatAnotherAccountGaveIsTakenWhenThatIsObserved(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(spared)
		r.fold(joins("ada"), added("group_admins", "ada"))
		r.settle()
		r.fold(joins("ada", in("directory_2")), added("group_admins", "ada", in("directory_2")))
		r.settle()
		r.fold(removed("group_admins", "ada"))
		r.settle()
		r.shows(`SELECT role FROM app_roles`, "admin")
		r.becomes("directory_2", store.Observe)
		r.until("that the role is gone", func() bool { return len(r.rows(`SELECT 1 FROM app_roles`)) == 0 })
		r.settle()
		r.shows(`SELECT disabled FROM app_users`, "0")
	})
}
