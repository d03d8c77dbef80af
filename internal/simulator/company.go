package simulator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// company is an organization and its directory: who is in it, and what of it is true now.
type company struct {
	sim *Directory
	*rand.Rand

	id, organization, name, kind, domain string
	created                              time.Time
	idpID                                func(r *rand.Rand, n int) string

	people        []*person // everybody ever
	present, away []*person // who is active, and who is not
	groups        []*group  // all there ever were
	live, ended   []*group
	holders       map[string]*person // address → who is present under it
}

// The states of a person. WorkOS says "inactive" of the deleted too.
const (
	active    = "active"
	suspended = "suspended"
	inactive  = "inactive"
	deleted   = "deleted"
)

type person struct {
	id, idp            string // id is another one after a rehire
	first, last, email string
	department, state  string
	created, updated   time.Time
	groups             []*group // what the directory means, though it may say nothing of it while the person is away
}

func (p *person) name() string { return p.first + " " + p.last }

type group struct {
	id, idp, name    string
	created, updated time.Time
	live             bool
}

// founders are the companies in the order in which they are founded: the kinds differ in what an idp_id looks like.
var founders = []struct {
	name, domain, kind string
	idpID              func(r *rand.Rand, n int) string
}{
	{"Harbour Bikes", "harbourbikes.example", "gsuite directory", func(r *rand.Rand, _ int) string { return fmt.Sprintf("1%020d", r.Uint64N(1e19)) }},
	{"Northlight Studio", "northlight.example", "okta scim v2.0", func(r *rand.Rand, _ int) string { return "00u" + letters(r, 17) }},
	{"Tamarind Foods", "tamarind.example", "azure scim v2.0", func(r *rand.Rand, _ int) string {
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64N(1<<48))
	}},
	// Looks like an account key made from a provider's id, and must not be taken for one.
	{"Quill & Vane", "quillvane.example", "generic scim v2.0", func(_ *rand.Rand, n int) string { return fmt.Sprintf("id:%d", 4000+n) }},
}

func letters(r *rand.Rand, n int) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// found makes the n-th company and announces all that is in it.
func (d *Directory) found(n int) *company {
	f := founders[n%len(founders)]
	c := &company{
		sim: d, Rand: d.random, name: f.name, kind: f.kind, domain: f.domain, idpID: f.idpID,
		id: "directory_" + d.ids.at(d.now), organization: "org_" + d.ids.at(d.now), created: d.now, holders: map[string]*person{},
	}
	if round := n / len(founders); round > 0 {
		c.name, c.domain = fmt.Sprintf("%s %d", c.name, round+1), fmt.Sprintf("%d.%s", round+1, c.domain)
	}
	c.tellDirectory("dsync.activated", c.name+" was activated")
	for range d.config.Groups {
		c.openGroup()
	}
	for range d.config.People {
		c.join()
	}
	return c
}

// pick returns one at random, or the zero value of none.
func pick[T any](r *rand.Rand, list []T) (one T) {
	if len(list) == 0 {
		return one
	}
	return list[r.IntN(len(list))]
}

// pickWhere returns one that matches, or nil.
func pickWhere[T any](r *rand.Rand, list []*T, match func(*T) bool) *T {
	if len(list) == 0 {
		return nil
	}
	first := r.IntN(len(list))
	for i := range list {
		if one := list[(first+i)%len(list)]; match(one) {
			return one
		}
	}
	return nil
}

// transfer moves one from a list to the end of another. Which one stands where is not kept.
func transfer[T comparable](one T, from, to *[]T) {
	i, last := slices.Index(*from, one), len(*from)-1
	(*from)[i] = (*from)[last]
	*from = (*from)[:last]
	*to = append(*to, one)
}

func (c *company) join() {
	p := &person{idp: c.idpID(c.Rand, len(c.people)), first: pick(c.Rand, firstNames), last: pick(c.Rand, lastNames)}
	if gone := pick(c.Rand, c.away); gone != nil && c.IntN(12) == 0 {
		p.first, p.last = gone.first, gone.last
	}
	c.people = append(c.people, p)
	c.away = append(c.away, p)
	c.register(p)
	c.appear(p, "dsync.user.created", nil, p.name()+" joined "+c.name)
	c.welcome(p)
}

// register gives the person a new directory user of no groups.
func (c *company) register(p *person) {
	p.id, p.created, p.groups, p.department = "directory_user_"+c.sim.ids.at(c.sim.now), c.sim.now, nil, pick(c.Rand, groupNames)
}

// welcome puts a newcomer into groups. Entra says everything of a newcomer twice.
func (c *company) welcome(p *person) {
	for range 1 + c.IntN(2) {
		if g := c.groupWithout(p); g != nil {
			c.add(p, g)
		}
	}
	if c.kind == "azure scim v2.0" {
		c.tellUser("dsync.user.updated", p, changes{}, p.name()+" was set up")
	}
}

// appear makes somebody active, under an address that nobody else present has.
func (c *company) appear(p *person, event string, before changes, summary string) {
	before = c.address(p, before)
	p.state = active
	transfer(p, &c.away, &c.present)
	c.tellUser(event, p, before, summary)
}

// disappear makes somebody present not active, and the address free for others.
func (c *company) disappear(p *person, event, state, summary string) {
	before := changes{"state": p.state}
	p.state = state
	delete(c.holders, p.email)
	transfer(p, &c.present, &c.away)
	c.tellUser(event, p, before, summary)
}

// address takes a free address for a person, and adds to the changes what it was if it is another one now.
func (c *company) address(p *person, before changes) changes {
	if c.holders[p.email] == p {
		delete(c.holders, p.email)
	}
	base := asciiOf(p.first) + "." + asciiOf(p.last)
	email := base + "@" + c.domain
	for n := 2; c.holders[email] != nil; n++ {
		email = fmt.Sprintf("%s%d@%s", base, n, c.domain)
	}
	if email != p.email && before != nil {
		before["email"] = p.email
	}
	p.email = email
	c.holders[email] = p
	return before
}

func (c *company) move() {
	p := pick(c.Rand, c.present)
	if c.IntN(10) == 0 {
		p = pickWhere(c.Rand, c.away, func(p *person) bool { return p.state != deleted })
	}
	if p == nil {
		return
	}
	from, to := pick(c.Rand, p.groups), c.groupWithout(p)
	roll := c.IntN(6)
	if from != nil && roll != 0 {
		c.remove(p, from)
	}
	if to != nil && (from == nil || roll != 1) {
		c.add(p, to)
	}
}

func (c *company) groupWithout(p *person) *group {
	return pickWhere(c.Rand, c.live, func(g *group) bool { return !slices.Contains(p.groups, g) })
}

func (c *company) add(p *person, g *group) {
	p.groups = append(p.groups, g)
	c.tellMembership("dsync.group.user_added", p, g, p.name()+" joined "+g.name)
}

func (c *company) remove(p *person, g *group) {
	p.groups = slices.DeleteFunc(p.groups, func(o *group) bool { return o == g })
	c.tellMembership("dsync.group.user_removed", p, g, p.name()+" left "+g.name)
}

func (c *company) leave() {
	p := pick(c.Rand, c.present)
	if p == nil {
		return
	}
	if c.IntN(4) == 0 {
		for _, g := range slices.Clone(p.groups) {
			c.remove(p, g)
		}
	}
	if c.IntN(2) == 0 {
		c.disappear(p, "dsync.user.deleted", deleted, p.name()+" left "+c.name)
		return
	}
	c.disappear(p, "dsync.user.updated", inactive, p.name()+" left "+c.name+", made inactive")
}

func (c *company) suspend() {
	if p := pick(c.Rand, c.present); p != nil {
		c.disappear(p, "dsync.user.updated", suspended, p.name()+" was suspended")
	}
}

func (c *company) purge() {
	if p := pickWhere(c.Rand, c.away, func(p *person) bool { return p.state != deleted }); p != nil {
		p.state = deleted
		c.tellUser("dsync.user.deleted", p, nil, p.name()+" was deleted")
	}
}

func (c *company) comeBack() {
	p := pick(c.Rand, c.away)
	switch {
	case p == nil:
	case p.state == deleted:
		c.appear(p, "dsync.user.created", nil, p.name()+" came back")
	default:
		c.appear(p, "dsync.user.updated", changes{"state": p.state}, p.name()+" came back")
	}
}

func (c *company) rehire() {
	p := pickWhere(c.Rand, c.away, func(p *person) bool { return p.state != suspended })
	if p == nil {
		return
	}
	old := *p
	c.register(p)
	c.appear(p, "dsync.user.created", nil, p.name()+" was rehired under a new id")
	c.welcome(p)
	if old.state == inactive {
		c.tellUser("dsync.user.deleted", &old, nil, "the former record of "+p.name()+" was deleted")
	}
}

func (c *company) rename() {
	p := pick(c.Rand, c.present)
	if p == nil {
		return
	}
	was := p.name()
	before := changes{"last_name": p.last, "name": was}
	if p.last = pick(c.Rand, lastNames); p.name() == was {
		return
	}
	c.tellUser("dsync.user.updated", p, c.address(p, before), was+" is now "+p.name())
}

func (c *company) newGroup() {
	if len(c.live) >= 2*c.sim.config.Groups {
		return
	}
	g := c.openGroup()
	for range c.IntN(4) {
		p := pickWhere(c.Rand, c.present, func(p *person) bool { return !slices.Contains(p.groups, g) })
		if p != nil {
			c.add(p, g)
		}
	}
}

// openGroup makes a group, or takes up one that was deleted.
func (c *company) openGroup() *group {
	g := pick(c.Rand, c.ended)
	if g == nil || c.IntN(2) == 0 {
		g = &group{id: "directory_group_" + c.sim.ids.at(c.sim.now), idp: "0" + letters(c.Rand, 14), created: c.sim.now}
		c.groups = append(c.groups, g)
		c.ended = append(c.ended, g)
	}
	transfer(g, &c.ended, &c.live)
	g.name, g.live = c.freeGroupName(), true
	c.tellGroup("dsync.group.created", g, nil, g.name+" was created")
	return g
}

// freeGroupName returns a name that no live group has.
func (c *company) freeGroupName() string {
	name := pick(c.Rand, groupNames)
	for n, base := 2, name; slices.ContainsFunc(c.live, func(g *group) bool { return g.name == name }); n++ {
		name = fmt.Sprintf("%s %d", base, n)
	}
	return name
}

func (c *company) renameGroup() {
	if g := pick(c.Rand, c.live); g != nil {
		was := g.name
		g.name = c.freeGroupName()
		c.tellGroup("dsync.group.updated", g, changes{"name": was}, was+" is now "+g.name)
	}
}

// deleteGroup ends a group, and with it all memberships, of those who are away too.
func (c *company) deleteGroup() {
	g := pick(c.Rand, c.live)
	if g == nil {
		return
	}
	g.live = false
	transfer(g, &c.live, &c.ended)
	for _, p := range c.people {
		p.groups = slices.DeleteFunc(p.groups, func(o *group) bool { return o == g })
	}
	c.tellGroup("dsync.group.deleted", g, nil, g.name+" was deleted")
}

// asciiOf spells a name for an address.
func asciiOf(name string) string {
	return plain.Replace(strings.ToLower(name))
}
