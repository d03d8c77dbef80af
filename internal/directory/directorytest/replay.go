package directorytest

import (
	"slices"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Active renders the active accounts, their grants and their roles of a state, a line each, sorted.
func Active(d directory.Delta) []string {
	var lines []string
	for _, a := range d.Accounts {
		if a.Active {
			lines = append(lines, a.Directory+" "+a.ID.ID+" "+a.Email)
		}
		lines = append(lines, roleLines(a)...)
	}
	for _, g := range d.Granted {
		lines = append(lines, grantLine(g.Scope, g.Account, g.Group))
	}
	slices.Sort(lines)
	return lines
}

// Replay renders, as Active does, what somebody knows who saw nothing but the changes. What is given twice, or taken from
// somebody who has not got it, is a line that Active never has.
func Replay(changes []directory.Change) []string {
	accounts, has := map[directory.ID]string{}, map[string]bool{}
	var lines []string
	move := func(c directory.Change, line string) {
		if has[line] != c.Kind.Removes() {
			lines = append(lines, string(c.Kind)+" again: "+line)
		}
		has[line] = !c.Kind.Removes()
	}
	for _, c := range changes {
		id := directory.ID{Scope: c.Scope, ID: c.Account}
		switch c.Kind {
		case directory.AccountActivated, directory.AccountUpdated:
			accounts[id] = c.After.Email
		case directory.AccountDeactivated:
			delete(accounts, id)
		case directory.GrantAdded, directory.GrantRevoked:
			move(c, grantLine(c.Scope, c.Account, c.Group))
		case directory.RoleAdded, directory.RoleRevoked:
			move(c, roleLine(c.Scope, c.Account, c.Role))
		default: // of groups and directories
		}
	}
	for id, email := range accounts {
		lines = append(lines, id.Directory+" "+id.ID+" "+email)
	}
	for line, is := range has {
		if is {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}
