package worker_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

// Trouble that is no event's fault: it is waited for, and nothing is parked.

// counted counts the lines of a log that hold a text.
type counted struct {
	text string
	n    atomic.Int64
}

func (c *counted) Write(line []byte) (int, error) {
	if strings.Contains(string(line), c.text) {
		c.n.Add(1)
	}
	return len(line), nil
}

// failing starts a worker and returns a function that waits until so many more batches have failed.
func (r *rig) failing() (more func(n int64)) {
	failures := &counted{text: "batch not done"}
	r.start(func(c *worker.Config) { c.Log = zerolog.New(failures) })
	return func(n int64) {
		r.t.Helper()
		before := failures.n.Load()
		r.until("failures of the database", func() bool { return failures.n.Load() >= before+n })
	}
}

// wantAllApplied waits until the events are applied; not one may have been parked on the way.
func (r *rig) wantAllApplied(ids ...string) {
	r.t.Helper()
	r.settle()
	for _, id := range ids {
		r.wantOutcome(id, store.Applied)
	}
	if dead, err := r.store.DeadEvents(r.t.Context(), store.EventFilter{}); err != nil || len(dead) != 0 {
		r.t.Errorf("DeadEvents() = %v, %v, want none", dead, err)
	}
	r.check()
}

func TestDatabaseThatStopsOrCrashesIsWaitedForAndNothingIsParked(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	s := settings{}
	q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{testenv.Redis(t).Addr()}, Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	r := newRig(t, s, openPostgres(t, server.Database(t), s), q)
	more := r.failing()
	r.send(joins("e1", 1, "ada"))
	r.settle()

	server.Stop()
	r.send(joins("e2", 2, "bob"), leaves("e3", 3, "ada"))
	more(3)
	server.Start(t)
	r.wantAllApplied("e1", "e2", "e3")

	server.Crash()
	r.send(joins("e4", 4, "eve"))
	more(3)
	server.Start(t)
	r.wantAllApplied("e1", "e2", "e3", "e4")
}

func TestQueueThatIsGoneIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{server.Addr()}, Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	r := newRig(t, settings{}, openPostgres(t, testenv.Database(t), settings{}), q)
	more := r.failing()
	r.send(joins("e1", 1, "ada"))
	r.settle()
	server.Kill()
	more(3)
	server.Start()
	r.until("the queue takes deliveries again", func() bool {
		_, err := r.queue.Enqueue(t.Context(), plain(joins("e2", 2, "bob")))
		return err == nil
	})
	r.wantAllApplied("e1", "e2")
}

func TestSchemaThatIsMissingIsWaitedForAndNothingIsParked(t *testing.T) {
	everywhere(t, settings{unmigrated: true}, func(t *testing.T, r *rig) {
		r.send(joins("e1", 1, "ada"))
		more := r.failing()
		more(3)
		if r.depth() != 1 {
			t.Fatalf("%d queued, want the one", r.depth())
		}
		if _, err := r.store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.wantAllApplied("e1")
	})
}

func TestPermissionThatIsMissingIsWaitedForAndNothingIsParked(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	owner := onPostgres(t, settings{})
	owner.store = nil // only its queue is used
	admin := newRig(t, settings{}, openPostgres(t, dsn, settings{}), owner.queue)
	role := "rollcall_" + dsn[strings.LastIndex(dsn, "/")+1:strings.Index(dsn, "?")]
	admin.exec(`CREATE ROLE ` + role + ` LOGIN`)
	admin.exec(`GRANT USAGE ON SCHEMA rollcall TO ` + role)
	admin.exec(`GRANT SELECT ON ALL TABLES IN SCHEMA rollcall TO ` + role)
	admin.exec(`GRANT INSERT, DELETE ON rollcall.events, rollcall.dead_events TO ` + role) // so that it could park
	r := newRig(t, settings{unmigrated: true}, openPostgres(t, strings.Replace(dsn, "postgres@", role+"@", 1), settings{}), owner.queue)
	r.send(joins("e1", 1, "ada"))
	more := r.failing()
	more(3)
	admin.exec(`GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rollcall TO ` + role)
	r.wantAllApplied("e1")
}

func TestConstraintOfTheSchemaIsNoEventsFault(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, settings{})
	r.exec(`ALTER TABLE rollcall.accounts ADD COLUMN region text NOT NULL DEFAULT 'eu'`)
	r.exec(`ALTER TABLE rollcall.accounts ALTER COLUMN region DROP DEFAULT`) // as a migration that did not only expand
	r.send(joins("e1", 1, "ada"))
	more := r.failing()
	more(3)
	r.exec(`ALTER TABLE rollcall.accounts ALTER COLUMN region SET DEFAULT 'eu'`)
	r.wantAllApplied("e1")
}
