package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// tables are an application's users, whose ids are the directories' own, with what they have.
const tables = `CREATE SCHEMA app;
	CREATE TABLE app.users (id text PRIMARY KEY, email text NOT NULL, disabled_at timestamptz);
	CREATE TABLE app.members (user_id text NOT NULL, group_id text NOT NULL, PRIMARY KEY (user_id, group_id));
	CREATE TABLE app.sessions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id text NOT NULL);
	CREATE INDEX ON app.sessions (user_id)`

// follows binds those tables.
func follows() map[string]any {
	return map[string]any{
		"mode": "enforce",
		"link": map[string]any{"sql": `SELECT id FROM app.users WHERE id = @idp_id`},
		"bindings": []any{
			map[string]any{"on": "account.activated", "name": "let-in", "sql": []string{
				`INSERT INTO app.users (id, email) SELECT @idp_id, @email WHERE @app_id::text IS NULL`,
				`UPDATE app.users SET disabled_at = NULL, email = @email WHERE id = @app_id`,
			}},
			map[string]any{"on": "account.deactivated", "name": "lock-out", "sql": []string{
				`UPDATE app.users SET disabled_at = clock_timestamp() WHERE id = @app_id`, `DELETE FROM app.sessions WHERE user_id = @app_id`,
			}},
			map[string]any{"on": "grant.added", "name": "put-in", "sql": `INSERT INTO app.members (user_id, group_id) VALUES (@app_id, @group_id) ON CONFLICT DO NOTHING`},
			map[string]any{"on": "grant.revoked", "name": "take-out", "sql": `DELETE FROM app.members WHERE user_id = @app_id AND group_id = @group_id`},
		},
	}
}

const (
	accountsThatEnd    = 5_000
	membershipsThatEnd = 100_000
	leaversAtMost      = 150             // that are measured
	soonEnough         = 5 * time.Second // on a machine with much else to do; how long it takes is in the log
)

// A directory and a group end, which is more than half a minute of work: a leaver of another directory waits for none of it. It
// runs alone, because it measures.
func TestALeaverIsBoundWithinASecondWhileADirectoryAndAHugeGroupEnd(t *testing.T) {
	dsn := testenv.Database(t)
	db := application(t, dsn, tables)
	site := rig.New(t, rig.Options{DSN: dsn, Application: follows()})
	year := time.Now().AddDate(-1, 0, 0)
	ended, huge, third := rig.NewTeller("ended", year), rig.NewTeller("huge", year), rig.NewTeller("third", year)
	fill(t, site, ended, accountsThatEnd, 0)
	fill(t, site, huge, membershipsThatEnd, 1)
	fill(t, site, third, 3_000, 1)
	settled(t, db)
	began := time.Now()

	process := site.Serve(t, "receiver,worker")
	process.AwaitReady(t)
	for _, l := range []*rig.Teller{ended, huge, third} {
		l.Pass(30 * 24 * time.Hour)
	}
	accepted(t, site, process, []simulator.Delivery{ended.Ends(), huge.GroupEnds(1)})
	site.Drained(t)
	if code, out, talk := site.Command(t, "directories", "deprovision", "ended", "--reason", "the contract ended", "--yes"); code != 0 {
		t.Fatalf("deprovision: exit code %d\n%s%s", code, out, talk)
	}

	var took []time.Duration
	for unbound(t, site) > 0 && len(took) < leaversAtMost {
		who := len(took)
		body := third.User(who, "inactive").Body
		posted := time.Now()
		if a := site.Post(t, process.URL(), body); a.Status != 200 {
			t.Fatalf("a leaver is answered %d %s", a.Status, a.Body)
		}
		rig.Until(t, third.IDP(who)+" is out", func() bool {
			return count(t, db, `SELECT count(*) FROM app.users WHERE disabled_at IS NOT NULL AND id = '`+third.IDP(who)+`'`) == 1
		})
		took = append(took, time.Since(posted))
	}
	slices.Sort(took)
	if len(took) < 50 {
		t.Fatalf("only %d leavers while the ends were carried out: too few to say anything", len(took))
	}
	t.Logf("%s for %d changes; meanwhile %d leavers: p50 %s, p99 %s, max %s", time.Since(began), accountsThatEnd+membershipsThatEnd,
		len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	if longest := took[len(took)-1]; longest > soonEnough {
		t.Errorf("a leaver took %s, want less than %s", longest, soonEnough)
	}

	site.Settle(t)
	rig.Until(t, "no change waits", func() bool { return unbound(t, site) == 0 })
	for what, query := range map[string]string{
		"users of the directory that ended":                      `SELECT count(*) FROM app.users WHERE id LIKE 'ended-%' AND disabled_at IS NULL`,
		"sessions of theirs":                                     `SELECT count(*) FROM app.sessions WHERE user_id LIKE 'ended-%'`,
		"members of the group that ended":                        `SELECT count(*) FROM app.members WHERE group_id = '` + huge.GroupID(1) + `'`,
		"users who lost access with the group":                   `SELECT count(*) FROM app.users WHERE id LIKE 'huge-%' AND disabled_at IS NOT NULL`,
		"sessions or memberships of leavers":                     `SELECT count(*) FROM app.users u WHERE disabled_at IS NOT NULL AND (EXISTS (SELECT FROM app.sessions WHERE user_id = u.id) OR EXISTS (SELECT FROM app.members WHERE user_id = u.id))`,
		"changes that were not bound":                            `SELECT count(*) FROM rollcall.changes WHERE bound_result NOT IN ('bound', 'no binding')`,
		"accounts or groups told twice":                          `SELECT count(*) FROM (SELECT FROM rollcall.changes WHERE kind IN ('account.deactivated', 'grant.revoked') GROUP BY source, directory, kind, account_key, group_id HAVING count(*) > 1) twice`,
		"accounts in effect of the directory that ended":         `SELECT count(*) FROM rollcall.active_accounts WHERE directory = 'ended'`,
		"grants that are still said to be there of that group":   `SELECT count(*) FROM rollcall.grants WHERE directory = 'huge'`,
		"accounts still said to be active in what was announced": `SELECT count(*) FROM rollcall.accounts WHERE directory = 'ended' AND active`,
	} {
		if n := count(t, db, query); n != 0 {
			t.Errorf("in the end, %d %s", n, what)
		}
	}
	if n := count(t, db, `SELECT count(*) FROM app.users WHERE id LIKE 'third-%' AND disabled_at IS NOT NULL`); n != len(took) {
		t.Errorf("%d people of the third directory are out, want the %d who left", n, len(took))
	}
}

func application(t testing.TB, dsn, schema string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	return db
}

func unbound(t testing.TB, site *rig.Site) int {
	t.Helper()
	return site.Count(t, `SELECT count(*) FROM (SELECT FROM rollcall.changes WHERE bound_at IS NULL LIMIT 1) waiting`) + site.Count(t, `SELECT count(*) FROM rollcall.expansions WHERE finished_at IS NULL`)
}

// fill saves a directory of so many people, all of them members of the groups, as it is after all has been told of it and bound. It
// is folded in memory and saved through the store, without the changes; the links are what the application's tables say.
func fill(t *testing.T, site *rig.Site, l *rig.Teller, people, groups int) {
	t.Helper()
	scope := directory.Scope{Source: "workos", Directory: l.Directory}
	state := directory.NewState(nil, directory.Roles{})
	told := func(d simulator.Delivery) directory.Event {
		statements, err := workos.Provider().Decode(d.Body, provider.Options{Source: scope.Source})
		if err != nil || len(statements) != 1 || statements[0].Event == nil {
			t.Fatalf("Decode(%s) = %v, %v", d.Body, statements, err)
		}
		return *statements[0].Event
	}
	events := []directory.Event{told(l.Begins())}
	for g := 1; g <= groups; g++ {
		events = append(events, told(l.Group(g)))
	}
	for n := range people {
		events = append(events, told(l.User(n, "active")))
		for g := 1; g <= groups; g++ {
			events = append(events, told(l.Joins(n, g)))
		}
	}
	state.Fold(events)
	whole := state.TakeDelta()
	parts := []directory.Delta{{Directories: whole.Directories, Groups: whole.Groups}}
	for users := range slices.Chunk(whole.Users, 5000) {
		parts = append(parts, directory.Delta{Users: users})
	}
	for edges := range slices.Chunk(whole.Edges, 5000) {
		parts = append(parts, directory.Delta{Edges: edges})
	}
	for accounts := range slices.Chunk(whole.Accounts, 5000) {
		parts = append(parts, directory.Delta{Accounts: accounts})
	}
	for granted := range slices.Chunk(whole.Granted, 5000) {
		parts = append(parts, directory.Delta{Granted: granted})
	}
	for _, part := range parts {
		err := site.Store.Update(t.Context(), []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
			return tx.Save(ctx, store.Batch{Delta: part})
		})
		if err != nil {
			t.Fatalf("Save() = %v", err)
		}
	}
	err := site.Store.Update(t.Context(), []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
		return tx.SetMode(ctx, store.ModeRow{Scope: scope, Mode: store.Enforce, By: "test"})
	})
	if err != nil {
		t.Fatalf("SetMode() = %v", err)
	}
}

// settled gives the application what the filled directories say, and links every account with its row.
func settled(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, statement := range []string{
		`INSERT INTO app.users (id, email) SELECT account_key, email FROM rollcall.accounts`,
		`INSERT INTO app.members (user_id, group_id) SELECT account_key, group_id FROM rollcall.grants`,
		`INSERT INTO app.sessions (user_id) SELECT id FROM app.users, generate_series(1, 2) WHERE id NOT LIKE 'huge-%'`,
		`INSERT INTO rollcall.links (source, directory, account_key, state, app_id, tenant, how, detail, changed_at, changed_by, tries)
			SELECT source, directory, account_key, 'linked', account_key, '', 'id', '', now(), 'test', 0 FROM rollcall.accounts`,
		`ANALYZE`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", statement, err))
		}
	}
}
