package directory_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
)

// The rules of roles, a test each. The helpers are those of the rules of the fold.

var admins = directory.RoleRule{Role: "admin", Groups: []string{"admins", "idp-of-admins", "ADMINS"}, Slugs: []string{"admin"}}

func called(name string) option { return func(e *directory.Event) { e.Group.Name = name } }

func slugs(role, roles string) option {
	return func(e *directory.Event) { e.User.Attributes = map[string]string{"role": role, "roles": roles} }
}

func TestTwoGroupsOneRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, directory.RoleRule{Role: "admin", Groups: []string{"eng", "ops"}})
	w.fold(user("e1", 1, ada()))
	w.fold(membership("e2", 2, "eng", "user_ada"), membership("e3", 3, "ops", "user_ada"))
	w.wantKinds("account.activated idp-ada by e1", "grant.added idp-ada eng by e2", "role.added idp-ada admin by e2", "grant.added idp-ada ops by e3")
	w.fold(membership("e4", 4, "eng", "user_ada", deleted))
	w.wantKinds("grant.revoked idp-ada eng by e4")
	w.fold(group("e5", 5, "ops", deleted))
	w.wantKinds("group.ended ops by e5", "grant.revoked idp-ada ops by e5", "role.revoked idp-ada admin by e5")
}

func TestRenamedGroupMovesItsRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, admins)
	w.fold(user("e1", 1, ada()), group("e2", 2, "eng"), group("e2b", 2, "ops", called("ADMINS")))
	w.fold(membership("e3", 3, "eng", "user_ada"), membership("e3b", 3, "ops", "user_ada", deleted))
	w.seen = len(w.log)
	w.fold(group("e4", 4, "eng", called("ADMINS")))
	w.wantKinds("group.updated eng by e4", "role.added idp-ada admin by e4")
	w.fold(group("e5", 5, "eng", called("Former admins")))
	w.wantKinds("group.updated eng by e5", "role.revoked idp-ada admin by e5")
	w.fold(group("e6", 6, "eng", func(e *directory.Event) { e.Group.IDPID = "idp-of-admins" }))
	w.wantKinds("group.updated eng by e6", "role.added idp-ada admin by e6")
	w.fold(group("e7", 7, "eng"))
	w.wantKinds("group.updated eng by e7", "role.revoked idp-ada admin by e7")
}

func TestNameThatARemovalMentionsGivesNoRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, admins)
	w.fold(user("e1", 1, ada()), group("e2", 2, "eng", called("ADMINS"), deleted), group("e3", 3, "eng", called("")))
	w.fold(membership("e4", 1, "eng", "user_grace"), membership("e5", 5, "eng", "user_ada", func(e *directory.Event) { e.Membership.GroupName = "" }))
	w.wantActive("directory_1 grant idp-ada eng", "directory_1 idp-ada ada@example.com")
	if name := w.state.Snapshot().Groups[0].Name; name != "ADMINS" {
		t.Errorf("the group is called %q, want what is known of it", name)
	}
}

func TestNameThatAMembershipMentionsGivesNoRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, admins)
	mention := func(e *directory.Event) { e.Membership.GroupName = "ADMINS" }
	w.fold(user("e1", 1, ada()), membership("e2", 2, "eng", "user_ada"), group("e3", 3, "eng"))
	w.seen = len(w.log)
	w.fold(membership("e4", 4, "eng", "user_grace", mention))
	w.fold(membership("e5", 5, "eng", "user_grace", mention, deleted))
	w.fold(membership("e6", 6, "ops", "user_ada", mention))
	w.wantKinds("grant.added idp-ada ops by e6")
	w.fold(membership("e7", 7, "admins", "user_ada")) // by its id, which is the membership's own word
	w.wantKinds("grant.added idp-ada admins by e7", "role.added idp-ada admin by e7")
}

func TestRoleEndsWithItsHolder(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]directory.Event{
		"deleted":         user("e9", 9, ada(), deleted),
		"inactive":        user("e9", 9, ada(func(p *directory.Person) { p.State = "inactive" })),
		"directory ended": connection("e9", 9, "active", deleted),
	} {
		w := newWorld(t, directory.DecisionDeprovision, admins, directory.RoleRule{Role: "reader", Slugs: []string{"viewer"}})
		w.fold(user("e1", 1, ada(), slugs("viewer", "")), membership("e2", 2, "admins", "user_ada"))
		w.wantActive("directory_1 grant idp-ada admins", "directory_1 idp-ada ada@example.com", "directory_1 role idp-ada admin", "directory_1 role idp-ada reader")
		w.seen = len(w.log)
		w.fold(end)
		got := slices.DeleteFunc(kinds(w.log[w.seen:]), func(k string) bool { return strings.HasPrefix(k, "directory.") })
		want := []string{"account.deactivated idp-ada by e9", "grant.revoked idp-ada admins by e9", "role.revoked idp-ada admin by e9", "role.revoked idp-ada reader by e9"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
}

func TestSlugRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, admins, directory.RoleRule{Role: "reader", Slugs: []string{"viewer", "auditor"}})
	w.fold(user("e1", 1, ada(), slugs("admin", "auditor,viewer")))
	w.wantKinds("account.activated idp-ada by e1", "role.added idp-ada admin by e1", "role.added idp-ada reader by e1")
	w.fold(user("e2", 2, ada(), slugs("viewer", "")))
	w.wantKinds("account.updated idp-ada by e2", "role.revoked idp-ada admin by e2")
	w.fold(membership("e3", 3, "admins", "user_ada"))
	w.fold(user("e4", 4, ada(), slugs("admin", "admin")))
	w.wantKinds("grant.added idp-ada admins by e3", "role.added idp-ada admin by e3", "account.updated idp-ada by e4", "role.revoked idp-ada reader by e4")
	w.fold(membership("e5", 5, "admins", "user_ada", deleted)) // the slug still gives it
	w.wantKinds("grant.revoked idp-ada admins by e5")
	w.fold(user("e6", 6, ada(), slugs("", "administrators,Admin, admin,admins"))) // none of them is "admin", nor is a group's name a slug
	w.wantKinds("account.updated idp-ada by e6", "role.revoked idp-ada admin by e6")
}

func TestSlugThatMayHaveBeenCutGivesNoRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, admins)
	list := directory.Text("auditor,"+strings.Repeat("x", directory.MaxText-len("auditor,,admin"))+",admin-readonly", directory.MaxText)
	if !strings.HasSuffix(list, ",admin") {
		t.Fatalf("the list ends in %q, want it cut into another slug", list[len(list)-20:])
	}
	w.fold(user("e1", 1, ada(), slugs("", list)))
	w.wantKinds("account.activated idp-ada by e1")
}

func TestRoleComesBackWithTheRehire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, admins)
	w.fold(user("e1", 1, ada()), membership("e2", 2, "admins", "user_ada"), user("e3", 3, ada(), deleted))
	w.wantActive()
	w.seen = len(w.log)
	w.fold(user("e4", 4, ada()))
	w.wantKinds("account.activated idp-ada by e4", "grant.added idp-ada admins by e4", "role.added idp-ada admin by e4")

	again := ada(func(p *directory.Person) { p.ID, p.Created = "user_ada_2", at(5) })
	w.fold(user("e5", 5, again)) // under a new id nothing comes with her but what it is a member of
	w.wantKinds("account.updated idp-ada by e5", "grant.revoked idp-ada admins by e5", "role.revoked idp-ada admin by e5")
	w.fold(membership("e6", 6, "admins", "user_ada_2"))
	w.wantKinds("grant.added idp-ada admins by e6", "role.added idp-ada admin by e6")
}

func TestRoleOfARecreatedGroupNeedsNewMemberships(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directory.DecisionKeep, admins)
	w.fold(user("e1", 1, ada()), group("e2", 2, "admins"), membership("e3", 3, "admins", "user_ada"), group("e4", 4, "admins", deleted))
	w.fold(group("e5", 5, "admins"))
	w.wantActive("directory_1 idp-ada ada@example.com")
	w.fold(membership("e6", 6, "admins", "user_ada"))
	w.wantActive("directory_1 grant idp-ada admins", "directory_1 idp-ada ada@example.com", "directory_1 role idp-ada admin")
}

func TestRulesKeepToTheirDirectoriesAndSource(t *testing.T) {
	t.Parallel()
	r := directory.NewRoles(
		directory.RoleRule{Role: "everywhere", Groups: []string{"Admins"}},
		directory.RoleRule{Role: "nameless", Groups: []string{""}, Slugs: []string{""}},
		directory.RoleRule{Role: "one", Groups: []string{"Admins"}, Directories: []string{"directory_1"}},
		directory.RoleRule{Role: "source", Groups: []string{"Admins"}, Source: "workos"},
		directory.RoleRule{Role: "both", Groups: []string{"group_1"}, Slugs: []string{"s"}, Source: "workos", Directories: []string{"directory_1", "directory_2"}},
	)
	for scope, want := range map[directory.Scope]struct{ group, slug []string }{
		{Source: "workos", Directory: "directory_1"}: {[]string{"both", "everywhere", "one", "source"}, []string{"both"}},
		{Source: "workos", Directory: "directory_2"}: {[]string{"both", "everywhere", "source"}, []string{"both"}},
		{Source: "workos", Directory: "directory_3"}: {[]string{"everywhere", "source"}, nil},
		{Source: "okta", Directory: "directory_1"}:   {[]string{"everywhere", "one"}, nil},
		{Source: "okta", Directory: "directory_2"}:   {[]string{"everywhere"}, nil},
	} {
		if got := r.OfGroup(scope, "group_1", "", "Admins"); !slices.Equal(got, want.group) {
			t.Errorf("%v: OfGroup() = %q, want %q", scope, got, want.group)
		}
		if got := r.OfSlugs(scope, "s", "Admins"); !slices.Equal(got, want.slug) {
			t.Errorf("%v: OfSlugs() = %q, want %q", scope, got, want.slug)
		}
	}
	if group, slug := r.OfGroup(acme, "group_2", "", ""), r.OfSlugs(acme, ""); group != nil || slug != nil {
		t.Errorf("OfGroup() = %q, OfSlugs() = %q without a name, want nil", group, slug)
	}
}

func TestDigestOfAMappingIsThatOfWhatItSays(t *testing.T) {
	t.Parallel()
	rules := directorytest.Rules()
	digest := directory.NewRoles(rules...).Digest()
	turned := slices.Clone(rules)
	slices.Reverse(turned)
	turned[0].Slugs = append(slices.Clone(turned[0].Slugs), turned[0].Slugs...)
	if got := directory.NewRoles(turned...).Digest(); got != digest {
		t.Errorf("Digest() in another order, with repetition = %s, want %s", got, digest)
	}
	if got := directory.NewRoles().Digest(); got != "" {
		t.Errorf("Digest() of no rules = %q, want none", got)
	}
	for i := range rules {
		other := slices.Clone(rules)
		other[i].Directories = append(slices.Clone(other[i].Directories), "directory_9")
		if got := directory.NewRoles(other...).Digest(); got == digest {
			t.Errorf("Digest() with rule %d changed = %s, the same as before", i, got)
		}
	}
}

func TestAnotherMappingIsCarriedThroughByEvaluatingEverybody(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		events, rules := directorytest.Generate(seed, 80), directorytest.Rules()
		w := newWorld(t, directory.DecisionDeprovision, rules[:2]...)
		w.fold(events...)
		for _, next := range [][]directory.RoleRule{rules[1:], nil, rules} {
			w.state = w.under(next)
			for n := range 2 {
				w.expand(directory.Expansion{Scope: directory.Scope{Source: directorytest.Source, Directory: "directory_" + string(rune('0'+n))}, Event: "roles"})
			}
			w.drain()
			w.check(w.state.Snapshot(), events)
			if diff := cmp.Diff(directorytest.Model(events, directory.DecisionDeprovision, next...), directorytest.Outcome(w.state.Snapshot())); diff != "" {
				t.Fatalf("seed %d: model (-), after the mapping changed (+):\n%s", seed, diff)
			}
		}
	}
}

// under loads all of the world into a state with other rules, as a store does after the configuration changed.
func (w *world) under(rules []directory.RoleRule) *directory.State {
	s, all := directory.NewState(policy(directory.DecisionDeprovision), directory.NewRoles(rules...)), w.state.Snapshot()
	each(all.Directories, s.PutDirectory)
	each(all.Users, s.PutUser)
	each(all.Groups, s.PutGroup)
	each(all.Edges, s.PutEdge)
	each(all.Accounts, s.PutAccount)
	each(all.Granted, s.PutGrant)
	return s
}

func each[T any](list []T, do func(T)) {
	for _, v := range list {
		do(v)
	}
}

func TestOnlyLossesRemove(t *testing.T) {
	t.Parallel()
	for kind, want := range map[directory.ChangeKind]bool{
		directory.AccountDeactivated: true, directory.GrantRevoked: true, directory.RoleRevoked: true,
		directory.AccountActivated: false, directory.AccountUpdated: false, directory.GrantAdded: false, directory.RoleAdded: false,
		directory.GroupEnded: false, directory.DirectoryEnded: false, "": false,
	} {
		if got := kind.Removes(); got != want {
			t.Errorf("%q.Removes() = %t, want %t", kind, got, want)
		}
	}
}
