// Package directorytest makes event sets that are hard to fold, and says by a naive reading of the rules what they
// come to. Whoever folds, in memory or through a database, compares with it.
package directorytest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Source is the source of all generated events.
const Source = "workos"

// Start is the earliest time of a generated event.
var Start = time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC)

// Rules give roles to the generated people in every way there is: by a group's id, idp_id and name, by slugs, in one directory
// only, one role in several ways.
func Rules() []directory.RoleRule {
	return []directory.RoleRule{
		{Role: "admin", Groups: []string{"Group 0.0", "Group 1.1"}, Slugs: []string{"admin"}},
		{Role: "reader", Groups: []string{groupID(0), "grp-1"}},
		{Role: "writer", Groups: []string{"grp-2", groupID(3), "Group 3.0"}, Slugs: []string{"editor"}, Directories: []string{"directory_1"}},
		{Role: "auditor", Groups: []string{"Group 2.1", "Group 2.2"}},
		{Role: "auditor", Slugs: []string{"auditor"}},
		{Role: "nobody", Groups: []string{groupID(0)}, Slugs: []string{"admin"}, Source: "another"},
	}
}

// Generate returns n valid events of a few directories, drawn so that they collide: equal timestamps, several
// directory users under one idp_id (rehires), idp_ids that change or are missing, recycled emails, groups that end and
// come back, that change their names and idp_ids and with them their roles, memberships whose user or group is never heard of, directories that end, come back and are decided on.
// Ids are unique. The same seed gives the same events.
func Generate(seed uint64, n int) []directory.Event {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 17))}
	events := make([]directory.Event, n)
	for i := range events {
		events[i] = g.event(i)
	}
	return events
}

type generator struct{ *rand.Rand }

func (g generator) event(i int) directory.Event {
	at := Start.Add(time.Duration(g.IntN(40)) * time.Minute) // few distinct times: many are equal
	e := directory.Event{
		Source: Source, ID: fmt.Sprintf("event_%05d", i), Directory: fmt.Sprintf("directory_%d", g.IntN(2)),
		Organization: "org_1", Occurred: at,
	}
	if g.IntN(3) > 0 {
		e.Updated = at.Add(-time.Duration(g.IntN(3)) * time.Minute)
	}
	switch roll := g.IntN(100); {
	case roll < 45:
		g.user(&e)
	case roll < 60:
		g.group(&e)
	case roll < 94:
		g.membership(&e)
	case roll < 98:
		g.connection(&e)
	default:
		e.Subject, e.Type = directory.SubjectDecision, "rollcall.decision"
		e.Decision = []directory.Decision{directory.DecisionKeep, directory.DecisionDeprovision, directory.DecisionRelease}[g.IntN(3)]
	}
	return e
}

func (g generator) user(e *directory.Event) {
	n := g.IntN(8)
	p := directory.Person{
		ID: fmt.Sprintf("directory_user_%d", n), IDPID: fmt.Sprintf("idp-%d", n/2), State: "active",
		Created: Start.Add(time.Duration(n/3) * time.Hour), // an object's own created_at never changes
	}
	switch g.IntN(10) {
	case 0:
		p.IDPID = fmt.Sprintf("idp-%d", g.IntN(4)) // moved to another person
	case 1:
		p.IDPID = ""
	case 2:
		p.IDPID = fmt.Sprintf("id:directory_user_%d", g.IntN(8)) // looks like a key made of a provider's id
	}
	p.Email = fmt.Sprintf("person%d@example.com", g.IntN(3)) // recycled freely
	p.FirstName = fmt.Sprintf("Name %d", g.IntN(3))
	p.Attributes = map[string]string{"role": []string{"admin", "member", "editor"}[g.IntN(3)]}
	if g.IntN(2) == 0 {
		p.Attributes["roles"] = []string{"auditor", "auditor,member", "editor,member", "member"}[g.IntN(4)]
	}
	e.Subject, e.Type, e.User = directory.SubjectUser, "dsync.user.updated", &p
	switch g.IntN(5) {
	case 0:
		e.Type, e.Removes = "dsync.user.deleted", true
	case 1:
		p.State, e.Removes = "inactive", true
	}
}

func (g generator) group(e *directory.Event) {
	n := g.IntN(groups - 1) // of the last one nothing is heard but its memberships
	e.Subject, e.Type = directory.SubjectGroup, "dsync.group.updated"
	e.Group = &directory.Team{ID: groupID(n), IDPID: fmt.Sprintf("grp-%d", n), Name: fmt.Sprintf("Group %d.%d", n, g.IntN(3))}
	switch g.IntN(6) {
	case 0:
		e.Group.IDPID = fmt.Sprintf("grp-%d", g.IntN(groups)) // made again under another one's
	case 1:
		e.Group.Name = ""
	}
	if g.IntN(3) == 0 {
		e.Type, e.Removes = "dsync.group.deleted", true
	}
}

func (g generator) membership(e *directory.Event) {
	n := g.IntN(groups)
	e.Subject, e.Type = directory.SubjectMembership, "dsync.group.user_added"
	e.Membership = &directory.Membership{
		Group: groupID(n), User: fmt.Sprintf("directory_user_%d", g.IntN(9)), GroupName: fmt.Sprintf("Group %d.%d", n, g.IntN(3)),
	}
	if g.IntN(3) == 0 {
		e.Type, e.Removes = "dsync.group.user_removed", true
	}
}

func (g generator) connection(e *directory.Event) {
	e.Subject, e.Type = directory.SubjectDirectory, "dsync.activated"
	e.Connection = &directory.Connection{Name: "Acme", Type: "gsuite directory", State: []string{"active", "invalid_credentials"}[g.IntN(2)]}
	if g.IntN(2) == 0 {
		e.Type, e.Removes = "dsync.deleted", true
	}
}

// groups is how many there are in a directory.
const groups = 4

func groupID(n int) string { return fmt.Sprintf("directory_group_%d", n) }

// Shuffled returns the events in another order, some of them twice. The events themselves are not copied deeply.
func Shuffled(seed uint64, events []directory.Event) []directory.Event {
	r := rand.New(rand.NewPCG(seed, 23))
	out := slices.Clone(events)
	for range len(events) / 5 {
		out = append(out, events[r.IntN(len(events))])
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// Batches cuts the events into batches of 1 to max.
func Batches(seed uint64, events []directory.Event, max int) [][]directory.Event {
	r := rand.New(rand.NewPCG(seed, 29))
	var out [][]directory.Event
	for len(events) > 0 {
		n := min(1+r.IntN(max), len(events))
		out = append(out, events[:n])
		events = events[n:]
	}
	return out
}
