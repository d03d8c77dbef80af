package directorytest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Model says, a line each, which accounts there are, what they are granted and which roles they have after a set of events,
// by the rules read naively: for every question it looks through all the events. It shares no code with the fold but the versions.
func Model(events []directory.Event, policy directory.Decision, roles ...directory.RoleRule) []string {
	m := model{events: events, policy: policy, roles: roles}
	var lines []string
	for _, scope := range m.scopes() {
		for _, key := range m.keys(scope) {
			lines = append(lines, m.account(scope, key)...)
		}
	}
	slices.Sort(lines)
	return lines
}

// Outcome renders what a fold came to as Model does.
func Outcome(d directory.Delta) []string {
	var lines []string
	for _, a := range d.Accounts {
		lines = append(lines, accountLine(a.Scope, a.ID.ID, a.User, a.Active, a.Email))
		lines = append(lines, roleLines(a)...)
	}
	for _, g := range d.Granted {
		lines = append(lines, grantLine(g.Scope, g.Account, g.Group))
	}
	slices.Sort(lines)
	return lines
}

func accountLine(scope directory.Scope, key, user string, active bool, email string) string {
	return fmt.Sprintf("%s account %s user=%s active=%t email=%s", scope.Directory, key, user, active, email)
}

func grantLine(scope directory.Scope, key, group string) string {
	return fmt.Sprintf("%s grant %s %s", scope.Directory, key, group)
}

func roleLine(scope directory.Scope, key, role string) string {
	return fmt.Sprintf("%s role %s %s", scope.Directory, key, role)
}

func roleLines(a directory.Account) (lines []string) {
	for _, role := range a.Roles {
		lines = append(lines, roleLine(a.Scope, a.ID.ID, role))
	}
	return lines
}

type model struct {
	events []directory.Event
	policy directory.Decision
	roles  []directory.RoleRule
}

// last returns the event with the greatest version among those that match.
func (m model) last(match func(e *directory.Event) bool) *directory.Event {
	var last *directory.Event
	for i := range m.events {
		if e := &m.events[i]; match(e) && (last == nil || e.Version() > last.Version()) {
			last = e
		}
	}
	return last
}

func version(e *directory.Event) directory.Version {
	if e == nil {
		return ""
	}
	return e.Version()
}

func (m model) scopes() []directory.Scope {
	seen := map[directory.Scope]bool{}
	var out []directory.Scope
	for _, e := range m.events {
		if !seen[e.Scope()] {
			seen[e.Scope()] = true
			out = append(out, e.Scope())
		}
	}
	return out
}

func (m model) users(scope directory.Scope) []string {
	var out []string
	for _, e := range m.events {
		if e.Scope() == scope && e.User != nil && !slices.Contains(out, e.User.ID) {
			out = append(out, e.User.ID)
		}
	}
	return out
}

// keys are all that any user event ever named: an account exists from then on.
func (m model) keys(scope directory.Scope) []string {
	var out []string
	for _, e := range m.events {
		if e.Scope() != scope || e.User == nil {
			continue
		}
		if k := key(e.User.IDPID, e.User.ID); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	for _, u := range m.users(scope) {
		if k := m.keyOf(scope, u); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

func key(idp, id string) string {
	switch {
	case idp == "":
		return "id:" + id
	case strings.HasPrefix(idp, "id:") || strings.HasPrefix(idp, "idp:"):
		return "idp:" + idp
	}
	return idp
}

// keyOf is the key of a user: of the events that are no removal if there are any, of those that name an idp_id if there
// are any, the last one's.
func (m model) keyOf(scope directory.Scope, user string) string {
	of := func(removals, unnamed bool) *directory.Event {
		return m.last(func(e *directory.Event) bool {
			return e.Scope() == scope && e.User != nil && e.User.ID == user && (removals || !e.Removes) && (unnamed || e.User.IDPID != "")
		})
	}
	for _, e := range []*directory.Event{of(false, false), of(false, true), of(true, false), of(true, true)} {
		if e != nil {
			return key(e.User.IDPID, e.User.ID)
		}
	}
	return ""
}

func (m model) createdOf(scope directory.Scope, user string) time.Time {
	for _, e := range m.events {
		if e.Scope() == scope && e.User != nil && e.User.ID == user {
			return e.User.Created // an object's own created_at never changes
		}
	}
	return time.Time{}
}

func (m model) senior(scope directory.Scope, users []string) string {
	first := ""
	for _, u := range users {
		a, b := m.createdOf(scope, u), m.createdOf(scope, first)
		if first == "" || a.After(b) || a.Equal(b) && u > first {
			first = u
		}
	}
	return first
}

// end returns whether the directory has ended, and the floor below which nothing counts.
func (m model) end(scope directory.Scope) (ended bool, floor directory.Version) {
	last := m.last(func(e *directory.Event) bool { return e.Scope() == scope && e.Connection != nil })
	removal := version(m.last(func(e *directory.Event) bool { return e.Scope() == scope && e.Connection != nil && e.Removes }))
	verdict := m.policy
	decision := m.last(func(e *directory.Event) bool { return e.Scope() == scope && e.Decision != "" })
	counts := decision != nil && (decision.Version() > removal || decision.Decision == directory.DecisionDeprovision)
	if counts && decision.Decision != directory.DecisionRelease {
		verdict = decision.Decision
	}
	if verdict != directory.DecisionDeprovision {
		return false, ""
	}
	return last != nil && last.Removes, removal
}

func (m model) account(scope directory.Scope, k string) []string {
	var bearers, buried []string
	for _, u := range m.users(scope) {
		if m.keyOf(scope, u) == k {
			bearers = append(bearers, u)
		}
	}
	for _, e := range m.events {
		if e.Scope() == scope && e.User != nil && e.Removes && key(e.User.IDPID, e.User.ID) == k {
			buried = append(buried, e.User.ID)
		}
	}
	user := m.senior(scope, bearers)
	if user == "" {
		return []string{accountLine(scope, k, "", false, "")}
	}
	word := m.last(func(e *directory.Event) bool { return e.Scope() == scope && e.User != nil && e.User.ID == user })
	ended, floor := m.end(scope)
	active := !word.Removes && !ended && word.Version() > floor && m.senior(scope, append(buried, user)) == user
	lines := []string{accountLine(scope, k, user, active, word.User.Email)}
	if !active {
		return lines
	}
	gives := slugsOf(word.User)
	for n := range groups {
		if m.granted(scope, groupID(n), user, floor) {
			lines = append(lines, grantLine(scope, k, groupID(n)))
			gives = append(gives, m.named(scope, groupID(n))...)
		}
	}
	return append(lines, m.roleLines(scope, k, gives)...)
}

// slugsOf and named mark what gives roles, so that a slug is no group's name.
func slugsOf(p *directory.Person) (slugs []string) {
	for _, s := range append(strings.Split(p.Attributes["roles"], ","), p.Attributes["role"]) {
		slugs = append(slugs, "slug "+s)
	}
	return slugs
}

// named returns what the group is called: its id, the idp_id of its last event, and the last name that an event of its own,
// no removal, gives it.
func (m model) named(scope directory.Scope, group string) []string {
	names := []string{"group " + group}
	of := func(e *directory.Event) bool { return e.Scope() == scope && e.Group != nil && e.Group.ID == group }
	if e := m.last(of); e != nil {
		names = append(names, "group "+e.Group.IDPID)
	}
	if e := m.last(func(e *directory.Event) bool { return of(e) && !e.Removes && e.Group.Name != "" }); e != nil {
		names = append(names, "group "+e.Group.Name)
	}
	return names
}

// roleLines says which roles an account has that has these slugs and groups.
func (m model) roleLines(scope directory.Scope, k string, gives []string) (lines []string) {
	for _, rule := range m.roles {
		if rule.Source != "" && rule.Source != scope.Source || len(rule.Directories) > 0 && !slices.Contains(rule.Directories, scope.Directory) {
			continue
		}
		has := func(kind string) func(string) bool {
			return func(name string) bool { return slices.Contains(gives, kind+name) }
		}
		line := roleLine(scope, k, rule.Role)
		if (slices.ContainsFunc(rule.Groups, has("group ")) || slices.ContainsFunc(rule.Slugs, has("slug "))) && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

func (m model) granted(scope directory.Scope, group, user string, floor directory.Version) bool {
	edge := m.last(func(e *directory.Event) bool {
		return e.Scope() == scope && e.Membership != nil && e.Membership.Group == group && e.Membership.User == user
	})
	if edge == nil || edge.Removes || edge.Version() <= floor {
		return false
	}
	last := m.last(func(e *directory.Event) bool { return e.Scope() == scope && e.Group != nil && e.Group.ID == group })
	end := m.last(func(e *directory.Event) bool {
		return e.Scope() == scope && e.Group != nil && e.Group.ID == group && e.Removes
	})
	return (last == nil || !last.Removes) && edge.Version() > version(end)
}
