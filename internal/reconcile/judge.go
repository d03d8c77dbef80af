package reconcile

import (
	"fmt"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Action is what becomes of a finding.
type Action string

// The actions.
const (
	Repairs Action = "repair" // by itself
	Asks    Action = "ask"    // somebody has to approve it
	Held    Action = "hold"   // a guard stopped it: somebody has to approve all of its like
)

// Item is a finding, and the event that repairs it.
type Item struct {
	Kind     store.DriftKind
	Action   Action
	Why      string // what the listing shows, for people
	Who      string // the person, group or membership, for people
	Register store.RegisterKey
	Seen     directory.Version // of the register, when it was compared
	Event    repair.Event

	leaves  bool // the person loses the account
	returns bool // the person gets it back though a removal is known
}

// judge makes an item of a finding.
func (f *findings) judge(d store.Drift) Item {
	it := Item{Kind: d.Kind, Action: Repairs, Register: store.RegisterKey{Group: d.Group, User: d.User}, Seen: d.Seen}
	e := repair.Event{Directory: f.run.Directory, Organization: f.organization(d), Occurred: f.run.Fence}
	switch d.Kind {
	case store.ShouldBeInactive:
		f.judgeLeaver(d, &it, &e)
	case store.MissingAccount, store.Tombstone, store.Attributes:
		if d.User == "" {
			f.judgeGroup(d, &it, &e)
		} else {
			f.judgeUser(d, &it, &e)
		}
	case store.ExtraGroup, store.MissingGroup:
		f.judgeGroup(d, &it, &e)
	case store.ExtraMembership, store.MissingMembership:
		f.judgeMembership(d, &it, &e)
	case store.MissingDirectory:
		connection := f.listed.Connection
		e.Type, e.Connection, it.Who, it.Why = repair.DirectoryListed, &connection, connection.Name, "listed, and never heard of"
	}
	e.ID = repair.NewID(f.run.ID, e.Type, d.Group+"\x00"+d.User)
	e.Why = directory.Text(fmt.Sprintf("%s (run %s)", it.Why, f.run.ID), directory.MaxText)
	it.Event = e
	return f.guarded(it)
}

// organization is the one listed, else known, else of the whole directory.
func (f *findings) organization(d store.Drift) string {
	var all []string
	if d.ListedUser != nil {
		all = append(all, d.ListedUser.Organization)
	}
	if d.ListedGroup != nil {
		all = append(all, d.ListedGroup.Organization)
	}
	if d.KnownUser != nil {
		all = append(all, d.KnownUser.Organization)
	}
	if d.KnownGroup != nil {
		all = append(all, d.KnownGroup.Organization)
	}
	for _, o := range append(all, f.known.Organization) {
		if o != "" {
			return o
		}
	}
	return f.listed.Organization
}

func (f *findings) judgeLeaver(d store.Drift, it *Item, e *repair.Event) {
	it.leaves = true
	if d.ListedUser != nil {
		it.Who, it.Why = who(d.ListedUser.Person), "active here, and listed as "+plain(d.ListedUser.State)
		e.Type, e.Updated, e.User = repair.UserListed, d.ListedUser.Updated, listedPerson(d)
		return
	}
	k := d.KnownUser
	e.Type = repair.UserUnlisted
	e.User = &directory.Person{ID: d.User, IDPID: k.IDPID, State: repair.State, Created: k.Created, Profile: k.Profile}
	it.Who, it.Why = who(*e.User), "active here, and not listed"
}

// plain is a state, or words for none.
func plain(state string) string {
	if state == "" {
		return "of no state"
	}
	return state
}

// listedPerson is the person as listed. What the listing leaves out stays as it is known, as an event that left it out would leave it.
func listedPerson(d store.Drift) *directory.Person {
	p := d.ListedUser.Person
	if k := d.KnownUser; k != nil {
		if p.IDPID == "" {
			p.IDPID = k.IDPID
		}
		if p.Created.IsZero() {
			p.Created = k.Created
		}
	}
	return &p
}

func (f *findings) judgeUser(d store.Drift, it *Item, e *repair.Event) {
	l := d.ListedUser
	e.Type, e.Updated, e.User = repair.UserListed, l.Updated, listedPerson(d)
	it.Who = who(l.Person)
	switch d.Kind {
	case store.MissingAccount:
		it.Why = "listed as " + plain(l.State) + ", and never heard of"
	case store.Tombstone:
		removed := d.KnownUser.Version.Time()
		if end := f.known.EndFloor.Time(); d.KnownUser.Active && end.After(removed) {
			removed = end
		}
		it.returns = true
		it.Why = "listed as active; " + f.since(it, removed, l.Updated)
	default:
		it.leaves = l.IDPID != "" && l.IDPID != d.KnownUser.IDPID
		it.Why = different(d) + "; " + f.newer(it, d.KnownUser.Version, l.Updated)
	}
}

func (f *findings) judgeGroup(d store.Drift, it *Item, e *repair.Event) {
	if l := d.ListedGroup; l != nil {
		team := l.Team
		e.Type, e.Updated, e.Group, it.Who = repair.GroupListed, l.Updated, &team, name(l.Name, d.Group)
	}
	switch k := d.KnownGroup; {
	case d.Kind == store.ExtraGroup:
		e.Type, e.Group = repair.GroupUnlisted, &directory.Team{ID: d.Group, IDPID: k.IDPID, Name: k.Name}
		it.Who, it.Why = name(k.Name, d.Group), "known here, and not listed"
	case d.Kind == store.Attributes:
		it.Why = "its name or ids differ; " + f.newer(it, k.Version, d.ListedGroup.Updated)
	case k != nil && k.Removed:
		it.Why = "listed; " + f.since(it, k.Version.Time(), d.ListedGroup.Updated)
	default:
		it.Why = "listed, and never heard of"
	}
}

func (f *findings) judgeMembership(d store.Drift, it *Item, e *repair.Event) {
	m := &directory.Membership{Group: d.Group, User: d.User}
	person := d.User
	if d.ListedUser != nil {
		person = who(d.ListedUser.Person)
	}
	if d.ListedGroup != nil {
		m.GroupName = d.ListedGroup.Name
	} else if d.KnownGroup != nil {
		m.GroupName = d.KnownGroup.Name
	}
	e.Membership, it.Who = m, person+" in "+name(m.GroupName, d.Group)
	if d.Kind == store.ExtraMembership {
		e.Type, it.Why = repair.MembershipUnlisted, "a member here, and not listed as one"
		return
	}
	e.Type = repair.MembershipListed
	switch k := d.KnownGroup; {
	case k != nil && k.Removed:
		it.Why = "listed as a member; of the group, " + f.since(it, k.Version.Time(), d.ListedGroup.Updated)
	case d.KnownEdge == nil:
		it.Why = "listed as a member, and never heard of"
	case !d.KnownEdge.Present:
		it.Action = Asks
		it.Why = fmt.Sprintf("listed as a member, and removed at %s; a membership has no time of its own that would be later", moment(d.Seen.Time()))
	case f.known.EndFloor != "" && d.Seen <= f.known.EndFloor:
		it.Action = Asks
		it.Why = "listed as a member; the end of the directory took that away"
	default:
		it.Why = "listed as a member; the end of the group took that away, and the group is back"
	}
}

// since judges what is listed although a removal is known: by itself it comes back only when it was changed after that.
func (f *findings) since(it *Item, removed, updated time.Time) string {
	if updated.After(removed) {
		return fmt.Sprintf("removed at %s, and changed at its provider at %s", moment(removed), moment(updated))
	}
	it.Action = Asks
	if updated.IsZero() {
		return fmt.Sprintf("removed at %s, and the listing tells no time of a change", moment(removed))
	}
	return fmt.Sprintf("removed at %s, and not changed at its provider since %s", moment(removed), moment(updated))
}

// newer judges what differs: by itself the listing counts only when it shows a later change than what is known.
func (f *findings) newer(it *Item, known directory.Version, updated time.Time) string {
	last := known.Updated()
	if last.IsZero() {
		last = known.Time()
	}
	if updated.After(last) {
		return "changed at its provider at " + moment(updated)
	}
	it.Action = Asks
	return "though the listing shows no later change"
}

// different names what of a person differs, never the values.
func different(d store.Drift) string {
	l, k := d.ListedUser, d.KnownUser
	var names []string
	for _, c := range []struct {
		name   string
		differ bool
	}{
		{"organization", l.Organization != "" && l.Organization != k.Organization}, {"idp_id", l.IDPID != "" && l.IDPID != k.IDPID}, {"email", l.Email != k.Email},
		{"first_name", l.FirstName != k.FirstName}, {"last_name", l.LastName != k.LastName}, {"name", l.Name != k.Name},
	} {
		if c.differ {
			names = append(names, c.name)
		}
	}
	for name, value := range l.Attributes {
		if k.Attributes[name] != value {
			names = append(names, name)
		}
	}
	for name := range k.Attributes {
		if _, there := l.Attributes[name]; !there {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "attributes differ"
	}
	return strings.Join(sorted(names), ", ") + " differ"
}

func who(p directory.Person) string {
	for _, s := range []string{p.Email, p.Name, p.IDPID} {
		if s != "" {
			return s
		}
	}
	return p.ID
}

func name(name, id string) string {
	if name == "" {
		return id
	}
	return name
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
