package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

// settings are what a test wants of its rig; zero values are the defaults.
type settings struct {
	lease      time.Duration
	policy     directory.Decision
	unmigrated bool
}

// rig is a database and a queue of a test's own.
type rig struct {
	t       *testing.T
	store   store.Store
	queue   queue.Queue
	dialect dialect

	mu  sync.Mutex // guards now
	now time.Time
}

// dialect is what a test says to one database and not to the other.
type dialect struct {
	exec   func(ctx context.Context, statement string) error
	refuse string // makes the database refuse whoever is called "poison"
	relent string
	count  func(ctx context.Context, query string) (int, error)
	schema string
}

func onPostgres(t *testing.T, s settings) *rig {
	t.Helper()
	server := testenv.Redis(t)
	q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{server.Addr()}, Environment: "test", Lease: s.lease})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return newRig(t, s, openPostgres(t, testenv.Database(t), s), q)
}

func openPostgres(t *testing.T, dsn string, s settings) store.Store {
	t.Helper()
	p, err := postgres.Open(t.Context(), store.Config{DSN: dsn, Environment: "test", Binary: "1.2.3", Policy: s.decide, MaxConns: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func onSQLite(t *testing.T, s settings) *rig {
	t.Helper()
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), store.Config{DSN: filepath.Join(dir, "rollcall.db"), Environment: "test", Binary: "1.2.3", Policy: s.decide})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.OpenEmbedded(queue.EmbeddedConfig{Path: filepath.Join(dir, "queue.db"), Environment: "test", Lease: s.lease})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(q.Close(), db.Close()) })
	return newRig(t, s, db, q)
}

func (s settings) decide(string) directory.Decision { return s.policy }

func newRig(t *testing.T, s settings, db store.Store, q queue.Queue) *rig {
	t.Helper()
	r := &rig{t: t, store: db, queue: q, now: directorytest.Start.Add(time.Hour)}
	switch db := db.(type) {
	case *postgres.Store:
		r.dialect = dialect{
			exec: func(ctx context.Context, statement string) error {
				_, err := db.Reader.DB.ExecContext(ctx, statement)
				return err
			},
			refuse: `ALTER TABLE rollcall.users ADD CONSTRAINT no_poison CHECK (first_name <> 'poison')`,
			relent: `ALTER TABLE rollcall.users DROP CONSTRAINT no_poison`,
			count: func(ctx context.Context, query string) (n int, err error) {
				return n, db.Reader.DB.QueryRowContext(ctx, query).Scan(&n)
			},
			schema: "rollcall.",
		}
	case *sqlite.Store:
		r.dialect = dialect{
			exec: func(ctx context.Context, statement string) error {
				_, err := db.Migrator.DB.ExecContext(ctx, statement)
				return err
			},
			refuse: `CREATE TRIGGER no_poison BEFORE INSERT ON users WHEN NEW.first_name = 'poison' BEGIN SELECT RAISE(ABORT, 'no'); END`,
			relent: `DROP TRIGGER no_poison`,
			count: func(ctx context.Context, query string) (n int, err error) {
				return n, db.Reader.DB.QueryRowContext(ctx, query).Scan(&n)
			},
		}
	}
	if !s.unmigrated {
		if _, err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// everywhere runs a test on both pairs of real backends.
func everywhere(t *testing.T, s settings, test func(t *testing.T, r *rig)) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T, settings) *rig{"PostgreSQL and Redis": onPostgres, "SQLite and a file": onSQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, s))
		})
	}
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// config is what the tests' workers have in common. Source "workos" speaks plainly, source "real" as WorkOS does.
func (r *rig) config() worker.Config {
	return worker.Config{
		Queue: r.queue, Store: r.store, Now: r.clock, Binary: "1.2.3", Digest: "digest",
		Sources: map[string]worker.Source{
			"workos": {Provider: provider.Provider{Name: "plain", Decode: decodePlainly}},
			"real":   {Provider: workos.Provider()},
		},
		Log: zerolog.New(zerolog.NewTestWriter(r.t)), Registerer: prometheus.NewRegistry(),
	}
}

// start runs a worker until stop is called, or the test ends; stop waits for it.
func (r *rig) start(change ...func(c *worker.Config)) (stop func()) {
	c := r.config()
	for _, f := range change {
		f(&c)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- worker.New(c).Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Run() = %v, want nil", err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// until waits for something that the worker makes true.
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

// settle waits until nothing is queued and nothing is left to expand.
func (r *rig) settle() {
	r.t.Helper()
	r.until("an empty queue", func() bool { return r.depth() == 0 })
	r.until("no expansions", func() bool {
		p, err := r.store.Expansions(r.t.Context(), 1)
		return err == nil && len(p) == 0
	})
}

func (r *rig) depth() int64 {
	r.t.Helper()
	s, err := r.queue.Stats(r.t.Context())
	if err != nil {
		r.t.Fatalf("Stats() = %v", err)
	}
	return s.Depth()
}

// deliver queues a body as the edge does.
func (r *rig) deliver(d queue.Delivery) {
	r.t.Helper()
	if d.Source == "" {
		d.Source = "workos"
	}
	if d.Origin == "" {
		d.Origin = queue.Hook
	}
	d.Received, d.KeyVersion, d.SignedAt = directorytest.Start, "3", directorytest.Start
	if _, err := r.queue.Enqueue(r.t.Context(), d); err != nil {
		r.t.Fatalf("Enqueue(%s) = %v", d.ID, err)
	}
}

func (r *rig) send(events ...directory.Event) {
	r.t.Helper()
	for _, e := range events {
		r.deliver(plain(e))
	}
}

// replay queues an event though the queue has seen it.
func (r *rig) replay(events ...directory.Event) {
	r.t.Helper()
	for _, e := range events {
		d := plain(e)
		d.Force, d.Origin = true, queue.Replay
		r.deliver(d)
	}
}

// ledger returns what came of an event, "" while nothing did.
func (r *rig) ledger(id string) store.Entry {
	r.t.Helper()
	events, err := r.store.Events(r.t.Context(), store.EventFilter{Limit: 1_000_000})
	if err != nil {
		r.t.Fatalf("Events() = %v", err)
	}
	for _, e := range events {
		if e.ID == id {
			return e
		}
	}
	return store.Entry{}
}

func (r *rig) wantOutcome(id string, want store.Outcome) {
	r.t.Helper()
	if got := r.ledger(id); got.Outcome != want {
		r.t.Errorf("%s is %q (%s), want %q", id, got.Outcome, got.Reason, want)
	}
}

func (r *rig) dead(source, id string) store.Dead {
	r.t.Helper()
	d, err := r.store.DeadEvent(r.t.Context(), source, id)
	if err != nil {
		r.t.Fatalf("DeadEvent(%s) = %v", id, err)
	}
	return d
}

// changes returns the kinds of all changes, with account and group, in order.
func (r *rig) changes() (out []string) {
	r.t.Helper()
	rows, err := r.store.Changes(r.t.Context(), store.ChangeFilter{Limit: 1_000_000})
	if err != nil {
		r.t.Fatalf("Changes() = %v", err)
	}
	for _, c := range rows {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Kind, c.Account, c.Group)))
	}
	return out
}

// check is the one checker of what must hold when all is folded; it returns who is active and what they are granted.
func (r *rig) check() []string {
	r.t.Helper()
	return directorytest.Active(storetest.Check(r.t, r.store))
}

func (r *rig) exec(statement string) {
	r.t.Helper()
	if err := r.dialect.exec(r.t.Context(), statement); err != nil {
		r.t.Fatalf("%s: %v", statement, err)
	}
}

// survivors counts the grants of accounts that are not active, in one statement: there is no moment with any.
func (r *rig) survivors() int {
	r.t.Helper()
	n, err := r.dialect.count(r.t.Context(), strings.ReplaceAll(`SELECT count(*) FROM {}grants g
		JOIN {}accounts a ON a.source = g.source AND a.directory = g.directory AND a.account_key = g.account_key WHERE NOT a.active`, "{}", r.dialect.schema))
	if err != nil {
		r.t.Fatalf("count survivors: %v", err)
	}
	return n
}

// plain is the delivery that decodePlainly reads as the event.
func plain(e directory.Event) queue.Delivery {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return queue.Delivery{Source: e.Source, ID: e.ID, Directory: e.Directory, Body: body}
}

// decodePlainly reads an event as it is, and fails on a body that says so.
func decodePlainly(body []byte, o provider.Options) ([]provider.Statement, error) {
	if bytes.HasPrefix(body, []byte("panic")) {
		panic("as asked")
	}
	if bytes.HasPrefix(body, []byte("nothing")) {
		return nil, nil
	}
	e := &directory.Event{}
	if err := json.Unmarshal(body, e); err != nil {
		return nil, fmt.Errorf("%w: not plain", directory.ErrInvalid)
	}
	e.Source = o.Source
	return []provider.Statement{{Identity: provider.Identity{ID: e.ID, Type: e.Type, Directory: e.Directory}, Event: e}}, nil
}

// joins is a user event of somebody, active unless changed, so many minutes after the start.
func joins(id string, minute int, name string, change ...func(e *directory.Event)) directory.Event {
	e := directory.Event{
		Source: "workos", ID: id, Type: "dsync.user.updated", Directory: "directory_1", Organization: "org_1",
		Occurred: directorytest.Start.Add(time.Duration(minute) * time.Minute), Subject: directory.SubjectUser,
		User: &directory.Person{
			ID: "user_" + name, IDPID: "idp-" + name, State: "active", Created: directorytest.Start,
			Profile: directory.Profile{Email: name + "@example.com", FirstName: name},
		},
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

func leaves(id string, minute int, name string) directory.Event {
	e := joins(id, minute, name)
	e.Type, e.Removes = "dsync.user.deleted", true
	return e
}

func added(id string, minute int, group, name string) directory.Event {
	e := joins(id, minute, name)
	e.Type, e.Subject, e.User = "dsync.group.user_added", directory.SubjectMembership, nil
	e.Membership = &directory.Membership{Group: group, User: "user_" + name}
	return e
}

func groupEnds(id string, minute int, group string) directory.Event {
	e := joins(id, minute, "")
	e.Type, e.Subject, e.User, e.Removes = "dsync.group.deleted", directory.SubjectGroup, nil, true
	e.Group = &directory.Team{ID: group}
	return e
}

func directoryEnds(id string, minute int) directory.Event {
	e := joins(id, minute, "")
	e.Type, e.Subject, e.User, e.Removes = "dsync.deleted", directory.SubjectDirectory, nil, true
	e.Connection = &directory.Connection{Name: "Acme"}
	return e
}

func in(directoryID string) func(e *directory.Event) {
	return func(e *directory.Event) { e.Directory = directoryID }
}

// steps is a store whose transactions a test stops, watches or breaks after a step. A nil step does nothing.
type steps struct {
	store.Store
	began      func(ctx context.Context) error                                        // before the locks
	loaded     func(ctx context.Context, need directory.Need) error                   // after Load
	state      func(need directory.Need, s *directory.State) *directory.State         // what Load gives
	saved      func(ctx context.Context, b store.Batch) error                         // after Save, before COMMIT
	committed  func(ctx context.Context) error                                        // after COMMIT
	expanding  func(ctx context.Context, limit int) ([]store.PendingExpansion, error) // instead of Expansions
	chunk      func(id int64) error                                                   // before LoadExpansion
	due        func()
	chunkSizes func(n int)
}

func (s *steps) Update(ctx context.Context, scopes []directory.Scope, fn func(context.Context, store.Tx) error) error {
	if s.began != nil {
		if err := s.began(ctx); err != nil {
			return err
		}
	}
	err := s.Store.Update(ctx, scopes, func(ctx context.Context, tx store.Tx) error { return fn(ctx, steppedTx{tx, s}) })
	if err == nil && s.committed != nil {
		return s.committed(ctx)
	}
	return err
}

func (s *steps) Expansions(ctx context.Context, limit int) ([]store.PendingExpansion, error) {
	if s.expanding != nil {
		return s.expanding(ctx, limit)
	}
	return s.Store.Expansions(ctx, limit)
}

func (s *steps) Due(ctx context.Context, now time.Time, limit int) ([]store.Dead, error) {
	if s.due != nil {
		s.due()
	}
	return s.Store.Due(ctx, now, limit)
}

type steppedTx struct {
	store.Tx
	*steps
}

func (t steppedTx) Load(ctx context.Context, need directory.Need, ids []store.EventKey) (*directory.State, map[store.EventKey]store.Entry, error) {
	state, known, err := t.Tx.Load(ctx, need, ids)
	if err == nil && t.loaded != nil {
		err = t.loaded(ctx, need)
	}
	if err == nil && t.state != nil {
		state = t.state(need, state)
	}
	return state, known, err
}

func (t steppedTx) LoadExpansion(ctx context.Context, id int64, limit int) (store.Chunk, error) {
	if t.chunk != nil {
		if err := t.chunk(id); err != nil {
			return store.Chunk{}, err
		}
	}
	c, err := t.Tx.LoadExpansion(ctx, id, limit)
	if err == nil && t.chunkSizes != nil {
		t.chunkSizes(len(c.Members))
	}
	return c, err
}

func (t steppedTx) Save(ctx context.Context, b store.Batch) error {
	err := t.Tx.Save(ctx, b)
	if err == nil && t.saved != nil {
		err = t.saved(ctx, b)
	}
	return err
}

// handled is a queue whose leases a test watches or breaks. A nil func does nothing.
type handled struct {
	queue.Queue
	read  func(entries []queue.Entry)
	ack   func(ctx context.Context, refs []queue.Ref) error // before Ack
	renew func(ctx context.Context) error                   // before Renew
}

func (h *handled) Acquire(ctx context.Context, partition int) (queue.Lease, error) {
	l, err := h.Queue.Acquire(ctx, partition)
	if err != nil {
		return nil, err
	}
	return handledLease{l, h}, nil
}

type handledLease struct {
	queue.Lease
	h *handled
}

func (l handledLease) Read(ctx context.Context, limit int, wait time.Duration) ([]queue.Entry, error) {
	entries, err := l.Lease.Read(ctx, limit, wait)
	if err == nil && len(entries) > 0 && l.h.read != nil {
		l.h.read(entries)
	}
	return entries, err
}

func (l handledLease) Ack(ctx context.Context, refs ...queue.Ref) error {
	if l.h.ack != nil {
		if err := l.h.ack(ctx, refs); err != nil {
			return err
		}
	}
	return l.Lease.Ack(ctx, refs...)
}

func (l handledLease) Renew(ctx context.Context) error {
	if l.h.renew != nil {
		if err := l.h.renew(ctx); err != nil {
			return err
		}
	}
	return l.Lease.Renew(ctx)
}
