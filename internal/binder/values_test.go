package binder

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

var owners = Owners{Joiner: "it@example.com", Mover: "hr@example.com", Leaver: "security@example.com"}

// ada is how somebody looks.
func ada() *directory.Face {
	return &directory.Face{
		User: "directory_user_1", IDPID: "idp-ada", Organization: "org_1", State: "active", Active: true,
		Profile: directory.Profile{Email: "ada@example.com", FirstName: "Ada", LastName: "Lovelace", Name: "Ada Lovelace", Attributes: map[string]string{"title": "Countess"}},
	}
}

func change(kind directory.ChangeKind, edit ...func(c *directory.Change)) values {
	v := values{owners: owners, cause: "dsync.user.updated", link: store.Link{AppID: "7", Tenant: "42"}}
	v.change = store.ChangeRow{Seq: 17, Change: directory.Change{
		Scope: directory.Scope{Source: "workos", Directory: "directory_1"}, Kind: kind, Account: "idp-ada", Event: "event_1", Occurred: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC), After: ada(),
	}}
	for _, e := range edit {
		e(&v.change.Change)
	}
	return v
}

func TestEveryParameterHasAValue(t *testing.T) {
	t.Parallel()
	v := change(directory.RoleAdded, func(c *directory.Change) { c.Role, c.Group, c.After.GroupName = "admin", "group_1", "Admins" })
	want := map[string]any{
		"source": "workos", "directory_id": "directory_1", "organization_id": "org_1", "tenant": "42", "account": "idp-ada", "user_id": "directory_user_1", "idp_id": "idp-ada",
		"email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "name": "Ada Lovelace", "state": "active", "attributes": `{"title":"Countess"}`, "active": "true",
		"app_id": "7", "group_id": "group_1", "group_name": "Admins", "group_idp_id": nil, "role": "admin", "seq": "17", "change": "role.added", "event": "event_1",
		"occurred": "2026-01-02T03:04:05.0000006Z", "cause": "dsync.user.updated", "owner": "hr@example.com",
	}
	got := map[string]any{}
	for i, arg := range v.args(Parameters) {
		got[Parameters[i]] = arg
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("args (-want +got):\n%s", diff)
	}
}

func TestWhatIsNotKnownIsNull(t *testing.T) {
	t.Parallel()
	v := values{change: store.ChangeRow{Seq: 1, Change: directory.Change{Kind: directory.AccountDeactivated}}}
	for i, arg := range v.args(Parameters) {
		switch name := Parameters[i]; name {
		case "seq", "change", "active":
			if arg == nil {
				t.Errorf("@%s is null", name)
			}
		default:
			if arg != nil {
				t.Errorf("@%s = %q of a change that says nothing, want null", name, arg)
			}
		}
	}
}

func TestAGroupIsNoPerson(t *testing.T) {
	t.Parallel()
	v := change(directory.GroupCreated, func(c *directory.Change) {
		c.Account, c.Group, c.After = "", "group_1", &directory.Face{IDPID: "idp-admins", GroupName: "Admins", Active: true}
	})
	want := []any{nil, "idp-admins", "Admins", "group_1", "true"}
	if diff := cmp.Diff(want, v.args([]string{"idp_id", "group_idp_id", "group_name", "group_id", "active"})); diff != "" {
		t.Errorf("args (-want +got):\n%s", diff)
	}
}

func TestWhoAnswersForAChange(t *testing.T) {
	t.Parallel()
	gone := func(c *directory.Change) { c.Before, c.After = c.After, nil; c.Before.Active = false }
	stays := func(c *directory.Change) { c.Before, c.After = c.After, nil }
	for name, c := range map[string]struct {
		values
		owner, active string
	}{
		"a joiner":                    {change(directory.AccountActivated), owners.Joiner, "true"},
		"a mover":                     {change(directory.AccountUpdated), owners.Mover, "true"},
		"a leaver":                    {change(directory.AccountDeactivated, func(c *directory.Change) { c.After.Active = false }), owners.Leaver, "false"},
		"a leaver of whom none knows": {change(directory.AccountDeactivated, gone), owners.Leaver, "false"},
		"what a leaver had":           {change(directory.GrantRevoked, gone), owners.Leaver, "false"},
		"a role that a leaver had":    {change(directory.RoleRevoked, gone), owners.Leaver, "false"},
		"what a mover had":            {change(directory.GrantRevoked, stays), owners.Mover, "true"},
		"what a joiner gets":          {change(directory.GrantAdded), owners.Mover, "true"},
	} {
		if got := c.of("owner"); got != c.owner {
			t.Errorf("%s: @owner = %s, want %s", name, got, c.owner)
		}
		if got := c.of("active"); got != c.active {
			t.Errorf("%s: @active = %s, want %s", name, got, c.active)
		}
	}
}

func TestACauseOfOurOwnIsNamed(t *testing.T) {
	t.Parallel()
	for event, want := range map[string]string{"event_01K": "", "link:idp-ada:2026": "link", "enforce:1": "enforce", "resync:1": "resync", "roles:abc": "roles", "other:1": "", "link": ""} {
		if got := ownCause(event); got != want {
			t.Errorf("ownCause(%q) = %q, want %q", event, got, want)
		}
	}
}
