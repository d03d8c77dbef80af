package directory

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// RoleRule says who has a role of the application: the members of these groups, and those whom the provider gives these
// role slugs. A group is named by the provider's id, by its idp_id, or by the name that its own events give it.
type RoleRule struct {
	Role        string
	Groups      []string
	Slugs       []string
	Directories []string // the provider's directory ids; empty: of every directory
	Source      string   // empty: of every source
}

// Roles is the mapping of groups and slugs to roles. It is never changed; its zero value gives no roles.
type Roles struct {
	groups map[string][]RoleRule // by what names a group
	slugs  map[string][]RoleRule
	digest string
}

// NewRoles returns the mapping that the rules make together. Their order says nothing.
func NewRoles(rules ...RoleRule) Roles {
	if len(rules) == 0 {
		return Roles{}
	}
	r := Roles{groups: map[string][]RoleRule{}, slugs: map[string][]RoleRule{}}
	lines := make([]string, len(rules))
	for i, rule := range rules {
		rule.Groups, rule.Slugs, rule.Directories = set(rule.Groups), set(rule.Slugs), set(rule.Directories)
		for _, group := range rule.Groups {
			r.groups[group] = append(r.groups[group], rule)
		}
		for _, slug := range rule.Slugs {
			r.slugs[slug] = append(r.slugs[slug], rule)
		}
		line, _ := json.Marshal(rule) // it is made of strings
		lines[i] = string(line)
	}
	sum := sha256.Sum256([]byte(strings.Join(set(lines), "\n")))
	r.digest = hex.EncodeToString(sum[:8])
	return r
}

// Digest names the mapping: the same for the same rules, empty for none.
func (r Roles) Digest() string { return r.digest }

// OfGroup returns the roles that a group gives, sorted; the idp_id and the name may be empty.
func (r Roles) OfGroup(scope Scope, id, idpID, name string) []string {
	return r.roles(scope, r.groups, id, idpID, name)
}

// OfSlugs returns the roles that the provider's role slugs give, sorted.
func (r Roles) OfSlugs(scope Scope, slugs ...string) []string {
	return r.roles(scope, r.slugs, slugs...)
}

func (r Roles) roles(scope Scope, rules map[string][]RoleRule, names ...string) []string {
	if len(rules) == 0 {
		return nil
	}
	var roles []string
	for _, name := range names {
		if name == "" {
			continue
		}
		for _, rule := range rules[name] {
			if rule.covers(scope) {
				roles = append(roles, rule.Role)
			}
		}
	}
	return set(roles)
}

func (r RoleRule) covers(scope Scope) bool {
	return (r.Source == "" || r.Source == scope.Source) && (len(r.Directories) == 0 || slices.Contains(r.Directories, scope.Directory))
}

// set returns the members of a list, sorted, each once; nil for none.
func set[T cmp.Ordered](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// slugs returns the role slugs that a provider gives a person, as the attributes role and roles carry them.
func (p Profile) slugs() []string {
	list := p.Attributes["roles"]
	slugs := strings.Split(list, ",")
	if len(list) > MaxText-utf8.UTFMax { // it was cut, and the last slug may have become another's name
		slugs = slugs[:len(slugs)-1]
	}
	return append(slugs, p.Attributes["role"])
}

// ofGroup returns the roles that a group of the state gives at this moment.
func (s *State) ofGroup(g *Group) []string {
	return s.roles.OfGroup(g.Scope, g.ID.ID, g.IDPID, g.title())
}

// evaluateRoles compares the roles that were announced of an account with those that its grants and slugs give, and
// announces the difference, what it lost first. It comes last, after the account's change and those of its grants.
func (s *State) evaluateRoles(c cause, key ID) {
	announced := s.accounts[key]
	if announced == nil || len(announced.Roles) == 0 && s.roles.digest == "" {
		return
	}
	roles := s.rolesOf(announced)
	lost, won := difference(announced.Roles, roles), difference(roles, announced.Roles)
	if len(lost)+len(won) == 0 {
		return
	}
	next := *announced
	next.Roles = roles
	s.accounts[key] = &next
	s.dirty.accounts[key] = true
	for _, role := range lost {
		s.change(c, Change{Kind: RoleRevoked, Account: key.ID, Role: role, Before: next.face()})
	}
	for _, role := range won {
		s.change(c, Change{Kind: RoleAdded, Account: key.ID, Role: role, After: next.face()})
	}
}

// rolesOf returns the roles that an announced account should have: by what its grants were announced to give, and by slugs.
func (s *State) rolesOf(a *Account) []string {
	if !a.Active {
		return nil
	}
	roles := s.roles.OfSlugs(a.Scope, a.slugs()...)
	for group := range s.granted[a.ID] {
		roles = append(roles, s.grants[GrantID{a.Scope, a.ID.ID, group}].Roles...)
	}
	return set(roles)
}

// difference returns what one list has and the other has not.
func difference(list, other []string) []string {
	var out []string
	for _, v := range list {
		if !slices.Contains(other, v) {
			out = append(out, v)
		}
	}
	return out
}
