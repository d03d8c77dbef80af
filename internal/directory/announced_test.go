package directory_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
)

var acme = directory.Scope{Source: "workos", Directory: "directory_1"}

func account(key string, change ...func(*directory.Account)) directory.Account {
	a := directory.Account{ID: directory.ID{Scope: acme, ID: key}, User: "user_" + key, State: "active", Active: true, Profile: directory.Profile{Email: key + "@example.com"}}
	for _, c := range change {
		c(&a)
	}
	return a
}

func inactive(a *directory.Account) { a.Active, a.State = false, "inactive" }

func having(roles ...string) func(*directory.Account) {
	return func(a *directory.Account) { a.Roles = roles }
}

func grants(pairs ...string) (list []directory.Grant) {
	for _, p := range pairs {
		account, group, _ := strings.Cut(p, " ")
		list = append(list, directory.Grant{GrantID: directory.GrantID{Scope: acme, Account: account, Group: group}})
	}
	return list
}

func team(id, name string) directory.Group {
	return directory.Group{ID: directory.ID{Scope: acme, ID: id}, IDPID: "idp-" + id, Name: name}
}

func TestDifferenceTellsOfLossesFirstAndOfLeaversBeforeAll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		announced, told directory.Announced
		want            []string
	}{
		"nothing of nothing": {},
		"told nothing": {
			announced: directory.Announced{
				Directory: &directory.Register{Scope: acme, Version: "1"}, Groups: []directory.Group{team("eng", "Engineering")},
				Accounts: []directory.Account{account("ada", having("admin")), account("bob", inactive)}, Grants: grants("ada eng"),
			},
			want: []string{
				"account.deactivated bob", "directory.activated", "group.created eng", "account.activated ada", "grant.added ada eng", "role.added ada admin",
			},
		},
		"a leaver takes all of theirs along, then others lose": {
			announced: directory.Announced{Accounts: []directory.Account{account("ada", having("reader")), account("zoe", inactive)}},
			told: directory.Announced{
				Groups:   []directory.Group{team("eng", "Engineering")},
				Accounts: []directory.Account{account("ada", having("admin")), account("zoe", having("admin", "reader"))}, Grants: grants("ada eng", "zoe eng", "zoe ops"),
			},
			want: []string{
				"account.deactivated zoe", "grant.revoked zoe eng", "grant.revoked zoe ops", "role.revoked zoe admin", "role.revoked zoe reader",
				"grant.revoked ada eng", "role.revoked ada admin", "group.ended eng", "role.added ada reader",
			},
		},
		"someone the application was told has left stays so": {
			announced: directory.Announced{Accounts: []directory.Account{account("ada", inactive)}},
			told:      directory.Announced{Accounts: []directory.Account{account("ada", func(a *directory.Account) { a.Active, a.Email = false, "old@example.com" })}},
		},
		"someone who came back": {
			announced: directory.Announced{Accounts: []directory.Account{account("ada", having("admin"))}, Grants: grants("ada eng")},
			told:      directory.Announced{Accounts: []directory.Account{account("ada", inactive)}},
			want:      []string{"account.activated ada", "grant.added ada eng", "role.added ada admin"},
		},
		"another face": {
			announced: directory.Announced{Accounts: []directory.Account{account("ada", func(a *directory.Account) { a.User, a.Version = "user_2", "2" }), account("bob")}},
			told:      directory.Announced{Accounts: []directory.Account{account("ada"), account("bob", func(a *directory.Account) { a.Version = "1" })}},
			want:      []string{"account.updated ada"},
		},
		"a group's new name": {
			announced: directory.Announced{Groups: []directory.Group{team("eng", "Engineers"), team("ops", "Ops")}},
			told:      directory.Announced{Groups: []directory.Group{team("eng", "Engineering"), team("ops", "Ops")}},
			want:      []string{"group.updated eng"},
		},
		"an ended directory": {
			announced: directory.Announced{Directory: &directory.Register{Scope: acme, Ended: true}, Accounts: []directory.Account{account("ada", inactive)}},
			told:      directory.Announced{Directory: &directory.Register{Scope: acme}, Accounts: []directory.Account{account("ada")}},
			want:      []string{"account.deactivated ada", "directory.ended"},
		},
		"an ended directory that was never told of": {
			announced: directory.Announced{Directory: &directory.Register{Scope: acme, Ended: true}},
			want:      []string{"directory.ended"},
		},
		"a directory that came back": {
			announced: directory.Announced{Directory: &directory.Register{Scope: acme}},
			told:      directory.Announced{Directory: &directory.Register{Scope: acme, Ended: true}},
			want:      []string{"directory.activated"},
		},
		"somebody of whom nothing is announced any more": {
			told: directory.Announced{Accounts: []directory.Account{account("ada", having("admin"))}, Grants: grants("ada eng")},
			want: []string{"account.deactivated ada", "grant.revoked ada eng", "role.revoked ada admin"},
		},
		"what was told of somebody who is not there": {
			told: directory.Announced{Accounts: []directory.Account{account("ada", inactive, having("admin"))}, Grants: grants("bob eng")},
			want: []string{"grant.revoked bob eng", "role.revoked ada admin"},
		},
	} {
		changes := directory.Difference(c.announced, c.told)
		if diff := gocmp.Diff(c.want, differences(changes), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: Difference() want (-), got (+):\n%s", name, diff)
		}
		for _, ch := range changes {
			if ch.Scope != acme || ch.Event != "" || ch.Before == nil && ch.After == nil {
				t.Errorf("%s: %s = %+v, want the scope, a face, and no event", name, ch.Kind, ch)
			}
		}
	}
}

func differences(changes []directory.Change) []string {
	lines := kinds(changes)
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], " by ")
	}
	return lines
}

func TestDifferenceShowsBothFacesAndTheGroupsName(t *testing.T) {
	t.Parallel()
	changes := directory.Difference(
		directory.Announced{Accounts: []directory.Account{account("ada", inactive)}},
		directory.Announced{Accounts: []directory.Account{account("ada")}, Grants: grants("ada eng"), Groups: []directory.Group{team("eng", "Engineering")}},
	)
	if before, after := changes[0].Before, changes[0].After; before == nil || after == nil || !before.Active || after.Active || after.State != "inactive" {
		t.Errorf("account.deactivated from %+v to %+v, want from active to inactive", before, after)
	}
	if face := changes[1].Before; face.GroupName != "Engineering" || face.User != "user_ada" {
		t.Errorf("grant.revoked shows %+v, want whose and of which group", face)
	}
	if group := changes[2]; !group.Before.Active || group.After.Active {
		t.Errorf("group.ended from %+v to %+v, want from live to ended", group.Before, group.After)
	}
}

// Histories of other events, of other lengths and under other rules are told and announced in every combination.
func TestDifferenceAppliedToWhatWasToldGivesWhatWasAnnounced(t *testing.T) {
	t.Parallel()
	var states []directory.Announced
	for seed := range uint64(12) {
		for _, n := range []int{15, 60} {
			w := newWorld(t, []directory.Decision{directory.DecisionKeep, directory.DecisionDeprovision}[seed%2], directorytest.Rules()[seed%3:]...)
			w.fold(directorytest.Generate(seed, n)...)
			states = append(states, announcedOf(w.state.Snapshot()))
		}
	}
	states = append(states, directory.Announced{})
	for i, announced := range states {
		if changes := directory.Difference(announced, announced); len(changes) > 0 {
			t.Fatalf("Difference(%d, itself) = %v, want nothing", i, differences(changes))
		}
		for j, told := range states {
			if announced.Directory == nil {
				told.Directory = nil // it never goes without an end
			}
			changes := directory.Difference(announced, told)
			checkOrder(t, changes)
			got := apply(t, told, changes)
			if diff := gocmp.Diff(seen(announced), seen(got), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("state %d announced (-), state %d told and the difference applied (+):\n%s", i, j, diff)
			}
			for _, a := range announced.Accounts {
				if !slices.ContainsFunc(got.Accounts, func(o directory.Account) bool { return o.ID == a.ID && o.Active == a.Active }) {
					t.Fatalf("state %d: the application does not know whether %s is active", i, a.ID.ID)
				}
			}
		}
	}
}

// announcedOf takes one directory out of all that a fold came to.
func announcedOf(d directory.Delta) (a directory.Announced) {
	for _, r := range d.Directories {
		if r.Scope == acme && r.Version != "" {
			a.Directory = &r
		}
	}
	for _, g := range d.Groups {
		if g.Scope == acme && g.Version != "" && !g.Removed {
			a.Groups = append(a.Groups, g)
		}
	}
	for _, account := range d.Accounts {
		if account.Scope == acme {
			a.Accounts = append(a.Accounts, account)
		}
	}
	for _, g := range d.Granted {
		if g.Scope == acme {
			a.Grants = append(a.Grants, g)
		}
	}
	return a
}

// checkOrder: leavers with what is theirs, then what others lose, then the rest.
func checkOrder(t *testing.T, changes []directory.Change) {
	t.Helper()
	stage, leaver := 0, ""
	for i, c := range changes {
		now := 3
		switch {
		case c.Kind == directory.AccountDeactivated:
			now, leaver = 0, c.Account
		case c.Kind.Removes() && stage == 0 && c.Account == leaver:
			now = 0
		case c.Kind.Removes():
			now = 1
		case c.Kind == directory.GroupEnded || c.Kind == directory.DirectoryEnded:
			now = 2
		}
		if now < stage {
			t.Fatalf("%s of %q comes too late: %v", c.Kind, c.Account, differences(changes[:i+1]))
		}
		stage = now
	}
}

// apply is an application that was told of a state, and is told of changes.
func apply(t *testing.T, told directory.Announced, changes []directory.Change) directory.Announced {
	t.Helper()
	a := directory.Announced{Directory: told.Directory, Groups: slices.Clone(told.Groups), Accounts: slices.Clone(told.Accounts), Grants: slices.Clone(told.Grants)}
	for _, c := range changes {
		id := directory.ID{Scope: c.Scope, ID: cmp.Or(c.Account, c.Group)}
		switch c.Kind {
		case directory.AccountActivated, directory.AccountUpdated, directory.AccountDeactivated:
			i := slices.IndexFunc(a.Accounts, func(o directory.Account) bool { return o.ID == id })
			if i < 0 {
				i, a.Accounts = len(a.Accounts), append(a.Accounts, directory.Account{ID: id})
			}
			o := &a.Accounts[i]
			if o.Active != (c.Kind != directory.AccountActivated) && c.Before != nil {
				t.Fatalf("%s of %s, who is active: %t", c.Kind, id.ID, o.Active)
			}
			if o.Active = c.Kind != directory.AccountDeactivated; o.Active {
				o.User, o.Organization, o.IDPID, o.State, o.Profile = c.After.User, c.After.Organization, c.After.IDPID, c.After.State, c.After.Profile
			}
		case directory.GrantAdded:
			a.Grants = append(a.Grants, directory.Grant{GrantID: directory.GrantID{Scope: c.Scope, Account: c.Account, Group: c.Group}})
		case directory.GrantRevoked:
			a.Grants = slices.DeleteFunc(a.Grants, func(g directory.Grant) bool { return g.Account == c.Account && g.Group == c.Group })
		case directory.RoleAdded, directory.RoleRevoked:
			o := &a.Accounts[slices.IndexFunc(a.Accounts, func(o directory.Account) bool { return o.ID == id })]
			if o.Roles = slices.DeleteFunc(slices.Clone(o.Roles), func(r string) bool { return r == c.Role }); c.Kind == directory.RoleAdded {
				o.Roles = append(o.Roles, c.Role)
			}
		case directory.GroupCreated, directory.GroupUpdated, directory.GroupEnded:
			if a.Groups = slices.DeleteFunc(a.Groups, func(g directory.Group) bool { return g.ID == id }); c.Kind != directory.GroupEnded {
				a.Groups = append(a.Groups, directory.Group{ID: id, IDPID: c.After.IDPID, Name: c.After.GroupName})
			}
		case directory.DirectoryActivated, directory.DirectoryEnded:
			a.Directory = &directory.Register{Scope: c.Scope, Ended: c.Kind == directory.DirectoryEnded}
		}
	}
	return a
}

// seen renders what an application sees of a state: nothing of who is not active.
func seen(a directory.Announced) (lines []string) {
	if a.Directory != nil && !a.Directory.Ended {
		lines = append(lines, "the directory")
	}
	for _, g := range a.Groups {
		lines = append(lines, "group "+g.ID.ID+" "+g.IDPID+" "+g.Name)
	}
	for _, o := range a.Accounts {
		if o.Active {
			lines = append(lines, "account "+o.ID.ID+" "+o.User+" "+o.State+" "+o.Email+" "+o.FirstName+" "+o.Attributes["role"]+" "+o.Attributes["roles"])
		}
		for _, r := range o.Roles {
			lines = append(lines, "role "+o.ID.ID+" "+r)
		}
	}
	for _, g := range a.Grants {
		lines = append(lines, "grant "+g.Account+" "+g.Group)
	}
	slices.Sort(lines)
	return lines
}
