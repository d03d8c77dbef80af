package rig

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// State renders what the database holds, a line each, sorted: what the directories said, and what that comes to.
func (s *Site) State(t testing.TB) (registers, access []string) {
	t.Helper()
	d, err := s.Store.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Directories {
		registers = append(registers, fmt.Sprintf("directory %s says %q: %s", d.Directories[i].Directory, d.Directories[i].State, lifeOf(&d.Directories[i])))
	}
	for _, u := range d.Users {
		registers = append(registers, fmt.Sprintf("user %s says %q: %s, account %s", u.ID.ID, u.State, word(u.Active, "active", "inactive"), u.AccountKey()))
	}
	names := map[directory.ID]string{}
	for _, g := range d.Groups {
		names[g.ID] = g.Name
		registers = append(registers, fmt.Sprintf("group %s %q: %s", g.ID.ID, g.Name, lifeOfGroup(g)))
	}
	for _, e := range d.Edges {
		registers = append(registers, fmt.Sprintf("membership of %s in %s: %s", e.User, e.Group, word(e.Present, "present", "gone")))
	}
	for _, a := range d.Accounts {
		access = append(access, fmt.Sprintf("account %s <%s>: %s", a.ID.ID, a.Email, word(a.Active, "active", "inactive")))
	}
	for _, g := range d.Granted {
		access = append(access, fmt.Sprintf("grant of %q to %s", names[directory.ID{Scope: g.Scope, ID: g.Group}], g.Account))
	}
	slices.Sort(registers)
	slices.Sort(access)
	return registers, access
}

func lifeOf(r *directory.Register) string {
	switch {
	case r.Held():
		return "ended, held"
	case r.Ended:
		return "ended"
	default:
		return "live"
	}
}

func lifeOfGroup(g directory.Group) string {
	switch {
	case g.Version == "":
		return "only mentioned"
	case g.Removed:
		return "ended"
	default:
		return "live"
	}
}

func word(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
