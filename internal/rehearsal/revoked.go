package rehearsal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// given is a grant or role of somebody.
type given struct{ account, group, role string }

// revoked checks a change against what was given before: a grant or role that is revoked has to be taken where something was
// made of it, unless the end of the account, group or directory took it first.
func (p *play) revoked(row store.ChangeRow, step Step) error {
	what := given{row.Account, row.Group, row.Role}
	took := step.Result == store.ResultBound && step.Rows > 0
	switch row.Kind {
	case directory.GrantAdded, directory.RoleAdded:
		p.given[what] += step.Rows
	case directory.AccountDeactivated:
		p.gone(took, func(g given) bool { return g.account == row.Account })
	case directory.GroupEnded:
		p.gone(took, func(g given) bool { return g.group == row.Group })
	case directory.DirectoryEnded:
		p.gone(took, func(given) bool { return true })
	case directory.GrantRevoked, directory.RoleRevoked:
		made := p.given[what]
		delete(p.given, what)
		settled := step.Result == store.ResultBound || step.Result == store.ResultNone
		if made > 0 && settled && !took {
			return p.stays(row.Kind, made)
		}
	default: // takes nothing
	}
	return nil
}

func (p *play) gone(took bool, which func(given) bool) {
	for g := range p.given {
		if took && which(g) {
			delete(p.given, g)
		}
	}
}

// stays says which statements took nothing.
func (p *play) stays(kind directory.ChangeKind, made int64) error {
	adds := directory.GrantAdded
	if kind == directory.RoleRevoked {
		adds = directory.RoleAdded
	}
	var statements []string
	for _, b := range p.binder.Bindings {
		if !slices.Contains(b.On, kind) {
			continue
		}
		for i, text := range b.Statements {
			statements = append(statements, fmt.Sprintf("%s, statement %d (%s)", b.Name, i+1, inALine(text)))
		}
	}
	if len(statements) == 0 {
		return fmt.Errorf("no binding is for %s, and %s touched %d rows: nothing takes them away\nhint: application.bindings needs one", kind, adds, made)
	}
	return fmt.Errorf("%s touched no row, and %s of the same had touched %d: nothing was taken away by %s\nhint: does it find what %s made, by @app_id and the group or role?",
		kind, adds, made, strings.Join(statements, "; "), adds)
}

// lineLength is enough to know a statement by.
const lineLength = 120

func inALine(text string) string {
	line := []rune(strings.Join(strings.Fields(text), " "))
	if len(line) > lineLength {
		return string(line[:lineLength]) + "…"
	}
	return string(line)
}
