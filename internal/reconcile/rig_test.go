package reconcile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

const theDirectory = "directory_1"

// person and team are what a directory has.
type person struct {
	idp, state, email string
	created, updated  time.Time
}

type team struct {
	name    string
	updated time.Time
	members []string
}

// listing is a directory that answers, and misbehaves when it is told to. mu guards all of it.
type listing struct {
	mu    sync.Mutex
	now   func() time.Time
	state string
	users map[string]person
	teams map[string]team

	skew         time.Duration    // of its clock
	stale        time.Duration    // by which its pages of users are older
	cut          string           // "users", "groups" or "members": that listing ends in an error, after a page
	lacks        map[string]bool  // users whom the listing leaves out, and a look at one alone does not
	lonely       map[string]bool  // users whom the members of groups leave out, and a look at their own groups does not
	counted      int              // users that it counts; 0 counts nothing
	countedTeams int              // groups that it counts at least
	another      bool             // it lists an object of another directory
	during       func()           // called while users are listed
	asked        map[string]int   // how often what was asked
	gone         bool             // it knows no such directory
	waitWith     chan struct{}    // users are listed once it is closed
	reached      chan<- struct{}  // told then
	failsFor     map[string]error // looks at one user
}

func newListing(now func() time.Time) *listing {
	return &listing{now: now, state: "active", users: map[string]person{}, teams: map[string]team{}, lacks: map[string]bool{}, asked: map[string]int{}}
}

func (l *listing) ask(what string) (end func()) {
	l.mu.Lock()
	l.asked[what]++
	return l.mu.Unlock
}

func (l *listing) date() time.Time { return l.now().Add(l.skew).Truncate(time.Second) }

func (l *listing) Directories(ctx context.Context, page func(context.Context, []provider.ListedDirectory) error) error {
	d, err := l.Directory(ctx, theDirectory)
	if err != nil {
		return page(ctx, nil)
	}
	d.Counted = false
	return page(ctx, []provider.ListedDirectory{d})
}

func (l *listing) Directory(_ context.Context, id string) (provider.ListedDirectory, error) {
	defer l.ask("directory")()
	if l.gone || id != theDirectory {
		return provider.ListedDirectory{}, provider.ErrNotListed
	}
	return provider.ListedDirectory{
		ID: id, Organization: "org_1", Connection: directory.Connection{Name: "Acme", Type: "okta scim v2.0", State: l.state},
		Counted: l.counted > 0, Active: l.counted, Groups: max(len(l.teams), l.countedTeams), Date: l.date(),
	}, nil
}

func (l *listing) listedUser(id string) provider.Listed {
	p := l.users[id]
	of := theDirectory
	if l.another {
		of = "directory_9"
	}
	return provider.Listed{
		Directory: of, Organization: "org_1", Created: p.created, Updated: p.updated,
		User: &directory.Person{ID: id, IDPID: p.idp, State: p.state, Created: p.created, Profile: directory.Profile{Email: p.email}},
	}
}

// pages gives two at a time, and an error in place of what follows the first page of a listing that is cut.
func (l *listing) pages(ctx context.Context, what string, items []provider.Listed, page func(context.Context, provider.ListedPage) error) error {
	date := l.date()
	if what == "users" {
		date = date.Add(-l.stale)
	}
	for some := range slices.Chunk(items, 2) {
		if err := page(ctx, provider.ListedPage{Items: some, Date: date}); err != nil {
			return err
		}
		if l.cut == what {
			return fmt.Errorf("page 2: %w", provider.ErrCutShort)
		}
	}
	if len(items) == 0 {
		return page(ctx, provider.ListedPage{Date: date})
	}
	return nil
}

func (l *listing) Users(ctx context.Context, _ string, page func(context.Context, provider.ListedPage) error) error {
	end := l.ask("users")
	var items []provider.Listed
	for _, id := range slices.Sorted(maps.Keys(l.users)) {
		if !l.lacks[id] {
			items = append(items, l.listedUser(id))
		}
	}
	during, wait, reached := l.during, l.waitWith, l.reached
	end()
	if reached != nil {
		reached <- struct{}{}
		<-wait
	}
	err := l.pages(ctx, "users", items, page)
	if during != nil {
		during()
	}
	return err
}

func (l *listing) Groups(ctx context.Context, _ string, page func(context.Context, provider.ListedPage) error) error {
	end := l.ask("groups")
	var items []provider.Listed
	for _, id := range slices.Sorted(maps.Keys(l.teams)) {
		g := l.teams[id]
		items = append(items, provider.Listed{Directory: theDirectory, Organization: "org_1", Updated: g.updated, Group: &directory.Team{ID: id, IDPID: id, Name: g.name}})
	}
	end()
	return l.pages(ctx, "groups", items, page)
}

func (l *listing) Members(ctx context.Context, group string, page func(context.Context, provider.ListedPage) error) error {
	end := l.ask("members")
	var items []provider.Listed
	for _, id := range l.teams[group].members {
		if !l.lonely[id] {
			items = append(items, l.listedUser(id))
		}
	}
	end()
	return l.pages(ctx, "members", items, page)
}

func (l *listing) GroupsOf(ctx context.Context, user string, page func(context.Context, provider.ListedPage) error) error {
	end := l.ask("groups of a user")
	var items []provider.Listed
	for _, id := range slices.Sorted(maps.Keys(l.teams)) {
		if slices.Contains(l.teams[id].members, user) {
			items = append(items, provider.Listed{Directory: theDirectory, Group: &directory.Team{ID: id, Name: l.teams[id].name}})
		}
	}
	end()
	return l.pages(ctx, "groups of a user", items, page)
}

func (l *listing) User(_ context.Context, id string) (provider.Listed, error) {
	defer l.ask("user")()
	if err := l.failsFor[id]; err != nil {
		return provider.Listed{}, err
	}
	if _, there := l.users[id]; !there {
		return provider.Listed{}, provider.ErrNotListed
	}
	return l.listedUser(id), nil
}

// rig is a database, a queue, a worker and a directory of a test's own.
type rig struct {
	t       testing.TB
	store   store.Store
	queue   queue.Queue
	listing *listing
	guard   reconcile.Guard
	page    int // of the database
	n       int
	start   time.Time

	mu     sync.Mutex // guards offset
	offset time.Duration
}

// now is the wall's clock, moved.
func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.offset)
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offset += d
}

func onPostgres(t testing.TB, policy directory.Decision) *rig {
	t.Helper()
	server := testenv.Redis(t)
	q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{server.Addr()}, Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), store.Config{DSN: testenv.Database(t), Environment: "test", MaxConns: 20, Policy: func(string) directory.Decision { return policy }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(q.Close(), s.Close()) })
	return newRig(t, s, q)
}

func onSQLite(t testing.TB, policy directory.Decision) *rig {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), store.Config{DSN: filepath.Join(dir, "rollcall.db"), Environment: "test", Policy: func(string) directory.Decision { return policy }})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.OpenEmbedded(queue.EmbeddedConfig{Path: filepath.Join(dir, "queue.db"), Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(q.Close(), s.Close()) })
	return newRig(t, s, q)
}

func newRig(t testing.TB, s store.Store, q queue.Queue) *rig {
	t.Helper()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: s, queue: q, page: 3, guard: reconcile.Guard{Accounts: 50, Percent: 10, Floor: 5}, start: time.Now().Add(-24 * time.Hour).UTC().Truncate(time.Second)}
	r.listing = newListing(r.now)
	return r
}

func everywhere(t *testing.T, policy directory.Decision, test func(t *testing.T, r *rig)) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB, directory.Decision) *rig{"PostgreSQL and Redis": onPostgres, "SQLite and a file": onSQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, policy)
			r.work()
			test(t, r)
		})
	}
}

// work runs a worker until the test ends. Its source speaks plainly.
func (r *rig) work(change ...func(*worker.Config)) {
	c := worker.Config{
		Queue: r.queue, Store: r.store, Now: r.now, Binary: "1.2.3",
		Sources: map[string]worker.Source{"workos": {Provider: provider.Provider{Name: "plain", Decode: decodePlainly}}}, Log: zerolog.Nop(),
	}
	for _, f := range change {
		f(&c)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- worker.New(c).Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("the worker's Run() = %v, want nil", err)
		}
	})
}

func decodePlainly(body []byte, options provider.Options) ([]provider.Statement, error) {
	var e directory.Event
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", directory.ErrInvalid, err)
	}
	e.Source = options.Source
	return []provider.Statement{{Identity: provider.Identity{ID: e.ID, Type: e.Type, Directory: e.Directory}, Event: &e}}, nil
}

func (r *rig) at(minute int) time.Time { return r.start.Add(time.Duration(minute) * time.Minute) }

// event is the next of the directory, said at the minute.
func (r *rig) event(minute int) directory.Event {
	r.n++
	return directory.Event{
		Source: "workos", ID: fmt.Sprintf("event_%05d", r.n), Type: "t", Directory: theDirectory, Organization: "org_1", Occurred: r.at(minute), Updated: r.at(minute),
	}
}

// told is the event that tells of a person as the directory has them now.
func (r *rig) told(minute int, id string) directory.Event {
	p := r.listing.users[id]
	e := r.event(minute)
	e.Subject, e.Removes, e.Updated = directory.SubjectUser, p.state != "active", p.updated
	e.User = &directory.Person{ID: id, IDPID: p.idp, State: p.state, Created: p.created, Profile: directory.Profile{Email: p.email}}
	return e
}

func (r *rig) leaves(minute int, id string) directory.Event {
	e := r.told(minute, id)
	e.Removes, e.User.State = true, "inactive"
	return e
}

func (r *rig) member(minute int, group, id string, removes bool) directory.Event {
	e := r.event(minute)
	e.Subject, e.Removes, e.Updated, e.Membership = directory.SubjectMembership, removes, time.Time{}, &directory.Membership{Group: group, User: id}
	return e
}

func (r *rig) toldGroup(minute int, id string, removes bool) directory.Event {
	e := r.event(minute)
	e.Subject, e.Removes, e.Group = directory.SubjectGroup, removes, &directory.Team{ID: id, IDPID: id, Name: r.listing.teams[id].name}
	return e
}

func (r *rig) toldDirectory(minute int, removes bool) directory.Event {
	e := r.event(minute)
	e.Subject, e.Removes, e.Connection = directory.SubjectDirectory, removes, &directory.Connection{Name: "Acme", Type: "okta scim v2.0", State: "active"}
	return e
}

// hires puts people into the directory, and says nothing of it.
func (r *rig) hires(minute int, names ...string) {
	for _, name := range names {
		r.listing.users["user_"+name] = person{idp: "idp-" + name, state: "active", email: name + "@example.com", created: r.at(0), updated: r.at(minute)}
	}
}

// many are the names of n people.
func many(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("p%03d", i))
	}
	return names
}

// known puts people into the directory, and their events into the registers.
func (r *rig) known(names ...string) {
	r.t.Helper()
	r.hires(1, names...)
	events := []directory.Event{r.toldDirectory(0, false)}
	for _, name := range names {
		events = append(events, r.told(1, "user_"+name))
	}
	r.fold(events...)
}

func (r *rig) fold(events ...directory.Event) {
	r.t.Helper()
	for some := range slices.Chunk(events, 500) {
		if err := storetest.Fold(r.t.Context(), r.store, some); err != nil {
			r.t.Fatalf("Fold() = %v", err)
		}
	}
}

// send sends events as webhooks are.
func (r *rig) send(events ...directory.Event) {
	r.t.Helper()
	for _, e := range events {
		body, err := json.Marshal(e)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.queue.Enqueue(r.t.Context(), queue.Delivery{Source: e.Source, ID: e.ID, Directory: e.Directory, Origin: queue.Hook, Received: time.Now(), Body: body}); err != nil {
			r.t.Fatalf("Enqueue(%s) = %v", e.ID, err)
		}
	}
}

func (r *rig) reconciler(change ...func(*reconcile.Config)) *reconcile.Reconciler {
	c := reconcile.Config{Source: "workos", Listing: r.listing, Store: r.store, Queue: r.queue, Guard: r.guard, Page: r.page, Log: zerolog.Nop(), Now: r.now}
	for _, f := range change {
		f(&c)
	}
	return reconcile.New(c)
}

// repair compares and repairs, and waits until all of it is folded.
func (r *rig) repair() store.Run {
	r.t.Helper()
	run, err := r.reconciler().Repair(r.t.Context(), theDirectory, "test")
	if err != nil {
		r.t.Fatalf("Repair() = %v", err)
	}
	r.settle()
	return run
}

// fails compares, which must fail of this, and whatever was found must be as it was.
func (r *rig) fails(want error) store.Run {
	r.t.Helper()
	before := r.active()
	run, err := r.reconciler().Repair(r.t.Context(), theDirectory, "test")
	if !errors.Is(err, want) {
		r.t.Fatalf("Repair() = %v, want %v", err, want)
	}
	r.settle()
	if after := r.active(); !slices.Equal(before, after) {
		r.t.Errorf("an incomplete comparison made %q of %q", after, before)
	}
	runs, err := r.store.Runs(r.t.Context(), store.RunFilter{ID: run.ID})
	if err != nil || len(runs) != 1 || runs[0].Complete || runs[0].Ended.IsZero() || runs[0].Reason == "" || len(runs[0].Kinds) > 0 && runs[0].Found() > runs[0].Open() {
		r.t.Errorf("Runs() = %+v, %v, want it ended, incomplete, and why", runs, err)
	}
	if n := r.repairs(); n != 0 {
		r.t.Errorf("%d repairs came of an incomplete comparison", n)
	}
	return run
}

// repairs counts the ledger's.
func (r *rig) repairs() (n int) {
	r.t.Helper()
	for _, e := range r.ledger() {
		if e.Origin == string(queue.Reconcile) {
			n++
		}
	}
	return n
}

func (r *rig) ledger() []store.Entry {
	r.t.Helper()
	events, err := r.store.Events(r.t.Context(), store.EventFilter{Limit: 1_000_000})
	if err != nil {
		r.t.Fatalf("Events() = %v", err)
	}
	return events
}

// plan compares, and returns what was found, each a line, and the file.
func (r *rig) plan() (lines []string, file []byte, run store.Run) {
	r.t.Helper()
	var out bytes.Buffer
	run, _, err := r.reconciler().Plan(r.t.Context(), theDirectory, &out, func(it reconcile.Item) error {
		lines = append(lines, line(it))
		return nil
	})
	if err != nil {
		r.t.Fatalf("Plan() = %v", err)
	}
	return lines, out.Bytes(), run
}

func line(it reconcile.Item) string { return fmt.Sprintf("%s %s: %s", it.Action, it.Kind, it.Who) }

// apply approves of all of a plan, and waits until it is folded.
func (r *rig) apply(file []byte) reconcile.Applied {
	r.t.Helper()
	a := reconcile.Approval{By: "olga", Reason: "looked at it", Binary: "1.2.3"}
	plan, _, moved, err := reconcile.Check(r.t.Context(), r.store, bytes.NewReader(file), a, r.now())
	if err != nil || len(moved) != 0 {
		r.t.Fatalf("Check() = %v, moved %v, want a plan that can be applied", err, moved)
	}
	done, err := reconcile.Apply(r.t.Context(), r.store, plan, bytes.NewReader(file), a, r.now())
	if err != nil {
		r.t.Fatalf("Apply() = %v", err)
	}
	r.until("nothing is left to apply", func() bool {
		dead, err := r.store.DeadEvents(r.t.Context(), store.EventFilter{Class: "reconcile", Limit: 1})
		return err == nil && len(dead) == 0
	})
	r.settle()
	return done
}

// settle waits until nothing is queued and nothing is left to expand.
func (r *rig) settle() {
	r.t.Helper()
	r.until("an empty queue", func() bool {
		s, err := r.queue.Stats(r.t.Context())
		return err == nil && s.Depth() == 0
	})
	r.until("no expansions", func() bool {
		p, err := r.store.Expansions(r.t.Context(), 1)
		return err == nil && len(p) == 0
	})
}

func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(90 * time.Second); !done(); {
		select {
		case <-ticker.C:
		case <-deadline:
			r.t.Fatalf("this did not come: %s", what)
		}
	}
}

// active is who is active, and what they are granted. It checks what must hold whatever was folded.
func (r *rig) active() []string {
	r.t.Helper()
	return directorytest.Active(storetest.Check(r.t, r.store))
}

// wantActive compares who is active, by their names and name/group.
func (r *rig) wantActive(want ...string) {
	r.t.Helper()
	var got []string
	for _, a := range r.active() {
		line := strings.TrimPrefix(a, theDirectory+" ")
		grant, isGrant := strings.CutPrefix(line, "grant ")
		name, rest, _ := strings.Cut(strings.TrimPrefix(grant, "idp-"), " ")
		if isGrant {
			name += "/" + rest
		}
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Errorf("active: %q, want %q (of %q)", got, want, r.active())
	}
}
