package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
)

const application = good + `application:
  dsn: postgres://rollcall@db/app
  mode: enforce
  connections: 8
  tenant: {sql: SELECT id FROM organizations WHERE workos_id = @organization_id}
  link:
    sql: SELECT id FROM users WHERE tenant_id = @tenant AND directory_user_id = @idp_id
    by_email: SELECT id FROM users WHERE email = @email
  bindings:
    - on: account.activated
      name: create-user
      sql: INSERT INTO users (id, email) VALUES (@idp_id, @email)
    - on: [account.updated, role.*]
      sql:
        - UPDATE users SET email = @email, name = @name WHERE id = @app_id
        - |
          UPDATE profiles
          SET name = @name; -- one statement
    - on: account.*
      post: https://app.internal/hooks
      secret: file:/run/secrets/hooks
    - on: account.*
      post: http://localhost:8080/hooks
      secret: env:HOOKS
      timeout: 3s
      attempts: 5
  roles:
    - role: admin
      groups: Admins, Europe
      slugs: [admin]
  probes:
    - name: sessions
      sql: SELECT id, expires FROM sessions WHERE user_id = @app_id
  inventory: {accounts: "SELECT id, email FROM users"}
  protected: SELECT id FROM users WHERE break_glass
  guard: {percent: 20}
  owners: {leaver: security@example.com}
  rehearsal:
    sign_in: INSERT INTO sessions (user_id, expires) VALUES (@app_id, now())
`

func TestTheApplicationIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	want := config.Default().Application
	want.DSN, want.Mode, want.Connections = "postgres://rollcall@db/app", "enforce", 8
	want.Tenant.SQL = "SELECT id FROM organizations WHERE workos_id = @organization_id"
	want.Link = config.Link{SQL: "SELECT id FROM users WHERE tenant_id = @tenant AND directory_user_id = @idp_id", ByEmail: "SELECT id FROM users WHERE email = @email"}
	want.Bindings = []config.Binding{
		{On: []string{"account.activated"}, Name: "create-user", SQL: []string{"INSERT INTO users (id, email) VALUES (@idp_id, @email)"}},
		{On: []string{"account.updated", "role.*"}, Name: "account.updated+role.*", SQL: []string{
			"UPDATE users SET email = @email, name = @name WHERE id = @app_id", "UPDATE profiles\nSET name = @name; -- one statement\n",
		}},
		{On: []string{"account.*"}, Name: "account.*", Post: "https://app.internal/hooks", Secret: "file:/run/secrets/hooks", Timeout: 10 * time.Second},
		{On: []string{"account.*"}, Name: "account.*#2", Post: "http://localhost:8080/hooks", Secret: "env:HOOKS", Timeout: 3 * time.Second, Attempts: 5},
	}
	want.Roles = []config.RoleRule{{Role: "admin", Groups: []string{"Admins, Europe"}, Slugs: []string{"admin"}}}
	want.Probes = []config.Probe{{Name: "sessions", SQL: "SELECT id, expires FROM sessions WHERE user_id = @app_id"}}
	want.Inventory.Accounts, want.Protected = "SELECT id, email FROM users", "SELECT id FROM users WHERE break_glass"
	want.Guard.Percent, want.Owners.Leaver = 20, "security@example.com"
	want.Rehearsal.SignIn = []string{"INSERT INTO sessions (user_id, expires) VALUES (@app_id, now())"}

	l := load(t, config.Options{File: file(t, application)})
	if diff := cmp.Diff(want, l.Application); diff != "" {
		t.Errorf("Application (-want +got):\n%s", diff)
	}
	again := load(t, config.Options{File: file(t, l.Redacted())})
	if diff := cmp.Diff(want, again.Application); diff != "" {
		t.Errorf("Application as printed (-want +got):\n%s\nprinted:\n%s", diff, l.Redacted())
	}
	for _, line := range []string{
		"        - on: [account.activated] # file\n          name: create-user # file\n          sql: # file\n            - INSERT INTO users (id, email) VALUES (@idp_id, @email)\n",
		"            - |\n              UPDATE profiles\n              SET name = @name; -- one statement\n",
		"          name: account.*\n          post: https://app.internal/hooks # file\n          secret: file:/run/secrets/hooks # file\n          timeout: 10s\n        - on",
	} {
		if !strings.Contains(l.Redacted(), line) {
			t.Errorf("Redacted has no lines\n%s\nin\n%s", line, l.Redacted())
		}
	}
}

func TestSingleKeysOfTheApplicationAreSetByVariablesAndFlags(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{
		File: file(t, application), Env: []string{"ROLLCALL_APPLICATION_LINK_BY_EMAIL=SELECT id, 1 FROM users", "ROLLCALL_APPLICATION_DSN=env:DSN"},
		Set: []string{"application.rehearsal.sign_in=INSERT INTO keys (a, b) VALUES (@app_id, 1)", "application.mode=observe", "application.guard.accounts=7", "application.retry_longest=10m"},
	})
	a := l.Application
	if a.Link.ByEmail != "SELECT id, 1 FROM users" || a.DSN != "env:DSN" || a.Mode != config.Observe || a.Guard.Accounts != 7 || a.RetryLongest != 10*time.Minute {
		t.Errorf("Application = %+v, want what variables and flags set", a)
	}
	if diff := cmp.Diff([]string{"INSERT INTO keys (a, b) VALUES (@app_id, 1)"}, a.Rehearsal.SignIn); diff != "" {
		t.Errorf("the statement with commas (-want +got):\n%s", diff)
	}
	if len(a.Bindings) != 4 {
		t.Errorf("%d bindings beside them, want the file's 4", len(a.Bindings))
	}
}

func TestUnknownKeysInListsAreRefusedWithTheirLineAndTheRightOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ yaml, set, want string }{
		"misspelt":              {"  bindings:\n    - on: role.*\n      sql: a\n    - on: account.*\n      sqll: a\n", "", "rollcall.yaml:10: no key is called application.bindings[1].sqll; did you mean application.bindings[1].sql?"},
		"far from every key":    {"  bindings:\n    - when: account.*\n", "", "rollcall.yaml:7: no key is called application.bindings[0].when; application.bindings[] has attempts, name, on, post, secret, sql, timeout"},
		"of another list":       {"  probes:\n    - {name: a, sql: b, slugs: c}\n", "", "rollcall.yaml:7: no key is called application.probes[0].slugs; there is application.roles[].slugs"},
		"below a key":           {"  bindings: [{on: account.*, sql: {insert: a}}]\n", "", "rollcall.yaml:6: no key is called application.bindings[0].sql.insert; "},
		"beside the lists":      {"  binding: [{on: account.*}]\n", "", "rollcall.yaml:6: no key is called application.binding; "},
		"a section for a list":  {"  bindings: {on: account.*, sql: a}\n", "", "application.bindings: is a list of sections; begin each of them with -"},
		"a text for a list":     {"  probes: sessions\n", "", "application.probes: is a list of sections; begin each of them with -"},
		"a text for a section":  {"  bindings: [account.*]\n", "", "application.bindings[0]: is no section; it has attempts, name, on, post, secret, sql, timeout"},
		"a section of nothing":  {"  probes: [{name: a, sql: b}, {}]\n", "", "application.probes[1]: is no section; it has name, sql"},
		"a section of empties":  {"  probes: [{name: , sql: }]\n", "", "application.probes[0]: is no section; it has name, sql"},
		"keys that are no text": {"  probes: [{1: a}]\n", "", "application.probes[0]: is no section; it has name, sql"},
		"brackets in a key":     {"  'bindings[0]': {on: account.*}\n", "", "application.bindings[0]: a key of a file is written as sections"},
		"by a flag":             {"", "application.bindings=a", "--set: application.bindings is a list of sections; set it in a file"},
		"by a flag, one":        {"", "application.bindings[0].sql=a", "--set: application.bindings is a list of sections; set it in a file"},
		"by a flag, a source":   {"", "sources.a[0].provider=workos", "sources.a[0]: the name is not made of"},
		"a number for a text":   {"  roles: [{role: 1, groups: a}]\n", "", "application.roles[0].role: it is not a text"},
		"a list of numbers":     {"  roles: [{role: a, groups: [1]}]\n", "", "application.roles[0].groups: it is not a list of texts"},
		"a number for a list":   {"  bindings: [{on: 1, sql: a}]\n", "", "application.bindings[0].on: it is not a list of texts"},
		"no unit":               {"  bindings: [{on: account.*, post: a, timeout: 5}]\n", "", "application.bindings[0].timeout: it is not a duration"},
		"a list for a reference": {
			"  bindings: [{on: account.*, post: a, secret: [hidden]}]\n", "", "application.bindings[0].secret: it is not a text",
		},
	} {
		o := config.Options{File: file(t, good+"application:\n"+c.yaml)}
		if c.set != "" {
			o.Set = []string{c.set}
		}
		_, err := config.Load(o)
		if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: Load(%q, %q) = %v\nwant an ErrInvalid with %q", name, c.yaml, c.set, err, c.want)
		}
	}
}

func TestEachCheckOfTheApplicationNamesItsKey(t *testing.T) {
	t.Parallel()
	long, statement := strings.Repeat("a", 300), strings.Repeat("a", 64<<10)
	for name, c := range map[string]struct{ yaml, want string }{
		"mode":                           {"mode: paused", `application.mode: "paused" is not one of observe, enforce`},
		"lock timeout":                   {"lock_timeout: 0s", "application.lock_timeout: 0s is not 1ms or more"},
		"lock timeout, rounded to none":  {"lock_timeout: 1us", "application.lock_timeout: "},
		"statement timeout":              {"statement_timeout: -1s", "application.statement_timeout: "},
		"retry first":                    {"retry_first: 0s", "application.retry_first: "},
		"retry longest":                  {"retry_longest: 999ms", "application.retry_longest: 999ms is less than application.retry_first (1s)"},
		"link retry":                     {"link_retry: 0s", "application.link_retry: "},
		"connections":                    {"connections: 0", "application.connections: 0 is not 1 or more"},
		"batch, none":                    {"batch: 0", "application.batch: 0 is not between 1 and 1000"},
		"batch, all":                     {"batch: 1001", "application.batch: 1001 is not between 1 and 1000"},
		"dsn, a reference":               {"dsn: vault:hidden", "application.dsn: not a reference"},
		"dsn, a word":                    {"dsn: hidden", "application.dsn: it is not PostgreSQL's URL or keywords, sqlite:PATH, or a reference"},
		"dsn, another URL":               {"dsn: mysql://u:hidden@h/d?a=b", "application.dsn: it is not PostgreSQL's URL"},
		"dsn, no file":                   {"dsn: 'sqlite:'", "application.dsn: sqlite: is followed by the path of a file"},
		"dsn, a parameter":               {"dsn: sqlite:a.db?key=hidden", "application.dsn: sqlite: is followed by the path of a file"},
		"dsn, our own file":              {"dsn: sqlite:./rollcall.db", "application.dsn: it is store.path; leave it empty"},
		"tenant":                         {"tenant: {sql: ' '}", "application.tenant.sql: is empty; it is a statement"},
		"link":                           {"link: {sql: ' '}", "application.link.sql: is empty"},
		"link by email":                  {"link: {by_email: ' '}", "application.link.by_email: is empty"},
		"inventory, accounts":            {"inventory: {accounts: ' '}", "application.inventory.accounts: is empty"},
		"inventory, memberships":         {"inventory: {memberships: ' '}", "application.inventory.memberships: is empty"},
		"protected":                      {"protected: " + statement + "b", "application.protected: has 65537 bytes, and a statement 65536 at most"},
		"binding on nothing":             {"bindings: [{sql: a}]", "application.bindings[0].on: is empty; it names kinds"},
		"binding on no kind":             {"bindings: [{on: account.activate, sql: a}]", `application.bindings[0].on: "account.activate" is no kind of change; did you mean account.activated?`},
		"binding on a kind of no thing":  {"bindings: [{on: user.created, sql: a, name: a}]", `"user.created" is no kind of change; there is account.*, directory.*, grant.*, group.*, role.*`},
		"binding on no kind of a thing":  {"bindings: [{on: grant.changed, sql: a}]", `"grant.changed" is no kind of change; there is grant.*, grant.added, grant.revoked`},
		"binding on everything":          {"bindings: [{on: '*', sql: a, name: a}]", `"*" is no kind of change; `},
		"binding on a part of a kind":    {"bindings: [{on: account.act*, sql: a}]", `"account.act*" is no kind of change; `},
		"binding on two in one":          {"bindings: [{on: 'role.added, role.revoked', sql: a, name: a}]", `"role.added, role.revoked" is no kind of change; `},
		"binding that does nothing":      {"bindings: [{on: role.*}]", "application.bindings[0]: has neither sql nor post"},
		"binding that does both":         {"bindings: [{on: role.*, sql: a, post: 'https://h'}]", "application.bindings[0]: has sql and post; make it two bindings"},
		"binding of an empty statement":  {"bindings: [{on: role.*, sql: [a, '']}]", "application.bindings[0].sql[1]: is empty; it is a statement"},
		"binding of an empty text":       {"bindings: [{on: role.*, sql: ''}]", "application.bindings[0].sql[0]: is empty"},
		"binding of a long statement":    {"bindings: [{on: role.*, sql: " + statement + "b}]", "application.bindings[0].sql[0]: has 65537 bytes"},
		"binding named twice":            {"bindings: [{on: role.*, sql: a, name: b}, {on: grant.*, sql: a}, {on: role.*, sql: a, name: b}]", `application.bindings[2].name: "b" is that of application.bindings[0], too`},
		"binding named in words":         {"bindings: [{on: role.*, sql: a, name: b c}]", `application.bindings[0].name: "b c" is not made of letters`},
		"binding named at length":        {"bindings: [{on: role.*, sql: a, name: " + long + "}]", "application.bindings[0].name: "},
		"sql with a secret":              {"bindings: [{on: role.*, sql: a, secret: env:A}]", "application.bindings[0]: secret, timeout and attempts are for post"},
		"sql with a timeout":             {"bindings: [{on: role.*, sql: a, timeout: 1s}]", "application.bindings[0]: secret, timeout and attempts are for post"},
		"sql with attempts":              {"bindings: [{on: role.*, sql: a, attempts: 1}]", "application.bindings[0]: secret, timeout and attempts are for post"},
		"post without TLS":               {"bindings: [{on: role.*, post: 'http://app.internal', secret: env:A}]", "application.bindings[0].post: it does not begin with https://"},
		"post, almost on this machine":   {"bindings: [{on: role.*, post: 'http://localhost.example', secret: env:A}]", "application.bindings[0].post: it does not begin with https://"},
		"post to another scheme":         {"bindings: [{on: role.*, post: 'ftp://localhost', secret: env:A}]", "application.bindings[0].post: it does not begin with https://"},
		"post to a path":                 {"bindings: [{on: role.*, post: /hooks, secret: env:A}]", "application.bindings[0].post: it is not a URL"},
		"post with a password":           {"bindings: [{on: role.*, post: 'https://u:hidden@h', secret: env:A}]", "application.bindings[0].post: it is not a URL such as"},
		"post without a secret":          {"bindings: [{on: role.*, post: 'https://h'}]", "application.bindings[0].secret: "},
		"post with the secret itself":    {"bindings: [{on: role.*, post: 'https://h', secret: whsec_hidden}]", "application.bindings[0].secret: not a reference"},
		"post with no time":              {"bindings: [{on: role.*, post: 'https://h', secret: env:A, timeout: -1s}]", "application.bindings[0].timeout: "},
		"post with less than no attempt": {"bindings: [{on: role.*, post: 'https://h', secret: env:A, attempts: -1}]", "application.bindings[0].attempts: -1 is negative"},
		"role without a name":            {"roles: [{groups: a}]", "application.roles[0].role: it is not the name of a role"},
		"role of nobody":                 {"roles: [{role: a, directories: b}]", "application.roles[0]: has neither groups nor slugs, so nobody has the role"},
		"role of a group without a name": {"roles: [{role: a, groups: [b, '']}]", "application.roles[0].groups: has an empty text"},
		"role of an empty slug":          {"roles: [{role: a, slugs: ['']}]", "application.roles[0].slugs: has an empty text"},
		"role in no directory":           {"roles: [{role: a, slugs: b, directories: ['']}]", "application.roles[0].directories: has an empty text"},
		"probe without a name":           {"probes: [{sql: a}]", `application.probes[0].name: "" is not made of letters`},
		"probe without a statement":      {"probes: [{name: a}]", "application.probes[0].sql: is empty"},
		"probe named twice":              {"probes: [{name: a, sql: b}, {name: a, sql: b}]", `application.probes[1].name: "a" is another probe's, too`},
		"guard, accounts":                {"guard: {accounts: -1}", "application.guard.accounts: -1 is negative"},
		"guard, percent":                 {"guard: {percent: 101}", "application.guard.percent: 101 is not between 0 and 100"},
		"guard, percent below nothing":   {"guard: {percent: -1}", "application.guard.percent: "},
		"guard, floor":                   {"guard: {floor: -1}", "application.guard.floor: -1 is negative"},
		"rehearsal of an empty text":     {"{link: {sql: a}, probes: [{name: a, sql: b}], rehearsal: {sign_in: [a, ' ']}}", "application.rehearsal.sign_in[1]: is empty; it is a statement"},
		"rehearsal of a long statement":  {"{link: {sql: a}, probes: [{name: a, sql: b}], rehearsal: {sign_in: " + statement + "b}}", "application.rehearsal.sign_in[0]: has 65537 bytes"},
		"rehearsal of a number":          {"rehearsal: {sign_in: 1}", "application.rehearsal.sign_in: it is not a list of texts"},
		"rehearsal without a link":       {"{probes: [{name: a, sql: b}], rehearsal: {sign_in: a}}", "application.rehearsal.sign_in: is for @app_id, and without application.link nobody knows whose that is"},
		"rehearsal without a probe":      {"{link: {by_email: a}, rehearsal: {sign_in: a}}", "application.rehearsal.sign_in: makes what application.probes are to find, and there is none"},
		"owner of two lines":             {`owners: {joiner: "a\nb"}`, "application.owners.joiner: it is not a line of 200 bytes at most"},
		"owner at length":                {"owners: {mover: " + long + "}", "application.owners.mover: "},
		"owner at length, of leavers":    {"owners: {leaver: " + long + "}", "application.owners.leaver: "},
	} {
		text := good + "application:\n  " + c.yaml + "\n"
		if strings.HasPrefix(c.yaml, "{") {
			text = good + "application: " + c.yaml + "\n"
		}
		_, err := config.Load(config.Options{File: file(t, text)})
		if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: Load = %v\nwant an ErrInvalid with %q", name, err, c.want)
			continue
		}
		if n := strings.Count(err.Error(), "\n"); n != 1 {
			t.Errorf("%s: Load = %v\nwant that one line, and a hint", name, err)
		}
	}
	_, err := config.Load(config.Options{File: file(t, good+"application: {dsn: file:/dsn}\nstore: {backend: postgres, dsn: file:/dsn}\n")})
	if err == nil || !strings.Contains(err.Error(), "application.dsn: it is store.dsn; leave it empty") {
		t.Errorf("Load with the store's own database = %v, want it refused", err)
	}
}

func TestWhatTheApplicationMayLeaveOutIsNotAskedOfIt(t *testing.T) {
	t.Parallel()
	statement := strings.Repeat("a", 64<<10)
	for name, yaml := range map[string]string{
		"an email alone":           "link: {by_email: SELECT 1}",
		"keywords":                 "dsn: host=h user=u",
		"a file":                   "dsn: sqlite:app.db",
		"a reference":              "dsn: file:/dsn",
		"a statement of 64 KiB":    "bindings: [{on: role.*, sql: " + statement + "}]",
		"a guard of everything":    "guard: {accounts: 0, percent: 100, floor: 0}",
		"no lists":                 "{bindings: [], roles: , probes: []}",
		"a post to an address":     "bindings: [{on: role.*, post: 'http://[::1]:80/a?b=c', secret: env:A}]",
		"a role by the provider's": "roles: [{role: a, slugs: b}]",
		"a role twice":             "roles: [{role: a, slugs: b}, {role: a, groups: c, directories: d}]",
	} {
		text := good + "application:\n  " + yaml + "\n"
		if strings.HasPrefix(yaml, "{") {
			text = good + "application: " + yaml + "\n"
		}
		if _, err := config.Load(config.Options{File: file(t, text)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	receiver := good + "queue: {backend: redis, redis: {addrs: 'h:1'}}\napplication: {dsn: vault:a#b, batch: 0, bindings: [{on: nothing}]}\nroles: receiver\n"
	if l, err := config.Load(config.Options{File: file(t, receiver)}); err != nil || l.Binds() || !l.Application.Configured() {
		t.Errorf("a receiver's Load = %v, want what is the workers' passed over", err)
	}
}

func TestVaultIsAskedForWhatTheApplicationNeeds(t *testing.T) {
	t.Parallel()
	for name, yaml := range map[string]string{
		"a DSN":            "dsn: vault:a#b",
		"a post's secret":  "bindings: [{on: role.*, sql: a}, {on: role.*, post: 'https://h', secret: vault:a#b}]",
		"a post's, forged": "bindings: [{on: role.*, post: 'https://h', secret: vault:m//a#b}]",
	} {
		_, err := config.Load(config.Options{File: file(t, good+"application:\n  "+yaml+"\n")})
		if err == nil || !strings.Contains(err.Error(), "secrets.vault.address: is empty, and a reference begins with vault:") {
			t.Errorf("%s: Load = %v, want it to ask for Vault's address", name, err)
		}
	}
}

func TestNamesOfBindingsThatHaveNoneAreTheirKinds(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{File: file(t, good+`application:
  bindings:
    - {on: role.*, sql: a}
    - {on: [role.added, role.revoked], sql: a}
    - {on: role.*, sql: a}
    - {on: grant.*, sql: a, name: role.*#2}
    - {on: role.*, sql: a}
`)})
	var got []string
	for _, b := range l.Application.Bindings {
		got = append(got, b.Name)
	}
	if diff := cmp.Diff([]string{"role.*", "role.added+role.revoked", "role.*#3", "role.*#2", "role.*#4"}, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestKindsOfABindingAreEachOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		on   []string
		want []directory.ChangeKind
	}{
		"one":         {[]string{"role.added"}, []directory.ChangeKind{directory.RoleAdded}},
		"all":         {[]string{"account.*"}, []directory.ChangeKind{directory.AccountActivated, directory.AccountUpdated, directory.AccountDeactivated}},
		"some, twice": {[]string{"grant.revoked", "grant.*", "group.ended"}, []directory.ChangeKind{directory.GrantAdded, directory.GrantRevoked, directory.GroupEnded}},
		"every thing": {[]string{"account.*", "grant.*", "role.*", "group.*", "directory.*"}, []directory.ChangeKind{
			"account.activated", "account.updated", "account.deactivated", "grant.added", "grant.revoked", "role.added", "role.revoked",
			"group.created", "group.updated", "group.ended", "directory.activated", "directory.ended",
		}},
		"none": {[]string{"*", "account", ".*", "account.**", ""}, nil},
	} {
		if diff := cmp.Diff(c.want, config.Binding{On: c.on}.Kinds()); diff != "" {
			t.Errorf("%s: Kinds() of %q (-want +got):\n%s", name, c.on, diff)
		}
	}
}

func TestAnApplicationIsConfiguredWhenThereIsSomethingToDoThere(t *testing.T) {
	t.Parallel()
	a := config.Default().Application
	a.DSN, a.Tenant.SQL, a.Protected, a.Roles = "file:/a", "b", "c", []config.RoleRule{{Role: "d"}}
	if a.Configured() {
		t.Errorf("Configured() of %+v", a)
	}
	for name, a := range map[string]config.Application{
		"a binding":             {Bindings: []config.Binding{{}}},
		"a link":                {Link: config.Link{SQL: "a"}},
		"a link by email":       {Link: config.Link{ByEmail: "a"}},
		"a probe":               {Probes: []config.Probe{{}}},
		"inventory, accounts":   {Inventory: config.Inventory{Accounts: "a"}},
		"inventory, membership": {Inventory: config.Inventory{Memberships: "a"}},
	} {
		c := config.Config{Application: a, Roles: []string{config.Worker}}
		if !a.Configured() || !c.Binds() {
			t.Errorf("%s: Configured() = %t, Binds() = %t, want true", name, a.Configured(), c.Binds())
		}
		if c.Roles = []string{config.Receiver}; c.Binds() {
			t.Errorf("%s: a receiver Binds()", name)
		}
	}
}

func TestSourcesKeepTheAttributesThatRolesComeFrom(t *testing.T) {
	t.Parallel()
	const more = "  b: {provider: workos, secret: 'env:B', attributes: [custom_attributes.team, roles]}\n  c: {provider: workos, secret: 'env:C', attributes: [role, roles]}\n"
	bySlug, byGroup := "application: {roles: [{role: x, groups: y}, {role: x, slugs: y}]}\n", "application: {roles: [{role: x, groups: y}]}\n"
	l := load(t, config.Options{File: file(t, good+more+bySlug)})
	for name, want := range map[string]string{"workos": "[role roles]", "b": "[custom_attributes.team roles role]", "c": "[role roles]"} {
		if got := fmt.Sprint(l.Sources[name].Attributes); got != want {
			t.Errorf("%s keeps %s, want %s", name, got, want)
		}
	}
	for key, want := range map[string]string{"sources.workos.attributes": "application.roles", "sources.b.attributes": "application.roles", "sources.c.attributes": "file"} {
		if l.From[key] != want {
			t.Errorf("From[%q] = %q, want %q", key, l.From[key], want)
		}
	}
	if line := "attributes: [role, roles] # application.roles\n"; !strings.Contains(l.Redacted(), line) {
		t.Errorf("Redacted has no line %q:\n%s", line, l.Redacted())
	}
	l = load(t, config.Options{File: file(t, good+more+byGroup)})
	if got := l.Sources["workos"].Attributes; got != nil {
		t.Errorf("with groups alone, workos keeps %q", got)
	}
}

func TestTheExampleOfTheManualLoads(t *testing.T) {
	t.Parallel()
	_, rest, _ := strings.Cut(config.Reference(), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	l := load(t, config.Options{File: file(t, good+example), Set: []string{"secrets.vault.address=https://vault:8200"}})
	if a := l.Application; !found || len(a.Bindings) != 3 || len(a.Roles) != 1 || len(a.Probes) != 1 || a.Inventory.Accounts == "" || len(a.Rehearsal.SignIn) != 1 {
		t.Errorf("the example is %+v", a)
	}
}
