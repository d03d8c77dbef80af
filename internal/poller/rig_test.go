package poller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/poller"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

const (
	source    = "workos"
	patience  = 90 * time.Second
	pageLimit = 10
)

// rig is a database, a queue and a provider's log of a test's own.
type rig struct {
	t     *testing.T
	fresh func() store.Store // another, empty database
	store store.Store
	queue *watched
	log   *providerLog
}

func onPostgres(t *testing.T, depth int64) *rig {
	t.Helper()
	q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{testenv.Redis(t).Addr()}, Environment: "test", Depth: depth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return newRig(t, q, func() store.Store {
		s, err := postgres.Open(t.Context(), store.Config{DSN: testenv.Database(t), Environment: "test", MaxConns: 20})
		return opened(t, s, err)
	})
}

func onSQLite(t *testing.T, depth int64) *rig {
	t.Helper()
	q, err := queue.OpenEmbedded(queue.EmbeddedConfig{Path: filepath.Join(t.TempDir(), "queue.db"), Environment: "test", Depth: depth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return newRig(t, q, func() store.Store {
		s, err := sqlite.Open(t.Context(), store.Config{DSN: filepath.Join(t.TempDir(), "rollcall.db"), Environment: "test"})
		return opened(t, s, err)
	})
}

func opened(t *testing.T, s store.Store, err error) store.Store {
	t.Helper()
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
		_, err = s.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRig(t *testing.T, q queue.Queue, fresh func() store.Store) *rig {
	t.Helper()
	return &rig{t: t, fresh: fresh, store: fresh(), queue: &watched{Queue: q, accepted: map[string]int{}}, log: newLog()}
}

// everywhere runs a test on both pairs of real backends.
func everywhere(t *testing.T, depth int64, test func(t *testing.T, r *rig)) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T, int64) *rig{"PostgreSQL and Redis": onPostgres, "SQLite and a file": onSQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, depth))
		})
	}
}

// config is what the tests' pollers have in common: they poll as fast as they can.
func (r *rig) config() poller.Config {
	return poller.Config{
		Source: source, Events: r.log, Queue: r.queue, Store: r.store, Every: 10 * time.Millisecond, Least: time.Millisecond, Again: 20 * time.Millisecond,
		Slowly: 20 * time.Millisecond, Webhooks: true, Log: zerolog.New(zerolog.NewTestWriter(r.t)), Registerer: prometheus.NewRegistry(),
		Now: r.log.clock,
	}
}

// poll runs a poller until stop is called, or the test ends; stop waits for it.
func (r *rig) poll(change ...func(c *poller.Config)) (p *poller.Poller, stop func()) {
	c := r.config()
	for _, f := range change {
		f(&c)
	}
	p = poller.New(c)
	return p, r.run(p.Run)
}

// work runs a worker likewise.
func (r *rig) work() (stop func()) {
	return r.run(worker.New(worker.Config{
		Queue: r.queue.Queue, Store: r.store, Now: r.log.clock,
		Sources: map[string]worker.Source{source: {Provider: provider.Provider{Name: "plain", Decode: decodePlainly}}},
		Log:     zerolog.New(zerolog.NewTestWriter(r.t)).Level(zerolog.WarnLevel),
	}).Run)
}

func (r *rig) run(run func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Run() = %v, want nil", err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// until waits for something that a poller or worker makes true.
func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(patience); !done(); {
		select {
		case <-ticker.C:
		case <-deadline:
			r.t.Fatalf("this did not come: %s; the poll is %+v", what, r.cursor())
		}
	}
}

// cursor is how far the log is read.
func (r *rig) cursor() store.Poll {
	polls, err := r.store.Polls(context.WithoutCancel(r.t.Context()))
	if err != nil || len(polls) > 1 {
		r.t.Fatalf("Polls() = %v, %v, want at most one", polls, err)
	}
	if len(polls) == 0 {
		return store.Poll{}
	}
	return polls[0]
}

// caughtUp waits until the cursor is behind the event and all that the log told is held.
func (r *rig) caughtUp(after string) store.Poll {
	r.t.Helper()
	r.until("the cursor behind "+after, func() bool {
		p := r.cursor()
		return p.After == after && !p.CaughtUp.Before(p.Moved)
	})
	return r.cursor()
}

// ledger returns what the ledger holds, by id.
func (r *rig) ledger() map[string]store.Entry {
	r.t.Helper()
	events, err := r.store.Events(r.t.Context(), store.EventFilter{Limit: 1_000_000})
	if err != nil {
		r.t.Fatalf("Events() = %v", err)
	}
	out := map[string]store.Entry{}
	for _, e := range events {
		out[e.ID] = e
	}
	return out
}

func (r *rig) holds(id string) bool { return r.ledger()[id].Outcome != "" }

// wantAll is the one checker: the ledger holds all that the log ever told, and no cursor is past what it lacks.
func (r *rig) wantAll() {
	r.t.Helper()
	held := r.ledger()
	for _, e := range r.log.all() {
		if held[e.ID].Outcome == "" {
			r.t.Errorf("the ledger lacks %s", e.ID)
		}
	}
	storetest.Check(r.t, r.store)
}

// wantOnce checks that the queue took each of these once.
func (r *rig) wantOnce(ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		if n := r.queue.times(id); n != 1 {
			r.t.Errorf("the queue took %s %d times, want once", id, n)
		}
	}
}

// hook brings an event as a webhook does.
func (r *rig) hook(e provider.LogEvent) {
	r.t.Helper()
	d := queue.Delivery{Source: source, ID: e.ID, Directory: e.Directory, Origin: queue.Hook, Received: r.log.clock(), Body: e.Body}
	if _, err := r.queue.Enqueue(r.t.Context(), d); err != nil {
		r.t.Fatalf("Enqueue(%s) = %v", e.ID, err)
	}
}

// watched is a queue that counts what it took, and that a test may break.
type watched struct {
	queue.Queue
	mu       sync.Mutex // guards what follows
	accepted map[string]int
	forced   int
	refused  int
	enqueue  func(d queue.Delivery) (result queue.Result, done bool, err error) // instead of Enqueue, when it is done or fails
}

func (w *watched) Enqueue(ctx context.Context, d queue.Delivery) (queue.Result, error) {
	w.mu.Lock()
	instead := w.enqueue
	w.mu.Unlock()
	result, done, err := queue.Accepted, false, error(nil)
	if instead != nil {
		result, done, err = instead(d)
	}
	if err == nil && !done {
		result, err = w.Queue.Enqueue(ctx, d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil:
		w.refused++
	case result == queue.Accepted:
		w.accepted[d.ID]++
		if d.Force {
			w.forced++
		}
	}
	return result, err
}

func (w *watched) set(f func(d queue.Delivery) (queue.Result, bool, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enqueue = f
}

func (w *watched) times(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accepted[id]
}

func (w *watched) count(of *int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *of
}

// providerLog is a provider's log, in memory, that does as it is told. What it has shown it shows at its place.
type providerLog struct {
	mu      sync.Mutex // guards what follows
	now     time.Time
	events  []provider.LogEvent
	hidden  map[string]bool // events that it does not show yet, nor what follows
	from    int             // the oldest that it keeps
	err     func(q provider.LogQuery) error
	answer  func(q provider.LogQuery, p *provider.LogPage)
	queries []provider.LogQuery
}

func newLog() *providerLog {
	return &providerLog{now: directorytest.Start.Add(time.Hour), hidden: map[string]bool{}}
}

// clock is the provider's, and, unless a test changes it, everybody's.
func (l *providerLog) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *providerLog) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
}

func (l *providerLog) all() []provider.LogEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// add appends events, one a second, and moves the clock to the last.
func (l *providerLog) add(n int) (added []provider.LogEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		l.now = l.now.Add(time.Second)
		added = append(added, logged(len(l.events)+1, l.now))
		l.events = append(l.events, added[len(added)-1])
	}
	return added
}

// put appends an event as it is.
func (l *providerLog) put(e provider.LogEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *providerLog) hide(ids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidden = map[string]bool{}
	for _, id := range ids {
		l.hidden[id] = true
	}
}

// forget drops the oldest events.
func (l *providerLog) forget(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = n
}

// do changes the log.
func (l *providerLog) do(change func(l *providerLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func always(err error) func(provider.LogQuery) error {
	return func(provider.LogQuery) error { return err }
}

// asked returns the pages that were asked for.
func (l *providerLog) asked() []provider.LogQuery {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.queries)
}

// Page implements provider.Log.
func (l *providerLog) Page(_ context.Context, q provider.LogQuery) (provider.LogPage, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queries = append(l.queries, q)
	if l.err != nil {
		if err := l.err(q); err != nil {
			return provider.LogPage{}, err
		}
	}
	begin := l.from
	if q.After != "" {
		at := slices.IndexFunc(l.events, func(e provider.LogEvent) bool { return e.ID == q.After })
		if at < l.from {
			return provider.LogPage{}, fmt.Errorf("%w: %s", provider.ErrCursorGone, q.After)
		}
		begin = at + 1
	}
	limit := pageLimit
	if q.Limit > 0 {
		limit = q.Limit
	}
	p := provider.LogPage{After: q.After, Date: l.now}
	for _, e := range l.events[begin:] {
		if l.hidden[e.ID] {
			break
		}
		if q.After == "" && e.Created.Before(q.Since) {
			continue
		}
		if len(p.Events) == limit {
			p.More = true
			break
		}
		p.Events, p.After = append(p.Events, e), e.ID
	}
	if l.answer != nil {
		l.answer(q, &p)
	}
	return p, nil
}

// logged is an event of somebody who joined then, in one of three directories.
func logged(n int, at time.Time) provider.LogEvent {
	e := directory.Event{
		Source: source, ID: fmt.Sprintf("event_%04d", n), Type: "dsync.user.created", Directory: fmt.Sprintf("directory_%d", n%3), Organization: "org_1",
		Occurred: at, Subject: directory.SubjectUser,
		User: &directory.Person{ID: fmt.Sprintf("user_%d", n), IDPID: fmt.Sprintf("idp_%d", n), State: "active", Created: at},
	}
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return provider.LogEvent{Identity: provider.Identity{ID: e.ID, Type: e.Type, Directory: e.Directory}, Created: at, Body: body}
}

// decodePlainly reads an event as it is. It cannot read "broken", and ignores "ignored".
func decodePlainly(body []byte, o provider.Options) ([]provider.Statement, error) {
	e := &directory.Event{}
	if err := json.Unmarshal(body, e); err != nil {
		return nil, fmt.Errorf("%w: not plain", directory.ErrInvalid)
	}
	e.Source = o.Source
	s := provider.Statement{Identity: provider.Identity{ID: e.ID, Type: e.Type, Directory: e.Directory}, Event: e}
	if e.Type == "ignored" {
		s.Event, s.Ignored = nil, "as asked"
	}
	return []provider.Statement{s}, nil
}

// pulling is a store whose polls a test stops or breaks. A nil func does nothing.
type pulling struct {
	store.Pulling
	known func() error
	move  func(to store.PollMove) error // before MovePoll
	moved func(to store.PollMove) error // after it
	take  func() error
}

func (s *pulling) Known(ctx context.Context, keys []store.EventKey) (map[store.EventKey]store.Outcome, error) {
	if s.known != nil {
		if err := s.known(); err != nil {
			return nil, err
		}
	}
	return s.Pulling.Known(ctx, keys)
}

func (s *pulling) TakePoll(ctx context.Context, l store.PollLease) (store.Poll, error) {
	if s.take != nil {
		if err := s.take(); err != nil {
			return store.Poll{}, err
		}
	}
	return s.Pulling.TakePoll(ctx, l)
}

func (s *pulling) MovePoll(ctx context.Context, l store.PollLease, from store.Poll, to store.PollMove) (store.Poll, error) {
	if s.move != nil {
		if err := s.move(to); err != nil {
			return store.Poll{}, err
		}
	}
	p, err := s.Pulling.MovePoll(ctx, l, from, to)
	if err == nil && s.moved != nil {
		err = s.moved(to)
	}
	return p, err
}

var errDown = errors.New("the database is down")

// watchedLog is a log that tells before each page.
type watchedLog struct {
	provider.Log
	before func()
}

func (l watchedLog) Page(ctx context.Context, q provider.LogQuery) (provider.LogPage, error) {
	l.before()
	return l.Log.Page(ctx, q)
}

// statsCounter is a queue that counts who looks at it.
type statsCounter struct {
	*watched
	looks *atomic.Int64
}

func (c statsCounter) Stats(ctx context.Context) (queue.Stats, error) {
	c.looks.Add(1)
	return c.Queue.Stats(ctx)
}

func dumpDiff(t *testing.T, s store.Store, want directory.Delta) string {
	t.Helper()
	got, err := s.Dump(t.Context())
	if err != nil {
		t.Fatalf("Dump() = %v", err)
	}
	return cmp.Diff(want, got)
}
