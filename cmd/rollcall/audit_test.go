package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// auditors is an application in a database whose auditor may read alone, and a provider that is asked over HTTP.
type auditors struct {
	t       *testing.T
	owner   *sql.DB
	world   *simulator.World
	api     *simulator.API
	url     string
	dsn     string // of a user who may write
	flags   []string
	out     bytes.Buffer
	talk    bytes.Buffer
	people  []string // ids of users, of whom each has an account
	leavers []string
}

func newAuditors(t *testing.T) *auditors {
	t.Helper()
	dsn := testenv.Database(t)
	a := &auditors{t: t, world: simulator.NewWorld(simulator.WorldConfig{Seed: 3, Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})}
	var err error
	if a.owner, err = sql.Open("pgx", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.owner.Close() })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	role := "auditor_" + strings.TrimPrefix(u.Path, "/")
	a.execute(
		`CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization text, mail text, workos_id text, disabled_at timestamptz)`,
		`CREATE TABLE members (person bigint, team text)`,
		fmt.Sprintf(`CREATE ROLE %q LOGIN`, role), fmt.Sprintf(`GRANT SELECT ON people, members TO %q`, role),
	)
	t.Cleanup(func() {
		_, err := a.owner.ExecContext(context.WithoutCancel(t.Context()), fmt.Sprintf(`DROP OWNED BY %[1]q; DROP ROLE %[1]q`, role))
		if err != nil {
			t.Error(err)
		}
	})
	u.User = url.User(role)
	a.api = simulator.NewAPI(a.world, simulator.APIConfig{Key: "sk_audit"})
	server := httptest.NewServer(a.api)
	t.Cleanup(server.Close)
	a.url, a.dsn = server.URL, dsn
	a.flags = []string{
		"audit", "--api-url", server.URL, "--api-key", a.file("key", "sk_audit"), "--dsn", a.file("dsn", u.String()), "--by-organization",
		"--accounts", `SELECT id, organization AS tenant, mail AS email, workos_id AS external FROM people WHERE disabled_at IS NULL`,
		"--memberships", `SELECT person AS user_id, team AS group_id FROM members`,
	}
	return a
}

// file returns a reference to a file with the text.
func (a *auditors) file(name, text string) string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return "file:" + path
}

func (a *auditors) execute(statements ...string) {
	a.t.Helper()
	for _, s := range statements {
		if _, err := a.owner.ExecContext(a.t.Context(), s); err != nil {
			a.t.Fatalf("%s: %v", s, err)
		}
	}
}

// organization is that of a directory, as the provider lists it.
func (a *auditors) organization(directory string) string {
	a.t.Helper()
	client, err := workos.NewClient(provider.APIConfig{URL: a.url, Key: func() (string, error) { return "sk_audit", nil }})
	if err != nil {
		a.t.Fatal(err)
	}
	d, err := client.Directory(a.t.Context(), directory)
	if err != nil {
		a.t.Fatal(err)
	}
	return d.Organization
}

// plant fills the application with the people of two directories, and lets some of them leave without its being told.
func (a *auditors) plant() {
	a.t.Helper()
	for _, d := range []string{a.world.FirstSync(150, 4, 2), a.world.FirstSync(40, 2, 1)} {
		people := a.world.Active(d)
		organization := a.organization(d)
		for i, user := range people {
			if _, err := a.owner.ExecContext(a.t.Context(), `INSERT INTO people (organization, mail, workos_id) VALUES ($1, $2, $3)`, organization, fmt.Sprintf("%d@example.com", i), user); err != nil {
				a.t.Fatal(err)
			}
		}
		for i, leave := range []func(string) bool{
			a.world.Leave, a.world.Deactivate, a.world.Suspend, a.world.Delete, a.world.Leave, a.world.Deactivate, a.world.Suspend, a.world.Delete,
		} {
			if user := people[i*4+1]; leave(user) {
				a.leavers = append(a.leavers, user)
			}
		}
		a.people = append(a.people, people...)
	}
}

// run runs the command, and returns its exit code.
func (a *auditors) run(more ...string) int {
	a.t.Helper()
	a.out.Reset()
	a.talk.Reset()
	root := newRoot(&cli{out: &a.out, talk: &a.talk})
	root.SetArgs(append(slices.Clone(a.flags), more...))
	return report(&a.talk, root.ExecuteContext(a.t.Context()))
}

func TestAuditFindsEveryLeaverAndWritesNothing(t *testing.T) {
	t.Parallel()
	a := newAuditors(t)
	a.plant()
	before := a.dump()
	if code := a.run("-o", "json"); code != exitCheck {
		t.Fatalf("audit exits with %d and says\n%s", code, a.talk.String())
	}
	var got auditJSON
	if err := json.Unmarshal(a.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, f := range got.Findings {
		if f.Kind != "leaver" {
			t.Errorf("audit finds %+v, want leavers alone", f)
		}
		found = append(found, a.workosID(f.AppID))
	}
	slices.Sort(found)
	slices.Sort(a.leavers)
	if diff := cmp.Diff(a.leavers, found); diff != "" || len(a.leavers) != 16 {
		t.Errorf("audit finds other than the %d leavers (-want +got):\n%s", len(a.leavers), diff)
	}
	if got.Accounts != 190 || got.Directories != 2 || len(got.Unknown) > 0 || len(got.Unseen) == 0 {
		t.Errorf("audit compares %d accounts with %d directories, unknown %v, unseen %v", got.Accounts, got.Directories, got.Unknown, got.Unseen)
	}
	if diff := cmp.Diff(before, a.dump()); diff != "" {
		t.Errorf("the application's database is another after an audit (-before +after):\n%s", diff)
	}
	if stats := a.api.Stats(); stats.Status[200] != stats.Requests {
		t.Errorf("the provider's API answered %v", stats.Status)
	}
}

// dump is all that is in the application's tables.
func (a *auditors) dump() (all string) {
	a.t.Helper()
	err := a.owner.QueryRowContext(a.t.Context(), `SELECT (SELECT string_agg(p::text, ';' ORDER BY p.id) FROM people p) || '|' || (SELECT count(*) FROM members) || '|'
		|| (SELECT string_agg(oid::regclass::text, ',' ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace)`).Scan(&all)
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

func (a *auditors) workosID(appID string) (id string) {
	a.t.Helper()
	if err := a.owner.QueryRowContext(a.t.Context(), `SELECT workos_id FROM people WHERE id::text = $1`, appID).Scan(&id); err != nil {
		a.t.Fatal(err)
	}
	return id
}

func TestAuditSaysByItsExitCodeWhatItKnows(t *testing.T) {
	t.Parallel()
	a := newAuditors(t)
	directory := a.world.FirstSync(120, 1, 1)
	a.execute(fmt.Sprintf(`INSERT INTO people (organization, mail, workos_id) VALUES ('%s', '=cmd|calc', '%s')`, a.organization(directory), a.world.Active(directory)[0]))
	for _, c := range []struct {
		what   string
		change func()
		more   []string
		code   int
		says   string
	}{
		{"nothing wrong", func() {}, nil, exitOK, "1 accounts and 0 memberships compared with 120 users of 1 directories; 0 accounts in tenants without a directory\nnot seen from here:\n"},
		{"a key that is refused", func() { a.api.Change(func(c *simulator.APIConfig) { c.Key = "sk_other" }) }, nil, exitUntold, "the provider could not be asked: list its directories: "},
		{"a listing that is cut short", func() {
			a.api.Change(func(c *simulator.APIConfig) { c.Key, c.Faults.CutShort = "sk_audit", 1 })
			a.execute(`INSERT INTO people (organization, mail, workos_id) SELECT organization, 'x@example.com', 'directory_user_of_another_page' FROM people`)
		}, nil, exitUntold, "not judged: 1 because directory " + directory + " could not be listed to its end"},
		{"a leaver", func() { a.api.Change(func(c *simulator.APIConfig) { c.Faults.CutShort = 0 }) }, []string{"-o", "csv"}, exitCheck, "not all is well: 1 found, 0 not judged"},
		{"a statement that writes", func() {}, []string{"--accounts", `DELETE FROM people RETURNING id`}, exitUntold, "application.inventory.accounts"},
		{"a statement that writes, by who may", func() {}, []string{"--dsn", a.dsn, "--accounts", `DELETE FROM people RETURNING id`}, exitUntold, "read-only transaction"},
		{"a key on the command line", func() {}, []string{"--api-key", "sk_audit"}, exitUsage, "--api-key is not a reference"},
		{"no statement", func() {}, []string{"--accounts", ""}, exitConfig, "application.inventory.accounts is not set\nhint: --accounts"},
		{"no database", func() {}, []string{"--dsn", ""}, exitConfig, "application.dsn: is empty\nhint: --dsn"},
		{"another provider", func() {}, []string{"--provider", "acme"}, exitConfig, `provider "acme" is not known`},
		{"a database that does not answer", func() {}, []string{"--dsn", "postgres://nobody@127.0.0.1:1/x"}, exitUntold, "the application could not be read: reach the application's database"},
	} {
		c.change()
		if code := a.run(c.more...); code != c.code || !strings.Contains(a.talk.String(), c.says) {
			t.Errorf("%s: audit exits with %d, want %d, and says\n%swant\n%s", c.what, code, c.code, a.talk.String(), c.says)
		}
		if strings.Contains(a.talk.String()+a.out.String(), "sk_audit") {
			t.Errorf("%s: audit prints the key", c.what)
		}
		if strings.HasPrefix(a.out.String(), "found,") {
			rows, err := csv.NewReader(&a.out).ReadAll()
			if err != nil || len(rows) != 2 || rows[1][0] != "leaver" || rows[1][3] != "x@example.com" {
				t.Errorf("%s: audit prints %q, %v", c.what, rows, err)
			}
		}
	}
}
