package binder_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/verify"
)

// hangs is a function of the application's that, for people whose names begin with slow, fails, or waits for as long as a test
// holds a lock.
const hangs = `
	CREATE TABLE mood (fails boolean NOT NULL);
	INSERT INTO mood (fails) VALUES (false);
	CREATE FUNCTION hangs(account text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		IF account LIKE 'slow%' AND (SELECT fails FROM mood) THEN RAISE EXCEPTION 'it failed'; END IF;
		IF account LIKE 'slow%' THEN PERFORM pg_advisory_xact_lock(42); END IF; END $$`

// hanging runs a binder with bindings of these kinds that hang, and no statement of which runs into its time.
func hanging(r *rig, on ...string) {
	r.exec(hangs)
	r.start(func(c *binder.Config) {
		c.LockTimeout, c.StatementTimeout, c.Batch = time.Hour, time.Hour, 8
		c.Bindings = append(c.Bindings, binder.Binding{Name: "hang", On: kinds(on...), Statements: []string{`SELECT hangs(@account)`}})
	})
}

// hold takes the lock that makes statements hang until it is released.
func (r *rig) hold() (release func()) {
	r.Helper()
	conn, err := r.app.SQL.Conn(r.Context())
	if err == nil {
		_, err = conn.ExecContext(r.Context(), `SELECT pg_advisory_lock(42)`)
	}
	if err != nil {
		r.Fatal(err)
	}
	var done atomic.Bool
	release = func() {
		if done.CompareAndSwap(false, true) {
			_, _ = conn.ExecContext(context.WithoutCancel(r.Context()), `SELECT pg_advisory_unlock(42)`)
			_ = conn.Close()
		}
	}
	r.Cleanup(release)
	return release
}

// hang waits until so many statements hang.
func (r *rig) hang(n int) {
	r.Helper()
	r.until(fmt.Sprint(n, " statements that hang"), func() bool { return r.hung() >= n })
}

func (r *rig) hung() int {
	return len(r.rows(`SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`))
}

// people are events of so many people whose names begin alike.
func people(name string, n int, event func(name string) directory.Event) (events []directory.Event) {
	for i := range n {
		events = append(events, event(fmt.Sprint(name, i)))
	}
	return events
}

func TestARemovalIsBoundWhileTheStatementsOfOthersHang(t *testing.T) {
	t.Parallel()
	for place, own := range map[string]bool{"in one database": true, "in two databases": false} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			r := onPostgres(t, own)
			hanging(r, "account.updated")
			r.fold(append(people("slow", 40, func(name string) directory.Event { return joins(name) }), joins("ada"), joins("bob"), added("group_1", "bob"))...)
			r.settle()
			release := r.hold()
			r.fold(people("slow", 40, func(name string) directory.Event { return joins(name, named("another")) })...)
			r.hang(3)
			r.fold(leaves("ada"), removed("group_1", "bob"))
			r.until("a leaver without access", func() bool { return r.rows(`SELECT disabled FROM app_users WHERE external_id = 'ada'`)[0] == "1" })
			r.until("a member who is out", func() bool { return len(r.rows(`SELECT 1 FROM app_members`)) == 0 })
			if n := r.hung(); n < 3 {
				t.Errorf("%d statements hang still, want all that did: they have been waited for", n)
			}
			release()
			r.settle()
		})
	}
}

func TestARemovalIsBoundWhileWhatFailedIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	hanging(r, "account.updated", "grant.revoked")
	r.fold(append(people("slow", 40, func(name string) directory.Event { return joins(name) }), joins("ada"))...)
	r.fold(people("slow", 20, func(name string) directory.Event { return added("group_1", name) })...)
	r.settle()
	r.exec(`UPDATE mood SET fails = true`)
	r.fold(people("slow", 20, func(name string) directory.Event { return removed("group_1", name) })...)
	r.fold(people("slow", 40, func(name string) directory.Event { return joins(name, named("another")) })...)
	failed := `SELECT 1 FROM ` + r.schema + `changes WHERE bound_at IS NULL AND bound_attempts > 0`
	r.until("a failure of everybody", func() bool { return len(read(t, r.truth, failed)) == 40 })
	release := r.hold()
	r.exec(`UPDATE mood SET fails = false`)
	r.hang(2)
	r.fold(leaves("ada"), joins("bob"))
	r.until("a leaver without access, and a joiner", func() bool {
		return strings.Join(r.rows(`SELECT external_id, disabled FROM app_users WHERE external_id IN ('ada', 'bob') ORDER BY external_id`), ", ") == "ada 1, bob 0"
	})
	if n := r.hung(); n < 2 {
		t.Errorf("%d statements hang still, want both that did: they have been waited for", n)
	}
	release()
	r.settle()
}

func TestARemovalIsBoundWhileTheProbesOfOthersHang(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	r.exec(hangs)
	r.start(func(c *binder.Config) {
		c.LockTimeout, c.StatementTimeout, c.Connections, c.Batch = time.Hour, time.Hour, 1, 8
		c.Probes = []binder.Probe{{Name: "slow", SQL: `SELECT 1 WHERE hangs(@account) IS NULL`}}
	})
	r.fold(joins("slow"), joins("ada"))
	r.settle()
	release := r.hold()
	r.fold(leaves("slow"))
	r.hang(1)
	r.fold(leaves("ada"))
	r.settle()
	r.shows(`SELECT disabled FROM app_users WHERE external_id = 'ada'`, "1")
	release()
	r.until("verdicts on both", func() bool { return len(read(t, r.truth, `SELECT 1 FROM `+r.schema+`probes`)) == 2 })
}

func TestALargeLaneIsBoundInPieces(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	b := r.binder(func(c *binder.Config) { c.Bindings, c.Link = []binder.Binding{effect("effects")}, nil })
	events := []directory.Event{joins("ada")}
	for i := range 600 {
		events = append(events, added(fmt.Sprint("group_", i), "ada"))
	}
	r.fold(events...)
	r.run(b)
	r.settle()
	r.shows(`SELECT count(*), count(DISTINCT seq) FROM effects`, "601 601")
	r.shows(`SELECT a.seq FROM effects a JOIN effects b ON a.id < b.id AND a.seq > b.seq LIMIT 1`)
	if n := len(r.rows(`SELECT xmin::text FROM effects GROUP BY 1`)); n < 3 {
		t.Errorf("they were bound in %d transactions, want three at least", n)
	}
}

func TestARemovalIsPostedWhileThePostsOfOthersHang(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	var hang atomic.Int64
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	rc := newReceiver(t)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var p binder.Posted
		if err := json.NewDecoder(request.Body).Decode(&p); err != nil {
			t.Error(err)
		}
		if p.Kind == directory.AccountUpdated {
			hang.Add(1)
			<-released
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(slow.Close)
	r.start(func(c *binder.Config) {
		c.Bindings = append(c.Bindings, binder.Binding{Name: "hooks", On: everyKind, Post: &binder.Post{
			URL: slow.URL, Timeout: time.Hour, Key: func() (*verify.Key, error) { return rc.key, nil },
		}})
	})
	r.Cleanup(release)
	r.fold(append(people("slow", 100, func(name string) directory.Event { return joins(name) }), joins("ada"))...)
	r.posted("ada")
	r.fold(people("slow", 100, func(name string) directory.Event { return joins(name, named("another")) })...)
	r.until("posts that hang", func() bool { return hang.Load() >= 48 })
	r.fold(leaves("ada"))
	r.until("a leaver who is posted", func() bool {
		return len(read(t, r.truth, `SELECT 1 FROM `+r.schema+`changes WHERE account_key = 'ada' AND kind = 'account.deactivated' AND posted_at IS NOT NULL`)) == 1
	})
	release()
	r.posted("ada")
}
