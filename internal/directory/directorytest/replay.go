package directorytest

import (
	"slices"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Active renders the active accounts and their grants of a state, a line each, sorted.
func Active(d directory.Delta) []string {
	var lines []string
	for _, a := range d.Accounts {
		if a.Active {
			lines = append(lines, a.Directory+" "+a.ID.ID+" "+a.Email)
		}
	}
	for _, g := range d.Granted {
		lines = append(lines, grantLine(g.Scope, g.Account, g.Group))
	}
	slices.Sort(lines)
	return lines
}

// Replay renders, as Active does, what somebody knows who saw nothing but the changes.
func Replay(changes []directory.Change) []string {
	accounts, grants := map[directory.ID]string{}, map[directory.GrantID]bool{}
	for _, c := range changes {
		id := directory.ID{Scope: c.Scope, ID: c.Account}
		switch c.Kind {
		case directory.AccountActivated, directory.AccountUpdated:
			accounts[id] = c.After.Email
		case directory.AccountDeactivated:
			delete(accounts, id)
		case directory.GrantAdded:
			grants[directory.GrantID{Scope: c.Scope, Account: c.Account, Group: c.Group}] = true
		case directory.GrantRevoked:
			delete(grants, directory.GrantID{Scope: c.Scope, Account: c.Account, Group: c.Group})
		default: // of groups and directories
		}
	}
	var lines []string
	for id, email := range accounts {
		lines = append(lines, id.Directory+" "+id.ID+" "+email)
	}
	for id := range grants {
		lines = append(lines, grantLine(id.Scope, id.Account, id.Group))
	}
	slices.Sort(lines)
	return lines
}
