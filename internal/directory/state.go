package directory

import (
	"cmp"
	"maps"
	"slices"
)

// State is what a fold works on: the registers, accounts and grants that a batch of events touches, loaded, or all
// there are. A store fills it with the Put methods from what [NeedOf] names, folds, and saves the [Delta].
//
// A State belongs to one goroutine.
type State struct {
	policy func(source string) Decision
	roles  Roles

	directories map[Scope]*Register
	users       map[ID]*User
	groups      map[ID]*Group
	edges       map[EdgeID]*Edge
	accounts    map[ID]*Account
	grants      map[GrantID]*Grant

	bearers map[ID]map[string]bool // account key → ids of the users that bear it
	edgesOf map[ID]map[string]bool // user → groups it has an edge with
	granted map[ID]map[string]bool // account key → groups it has been granted

	dirty dirty
}

// dirty names what the fold changed; the values are in the State.
type dirty struct {
	directories map[Scope]bool
	users       map[ID]bool
	groups      map[ID]bool
	edges       map[EdgeID]bool
	accounts    map[ID]bool
	grants      map[GrantID]bool
	changes     []Change
	expansions  []Expansion
}

func newDirty() dirty {
	return dirty{
		directories: map[Scope]bool{}, users: map[ID]bool{}, groups: map[ID]bool{},
		edges: map[EdgeID]bool{}, accounts: map[ID]bool{}, grants: map[GrantID]bool{},
	}
}

// NewState returns an empty state. The policy says what the end of a source's directory means where no operator
// decided: DecisionKeep holds it, DecisionDeprovision ends it. Nil holds every one.
func NewState(policy func(source string) Decision, roles Roles) *State {
	if policy == nil {
		policy = func(string) Decision { return DecisionKeep }
	}
	return &State{
		policy: policy, roles: roles,
		directories: map[Scope]*Register{}, users: map[ID]*User{}, groups: map[ID]*Group{},
		edges: map[EdgeID]*Edge{}, accounts: map[ID]*Account{}, grants: map[GrantID]*Grant{},
		bearers: map[ID]map[string]bool{}, edgesOf: map[ID]map[string]bool{}, granted: map[ID]map[string]bool{},
		dirty: newDirty(),
	}
}

// PutDirectory adds a loaded directory register.
func (s *State) PutDirectory(r Register) { s.directories[r.Scope] = &r }

// PutUser adds a loaded user register.
func (s *State) PutUser(u User) {
	s.users[u.ID] = &u
	add(s.bearers, ID{u.Scope, u.AccountKey()}, u.ID.ID)
}

// PutGroup adds a loaded group register.
func (s *State) PutGroup(g Group) { s.groups[g.ID] = &g }

// PutEdge adds a loaded membership register.
func (s *State) PutEdge(e Edge) {
	s.edges[e.EdgeID] = &e
	add(s.edgesOf, ID{e.Scope, e.User}, e.Group)
}

// PutAccount adds a loaded account.
func (s *State) PutAccount(a Account) { s.accounts[a.ID] = &a }

// PutGrant adds a loaded grant.
func (s *State) PutGrant(g Grant) {
	s.grants[g.GrantID] = &g
	add(s.granted, ID{g.Scope, g.Account}, g.Group)
}

// Need names what a fold of some events reads. A store loads, in two steps: the directories, Users, Groups and Edges
// named here; then, by Next, for the keys in Keys and those of the loaded Users, every user that bears one, its account and its
// grants; of the users of Full, known or not, and of those that bear a key of Full or Keys, all edges, and their groups;
// of the others, the edges with the groups of Edges that Rivals names, because another user than the one in the event may
// govern.
type Need struct {
	Scopes []Scope
	Users  []ID
	Full   []ID // the users whose own events are in the batch; a subset of Users
	Keys   []ID // account keys that the events name
	Groups []ID
	Edges  []EdgeID
}

// NeedOf returns what State.Fold reads for these events, each list sorted and without repetition.
func NeedOf(events []Event) Need {
	var n Need
	for i := range events {
		e := &events[i]
		scope := e.Scope()
		n.Scopes = append(n.Scopes, scope)
		switch e.Subject {
		case SubjectUser:
			id := ID{scope, e.User.ID}
			n.Users = append(n.Users, id)
			n.Full = append(n.Full, id)
			n.Keys = append(n.Keys, ID{scope, accountKey(e.User.IDPID, e.User.ID)})
		case SubjectGroup:
			n.Groups = append(n.Groups, ID{scope, e.Group.ID})
		case SubjectMembership:
			n.Users = append(n.Users, ID{scope, e.Membership.User})
			n.Groups = append(n.Groups, ID{scope, e.Membership.Group})
			n.Edges = append(n.Edges, EdgeID{scope, e.Membership.Group, e.Membership.User})
		case SubjectDirectory, SubjectDecision:
		}
	}
	n.Scopes = distinct(n.Scopes, compareScopes)
	n.Users, n.Full, n.Keys = distinct(n.Users, compareIDs), distinct(n.Full, compareIDs), distinct(n.Keys, compareIDs)
	n.Groups, n.Edges = distinct(n.Groups, compareIDs), distinct(n.Edges, compareEdges)
	return n
}

// Next is what a load goes on with, once it knows which users of Need.Users are registered.
type Next struct {
	All       []ID      // account keys of which bearers, accounts and grants are needed
	Full      []ID      // those of them whose bearers' edges are all needed
	Newcomers []ID      // users of Need.Full that no register knows yet: no account key leads to their edges
	Rivals    []GrantID // accounts of the users in Need.Edges, with the edge's group: the edges that the bearers have with it
}

// Next returns the second step of a load, each list without repetition. The registered users come with their account keys.
func (n Need) Next(registered map[ID]string) (k Next) {
	k.Full = slices.Clone(n.Keys)
	for _, id := range n.Full {
		if key, ok := registered[id]; ok {
			k.Full = append(k.Full, ID{id.Scope, key})
		} else {
			k.Newcomers = append(k.Newcomers, id)
		}
	}
	k.All = slices.Clone(k.Full)
	for id, key := range registered {
		k.All = append(k.All, ID{id.Scope, key})
	}
	for _, e := range n.Edges {
		if key, ok := registered[ID{e.Scope, e.User}]; ok {
			k.Rivals = append(k.Rivals, GrantID{e.Scope, key, e.Group})
		}
	}
	k.All, k.Full = distinct(k.All, compareIDs), distinct(k.Full, compareIDs)
	k.Rivals = distinct(k.Rivals, compareGrants)
	return k
}

// Delta is what folding changed, sorted by key, so that two writers lock rows in the same order.
type Delta struct {
	Directories []Register
	Users       []User
	Groups      []Group
	Edges       []Edge
	Accounts    []Account
	Granted     []Grant
	Revoked     []GrantID
	Changes     []Change // in the order in which they happened
	Expansions  []Expansion
}

// TakeDelta returns what changed since the state was made or the last TakeDelta.
func (s *State) TakeDelta() Delta {
	d := Delta{
		Directories: collect(s.dirty.directories, s.directories, compareScopes),
		Users:       collect(s.dirty.users, s.users, compareIDs),
		Groups:      collect(s.dirty.groups, s.groups, compareIDs),
		Edges:       collect(s.dirty.edges, s.edges, compareEdges),
		Accounts:    collect(s.dirty.accounts, s.accounts, compareIDs),
		Granted:     collect(s.dirty.grants, s.grants, compareGrants),
		Changes:     s.dirty.changes,
		Expansions:  s.dirty.expansions,
	}
	for id := range s.dirty.grants {
		if s.grants[id] == nil {
			d.Revoked = append(d.Revoked, id)
		}
	}
	slices.SortFunc(d.Revoked, compareGrants)
	s.dirty = newDirty()
	return d
}

// Snapshot returns all that the state holds, sorted by key, with no changes and no expansions.
func (s *State) Snapshot() Delta {
	return Delta{
		Directories: collect(everything(s.directories), s.directories, compareScopes),
		Users:       collect(everything(s.users), s.users, compareIDs),
		Groups:      collect(everything(s.groups), s.groups, compareIDs),
		Edges:       collect(everything(s.edges), s.edges, compareEdges),
		Accounts:    collect(everything(s.accounts), s.accounts, compareIDs),
		Granted:     collect(everything(s.grants), s.grants, compareGrants),
	}
}

func everything[K comparable, V any](m map[K]*V) map[K]bool {
	keys := make(map[K]bool, len(m))
	for k := range m {
		keys[k] = true
	}
	return keys
}

func collect[K comparable, V any](keys map[K]bool, values map[K]*V, compare func(a, b K) int) []V {
	var out []V
	for _, k := range slices.SortedFunc(maps.Keys(keys), compare) {
		if v := values[k]; v != nil {
			out = append(out, *v)
		}
	}
	return out
}

func add[K comparable](index map[K]map[string]bool, key K, member string) {
	if index[key] == nil {
		index[key] = map[string]bool{}
	}
	index[key][member] = true
}

func distinct[T comparable](list []T, compare func(a, b T) int) []T {
	slices.SortFunc(list, compare)
	return slices.Compact(list)
}

func compareScopes(a, b Scope) int {
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Directory, b.Directory))
}

func compareIDs(a, b ID) int {
	return cmp.Or(compareScopes(a.Scope, b.Scope), cmp.Compare(a.ID, b.ID))
}

func compareEdges(a, b EdgeID) int {
	return cmp.Or(compareScopes(a.Scope, b.Scope), cmp.Compare(a.Group, b.Group), cmp.Compare(a.User, b.User))
}

func compareGrants(a, b GrantID) int {
	return cmp.Or(compareScopes(a.Scope, b.Scope), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Group, b.Group))
}
