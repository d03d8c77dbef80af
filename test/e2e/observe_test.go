package e2e

import (
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// existing is an application whose users know nothing of directories; counted are its tables with a trigger that counts every
// statement, also one that touches nothing. told is what the bindings wrote down.
const (
	existing = `CREATE SCHEMA app;
		CREATE TABLE app.users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, external_id text UNIQUE,
			break_glass boolean NOT NULL DEFAULT false, disabled_at timestamptz);
		CREATE INDEX ON app.users (lower(email));
		CREATE TABLE app.sessions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL REFERENCES app.users);
		CREATE INDEX ON app.sessions (user_id);
		CREATE TABLE app.members (user_id bigint NOT NULL REFERENCES app.users, group_id text NOT NULL, PRIMARY KEY (user_id, group_id));
		CREATE TABLE app.told (seq bigint PRIMARY KEY, kind text NOT NULL, account text NOT NULL, group_id text);
		CREATE TABLE app.statements (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL);
		CREATE FUNCTION app.count_statement() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO app.statements (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NULL; END $$`
	counted = `CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON app.users FOR EACH STATEMENT EXECUTE FUNCTION app.count_statement();
		CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON app.sessions FOR EACH STATEMENT EXECUTE FUNCTION app.count_statement();
		CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON app.members FOR EACH STATEMENT EXECUTE FUNCTION app.count_statement();
		CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON app.told FOR EACH STATEMENT EXECUTE FUNCTION app.count_statement()`
)

func followsExisting() map[string]any {
	bind := func(on, name string, sql ...string) any { return map[string]any{"on": on, "name": name, "sql": sql} }
	return map[string]any{
		"mode": "observe",
		"link": map[string]any{
			"sql":      `SELECT id FROM app.users WHERE external_id = @idp_id`,
			"by_email": `SELECT id FROM app.users WHERE lower(email) = lower(@email) AND external_id IS NULL`,
		},
		"protected": `SELECT id FROM app.users WHERE break_glass`,
		"bindings": []any{
			bind("account.activated", "let-in", `INSERT INTO app.users (email, external_id) SELECT @email, @idp_id WHERE @app_id::bigint IS NULL`,
				`UPDATE app.users SET disabled_at = NULL, external_id = COALESCE(external_id, @idp_id) WHERE id = @app_id`),
			bind("account.deactivated", "lock-out", `UPDATE app.users SET disabled_at = now(), external_id = COALESCE(external_id, @idp_id) WHERE id = @app_id`),
			bind("account.deactivated", "end-sessions", `DELETE FROM app.sessions WHERE user_id = @app_id`),
			bind("grant.added", "put-in", `INSERT INTO app.members (user_id, group_id) VALUES (@app_id, @group_id)`),
			bind("grant.revoked", "take-out", `DELETE FROM app.members WHERE user_id = @app_id AND group_id = @group_id`),
			map[string]any{"on": []string{"account.*", "grant.*"}, "name": "write-it-down",
				"sql": `INSERT INTO app.told (seq, kind, account, group_id) VALUES (@seq::bigint, @change, @account, @group_id)`},
		},
	}
}

// quarter is what happened in a directory in ninety days, and what is true in the end.
type quarter struct {
	*rig.Teller
	deliveries []simulator.Delivery
	active     map[int]bool
	groups     map[int]map[int]bool // by person; of those that did not end
	returned   int                  // people who left and came back
}

const (
	users     = 3_000 // in the application, and in the directory from the first day
	joiners   = 120   // in the directory only, in the course of the time
	teams     = 20
	breakIn   = 510 // who is the application's break-glass administrator
	returning = 200
	gone      = 90 // users who are out in the end, but for that one
	goneAgain = 15 // joiners who are out in the end: the application never had them
)

func ninetyDays() *quarter {
	q := &quarter{Teller: rig.NewTeller("directory_90", time.Now().AddDate(0, 0, -90)), active: map[int]bool{}, groups: map[int]map[int]bool{}}
	q.say(q.Begins())
	for g := 1; g <= teams; g++ {
		q.say(q.Group(g))
	}
	for person := range users {
		q.joins(person)
	}
	random := rand.New(rand.NewPCG(3, 90))
	for day := range 88 {
		q.Pass(24 * time.Hour)
		for person := users; person < users+joiners; person++ {
			if (person-users)*60/joiners == day {
				q.joins(person)
			}
		}
		for range 20 {
			q.moves(random.IntN(users), 1+random.IntN(teams))
		}
		for i := range returning {
			switch day {
			case 5 + i/4:
				q.leaves(100+i, i%2 == 0)
			case 8 + i/4 + i%7:
				q.say(q.User(100+i, "active"))
				q.active[100+i] = true
				q.returned++
			}
		}
		for i := range gone {
			if day == 10+i/2 {
				q.leaves(400+i, i%2 == 0)
			}
		}
		for i := range goneAgain {
			if day == 80 {
				q.leaves(users+i, i%2 == 0)
			}
		}
	}
	q.say(q.User(breakIn, "suspended"), q.GroupEnds(teams))
	q.active[breakIn] = false
	for _, in := range q.groups {
		delete(in, teams)
	}
	return q
}

func (q *quarter) say(d ...simulator.Delivery) { q.deliveries = append(q.deliveries, d...) }

func (q *quarter) joins(person int) {
	group := 1 + person%teams
	q.say(q.User(person, "active"), q.Joins(person, group))
	q.active[person], q.groups[person] = true, map[int]bool{group: true}
}

func (q *quarter) leaves(person int, deleted bool) {
	if q.active[person] = false; deleted {
		q.say(q.Deleted(person))
		return
	}
	q.say(q.User(person, "inactive"))
}

func (q *quarter) moves(person, group int) {
	if q.groups[person][group] {
		q.say(q.Quits(person, group))
		delete(q.groups[person], group)
		return
	}
	q.say(q.Joins(person, group))
	q.groups[person][group] = true
}

// grants is how many memberships the active have, active how many are.
func (q *quarter) count() (active, grants int) {
	for person, is := range q.active {
		if is {
			active++
			grants += len(q.groups[person])
		}
	}
	return active, grants
}

func TestADirectoryThatIsObservedDoesNothingAndEnforcingItTellsTheNetDifferenceOnce(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	db := application(t, dsn, existing)
	q := ninetyDays()
	addresses := make([]string, users)
	for person := range addresses {
		addresses[person] = strings.ToUpper(q.Email(person))
	}
	must(t, db, `INSERT INTO app.users (email, break_glass) SELECT email, email = $2 FROM unnest($1::text[]) email`, addresses, addresses[breakIn])
	must(t, db, `INSERT INTO app.sessions (user_id) SELECT id FROM app.users, generate_series(1, 2)`)
	must(t, db, counted)
	site := rig.New(t, rig.Options{DSN: dsn, Application: followsExisting()})
	process := site.Serve(t, "receiver,worker")
	sender := site.Sender(t, rig.NewSpread(process))
	sender.Seed, sender.Repeat, sender.Window = 90, 0.1, 500
	t.Log(sending(t, sender, q.deliveries)())
	site.Settle(t)
	rig.Until(t, "every change was looked at", func() bool { return site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE bound_at IS NULL`) == 0 })

	mustHaveBeenNothing := func(when string) {
		t.Helper()
		if n := count(t, db, `SELECT count(*) FROM app.statements`) + count(t, db, `SELECT count(*) FROM rollcall.bound`); n > 0 {
			t.Fatalf("%s, %d statements or marks of bindings, want none", when, n)
		}
	}
	mustHaveBeenNothing("after ninety days of observing")
	history := site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE bound_result = 'observed'`)
	if all := site.Count(t, `SELECT count(*) FROM rollcall.changes`); history != all || q.returned != returning || history < 2*users {
		t.Fatalf("%d of %d changes were observed, and %d people came back: not what this test is about", history, all, q.returned)
	}

	active, grants := q.count()
	want := map[string]string{
		"accounts": fmt.Sprint(users + joiners), "would be activated": fmt.Sprint(active), "would be updated": "0",
		"would be deactivated": fmt.Sprintf("%d, %d of them in the application", gone+goneAgain, gone),
		"memberships":          fmt.Sprintf("%d added, 0 revoked", grants), "roles": "0 added, 0 revoked",
		"in the application": fmt.Sprintf("%d found, %d not, 0 held", users-1, joiners),
		"rows by let-in":     fmt.Sprint(active), "rows by lock-out": fmt.Sprint(gone), "rows by end-sessions": fmt.Sprint(2 * gone),
		"rows by put-in": fmt.Sprint(grants), "rows by write-it-down": fmt.Sprint(active + gone + grants),
	}
	confirm := fmt.Sprint(gone)
	began := time.Now()
	code, out, talk := site.Command(t, "directories", "enforce", q.Directory, "--yes", "--confirm", fmt.Sprint(gone-1))
	t.Logf("a preview of %d accounts took %s", users+joiners, time.Since(began).Round(time.Millisecond))
	if code == 0 || !strings.Contains(talk, "--confirm "+confirm) {
		t.Fatalf("with another number than %s: exit code %d: %s", confirm, code, talk)
	}
	preview := previewed(out)
	if diff := cmp.Diff(want, preview); diff != "" {
		t.Errorf("the preview (-want +got):\n%s", diff)
	}
	mustHaveBeenNothing("after a preview")

	if code, _, talk := site.Command(t, "directories", "enforce", q.Directory, "--yes", "--confirm", confirm, "--reason", "the trial is over"); code != 0 {
		t.Fatalf("enforce: exit code %d: %s", code, talk)
	}
	rig.Until(t, "everything is told", func() bool { return site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE bound_at IS NULL`) == 0 })
	done := map[string]string{}
	for name := range maps.Keys(preview) {
		if binding, ok := strings.CutPrefix(name, "rows by "); ok {
			done[name] = fmt.Sprint(count(t, db, `SELECT coalesce(sum(rows), 0) FROM rollcall.bound WHERE binding = '`+binding+`'`))
		} else {
			done[name] = preview[name]
		}
	}
	told := func(kind string) string {
		return fmt.Sprint(count(t, db, `SELECT count(*) FROM app.told WHERE kind = '`+kind+`'`))
	}
	done["would be activated"], done["would be updated"] = told("account.activated"), told("account.updated")
	done["memberships"] = told("grant.added") + " added, " + told("grant.revoked") + " revoked"
	done["would be deactivated"] = fmt.Sprintf("%d, %s of them in the application",
		site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE kind = 'account.deactivated' AND bound_result <> 'observed'`), told("account.deactivated"))
	if diff := cmp.Diff(preview, done); diff != "" {
		t.Errorf("what was said, and what was done (-said +done):\n%s", diff)
	}
	for what, query := range map[string]string{
		"changes of the history took effect": `SELECT count(*) FROM rollcall.changes WHERE bound_result = 'bound' AND event NOT LIKE 'enforce:%'`,
		"accounts were told more than once":  `SELECT count(*) FROM (SELECT FROM app.told WHERE group_id IS NULL GROUP BY account HAVING count(*) > 1) twice`,
		"grants were told more than once":    `SELECT count(*) FROM (SELECT FROM app.told WHERE group_id IS NOT NULL GROUP BY account, group_id HAVING count(*) > 1) twice`,
		"users who left have a session":      `SELECT count(*) FROM app.sessions s JOIN app.users u ON u.id = s.user_id WHERE disabled_at IS NOT NULL`,
		"leavers were told after others":     `SELECT count(*) FROM app.told WHERE kind = 'account.deactivated' AND seq > (SELECT min(seq) FROM app.told WHERE kind <> 'account.deactivated')`,
		"protected users are out":            `SELECT count(*) FROM app.users WHERE break_glass AND disabled_at IS NOT NULL`,
	} {
		if n := count(t, db, query); n != 0 {
			t.Errorf("%d %s, want none", n, what)
		}
	}
	q.mustBeWhatTheApplicationHas(t, db)

	accepted(t, site, process, []simulator.Delivery{q.User(0, "inactive")})
	rig.Until(t, "somebody who leaves from then on is out", func() bool {
		return count(t, db, `SELECT count(*) FROM app.users WHERE external_id = '`+q.IDP(0)+`' AND disabled_at IS NOT NULL`) == 1
	})
}

// previewed reads the table that a preview is, without the lists of people and the line of the directory.
func previewed(out string) map[string]string {
	read := map[string]string{}
	for line := range strings.Lines(out) {
		cells := regexp.MustCompile(`\s{2,}`).Split(strings.TrimSpace(line), 2)
		if len(cells) == 2 && cells[0] != "directory" && cells[0] != "loses access" && cells[0] != "is protected, and keeps it" {
			read[cells[0]] = cells[1]
		}
	}
	return read
}

// mustBeWhatTheApplicationHas compares everybody's row and memberships with what the directory means.
func (q *quarter) mustBeWhatTheApplicationHas(t *testing.T, db *sql.DB) {
	t.Helper()
	want, got := map[string]string{}, map[string]string{}
	for person, active := range q.active {
		switch {
		case active:
			want[q.IDP(person)] = fmt.Sprintf("in, %d teams", len(q.groups[person]))
		case person < users && person != breakIn:
			want[q.IDP(person)] = "out, 0 teams"
		}
	}
	rows, err := db.QueryContext(t.Context(), `SELECT external_id, disabled_at IS NULL, (SELECT count(*) FROM app.members WHERE user_id = u.id) FROM app.users u WHERE NOT break_glass`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id sql.NullString
		var in bool
		var teams int
		if err := rows.Scan(&id, &in, &teams); err != nil {
			t.Fatal(err)
		}
		got[id.String] = fmt.Sprintf("%s, %d teams", map[bool]string{true: "in", false: "out"}[in], teams)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the application's users (-want +got):\n%s", diff)
	}
}

func must(t testing.TB, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
