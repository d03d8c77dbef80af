package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/secrets"
)

// The modes of a directory that is seen for the first time: application.mode.
const (
	Observe = "observe" // its changes are recorded and do nothing
	Enforce = "enforce" // they bind
)

// Application is what follows the directories: whose rows its accounts are, what is done there for each change, and what is
// looked at to prove it. Every statement of it is one statement, with parameters such as @email.
type Application struct {
	DSN              Sensitive     `koanf:"dsn" doc:"The application's database: PostgreSQL's URL or keywords, sqlite:PATH of a file, or a reference: vault:PATH#FIELD, file:/PATH, env:NAME. Empty: Rollcall's own."`
	Mode             string        `koanf:"mode" doc:"What the changes of a directory do that is seen for the first time: observe (nothing, but they can be looked at) or enforce."`
	LockTimeout      time.Duration `koanf:"lock_timeout" doc:"Longest time that a statement waits for a lock of the application's."`
	StatementTimeout time.Duration `koanf:"statement_timeout" doc:"Longest time of one statement."`
	Connections      int           `koanf:"connections" doc:"Transactions at once."`
	Batch            int           `koanf:"batch" doc:"Accounts whose changes are bound in one transaction, at most."`
	RetryFirst       time.Duration `koanf:"retry_first" doc:"Time until a change that failed is tried again; it doubles with every failure."`
	RetryLongest     time.Duration `koanf:"retry_longest" doc:"Where that doubling ends."`
	LinkRetry        time.Duration `koanf:"link_retry" doc:"Time until an account without a row of the application's is looked up again; it doubles up to an hour."`
	Tenant           Tenant        `koanf:"tenant"`
	Link             Link          `koanf:"link"`
	Inventory        Inventory     `koanf:"inventory"`
	Protected        string        `koanf:"protected" doc:"Statement for the ids of the application's users whom nothing wholesale deactivates, such as SELECT id FROM users WHERE break_glass."`
	Guard            Guard         `koanf:"guard"`
	Owners           Owners        `koanf:"owners"`
	Rehearsal        Rehearsal     `koanf:"rehearsal"`
	Bindings         []Binding     `koanf:"bindings" doc:"What is done for changes, in this order."`
	Roles            []RoleRule    `koanf:"roles" doc:"Which groups and provider's roles give a role of the application's."`
	Probes           []Probe       `koanf:"probes" doc:"What must not be there any more once an account is deactivated."`
}

// Tenant says which tenant of the application's a directory's organization is.
type Tenant struct {
	SQL string `koanf:"sql" doc:"Statement for the tenant of @organization_id: one column, and one row at most. With it, an account whose organization has no tenant is held."`
}

// Link says which row of the application's users an account is.
type Link struct {
	SQL     string `koanf:"sql" doc:"Statement for the id of the application's user, from what the directory vouches for, such as SELECT id FROM users WHERE directory_user_id = @idp_id."`
	ByEmail string `koanf:"by_email" doc:"Statement for the same by @email, when link.sql finds none. Whoever names an email in the directory is that user, so it has to be chosen."`
}

// Binding is what is done for changes of some kinds: SQL, or a signed POST.
type Binding struct {
	On       []string      `koanf:"on" doc:"Kinds of changes, or all of one thing, as in account.*: account.activated, account.updated, account.deactivated, grant.added, grant.revoked, role.added, role.revoked, group.created, group.updated, group.ended, directory.activated, directory.ended."`
	Name     string        `koanf:"name" doc:"What it is called in records of what took effect: one that is renamed is another. Empty: its kinds."`
	SQL      []string      `koanf:"sql" doc:"Statements of its transaction. Each text is one statement, and is never split."`
	Post     string        `koanf:"post" doc:"URL that each change is sent to, in place of sql; https://, or http:// on this machine."`
	Secret   secrets.Ref   `koanf:"secret" doc:"Reference to the key that signs it, as Standard Webhooks do: vault:PATH#FIELD, file:/PATH, env:NAME."`
	Timeout  time.Duration `koanf:"timeout" doc:"Longest time of one POST; 0 is 10s."`
	Attempts int           `koanf:"attempts" doc:"POSTs of a change before it is given up; 0 is never."`
}

// RoleRule gives a role of the application's to the members of groups, and to people with a role of the provider's.
type RoleRule struct {
	Role        string   `koanf:"role" doc:"The application's name of it, @role."`
	Groups      []string `koanf:"groups" doc:"Groups whose members have it: the provider's id, the directory's own id, or the name."`
	Slugs       []string `koanf:"slugs" doc:"The provider's roles that are it. With any, all sources keep the attributes role and roles."`
	Directories []string `koanf:"directories" doc:"Directories that it is given in; empty is all."`
}

// Probe looks for what a deactivated account left behind.
type Probe struct {
	Name string `koanf:"name" doc:"What it looks for, such as sessions."`
	SQL  string `koanf:"sql" doc:"Statement whose rows should not be there, such as SELECT id FROM sessions WHERE user_id = @app_id."`
}

// Rehearsal is what rollcall bindings test needs to know of the application beside that.
type Rehearsal struct {
	SignIn []string `koanf:"sign_in" whole:"true" doc:"Statements, one text or a list, that make for @app_id what people make by using the application, such as INSERT INTO sessions (user_id) VALUES (@app_id). The rehearsal alone runs them, for everybody who is activated, and again when they come back: a session or key that no binding takes away is then found by a probe. Each has to touch a row that a probe finds."`
}

// Inventory lists what the application has, to be compared.
type Inventory struct {
	Accounts    string `koanf:"accounts" doc:"Statement for all active users, with the columns id, tenant, email; only id has to be there."`
	Memberships string `koanf:"memberships" doc:"Statement for all memberships, with the columns user_id, group_id (the provider's), and directory_id, which may be left out."`
}

// Guard bounds deactivations that are wholesale.
type Guard struct {
	Accounts int `koanf:"accounts" doc:"More deactivations in a directory at once are refused until an operator confirms their number."`
	Percent  int `koanf:"percent" doc:"So are more than this part of its accounts."`
	Floor    int `koanf:"floor" doc:"So many are never refused."`
}

// Owners are who answers for changes; @owner is one of them.
type Owners struct {
	Joiner string `koanf:"joiner" doc:"For accounts that are activated."`
	Mover  string `koanf:"mover" doc:"For the changes of those that stay."`
	Leaver string `koanf:"leaver" doc:"For accounts that are deactivated, and what they lose with it."`
}

// postTimeout is that of a POST which sets none.
const postTimeout = 10 * time.Second

// kinds are all that a binding can be on.
var kinds = []directory.ChangeKind{
	directory.AccountActivated, directory.AccountUpdated, directory.AccountDeactivated,
	directory.GrantAdded, directory.GrantRevoked, directory.RoleAdded, directory.RoleRevoked,
	directory.GroupCreated, directory.GroupUpdated, directory.GroupEnded,
	directory.DirectoryActivated, directory.DirectoryEnded,
}

// Configured reports whether there is anything to do at the application's.
func (a Application) Configured() bool {
	return len(a.Bindings) > 0 || len(a.Probes) > 0 || a.Link != Link{} || a.Inventory != Inventory{}
}

// Binds reports whether this process does what there is to do at the application's: its workers do.
func (c Config) Binds() bool { return c.Has(Worker) && c.Application.Configured() }

// Kinds returns the kinds of changes that the binding is on, each once.
func (b Binding) Kinds() (out []directory.ChangeKind) {
	for _, kind := range kinds {
		if slices.ContainsFunc(b.On, func(on string) bool { return covers(on, kind) }) {
			out = append(out, kind)
		}
	}
	return out
}

// covers reports whether a text of a binding's on means the kind.
func covers(on string, kind directory.ChangeKind) bool {
	thing, all := strings.CutSuffix(on, "*")
	if all {
		return strings.HasSuffix(thing, ".") && strings.HasPrefix(string(kind), thing)
	}
	return on == string(kind)
}

// fill gives each binding what it does not set. Those that would have the same name are numbered.
func (a *Application) fill() {
	taken := map[string]bool{}
	for _, b := range a.Bindings {
		taken[b.Name] = true
	}
	for i, b := range a.Bindings {
		if b.Name == "" {
			name := strings.Join(b.On, "+")
			b.Name = name
			for n := 2; taken[b.Name]; n++ {
				b.Name = fmt.Sprintf("%s#%d", name, n)
			}
			taken[b.Name] = true
		}
		if b.Post != "" {
			b.Timeout = cmp.Or(b.Timeout, postTimeout)
		}
		a.Bindings[i] = b
	}
}

// slugs reports whether a role is given by the provider's roles.
func (a Application) slugs() bool {
	return slices.ContainsFunc(a.Roles, func(r RoleRule) bool { return len(r.Slugs) > 0 })
}
