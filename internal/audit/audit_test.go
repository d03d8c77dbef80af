package audit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/rollcallhq/rollcall/internal/audit"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

const tables = `CREATE TABLE people (id text PRIMARY KEY, tenant text, mail text, idp text, disabled boolean NOT NULL DEFAULT false);
	CREATE TABLE members (user_id text, team text)`

// site is an application in a file, and a provider's listing.
type site struct {
	t       *testing.T
	db      *sql.DB
	company *company
	audit.Audit
}

func newSite(t *testing.T) *site {
	t.Helper()
	db := open(t, "sqlite", "file:"+(&url.URL{Path: filepath.Join(t.TempDir(), "app.db")}).EscapedPath())
	execute(t, db, tables)
	s := &site{t: t, db: db, company: newCompany()}
	s.Audit = audit.Audit{Listing: s.company, Application: inventory.Application{
		DB: db, Kind: "sqlite", Accounts: `SELECT id, tenant, mail AS email, idp AS external FROM people WHERE NOT disabled`,
		Memberships: `SELECT user_id, team AS group_id FROM members`,
	}}
	return s
}

// person adds an account, named for its id: an address and, unless it is empty, an external id.
func (s *site) person(id, external string) {
	s.t.Helper()
	if _, err := s.db.ExecContext(s.t.Context(), `INSERT INTO people (id, tenant, mail, idp) VALUES ($1, 'org_1', $2, nullif($3, ''))`, id, id+"@Example.com", external); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) member(id, group string) {
	s.t.Helper()
	if _, err := s.db.ExecContext(s.t.Context(), `INSERT INTO members VALUES ($1, $2)`, id, group); err != nil {
		s.t.Fatal(err)
	}
}

// says runs the audit, and compares what it found, a line each, and what it could not judge.
func (s *site) says(found, unknown []string) audit.Report {
	s.t.Helper()
	r, err := s.Run(s.t.Context())
	if err != nil {
		s.t.Fatalf("Run() = %v", err)
	}
	var gotFound, gotUnknown []string
	for _, f := range r.Findings {
		line := fmt.Sprintf("%s %s %s: %s", f.Kind, f.AppID, f.Group, f.Detail)
		gotFound = append(gotFound, strings.ReplaceAll(line, " :", ":"))
	}
	for _, u := range r.Unknown {
		gotUnknown = append(gotUnknown, fmt.Sprintf("%d %s", u.Count, u.Reason))
	}
	if diff := cmp.Diff(found, gotFound); diff != "" {
		s.t.Errorf("Run() finds (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(unknown, gotUnknown); diff != "" {
		s.t.Errorf("Run() cannot judge (-want +got):\n%s", diff)
	}
	if r.Clean() != (len(found)+len(unknown) == 0) {
		s.t.Errorf("Clean() = %t with %d findings and %d unknown", r.Clean(), len(found), len(unknown))
	}
	return r
}

const (
	gone       = "no directory lists its id any more"
	inactive   = "it is listed as inactive"
	incomplete = "a directory of its tenant could not be listed to its end"
)

// planted is an application of a hundred people with twelve leavers, by every way to leave, and the listing that tells of them.
func planted(t *testing.T, db *sql.DB) (c *company, leavers []string) {
	t.Helper()
	c = newCompany()
	c.directory("d1", "org_1")
	c.directory("d2", "org_1")
	leaves := map[int]string{3: "inactive", 11: "suspended", 17: "deleted", 23: "inactive", 31: "gone", 42: "gone", 50: "gone", 58: "suspended", 66: "inactive", 71: "gone", 88: "deprovisioned", 97: "gone"}
	for n := range 100 {
		id, state := fmt.Sprint(n), "active"
		if leaves[n] != "" {
			state = leaves[n]
			leavers = append(leavers, id)
		}
		external := "idp-" + id
		if n%2 == 0 {
			external = "u-" + id // the provider's id
		}
		if state != "gone" {
			c.user(fmt.Sprintf("d%d", 1+n%2), id, "idp-"+id, state, n)
		}
		execute(t, db, fmt.Sprintf(`INSERT INTO people VALUES ('%s', 'org_1', '%s@example.com', '%s', false)`, id, id, external))
	}
	// Those who left and were disabled are nobody's concern, and neither is whoever joined and has not been there yet.
	execute(t, db, `INSERT INTO people VALUES ('200', 'org_1', '200@example.com', 'idp-200', true)`)
	c.user("d1", "200", "idp-200", "inactive", 1)
	c.user("d2", "300", "idp-300", "active", 1)
	return c, leavers
}

func TestEveryLeaverIsFoundInAnApplicationThatCanOnlyBeRead(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	owner := open(t, "pgx", dsn)
	execute(t, owner, tables)
	c, leavers := planted(t, owner)
	role := "auditor_" + strings.ToLower(t.Name()[4:14])
	execute(t, owner, `CREATE ROLE `+role+` LOGIN`, `GRANT SELECT ON people, members TO `+role)
	t.Cleanup(func() {
		for _, statement := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			if _, err := owner.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
				t.Error(err)
			}
		}
	})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	before := dump(t, owner)
	r, err := audit.Audit{Listing: c, Application: inventory.Application{
		DB: open(t, "pgx", u.String()), Kind: "postgres", Accounts: `SELECT id, tenant, mail AS email, idp AS external FROM people WHERE NOT disabled`,
		Memberships: `SELECT user_id, team AS group_id FROM members`,
	}}.Run(t.Context())
	if err != nil {
		t.Fatalf("Run() = %v", err)
	}
	var found []string
	for _, f := range r.Findings {
		if f.Kind != audit.Leaver {
			t.Errorf("Run() finds %+v, want leavers alone", f)
		}
		found = append(found, f.AppID)
	}
	if diff := cmp.Diff(leavers, found, sorted); diff != "" || len(leavers) != 12 {
		t.Errorf("Run() finds other than the %d leavers (-want +got):\n%s", len(leavers), diff)
	}
	if len(r.Unknown) > 0 || r.Accounts != 100 || r.Users != 97 || r.Directories != 2 {
		t.Errorf("Run() = %d accounts, %d users, %d directories, unknown %v", r.Accounts, r.Users, r.Directories, r.Unknown)
	}
	if diff := cmp.Diff(before, dump(t, owner)); diff != "" {
		t.Errorf("the database is another after Run() (-before +after):\n%s", diff)
	}
}

// sorted compares lists as sets.
var sorted = cmp.Transformer("set", func(in []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range in {
		out[s] = true
	}
	return out
})

// dump is all that is in a database: every relation, and the rows of those that have some.
func dump(t *testing.T, db *sql.DB) []string {
	t.Helper()
	var all []string
	for _, relation := range texts(t, db, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1`) {
		all = append(all, relation)
		for _, row := range texts(t, db, `SELECT t::text FROM `+relation+` t ORDER BY 1`) {
			all = append(all, relation+" "+row)
		}
	}
	return all
}

func texts(t *testing.T, db *sql.DB, query string) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAnAccountIsJudgedByTheIdThatItHas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		external string
		list     func(*company)
		byEmail  bool
		found    []string
		unknown  []string
	}{
		"active":                      {external: "idp-ada", list: func(c *company) { c.user("d1", "ada", "idp-ada", "active", 1) }},
		"active by the provider's id": {external: "u-ada", list: func(c *company) { c.user("d1", "ada", "idp-ada", "active", 1) }},
		"a state that nobody knows":   {external: "u-ada", list: func(c *company) { c.user("d1", "ada", "idp-ada", "on leave", 1) }, found: []string{"leaver ada: it is listed as on leave"}},
		"no state":                    {external: "u-ada", list: func(c *company) { c.user("d1", "ada", "idp-ada", "", 1) }, found: []string{"leaver ada: it is listed as not active"}},
		"back under a new id": {external: "idp-ada", list: func(c *company) {
			c.user("d1", "ada2", "idp-ada", "active", 9)
			c.user("d1", "ada", "idp-ada", "inactive", 1)
		}},
		"back under a new id, known by the old one": {external: "u-ada", list: func(c *company) {
			c.user("d1", "ada2", "idp-ada", "active", 9)
			c.user("d1", "x", "x", "active", 1)
			c.user("d1", "y", "y", "active", 1)
			c.user("d1", "ada", "idp-ada", "inactive", 1)
		}},
		"left again after a return": {external: "idp-ada", list: func(c *company) {
			c.user("d1", "ada", "idp-ada", "active", 1)
			c.user("d1", "ada2", "idp-ada", "inactive", 9)
		}, found: []string{"leaver ada: " + inactive}},
		"moved to the organization's other directory": {external: "idp-ada", list: func(c *company) {
			c.user("d1", "ada", "idp-ada", "inactive", 1)
			c.user("d2", "ada2", "idp-ada", "active", 1)
		}},
		"the same id in another organization": {external: "idp-ada", list: func(c *company) {
			c.directory("d9", "org_9")
			c.user("d1", "ada", "idp-ada", "inactive", 1)
			c.user("d9", "ada2", "idp-ada", "active", 1)
		}, found: []string{"ambiguous ada: its id is inactive here, and active in directory d9 of another organization"}},
		"the address does not clear it": {external: "idp-ada", byEmail: true, list: func(c *company) {
			c.user("d1", "ada", "idp-other", "active", 1)
		}, found: []string{"ambiguous ada: its id is not listed any more, and somebody who is active under another id has its address"}},
		"nor is it looked at unasked": {external: "idp-ada", list: func(c *company) { c.user("d1", "ada", "idp-other", "active", 1) }, found: []string{"leaver ada: " + gone}},
		"gone, and the address is inactive": {external: "idp-ada", byEmail: true, list: func(c *company) {
			c.user("d1", "ada", "idp-other", "inactive", 1)
		}, found: []string{"leaver ada: no directory lists its id, and whoever has its address is not active"}},
		"no id":                   {list: func(c *company) { c.user("d1", "ada", "idp-ada", "inactive", 1) }, unknown: []string{"1 application.inventory.accounts gives no external id for the row, and addresses are not looked at: --by-email does"}},
		"by its address, active":  {byEmail: true, list: func(c *company) { c.user("d1", "ada", "idp-ada", "active", 1) }},
		"by its address, left":    {byEmail: true, list: func(c *company) { c.user("d1", "ada", "idp-ada", "inactive", 1) }, found: []string{"leaver ada: " + inactive}},
		"by its address, unknown": {byEmail: true, list: func(*company) {}, found: []string{"unlisted ada: no directory lists its address"}},
		"an address that was given on": {byEmail: true, list: func(c *company) {
			c.user("d1", "ada", "idp-ada", "inactive", 1)
			c.user("d1", "ada", "idp-new", "active", 9)
		}, found: []string{"ambiguous ada: its address is that of somebody who is inactive, and of somebody who is active in directory d1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.ByEmail = c.byEmail
			s.company.directory("d1", "org_1")
			s.company.directory("d2", "org_1")
			s.person("ada", c.external)
			s.company.user("d1", "bob", "idp-bob", "active", 1) // somebody's id is met, so that the column is the right one
			s.person("bob", "idp-bob")
			c.list(s.company)
			s.says(c.found, c.unknown)
		})
	}
}

func TestWhatIsNotListedToItsEndIsNeverClean(t *testing.T) {
	t.Parallel()
	cut := fmt.Errorf("page 2: %w\nhint: again", provider.ErrCutShort)
	for name, c := range map[string]struct {
		change  func(*site)
		unknown []string
	}{
		"cut short": {func(s *site) { s.company.cut["d1"] = cut }, []string{
			"4 " + incomplete, "1 directory d1 could not be listed to its end: page 2: the listing was cut short",
		}},
		"fewer than are counted": {func(s *site) {
			s.company.directories[0].Counted, s.company.directories[0].Active = true, 6
		}, []string{"1 " + incomplete, "1 directory d1 could not be listed to its end: the listing was cut short: it counts 6 users and listed 5"}},
		"its origin is not followed": {func(s *site) { s.company.directories[0].State = "invalid_credentials" }, []string{
			"1 directory d1 is invalid_credentials: what it lists may be old, and whoever leaves it now is not told of",
		}},
		"groups cut short":  {func(s *site) { s.company.cut["groups of d1"] = cut; s.member("ada", "g9") }, []string{"1 the groups of directory d1 could not be listed to their end: page 2: the listing was cut short"}},
		"members cut short": {func(s *site) { s.company.cut["g1"] = cut; s.member("eve", "g1") }, []string{"1 the members of group g1 could not be listed to their end: page 2: the listing was cut short"}},
		"no directory": {func(s *site) { s.company.directories = nil }, []string{
			"1 the provider lists no directory: is it the API key of another environment?",
		}},
		"ids of something else": {func(s *site) { execute(s.t, s.db, `UPDATE people SET idp = 'stripe-' || id`) }, []string{
			"4 no value of the column external is an id that a directory lists: it is the directory's own id (idp_id) or the provider's id of the user",
		}},
		"groups of something else": {func(s *site) { s.member("ada", "admins") }, []string{
			"1 no group of application.inventory.memberships is one that a directory lists: group_id is the provider's id of the group",
		}},
		"no tenant": {func(s *site) {
			s.ByOrganization = true
			execute(s.t, s.db, `UPDATE people SET tenant = NULL WHERE id = 'cyd'`)
		}, []string{
			"1 application.inventory.accounts gives no tenant for the row",
		}},
		"a tenant that nobody knows": {func(s *site) {
			s.Application.Tenant = func(context.Context, string) (string, bool, error) { return "", false, nil }
		}, []string{"1 the application knows no tenant for organization org_1 of directory d1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.company.directory("d1", "org_1")
			for i, id := range []string{"ada", "bob", "cyd", "dan", "eve"} {
				s.company.user("d1", id, "idp-"+id, "active", i)
				if id != "bob" {
					s.person(id, "idp-"+id)
				}
			}
			s.company.group("d1", "g1", "ada", "bob", "cyd", "eve")
			s.company.group("d1", "g2")
			s.company.group("d1", "g3")
			c.change(s)
			if _, cut := s.company.cut["d1"]; cut || len(s.company.directories) > 0 && s.company.directories[0].Counted {
				s.person("fay", "idp-fay") // may be on a page that did not come
			}
			s.says(nil, c.unknown)
		})
	}
}

func TestAProviderThatCannotBeAskedIsAnError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.company.cut[""] = provider.ErrUnauthorized
	if _, err := s.Run(t.Context()); !errors.Is(err, audit.ErrProvider) || !errors.Is(err, provider.ErrUnauthorized) {
		t.Errorf("Run() = %v, want that the provider refuses the key", err)
	}
	s.Application.Accounts = `SELECT id FROM nowhere`
	if _, err := s.Run(t.Context()); !errors.Is(err, audit.ErrApplication) {
		t.Errorf("Run() = %v, want that the application could not be read", err)
	}
	s.Application.Accounts = ""
	if _, err := s.Run(t.Context()); !errors.Is(err, inventory.ErrNotListed) {
		t.Errorf("Run() = %v, want that there is no listing", err)
	}
}

func TestMembershipsThatNoDirectoryListsAreFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.company.directory("d1", "org_1")
	for i, id := range []string{"ada", "bob", "cyd"} {
		s.company.user("d1", id, "idp-"+id, map[bool]string{true: "active", false: "inactive"}[id != "cyd"], i)
		s.person(id, "idp-"+id)
		for _, group := range []string{"g1", "g2"} {
			s.member(id, group)
		}
	}
	s.member("ada", "g-gone")
	s.member("disabled", "g1")
	s.member("bob", "")
	s.company.group("d1", "g1", "ada", "bob")
	s.company.group("d1", "g2", "bob")
	s.company.group("d1", "g3", "ada")
	r := s.says([]string{
		"leaver cyd: " + inactive, "extra membership ada g-gone: no directory lists the group any more", "extra membership ada g2: the directory does not list it in the group",
	}, nil)
	if f := r.Findings[2]; f.GroupName != "Team g2" || f.User != "u-ada" || f.Directory != "d1" || f.Organization != "org_1" || f.By != "id" {
		t.Errorf("Run() finds %+v", f)
	}
	if diff := cmp.Diff([]string{"d1", "groups of d1", "g1", "g2"}, s.company.asked, sorted); diff != "" {
		t.Errorf("Run() asks for other than what the application has (-want +got):\n%s", diff)
	}
}

func TestAccountsOfOnePersonAreFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.company.directory("d1", "org_1")
	s.company.user("d1", "ada", "idp-ada", "active", 1)
	s.person("1", "idp-ada")
	s.person("2", "u-ada")
	s.says([]string{"duplicate 1: accounts 1, 2 are the same person", "duplicate 2: accounts 1, 2 are the same person"}, nil)
}

func TestTenantsAreKeptApart(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]func(*site){
		"by the application's statement": func(s *site) {
			s.Application.Tenant = func(_ context.Context, organization string) (string, bool, error) {
				return "t" + organization, true, nil
			}
			execute(s.t, s.db, `UPDATE people SET tenant = 't' || tenant`)
		},
		"by organization": func(s *site) { s.ByOrganization = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.company.directory("d1", "org_1")
			s.company.directory("d2", "org_2")
			s.company.user("d1", "ada", "7", "inactive", 1)
			s.company.user("d2", "bob", "7", "active", 1)
			s.person("a", "7")
			s.person("b", "7")
			s.person("c", "7")
			execute(t, s.db, `UPDATE people SET tenant = 'org_2' WHERE id = 'b'`, `UPDATE people SET tenant = 'org_3' WHERE id = 'c'`)
			by(s)
			if r := s.says([]string{"leaver a: " + inactive}, nil); r.Outside != 1 {
				t.Errorf("Run() = %d accounts outside, want the one whose tenant has no directory", r.Outside)
			}
		})
	}
}

func TestWhoeverIsDisabledMeanwhileIsNotReported(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.company.directory("d1", "org_1")
	for i, id := range []string{"ada", "bob", "cyd"} {
		s.company.user("d1", id, "idp-"+id, []string{"inactive", "inactive", "active"}[i], 1)
		s.person(id, "idp-"+id)
	}
	s.company.group("d1", "g1")
	s.member("cyd", "g1")
	s.Listing = meanwhile{s.company, func() { execute(t, s.db, `UPDATE people SET disabled = true WHERE id = 'bob'`, `DELETE FROM members`) }}
	s.says([]string{"leaver ada: " + inactive}, nil)
}

// meanwhile lets something happen while users are listed.
type meanwhile struct {
	*company
	happens func()
}

func (m meanwhile) Users(ctx context.Context, id string, page func(context.Context, provider.ListedPage) error) error {
	m.happens()
	return m.company.Users(ctx, id, page)
}

func TestAnAuditSaysWhatItCannotSee(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.company.directory("d1", "org_1")
	s.company.user("d1", "ada", "idp-ada", "active", 1)
	s.person("ada", "idp-ada")
	s.Application.Protected = `SELECT 'ada'`
	all := strings.Join(s.says(nil, nil).Unseen, "\n")
	for text, want := range map[string]bool{"Okta: a user who is suspended": true, "Validating": true, "Google": false, "Entra": false, "before its provider hears": true} {
		if strings.Contains(all, text) != want {
			t.Errorf("Unseen mentions %q: %t, want %t:\n%s", text, !want, want, all)
		}
	}
}

func TestAnAuditEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.company.directory("d1", "org_1")
	s.company.user("d1", "ada", "idp-ada", "inactive", 1)
	s.person("ada", "idp-ada")
	ctx, cancel := context.WithCancel(t.Context())
	s.Listing = meanwhile{s.company, cancel}
	if r, err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %+v, %v, want that the context ended", r, err)
	}
}

func TestWhereNobodyWasComparedNothingIsClean(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		people  []string
		unknown string
	}{
		"an application that lists nobody": {nil, "1 application.inventory.accounts lists no account"},
		"tenants that are no organizations": {[]string{"ada", "bob"}, "2 no account is in a tenant that has a directory: the column tenant is what application.tenant gives, " +
			"or with --by-organization the provider's id of the organization"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.ByOrganization = true
			s.company.directory("d1", "org_9")
			s.company.user("d1", "ada", "idp-ada", "inactive", 1)
			for _, id := range c.people {
				s.person(id, "idp-"+id)
			}
			s.says(nil, []string{c.unknown})
		})
	}
}
