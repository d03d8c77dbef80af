package reconcile_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
)

// BenchmarkReconcile compares a directory whose registers are as it lists them, but for one person in a thousand, from a listing that
// takes no time, in pages of 100. It reports users a second, and the most memory that was in use meanwhile.
func BenchmarkReconcile(b *testing.B) {
	for name, open := range map[string]func(testing.TB, directory.Decision) *rig{"PostgreSQL": onPostgres, "SQLite": onSQLite} {
		for _, size := range []large{{20_000, 0, 0}, {20_000, 100, 5}, {200_000, 1000, 5}} {
			b.Run(fmt.Sprintf("%s/users=%d/memberships=%d", name, size.users, size.users*size.each), func(b *testing.B) {
				r := open(b, directory.DecisionKeep)
				size.fill(b, r.store)
				c := reconcile.New(reconcile.Config{Source: "workos", Listing: size, Store: r.store, Guard: reconcile.Guard{Accounts: 50, Percent: 10, Floor: 5}})
				peak, stop := watch()
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					_, plan, err := c.Plan(b.Context(), theDirectory, nil, nil)
					if want := int64(size.users / 1000); err != nil || plan.Items != want {
						b.Fatalf("Plan() = %d findings, %v, want %d", plan.Items, err, want)
					}
				}
				b.StopTimer()
				stop()
				b.ReportMetric(float64(b.N*size.users)/b.Elapsed().Seconds(), "users/s")
				b.ReportMetric(float64(peak.Load())/(1<<20), "peak-MB")
			})
		}
	}
}

// watch notes the greatest heap until it is stopped.
func watch() (peak *atomic.Uint64, stop func()) {
	peak = &atomic.Uint64{}
	end, ended := make(chan struct{}), make(chan struct{})
	runtime.GC()
	go func() {
		defer close(ended)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapInuse))
			}
		}
	}()
	return peak, func() { close(end); <-ended }
}

// large is a directory of many: each of its users is in some of its groups.
type large struct{ users, groups, each int }

var long = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (l large) user(n int) directory.Person {
	return directory.Person{
		ID: fmt.Sprintf("directory_user_01K%08d", n), IDPID: fmt.Sprintf("idp-%08d", n), State: "active", Created: long,
		Profile: directory.Profile{Email: fmt.Sprintf("person.%d@example.com", n), FirstName: "Ada", LastName: fmt.Sprintf("Lovelace %d", n), Attributes: map[string]string{"role": "member"}},
	}
}

func (l large) group(n int) directory.Team {
	return directory.Team{ID: fmt.Sprintf("directory_group_01K%05d", n), IDPID: fmt.Sprint(n), Name: fmt.Sprintf("Group %d", n)}
}

// members are the users of a group.
func (l large) members(group int, each func(user int)) {
	for n := group; n < l.users*l.each; n += l.groups {
		each(n / l.each)
	}
}

// fill saves the registers, as they would be had all of it been told; of every thousandth person another name.
func (l large) fill(b *testing.B, s store.Store) {
	b.Helper()
	scope := directory.Scope{Source: "workos", Directory: theDirectory}
	version := func(of string) directory.Version {
		e := directory.Event{ID: "event_" + of, Occurred: long, Updated: long}
		return e.Version()
	}
	delta := directory.Delta{Directories: []directory.Register{{Scope: scope, Version: version("d"), Connection: directory.Connection{Name: "Acme", State: "active"}}}}
	rows := 0
	save := func(least int) {
		if rows < least {
			return
		}
		err := s.Update(b.Context(), []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error { return tx.Save(ctx, store.Batch{Delta: delta}) })
		if err != nil {
			b.Fatal(err)
		}
		delta, rows = directory.Delta{}, 0
	}
	for n := range l.users {
		p := l.user(n)
		if n%1000 == 999 {
			p.LastName = "Byron"
		}
		u := directory.User{ID: directory.ID{Scope: scope, ID: p.ID}, Organization: "org_1", Version: version(p.ID), Active: true, State: "active", Profile: p.Profile, Identity: "11", IDPID: p.IDPID, Created: p.Created}
		delta.Users = append(delta.Users, u)
		delta.Accounts = append(delta.Accounts, directory.Account{
			ID: directory.ID{Scope: scope, ID: u.AccountKey()}, User: p.ID, Organization: "org_1", IDPID: p.IDPID, State: "active", Profile: p.Profile, Active: true, Version: u.Version,
		})
		rows++
		save(2000)
	}
	for n := range l.groups {
		t := l.group(n)
		delta.Groups = append(delta.Groups, directory.Group{ID: directory.ID{Scope: scope, ID: t.ID}, Organization: "org_1", IDPID: t.IDPID, Version: version(t.ID), Name: t.Name, NameVersion: version(t.ID)})
		l.members(n, func(user int) {
			id := l.user(user).ID
			delta.Edges = append(delta.Edges, directory.Edge{EdgeID: directory.EdgeID{Scope: scope, Group: t.ID, User: id}, Version: version(id), Present: true})
			rows++
		})
		save(5000)
	}
	save(0)
}

const pageOf = 100

func (l large) pages(ctx context.Context, each func(func(provider.Listed) error) error, page func(context.Context, provider.ListedPage) error) error {
	var items []provider.Listed
	err := each(func(i provider.Listed) error {
		if items = append(items, i); len(items) < pageOf {
			return nil
		}
		err := page(ctx, provider.ListedPage{Items: items})
		items = items[:0]
		return err
	})
	if err != nil {
		return err
	}
	return page(ctx, provider.ListedPage{Items: items})
}

func (l large) listed(n int) provider.Listed {
	p := l.user(n)
	return provider.Listed{Directory: theDirectory, Organization: "org_1", User: &p, Created: long, Updated: long}
}

func (l large) Users(ctx context.Context, _ string, page func(context.Context, provider.ListedPage) error) error {
	return l.pages(ctx, func(add func(provider.Listed) error) error {
		for n := range l.users {
			if err := add(l.listed(n)); err != nil {
				return err
			}
		}
		return nil
	}, page)
}

func (l large) Groups(ctx context.Context, _ string, page func(context.Context, provider.ListedPage) error) error {
	return l.pages(ctx, func(add func(provider.Listed) error) error {
		for n := range l.groups {
			t := l.group(n)
			if err := add(provider.Listed{Directory: theDirectory, Organization: "org_1", Group: &t, Updated: long}); err != nil {
				return err
			}
		}
		return nil
	}, page)
}

func (l large) Members(ctx context.Context, group string, page func(context.Context, provider.ListedPage) error) error {
	var number int
	if _, err := fmt.Sscanf(group, "directory_group_01K%05d", &number); err != nil {
		return err
	}
	return l.pages(ctx, func(add func(provider.Listed) error) (err error) {
		l.members(number, func(user int) {
			if err == nil {
				err = add(l.listed(user))
			}
		})
		return err
	}, page)
}

func (l large) Directory(context.Context, string) (provider.ListedDirectory, error) {
	return provider.ListedDirectory{ID: theDirectory, Connection: directory.Connection{Name: "Acme", State: "active"}}, nil
}

func (large) Directories(context.Context, func(context.Context, []provider.ListedDirectory) error) error {
	return nil
}

func (large) GroupsOf(context.Context, string, func(context.Context, provider.ListedPage) error) error {
	return nil
}

func (large) User(context.Context, string) (provider.Listed, error) {
	return provider.Listed{}, provider.ErrNotListed
}
